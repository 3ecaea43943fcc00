"""Results that VASP has computed elsewhere, as labels: read and checked as our own runs are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmde_fw.errors import InputError
from kmde_fw.records import Labelled, content_hash
from kmde_fw.reference.domain import check_bonds
from kmde_fw.reference.vasp import VaspEngine, tags
from kmde_fw.reference.vasp.checks import check_potcars, check_run, listed, not_allowed
from kmde_fw.reference.vasp.inputs import make_inputs
from kmde_fw.reference.vasp.parse import VaspRun, read_file, read_run

#: what tells the level of a run that no campaign is compared with; as vasprun.xml names them
CORE = ("ENMAX", "ISPIN", "ISMEAR", "SIGMA", "PREC", "GGA", "METAGGA", "LREAL", "LASPH", "LHFCALC", "IVDW")
#: what the level of a run says element by element, in words: runs of other elements say nothing of it
OF_ELEMENT = {"potcars": "POTCAR", "hubbard": "LDAU"}
#: VASP's own initial moment of every atom, μ_B
VASPS_MOMENT = 1.0
#: what makes a single point of a run: every ionic step of a relaxation is a label of the same level
PATH_TAGS = ("NSW", "IBRION")


@dataclass(frozen=True, eq=False)
class Imported:
    """One run directory: its label, or why there is none. level: of theory, as far as the files tell."""

    directory: Path
    reason: str
    label: Labelled | None = None
    level: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def import_run(
    directory: Path, elements: Sequence[str] | None, engine: VaspEngine | None = None, allow: Sequence[str] = ()
) -> Imported:
    """Read one run and check it. elements: the only ones allowed, None: any.

    directory: or its vasprun.xml or OUTCAR itself. engine: of a campaign; the run must then be what that campaign would
    have asked VASP for, but for tags in `allow` (and in the campaign's allow_changes), and its label has the campaign's
    level of theory. Without one its label has what `differences_of` compares later, and no level_key yet: that is of
    all runs together.
    """
    try:
        run = read_run(directory)
    except InputError as error:
        return Imported(directory, str(error))
    reasons = [f"{name}: {reason}" for name, reason in check_run(run) if reason]
    foreign = sorted(set(run.structure.species) - set(elements or run.structure.species))
    if foreign:
        reasons.append(f"elements: it contains {', '.join(foreign)}, wanted are {', '.join(elements or ())}")
        return Imported(directory, "; ".join(reasons))
    notes = list(run.notes)
    if engine is None:
        level, key, settings = own_level(run), "", _settings(run)
    else:
        level, key, settings = engine.level, engine.level_key, {}
        bonds = check_bonds(run.structure, engine.settings.domain.min_bond)
        reasons += [f"shortest bond: {bonds}"] if bonds else []
        reasons += _differences(run, engine, allow)
        notes.append("POTCARs were compared by title: their files are not there")
    if reasons:
        return Imported(directory, "; ".join(reasons), level=level)
    label = Labelled(run.structure, run.energy, run.forces, run.stress, level_key=key, vasp=settings)
    return Imported(directory, "", label, level, tuple(notes))


def own_level(run: VaspRun) -> dict[str, Any]:
    """The level of theory of a run as its files tell it; k-points are left aside, since cells differ."""
    incar = {tag: run.parameters[tag] for tag in CORE if tag in run.parameters}
    explicit = {tag: value for tag, value in tags.decisive(run.incar).items() if tag not in _NOT_COMPARED}
    text = {tag: str(value).strip().lower() for tag, value in {**explicit, **incar}.items()}
    found, kind = tags.hubbard(run.incar, run.structure.species), run.incar.get("LDAUTYPE")
    return {
        "engine": "vasp",
        "incar": text,
        "potcars": {t.split()[1].split("_")[0]: {"titel": t} for t in run.titels},
        "hubbard": {e: tags.hubbard_words(found.get(e), kind) for e in sorted(set(run.structure.species))},
    }


def common_key(found: Sequence[Imported]) -> str:
    """The level_key of runs that `one_level` finds nothing against: their tags, POTCARs and U of all elements."""
    merged = {
        name: {element: value for entry in found for element, value in entry.level[name].items()} for name in OF_ELEMENT
    }
    return content_hash({**found[0].level, **merged})


def differences_of(label: Labelled, engine: VaspEngine) -> list[str]:
    """What a campaign would have asked for otherwise in the run of a label (`vasp`): one sentence per check.

    In a file of VASP itself every ionic step of a relaxation is as good as a single point. Raises InputError where that
    file cannot be read.
    """
    told = label.vasp
    if "file" in told:
        return list(_differences(read_file(Path(told["file"]), whole=False), engine, PATH_TAGS))
    run = VaspRun(
        source=Path(told["source"]),
        structure=label.structure,
        energies={"e_fr_energy": label.energy},
        forces=label.forces,
        stress=label.stress,
        n_ionic=1,
        scf=[],
        converged=True,
        incar=told["incar"],
        parameters=told["parameters"],
        titels=list(told["titels"]),
        version="",
        grid=told["grid"],
    )
    return list(_differences(run, engine, ()))


def _hubbard(incar: Mapping[str, Any], species: Sequence[str]) -> str:
    """U of every element that has one, in words: lists by species are in the order of their own cell."""
    found, kind = tags.hubbard(incar, species), incar.get("LDAUTYPE")
    return "; ".join(f"{e}: {tags.hubbard_words(values, kind)}" for e, values in found.items()) or "no U"


def _settings(run: VaspRun) -> dict[str, Any]:
    """What `_differences` wants to know of a run, as plain types."""
    incar = {tag: value for tag, value in run.incar.items() if tag not in tags.FREE}
    parameters = {tag: value for tag, value in run.parameters.items() if tag not in (*tags.FREE, *tags.PER_CELL)}
    told = {"source": str(run.source), "incar": incar, "parameters": parameters, "titels": run.titels, "grid": run.grid}
    return dict(json.loads(json.dumps(told, default=str)))


def one_level(found: Iterable[Imported]) -> list[str]:
    """Why these runs are not of one level of theory, in words: one line per difference; empty if they are."""
    first: Imported | None = None
    #: the first run with each element, and what it says: not every run shares one with the first of all
    of_element: dict[tuple[str, str], tuple[Imported, Any]] = {}
    lines = []
    for entry in found:
        first = first or entry
        for what in _different_tags(first.level, entry.level):
            lines.append(f"{first.directory} and {entry.directory} differ in {what}")
        for name, word in OF_ELEMENT.items():
            for element, value in sorted(entry.level[name].items()):
                other, told = of_element.setdefault((name, element), (entry, value))
                if told != value:
                    lines.append(
                        f"{other.directory} and {entry.directory} differ in {word} of {element}: "
                        f"{_titel(told)} and {_titel(value)}"
                    )
    return lines


def _titel(value: Any) -> str:
    return str(value["titel"] if isinstance(value, Mapping) else value)


#: not in the key: `ENCUT` is ENMAX there, k-points are compared by grid, the rest says that it is a single point
_NOT_COMPARED = frozenset({"ENCUT", "KSPACING", "KGAMMA", "NSW", "IBRION", "ISIF", "EDIFF"})


def _different_tags(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    found = []
    for tag in sorted({*first["incar"], *second["incar"]}):
        a, b = first["incar"].get(tag), second["incar"].get(tag)
        if a != b:
            found.append(f"{tag}: {a or 'unset'} and {b or 'unset'}")
    return found


def _differences(run: VaspRun, engine: VaspEngine, allow: Sequence[str]) -> Iterable[str]:
    """What the campaign would have asked for otherwise: one sentence per check."""
    inputs = make_inputs(engine.settings, run.structure)
    if not run.incar:
        yield f"level of theory: no INCAR beside {run.source}, which does not tell all tags; put it there"
        return
    asked = {tag: value for tag, value in tags.decisive(inputs.incar).items() if tag not in ("KSPACING", "KGAMMA")}
    used = {tag: value for tag, value in tags.decisive(run.incar).items() if tag not in ("KSPACING", "KGAMMA")}
    for tag in asked:
        if tag not in used:
            used[tag] = run.parameters.get("ENMAX" if tag == "ENCUT" else tag)
    lexch = engine.potcars[run.structure.species[0]].lexch
    if str(used.get("GGA")).strip() in ("None", "--", ""):
        used["GGA"] = lexch
    asked.setdefault("GGA", lexch)
    moments = engine.level.get("moments", {})
    if moments:
        asked["MAGMOM"] = [moments[s] for s in run.structure.species]
        used["MAGMOM"] = run.incar.get("MAGMOM", [VASPS_MOMENT] * len(run.structure))
    asked["LDAUU"] = _hubbard(inputs.incar, inputs.sorted_structure.species)
    used["LDAUU"] = _hubbard(run.incar, run.structure.species)
    if run.grid is None or list(run.grid) != list(inputs.grid):
        # None: a list of points, which no mesh can be compared with
        asked["KPOINTS"], used["KPOINTS"] = list(inputs.grid), run.grid
    wrong = not_allowed(tags.changes(asked, used), [*allow, *engine.settings.allow_changes])
    if wrong:
        yield (
            f"level of theory: the campaign asks for other input in what decides the energy: {listed(wrong)} "
            f"(--allow {','.join(wrong)} would accept it)"
        )
    potcars = check_potcars(run, [engine.potcars[s].titel for s in dict.fromkeys(run.structure.species)])
    if potcars:
        yield f"POTCARs: {potcars}"
