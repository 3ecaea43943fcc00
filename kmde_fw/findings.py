"""What `kmde doctor` finds, and registries of the named checks that find it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from kmde_fw.errors import KmdeError

#: ok: as it should be; note: worth knowing; problem: something cannot be done like this
State = Literal["ok", "note", "problem"]
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's. check: name of the check, which its registry writes.

    mend: the command that mends it. fix: does so itself, where that is safe, and says what; mended: what it said.
    """

    state: State
    text: str
    mend: str = ""
    fix: Callable[[], str] | None = field(default=None, repr=False)
    mended: str = ""
    check: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain types; `safe`: whether --fix mends it."""
        return {
            "check": self.check,
            "state": self.state,
            "text": self.text,
            "mend": self.mend,
            "safe": self.fix is not None,
            "mended": self.mended,
        }


class Checks(Generic[Subject]):
    """Checks of one kind of subject by name, in the order in which they were entered.

    A check yields findings, nothing at all where it does not apply; a KmdeError that it raises is a problem.
    """

    def __init__(self) -> None:
        self._functions: dict[str, Callable[[Subject], Iterator[Finding]]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def enter(self, name: str) -> Callable[..., Callable[[Subject], Iterator[Finding]]]:
        """Decorator: enter a check under a name. ValueError if another has it."""
        if name in self._functions:
            raise ValueError(f"two checks are called {name!r}")

        def register(function: Callable[[Subject], Iterator[Finding]]) -> Callable[[Subject], Iterator[Finding]]:
            self._functions[name] = function
            return function

        return register

    def examine(self, subject: Subject) -> list[Finding]:
        """What all checks find."""
        findings = []
        for name, function in self._functions.items():
            try:
                findings += [replace(finding, check=name) for finding in function(subject)]
            except KmdeError as error:
                findings.append(Finding("problem", str(error), check=name))
        return findings
