"""The extrapolation warnings that n2p2 writes into a LAMMPS log, and what can be learned from them alone.

n2p2 writes, per atom and symmetry function that leaves its range (`pair_style hdnnp ... showew yes`):

    ### NNP EXTRAPOLATION WARNING ### STRUCTURE: 0 ATOM: 119 ELEMENT: Cu SYMFUNC: 32 TYPE: 3 VALUE: 1 MIN: 0 MAX: 0.5

before the thermo line of the step. STRUCTURE is the MPI rank; SYMFUNC counts from 1 in the order of the log's listing,
which is n2p2's. Before version 2.1.2 ELEMENT and TYPE were missing. With `showewsum` there are sums instead:

    ### NNP EW SUMMARY ### TS:        100 EW         11 EWPERSTEP  1.100E-01
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmde_fw.errors import InputError
from kmde_fw.hdnnp.model import Hdnnp
from kmde_fw.hdnnp.n2p2.write import written_functions
from kmde_fw.md.trajectory import SUMMARY, WARNING, open_file

_WARNING = re.compile(
    re.escape(WARNING) + r" STRUCTURE:\s*\d+ ATOM:\s*(\d+)(?: ELEMENT:\s*(\w+))? SYMFUNC:\s*(\d+)(?: TYPE:\s*(\d+))?"
    r" VALUE:\s*(\S+) MIN:\s*(\S+) MAX:\s*(\S+)"
)
_SUMMARY = re.compile(re.escape(SUMMARY) + r" TS:\s*(\d+) EW\s*(\d+)")
_MULTI = re.compile(r"-+ Step\s+(\d+)")
#: digits that a warning has: a range in a log and one of the model are the same if they agree so far
_SAME = 2e-3
#: atoms of one function that are remembered
_ATOMS = 1000


@dataclass
class Warned:
    """One symmetry function that was left: how often, by which atoms (ids), how far.

    after, by: the first time was after the one step and not later than the other, None where the log does not say;
    column: of the model's symmetry functions.
    """

    element: str
    column: int
    low: float
    high: float
    times: int = 0
    atoms: set[int] = field(default_factory=set)
    least: float = math.inf
    most: float = -math.inf
    after: int | None = None
    by: int | None = None


@dataclass
class WarningLog:
    """What a log says: warnings by function; steps: of thermo lines, first and last; summed: warnings that only
    summaries count; summaries: (step, warnings since the one before)."""

    functions: list[Warned]
    first_step: int | None
    last_step: int | None
    summaries: list[tuple[int, int]]

    @property
    def total(self) -> int:
        """All warnings that were written out."""
        return sum(warned.times for warned in self.functions)

    def to_document(self, names: Sequence[str]) -> dict[str, Any]:
        """As plain types. names: of the symmetry functions, by column."""
        rows = []
        for warned in sorted(self.functions, key=lambda w: (-w.times, w.element, w.column)):
            low, high = warned.low, warned.high
            above = warned.most - high >= low - warned.least
            value = warned.most if above else warned.least
            beyond = value - high if above else low - value
            rows.append(
                {
                    "element": warned.element,
                    "function": names[warned.column],
                    "times": warned.times,
                    "atoms": sorted(warned.atoms),
                    "value": value,
                    "low": low,
                    "high": high,
                    "excess": beyond / (high - low) if high > low else None,
                    "first_after": warned.after,
                    "first_by": warned.by,
                }
            )
        return {
            "warnings": self.total,
            "steps": [self.first_step, self.last_step],
            "functions": rows,
            "summaries": [{"step": step, "warnings": n} for step, n in self.summaries],
        }


def read_warnings(path: Path, model: Hdnnp) -> WarningLog:
    """The warnings of a log, added up line by line. InputError if there are none, or they are of another potential."""
    finder = _Finder(model)
    found: dict[tuple[str, int], Warned] = {}
    waiting: list[Warned] = []
    summaries: list[tuple[int, int]] = []
    first = step = None
    foreign = ""
    for kind, value in _events(path):
        if kind == "step":
            for first_time in waiting:
                first_time.by = value
            waiting, step = [], value
            first = value if first is None else first
        elif kind == "summary":
            summaries.append(value)
        else:
            atom, element, number, sort, size, low, high = value
            place = finder.find(element, number, sort, low, high)
            if place is None:
                foreign = foreign or f"{element or 'atom'} function {number}, {low:.3E} to {high:.3E}"
                continue
            if place not in found:
                found[place] = Warned(*place, *finder.range(place), after=step)
                waiting.append(found[place])
            warned = found[place]
            warned.times += 1
            warned.least, warned.most = min(warned.least, size), max(warned.most, size)
            if len(warned.atoms) < _ATOMS:
                warned.atoms.add(atom)
    if foreign:
        raise InputError(
            f"{path}: its warnings are of another potential, the model has no such symmetry function ({foreign}); give "
            "the model that the run was made with"
        )
    if not found and not summaries:
        raise InputError(
            f"{path}: has no extrapolation warnings of n2p2; nothing left the domain, or they were not shown "
            "(pair_style hdnnp ... showew yes)"
        )
    return WarningLog(list(found.values()), first, step, summaries)


def _events(path: Path) -> Iterator[tuple[str, Any]]:
    """In the order of the log: ("step", step), ("summary", (step, n)) and ("warning", ...)."""
    columns = 0  # of thermo lines, while there are any
    try:
        with open_file(path) as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith("\n"):
                    return  # the run was killed while it wrote that line
                if line.startswith(WARNING):
                    match = _WARNING.match(line)
                    if match is None:
                        raise InputError(f"{path}, line {number}: is no whole warning of n2p2; cut the log off there")
                    atom, element, function, sort, *numbers = match.groups()
                    try:
                        yield "warning", (int(atom), element, int(function), sort and int(sort), *map(float, numbers))
                    except ValueError:
                        raise InputError(f"{path}, line {number}: a number of the warning cannot be read") from None
                elif line.startswith(SUMMARY):
                    if match := _SUMMARY.match(line):
                        yield "summary", (int(match[1]), int(match[2]))
                elif match := _MULTI.match(line):
                    yield "step", int(match[1])
                else:
                    words = line.split()
                    if words[:1] == ["Step"]:
                        columns = len(words)
                    elif columns and len(words) == columns and words[0].isdigit():
                        yield "step", int(words[0])
                    elif line.startswith("Loop time"):
                        columns = 0
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a text file, and so no LAMMPS log") from None
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


class _Finder:
    """Which symmetry function of the model a warning means: by n2p2's number, and its range must be the model's."""

    def __init__(self, model: Hdnnp) -> None:
        self.model = model
        self._order = {e: written_functions(model, e) for e in model.elements}
        self._known: dict[Any, tuple[str, int] | None] = {}

    def range(self, place: tuple[str, int]) -> tuple[float, float]:
        """Least and greatest value in training."""
        k = self.model.elements.index(place[0])
        return float(self.model.minimum[k, place[1]]), float(self.model.maximum[k, place[1]])

    def find(
        self, element: str | None, number: int, sort: int | None, low: float, high: float
    ) -> tuple[str, int] | None:
        """Element and column; None if the model has none that fits."""
        key = (element, number, sort, low, high)
        if key not in self._known:
            self._known[key] = self._find(*key)
        return self._known[key]

    def _find(
        self, element: str | None, number: int, sort: int | None, low: float, high: float
    ) -> tuple[str, int] | None:
        for symbol in [element] if element else self.model.elements:
            order = self._order.get(symbol, [])
            # older versions count from 0, and do not say the element
            for place in [number - 1] if element else [number, number - 1]:
                if 0 <= place < len(order):
                    function, column = order[place]
                    least, most = self.range((symbol, column))
                    if (sort is None or sort == function.kind) and _same(low, least) and _same(high, most):
                        return symbol, column
        return None


def _same(read: float, known: float) -> bool:
    return math.isclose(read, known, rel_tol=_SAME, abs_tol=1e-30)
