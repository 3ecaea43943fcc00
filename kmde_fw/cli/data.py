"""kmde make-data: make a labelled data set again from crystal structures."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmde_fw.config import did_you_mean
from kmde_fw.errors import ConfigError, EngineError, InputError

if TYPE_CHECKING:
    from kmde_fw.records import Structure
    from kmde_fw.reference.ase import AseEngine
    from kmde_fw.reference.datasets import DataRecipe, Item


def make_data(
    recipe: Annotated[Path, typer.Argument(help="recipe file, such as fw_specs/al_fe_pt/recipe.yaml")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the data; what it holds already is kept")],
    only: Annotated[str, typer.Option(help="labels of the structures wanted, separated by commas; default: all")] = "",
    set_name: Annotated[str, typer.Option("--set", help="one set of the recipe; default: all")] = "",
) -> None:
    """Make a labelled data set from crystals or other structures, as its recipe says: dope, distort, relax, label.

    An interrupted run goes on where it stopped when it is started again.
    """
    from kmde_fw.reference import make_engine
    from kmde_fw.reference.datasets import load_recipe, plan

    settings = load_recipe(recipe)
    if set_name and set_name not in settings.sets:
        known = list(settings.sets)
        raise ConfigError(f"{recipe} has no set {set_name!r}{did_you_mean(set_name, known)}; it has {', '.join(known)}")
    crystals = _read_hosts(recipe.parent, settings)
    files = _read_files(recipe.parent, settings)
    # the plan of unrelaxed crystals has the same labels: a mistake in --only is found before anything is calculated
    wanted = _wanted(plan(settings, crystals, crystals, files), set_name, only)
    engine = make_engine(settings.reference)
    _claim(recipe, settings, output)

    hosts = _make_hosts(engine, settings, crystals, output / "host.extxyz") if crystals else {}
    items = plan(settings, crystals, hosts, files)
    work = [(name, item) for name in items for item in items[name] if item.label in wanted.get(name, ())]
    done = {name: _read_frames(output / f"{name}.extxyz") for name in settings.sets}
    missing = [(name, item) for name, item in work if item.label not in done[name]]
    progress = _Progress(sum(len(item.structure) for _, item in missing), len(missing))
    for name, item in missing:
        on_step = progress.start(f"{name} {item.label}")
        frame, steps = _make(engine, settings, item, name, on_step)
        done[name][item.label] = frame
        _write_frames(output / f"{name}.extxyz", [done[name][i.label] for i in items[name] if i.label in done[name]])
        energy = frame.calc.results["energy"]
        progress.finish(f"{_steps(steps)}{energy:.6f} eV", len(item.structure))
    typer.echo(f"{len(missing)} structures made, {len(work) - len(missing)} were there already: {output}")


def _read_hosts(folder: Path, settings: DataRecipe) -> dict[str, Structure]:
    """The crystals of the recipe, by name, as they are in their files."""
    from dataclasses import replace

    from kmde_fw.inputs import read_structures

    crystals = {}
    for name, file in settings.hosts.items():
        found = read_structures(folder / file)
        if len(found) != 1:
            raise InputError(f"{folder / file}: holds {len(found)} structures; a host is one crystal")
        crystals[name] = replace(found[0], name=name)
    return crystals


def _read_files(folder: Path, settings: DataRecipe) -> dict[str, list[Item]]:
    """The structures of each `file` of the recipe's groups, with what the file says about their dopant."""
    import ase.io
    import numpy as np

    from kmde_fw.inputs import read_structures
    from kmde_fw.records import Structure
    from kmde_fw.reference.datasets import Item

    files: dict[str, list[Item]] = {}
    for name in sorted({g.file for groups in settings.sets.values() for g in groups if g.file is not None}):
        read_structures(folder / name)  # says what is wrong with the file
        files[name] = []
        for number, atoms in enumerate(ase.io.read(folder / name, index=":"), start=1):
            label = str(atoms.info.get("label", number))
            sites = atoms.arrays.get("site", np.zeros(len(atoms), dtype=int))
            about = {key: atoms.info[key] for key in ("site", "dopant_index", "replaced") if key in atoms.info}
            files[name].append(Item(label, Structure.from_atoms(atoms, label), sites, False, **about))
    return files


def _wanted(items: dict[str, list[Item]], set_name: str, only: str) -> dict[str, set[str]]:
    """Labels to make, by set."""
    chosen = {name: [item.label for item in items[name]] for name in items if set_name in ("", name)}
    labels = [label.strip() for label in only.split(",") if label.strip()]
    known = sorted({label for found in chosen.values() for label in found})
    for label in labels:
        if label not in known:
            raise ConfigError(
                f"--only: no structure {label!r}{did_you_mean(label, known)}; there are {', '.join(known)}"
            )
    return {name: {label for label in found if not labels or label in labels} for name, found in chosen.items()}


def _claim(recipe: Path, settings: DataRecipe, output: Path) -> None:
    """Make the folder, and keep the recipe in it: data of two recipes must not mix."""
    from kmde_fw.reference.datasets import load_recipe

    kept = output / "recipe.yaml"
    if kept.exists():
        if load_recipe(kept) != settings:
            raise ConfigError(f"{output} holds data made with another recipe ({kept}); choose another folder with -o")
        return
    strangers = [file.name for file in sorted(output.glob("*.extxyz"))]
    if strangers:
        raise ConfigError(f"{output} holds {', '.join(strangers)} without their recipe; choose another folder with -o")
    output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(recipe, kept)


def _make_hosts(
    engine: AseEngine, settings: DataRecipe, crystals: dict[str, Structure], path: Path
) -> dict[str, Structure]:
    """The relaxed hosts: from the file if they are there, else cell and positions relaxed and labelled now."""
    from kmde_fw.records import Structure
    from kmde_fw.reference.doping import inequivalent_sites

    frames = _read_frames(path)
    if len(crystals) == 1 and len(frames) == 1:
        frames = dict(zip(crystals, frames.values(), strict=True))  # a lone host need not carry its name
    missing = [name for name in crystals if name not in frames]
    progress = _Progress(sum(len(crystals[name]) for name in missing), len(missing))
    for name in missing:
        on_step = progress.start(f"host {name}")
        relaxed, steps = engine.relax(crystals[name], settings.fmax, settings.max_steps, cell=True, on_step=on_step)
        info = {"label": name, "role": "host"}
        frames[name] = _frame(engine, relaxed, info, inequivalent_sites(crystals[name]))
        _write_frames(path, [frames[n] for n in crystals if n in frames])
        progress.finish(f"{_steps(steps)}{frames[name].calc.results['energy']:.6f} eV", len(relaxed))
    hosts = {name: Structure.from_atoms(frames[name], name) for name in crystals}
    for name, host in hosts.items():
        if host.species != crystals[name].species:
            raise InputError(
                f"{path}: {name} does not have the atoms of {settings.hosts[name]} in their order; "
                "choose another folder with -o"
            )
    return hosts


def _make(
    engine: AseEngine, settings: DataRecipe, item: Item, role: str, on_step: Callable[[int, float], None]
) -> tuple[Any, int]:
    """One structure relaxed if it is to be, and labelled; with the number of steps."""
    structure, steps = item.structure, 0
    if item.relax:
        structure, steps = engine.relax(structure, settings.fmax, settings.max_steps, on_step=on_step)
    info: dict[str, Any] = {"label": item.label}
    if item.site is not None:
        info |= {"site": item.site, "replaced": item.replaced, "dopant_index": item.dopant_index}
    return _frame(engine, structure, info | {"role": role}, item.sites), steps


def _frame(engine: AseEngine, structure: Structure, info: dict[str, Any], sites: Any) -> Any:
    """A labelled structure as ase.Atoms. Raises EngineError where the label is not accepted."""
    from ase.calculators.singlepoint import SinglePointCalculator

    result = engine.label(structure)
    if result.state != "accepted":
        raise EngineError(f"{info['label']}: no label: {result.reason}")
    atoms = structure.to_atoms()
    atoms.info = {**info, "reference": _reference_name(engine)}
    atoms.set_array("site", sites)
    results = {"energy": result.energy, "forces": result.forces, "stress": result.stress}
    atoms.calc = SinglePointCalculator(atoms, **{key: value for key, value in results.items() if value is not None})
    return atoms


def _reference_name(engine: AseEngine) -> str:
    """package-version/model, for people: sevenn-0.13.0/7net-0."""
    level = engine.level
    model = level["arguments"].get("model", level["calculator"].rpartition(".")[2])
    return f"{level['package'].replace(' ', '-')}/{model}"


def _read_frames(path: Path) -> dict[str, Any]:
    """Structures of an extxyz file by label, none if there is no file."""
    import ase.io

    if not path.exists():
        return {}
    frames = ase.io.read(path, index=":", format="extxyz")
    return {str(atoms.info.get("label", number)): atoms for number, atoms in enumerate(frames)}


def _write_frames(path: Path, frames: list[Any]) -> None:
    """The whole file at once, so that an interruption leaves the old or the new one."""
    import ase.io

    partial = path.with_suffix(".partial")
    ase.io.write(partial, frames, format="extxyz")
    os.replace(partial, path)


def _steps(steps: int) -> str:
    return f"relaxed in {steps} step{'' if steps == 1 else 's'}, " if steps else ""


class _Progress:
    """Plain lines; on a terminal also the running relaxation and the time left."""

    def __init__(self, weight: int, count: int) -> None:
        self.weight, self.count = weight, count
        self.done_weight = self.done = 0
        self.began = time.monotonic()
        self.what = ""

    def start(self, what: str) -> Callable[[int, float], None]:
        """Begin one structure; gives the callback for its steps."""
        self.what = f"{self.done + 1} of {self.count}: {what}"
        return self._step

    def _step(self, step: int, largest: float) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{self.what}: step {step}, largest force {largest:.3f} eV/Å{self._time_left()}")
            sys.stderr.flush()

    def finish(self, outcome: str, weight: int) -> None:
        """Report one structure."""
        self.done += 1
        self.done_weight += weight
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
        typer.echo(f"{self.what}: {outcome}{self._time_left()}")

    def _time_left(self) -> str:
        """From the time per atom so far; nothing before the first structure is done or after the last."""
        if not 0 < self.done_weight < self.weight:
            return ""
        seconds = (time.monotonic() - self.began) / self.done_weight * (self.weight - self.done_weight)
        return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", about {seconds:.0f} s left"
