"""The reference `ase`: any ASE calculator of the worker's environment."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import json
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError, get_calculator_class, names

from kmde_fw.config import AseReference, did_you_mean
from kmde_fw.errors import EngineError
from kmde_fw.records import LabelResult, Structure, content_hash
from kmde_fw.reference.domain import check_bonds, check_scale
from kmde_fw.threads import torch_threads

#: short names of our own: class, and the package to install
SHORT_NAMES = {"sevennet": ("sevenn.calculator.SevenNetCalculator", "sevenn==0.13.0")}
#: arguments that a calculator gets unless the campaign file says otherwise
DEFAULT_ARGUMENTS = {"sevenn.calculator.SevenNetCalculator": {"model": "7net-0", "device": "cpu"}}
#: classes that swallow unknown arguments although every one that they know has a name
CLOSED = (
    "ase.calculators.emt.EMT",
    "ase.calculators.lj.LennardJones",
    "ase.calculators.morse.MorsePotential",
    "sevenn.calculator.SevenNetCalculator",
)


class AseEngine:
    """Labels with an ASE calculator, made at the first label and kept for the life of the process."""

    def __init__(self, settings: AseReference) -> None:
        self.settings = settings
        self.calculator_path = resolve(settings.calculator)
        self.arguments = {**DEFAULT_ARGUMENTS.get(self.calculator_path, {}), **settings.arguments}
        try:
            # as JSON and back: what the level key is made from
            self._arguments_json = json.dumps(self.arguments, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError):
            raise EngineError(
                f"reference.arguments of {settings.calculator!r} must be plain finite values (numbers, text, lists, "
                f"mappings), got {self.arguments!r}"
            ) from None

    @cached_property
    def level(self) -> dict[str, Any]:
        """Engine, class, arguments, and the package with its version."""
        return {
            "engine": "ase",
            "calculator": self.calculator_path,
            "arguments": json.loads(self._arguments_json),
            "package": _package(self.calculator_path),
        }

    @cached_property
    def level_key(self) -> str:
        """Content hash of `level`."""
        return content_hash(self.level)

    @property
    def calculator(self) -> Any:
        """The ASE calculator itself, one per class and arguments in a process."""
        return _instance(self.calculator_path, self._arguments_json)

    def label(self, structure: Structure, run_directory: Path | None = None) -> LabelResult:
        """Domain checks, one single point, checks of its numbers. See `base.Engine.label`."""
        calculator = self.calculator
        if run_directory is not None and hasattr(calculator, "directory"):
            calculator.directory = str(run_directory)  # calculators that work through files write there
        started = time.monotonic()
        checks: dict[str, str] = {}
        found: dict[str, Any] = {}
        notes: list[str] = []
        failure = ""
        try:
            with _quiet(), torch_threads(self.settings.threads):
                for name, reason in self._steps(calculator, structure, found, notes):
                    checks[name] = reason or "passed"
                    if reason:
                        break
        except Exception as error:  # whatever a calculator throws at a structure it cannot treat
            failure = f"{_class_name(self.calculator_path)} failed: {_last_line(error)}"
            _instance.cache_clear()  # it may be left half-way; the next label starts with a fresh one
        refused = [f"{name}: {reason}" for name, reason in checks.items() if reason != "passed"]
        return LabelResult(
            state="failed" if failure else "rejected" if refused else "accepted",
            energy=found.get("energy"),
            forces=found.get("forces"),
            stress=found.get("stress"),
            reason=failure or "; ".join(refused),
            checks=checks,
            notes=notes,
            run_directory=str(run_directory) if run_directory is not None else "",
            seconds=time.monotonic() - started,
            versions={"ase": ase.__version__, **_versions(self.level["package"])},
        )

    def outside_domain(self, structure: Structure) -> str:
        """See `base.Engine.outside_domain`."""
        with _quiet(), torch_threads(self.settings.threads):
            checks = self._domain_checks(self.calculator, structure)
            return next((f"{name}: {reason}" for name, reason in checks if reason), "")

    def _domain_checks(self, calculator: Any, structure: Structure) -> Iterator[tuple[str, str]]:
        domain = self.settings.domain
        yield "shortest bond", check_bonds(structure, domain.min_bond)
        if domain.scale is not None:
            yield "scale", check_scale(structure, lambda s: _energy(calculator, s.to_atoms()), domain.scale)

    def _steps(
        self, calculator: Any, structure: Structure, found: dict[str, Any], notes: list[str]
    ) -> Iterator[tuple[str, str]]:
        """Name and outcome (empty: passed) of each check, cheapest first; what is calculated goes into `found`."""
        yield from self._domain_checks(calculator, structure)
        atoms = structure.to_atoms()
        if "stress" in calculator.implemented_properties:
            with contextlib.suppress(PropertyNotImplementedError):
                found["stress"] = np.asarray(calculator.get_property("stress", atoms), dtype=float)
        if "stress" not in found:
            notes.append(f"{_class_name(self.calculator_path)} gives no stress")
        forces = np.asarray(calculator.get_property("forces", atoms), dtype=float)
        found["forces"] = forces
        found["energy"] = _energy(calculator, atoms)
        expected = (len(structure), 3)
        yield "forces' shape", "" if forces.shape == expected else f"{forces.shape} instead of {expected}"
        stress = found.get("stress", np.zeros(6))
        yield "stress's shape", "" if stress.shape == (6,) else f"{stress.shape} instead of (6,)"
        infinite = [
            name
            for name, value in (("energy", found["energy"]), ("forces", forces), ("stress", stress))
            if not np.isfinite(value).all()
        ]
        yield "finite numbers", f"not finite: {', '.join(infinite)}" if infinite else ""

    def relax(
        self,
        structure: Structure,
        fmax: float,
        max_steps: int,
        cell: bool = False,
        on_step: Callable[[int, float], None] | None = None,
    ) -> tuple[Structure, int]:
        """Relax the positions, and the cell if asked, with L-BFGS; returns the structure and the number of steps.

        fmax: eV/Å, largest force left (with `cell` also of the cell's generalised forces); on_step is called with the
        step and its largest force. Raises EngineError if max_steps do not suffice.
        """
        from ase.filters import FrechetCellFilter
        from ase.optimize import LBFGS

        atoms = structure.to_atoms()
        atoms.calc = self.calculator
        mobile = FrechetCellFilter(atoms) if cell else atoms
        optimizer = LBFGS(mobile, logfile=None)
        steps = optimizer.irun(fmax=fmax, steps=max_steps)
        converged: bool | None = None
        while True:
            try:
                with _quiet():
                    latest = next(steps, None)
                    largest = float(np.linalg.norm(mobile.get_forces(), axis=1).max())
            except Exception as error:
                raise EngineError(
                    f"{structure.name}: {_class_name(self.calculator_path)} failed while relaxing: {_last_line(error)}"
                ) from None
            if latest is None:
                break
            converged = bool(latest)
            if on_step is not None:
                on_step(optimizer.nsteps, largest)
        if not converged:
            raise EngineError(
                f"{structure.name}: forces up to {largest:.3f} eV/Å are left after {max_steps} steps of relaxation; "
                "allow more steps (max_steps) or a larger fmax"
            )
        return Structure.from_atoms(atoms, structure.name), int(optimizer.nsteps)


def resolve(calculator: str) -> str:
    """module.Class of a calculator given by short name or by module.Class. Raises EngineError.

    A short name whose package is heavy is only looked up, not imported: submitting a campaign should not take seconds.
    """
    if calculator in SHORT_NAMES:
        path, package = SHORT_NAMES[calculator]
        if importlib.util.find_spec(path.split(".")[0]) is None:
            raise EngineError(f"calculator {calculator!r} needs a package that is not here: pip install '{package}'")
        return path
    found = _import_class(calculator) if "." in calculator else _ase_class(calculator)
    return f"{found.__module__}.{found.__qualname__}"


def _ase_class(name: str) -> type:
    """The class of one of ASE's own short names."""
    if name not in names:
        known = sorted([*names, *SHORT_NAMES])
        raise EngineError(
            f"unknown calculator {name!r}{did_you_mean(name, known)}; give one of {', '.join(known)}, or module.Class "
            "of any ASE calculator that is installed (e.g. mace.calculators.MACECalculator)"
        )
    try:
        found = get_calculator_class(name)
    except ImportError as error:
        raise EngineError(
            f"calculator {name!r} needs a package that is not here ({_last_line(error)}); "
            "install it into this environment"
        ) from None
    return _check_class(found, name)


def _import_class(path: str) -> type:
    """The class at module.Class."""
    module_name, _, class_name = path.rpartition(".")
    try:
        with _quiet():
            module = importlib.import_module(module_name)
    except Exception as error:  # an import can fail with anything
        raise EngineError(
            f"calculator {path!r}: module {module_name!r} cannot be imported ({_last_line(error)}); install its "
            f"package into this environment (pip install {module_name.split('.')[0]}), or mend the name"
        ) from None
    if not hasattr(module, class_name):
        raise EngineError(
            f"calculator {path!r}: {module_name} has no {class_name!r}{did_you_mean(class_name, dir(module))}"
        )
    return _check_class(getattr(module, class_name), path)


def _check_class(found: Any, name: str) -> type:
    if not (isinstance(found, type) and issubclass(found, BaseCalculator)):
        raise EngineError(
            f"calculator {name!r} is not a class derived from ASE's Calculator; give module.Class of one that is"
        )
    return found


@lru_cache(maxsize=2)
def _instance(path: str, arguments_json: str) -> Any:
    """The calculator, kept: loading a learned potential takes seconds."""
    found = _import_class(path)
    arguments = json.loads(arguments_json)
    known = _known_arguments(found)
    for name in arguments if path in CLOSED else ():
        if name not in known:
            raise EngineError(
                f"reference.arguments: {path} takes no {name!r}{did_you_mean(name, known)}; it takes {', '.join(known)}"
            )
    try:
        with _quiet():
            return found(**arguments)
    except Exception as error:
        hint = f"; it takes {', '.join(known)}" if isinstance(error, TypeError) else ""
        raise EngineError(
            f"calculator {path} cannot be set up with the reference.arguments {arguments}: {_last_line(error)}{hint}"
        ) from None


def _known_arguments(found: type) -> list[str]:
    """Every argument that a calculator class has a name for."""
    named = {
        parameter.name
        for cls in found.__mro__
        if "__init__" in vars(cls) and cls is not object
        for parameter in inspect.signature(vars(cls)["__init__"]).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD and parameter.kind is not parameter.VAR_POSITIONAL
    }
    return sorted({*named, *getattr(found, "default_parameters", {})} - {"self"})


def _energy(calculator: Any, atoms: Any) -> float:
    """The energy that the forces are the derivative of: free_energy where the calculator has it, else energy."""
    if "free_energy" in calculator.implemented_properties:
        with contextlib.suppress(PropertyNotImplementedError):
            return float(calculator.get_property("free_energy", atoms))
    return float(calculator.get_property("energy", atoms))


def _package(path: str) -> str:
    """Name and version of the package that a class comes from: `sevenn 0.13.0`."""
    module = path.split(".")[0]
    with contextlib.suppress(metadata.PackageNotFoundError):
        return f"{module} {metadata.version(module)}"
    for name in metadata.packages_distributions().get(module, ()):  # reads every package's file list: slow
        return f"{name} {metadata.version(name)}"
    return f"{module} of unknown version"


def _versions(package: str) -> dict[str, str]:
    name, _, version = package.partition(" ")
    return {name: version}


def _class_name(path: str) -> str:
    return path.rpartition(".")[2]


def _last_line(error: BaseException) -> str:
    """Kind of an exception and the last line of its text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what calculators print and warn out of our own output."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
