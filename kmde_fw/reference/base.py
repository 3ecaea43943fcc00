"""What every reference engine offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from kmde_fw.records import LabelResult, Structure


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

        run_directory: where a calculation may write. Raises EngineError where the reference cannot work at all here
        (its program is missing, no time is left): the machine is to be mended, and the firework rerun.
        """
        ...

    def outside_domain(self, structure: Structure) -> str:
        """Why this reference is not to be trusted with a structure, in words; empty where it is."""
        ...
