"""What every reference engine offers, and what a label is before it becomes a document."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from kmde_fw.records import Structure

#: accepted: may be trained on; rejected: calculated or not, it fails a check; failed: the calculation itself broke
State = Literal["accepted", "rejected", "failed"]


@dataclass(frozen=True, eq=False)
class LabelResult:
    """The outcome of one reference calculation. Only an accepted one may be trained on.

    energy: eV, of the whole cell, the one that matches the forces; forces: (n, 3) eV/Å; stress: (6,) eV/Å³, ASE's sign
    and Voigt order, None where the reference has none. All three may be None unless the state is accepted (a rejected
    result keeps what was calculated, as evidence). reason: a sentence, empty if accepted. checks: name of each check
    that was made -> "passed" or why not. corrections: what was changed on the way to make the calculation work, as
    plain types. notes: sentences that a reader of the label should know. versions: of the packages that calculated.
    """

    state: State
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    reason: str = ""
    checks: dict[str, str] = field(default_factory=dict)
    corrections: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    run_directory: str = ""
    seconds: float = 0.0
    host: str = field(default_factory=platform.node)
    versions: dict[str, str] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """As plain types for BSON and JSON; numbers that are not finite become None."""
        finite_energy = self.energy is not None and np.isfinite(self.energy)
        return {
            "state": self.state,
            "energy": float(self.energy) if finite_energy and self.energy is not None else None,
            "forces": _plain(self.forces),
            "stress": _plain(self.stress),
            "reason": self.reason,
            "checks": dict(self.checks),
            "corrections": list(self.corrections),
            "notes": list(self.notes),
            "run_directory": self.run_directory,
            "seconds": float(self.seconds),
            "host": self.host,
            "versions": dict(self.versions),
        }


def _plain(array: np.ndarray | None) -> list[Any] | None:
    return array.tolist() if array is not None and np.isfinite(array).all() else None


class Engine(Protocol):
    """A reference: labels structures at one level of theory.

    level: everything that decides the numbers, as plain types; level_key: its content hash. Labels with different keys
    are never mixed in one train set.
    """

    @property
    def level(self) -> dict[str, Any]:
        """Everything that decides the numbers, as plain types."""
        ...

    @property
    def level_key(self) -> str:
        """Content hash of `level`."""
        ...

    def label(self, structure: Structure, run_directory: Path | None = None) -> LabelResult:
        """One single point. A structure that cannot be labelled is a result with a reason, never an exception.

        run_directory: where a calculation may write. Raises EngineError where the reference cannot work at all here.
        """
        ...
