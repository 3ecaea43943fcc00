"""A run of molecular dynamics with a model: its settings, what is recorded of it, how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.md.velocitydistribution import Stationary

from kmde_fw.core.certificate import Certificate, DomainLog
from kmde_fw.errors import InputError, ModelError
from kmde_fw.hdnnp.calculator import as_crystal, domain_log
from kmde_fw.hdnnp.model import Hdnnp
from kmde_fw.md.breakdown import broken
from kmde_fw.units import figures

#: the files of a run
TRAJECTORY, LOG, REPORT = "trajectory.extxyz", "md.log", "domain.json"
#: a run has exploded at this temperature (K), or when its volume has changed by this factor
MAX_TEMPERATURE, MAX_VOLUME_FACTOR = 1e5, 4.0
#: times in which thermostat and barostat act, fs
THERMOSTAT, BAROSTAT = 100.0, 1000.0


@dataclass(frozen=True)
class Settings:
    """What to run.

    ensemble: nve; nvt: Langevin; npt: Nosé-Hoover chains, the cell changing isotropically. temperature: K, of the
    velocities at the start, too; pressure: GPa, for npt; strain: linear, of the cell at the start; timestep: fs; every:
    steps between recorded frames; seed: of velocities and thermostat; motifs: every so many-th structure is searched
    for motifs that the certificate does not cover.
    """

    engine: Literal["ase", "lammps"] = "ase"
    ensemble: Literal["nve", "nvt", "npt"] = "nvt"
    temperature: float = 300.0
    pressure: float = 0.0
    strain: float = 0.0
    steps: int = 1000
    timestep: float = 1.0
    every: int = 10
    seed: int = 0
    motifs: int = 10


@dataclass
class State:
    """Where a run is: step, atoms with velocities, and of these the energy (eV), forces, stress and outside atoms."""

    step: int
    atoms: Atoms
    energy: float
    forces: np.ndarray
    stress: np.ndarray
    outside: np.ndarray


#: an engine: goes through a run and gives its state at step 0 and after every `every` steps
Engine = Callable[[Hdnnp, Atoms, Settings, DomainLog, Path], Iterator[State]]


@dataclass(frozen=True)
class MdResult:
    """How a run went.

    steps: done; ended: why before its end, in words, else empty; broke_down: in which recorded step, and how, in words,
    else empty (frames from there on are no use as a target); ms_per_step: wall time; drift: of the total energy in
    meV/(atom ps), from a straight line through it, and fluctuation: around that line, in meV/atom, of nve alone;
    domain: see `DomainLog.report`.
    """

    settings: dict[str, Any]
    formula: str
    n_atoms: int
    steps: int
    ended: str
    broke_down: str
    seconds: float
    ms_per_step: float
    drift: float | None
    fluctuation: float | None
    domain: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """As plain types."""
        return asdict(self)


def prepare(atoms: Atoms, settings: Settings, model: Hdnnp) -> Atoms:
    """The atoms at the start of a run: strained, with velocities. Raises ModelError or InputError."""
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(model.elements))
    if unknown:
        raise ModelError(
            f"the structure contains {', '.join(unknown)}, but the model knows {', '.join(model.elements)} only; take "
            "another structure, or train a model with that element"
        )
    as_crystal(atoms, model.descriptor.cutoff)
    if settings.ensemble == "npt" and not atoms.pbc.all():
        raise InputError("npt needs a structure that is periodic in all three directions; choose nvt or nve")
    started = Atoms(atoms.symbols, atoms.get_positions(), cell=atoms.cell, pbc=atoms.pbc)
    if settings.strain:
        started.set_cell(started.cell * (1 + settings.strain), scale_atoms=True)
    # as ASE's own function does, whose name changed in 3.29
    thermal = np.sqrt(units.kB * settings.temperature * started.get_masses())[:, None]
    started.set_momenta(thermal * np.random.default_rng(settings.seed).normal(size=(len(started), 3)))
    Stationary(started)
    return started


def run_md(
    model: Hdnnp,
    certificate: Certificate | None,
    atoms: Atoms,
    settings: Settings,
    folder: Path,
    progress: Callable[[State], None] = lambda state: None,
) -> MdResult:
    """Run, and write trajectory, log and report into the folder as it goes. A run that explodes ends, and says so."""
    from kmde_fw.md.engines import ENGINES, engine_versions

    atoms = prepare(atoms, settings, model)
    # an engine that is missing is said before anything is written
    versions = engine_versions(settings.engine)
    log = domain_log(model, certificate, settings.motifs)
    times: list[float] = []
    energies: list[float] = []
    ended, broke_down, step = "", "", 0
    first = atoms.get_volume() if atoms.cell.rank == 3 else None
    begin = time.perf_counter()
    with _Recorder(folder, settings) as recorder:
        states = ENGINES[settings.engine](model, atoms, settings, log, folder)
        try:
            for state in states:
                ended = _exploded(state, first)
                if ended:
                    break
                step = state.step
                if not broke_down and (why := broken(as_crystal(state.atoms, model.descriptor.cutoff))):
                    broke_down = f"in step {step}: {why}"
                times.append(step * settings.timestep / 1000)
                energies.append((state.energy + state.atoms.get_kinetic_energy()) / len(atoms))
                recorder.write(state)
                progress(state)
        except ModelError as error:
            ended = f"after step {step}: {error}"
    seconds = time.perf_counter() - begin
    drift = fluctuation = None
    if settings.ensemble == "nve" and len(times) > 2:
        slope, start = np.polyfit(times, energies, 1)
        drift = 1000 * float(slope)
        fluctuation = 1000 * float(np.std(np.array(energies) - slope * np.array(times) - start))
    result = MdResult(
        settings=asdict(settings),
        formula=atoms.get_chemical_formula(),
        n_atoms=len(atoms),
        steps=step,
        ended=ended,
        broke_down=broke_down,
        seconds=seconds,
        ms_per_step=1000 * seconds / max(step, 1),
        drift=drift,
        fluctuation=fluctuation,
        domain=log.report(),
        versions=versions,
    )
    return result


def _exploded(state: State, first_volume: float | None) -> str:
    """Why a run cannot go on, in words; empty if it can."""
    where = f"before step {state.step}"
    if not (np.isfinite(state.energy) and np.isfinite(state.forces).all()):
        return f"{where}: energy or forces are no numbers any more"
    temperature = state.atoms.get_temperature()
    if not temperature < MAX_TEMPERATURE:
        return f"{where}: it has exploded, at {figures(temperature, 3)} K"
    if first_volume is not None:
        factor = state.atoms.get_volume() / first_volume
        if not 1 / MAX_VOLUME_FACTOR < factor < MAX_VOLUME_FACTOR:
            return f"{where}: the cell has {factor:.3g} times the volume that it had at the start"
    return ""


class _Recorder:
    """Trajectory and log, written as the run goes."""

    HEAD = "step,time_fs,temperature_K,potential_eV,kinetic_eV,total_eV,volume_A3,pressure_GPa,outside_atoms\n"

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.timestep = folder, settings.timestep

    def __enter__(self) -> _Recorder:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.trajectory = (self.folder / TRAJECTORY).open("w", encoding="utf-8")
        self.log = (self.folder / LOG).open("w", encoding="utf-8")
        self.log.write(self.HEAD)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.trajectory.close()
        self.log.close()

    def write(self, state: State) -> None:
        """One frame; files are complete up to here whatever comes later."""
        frame = state.atoms.copy()
        frame.info = {"step": state.step, "time_fs": state.step * self.timestep}
        frame.arrays["outside"] = state.outside.astype(np.int64)
        volume = frame.get_volume() if frame.cell.rank == 3 else None
        results: dict[str, Any] = {"energy": state.energy, "forces": state.forces}
        pressure = None
        if volume is not None:
            results["stress"] = state.stress
            moving = 2 * frame.get_kinetic_energy() / (3 * volume)
            pressure = (moving - state.stress[:3].mean()) / units.GPa
        frame.calc = SinglePointCalculator(frame, **results)
        write_extxyz(self.trajectory, [frame], columns=["symbols", "positions", "momenta", "forces", "outside"])
        kinetic = frame.get_kinetic_energy()
        cells = [
            state.step,
            f"{state.step * self.timestep:g}",
            f"{frame.get_temperature():.2f}",
            f"{state.energy:.8f}",
            f"{kinetic:.8f}",
            f"{state.energy + kinetic:.8f}",
            "" if volume is None else f"{volume:.4f}",
            "" if pressure is None else f"{pressure:.4f}",
            int(state.outside.sum()),
        ]
        self.log.write(",".join(map(str, cells)) + "\n")
        self.trajectory.flush()
        self.log.flush()
