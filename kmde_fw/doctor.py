"""Can this machine do its part? Named checks, each a function that says what it found; a new one is an entry here."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kmde_fw.config import AseReference, Campaign, VaspReference
from kmde_fw.errors import KmdeError
from kmde_fw.worker_env import query_of

#: ok: as it should be; note: worth knowing; problem: with this the machine cannot do its part
State = Literal["ok", "note", "problem"]

#: keys that rlaunch wants in a my_fworker.yaml, and what to write where nothing else is meant
WORKER_KEYS = {"name": "dft", "category": "''", "query": "'{}'"}
#: bytes free in the scratch folder below which there is a note
LITTLE_SPACE = 20 * 2**30


@dataclass(frozen=True)
class Situation:
    """What the checks look at. env: of this worker; level: that the campaign was submitted with, if it was.

    worker: all of its my_fworker.yaml, None where there is none.
    """

    campaign: Campaign
    elements: tuple[str, ...]
    env: Mapping[str, Any]
    level: Mapping[str, Any] | None = None
    worker: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    mend: the command that mends it. fix: does so itself, where that is safe, and says what; mended: what it said.
    """

    check: str
    state: State
    text: str
    mend: str = ""
    fix: Callable[[], str] | None = field(default=None, repr=False)
    mended: str = ""

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


#: a check yields (state, text), nothing at all where it does not apply; a KmdeError that it raises is a problem
Check = Callable[[Situation], Iterator[tuple[State, str]]]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    """Decorator: enter a check under a name."""

    def register(function: Check) -> Check:
        if name in CHECKS:
            raise ValueError(f"two checks are called {name!r}")
        CHECKS[name] = function
        return function

    return register


def examine(situation: Situation) -> list[Finding]:
    """All checks, in the order of the registry."""
    findings = []
    for name, function in CHECKS.items():
        try:
            findings += [Finding(name, state, text) for state, text in function(situation)]
        except KmdeError as error:
            findings.append(Finding(name, "problem", str(error)))
    return findings


@check("worker file")
def _worker_file(situation: Situation) -> Iterator[tuple[State, str]]:
    """FireWorks' rlaunch can read the my_fworker.yaml: it ends with a KeyError where one of its keys is missing."""
    if situation.worker is None:
        return
    missing = [key for key in WORKER_KEYS if key not in situation.worker]
    if missing:
        lines = " and ".join(f"`{key}: {WORKER_KEYS[key]}`" for key in missing)
        yield (
            "problem",
            f"my_fworker.yaml lacks {' and '.join(missing)}, and rlaunch fails without: write {lines} into it",
        )
        return
    query_of(situation.worker)
    yield "ok", f"category {situation.worker['category']!r}, query {situation.worker['query']!r}"


@check("calculator")
def _calculator(situation: Situation) -> Iterator[tuple[State, str]]:
    """The ASE calculator can be set up."""
    from kmde_fw.reference import describe_level, make_engine

    if isinstance(situation.campaign.reference, AseReference):
        engine = make_engine(situation.campaign.reference)
        _ = engine.calculator
        yield "ok", f"{describe_level(engine.level)} ({engine.level['package']})"


@check("VASP")
def _command(situation: Situation) -> Iterator[tuple[State, str]]:
    """The command that starts VASP is known and there."""
    from kmde_fw.reference.vasp.run import split_command
    from kmde_fw.worker_env import resolve

    reference = situation.campaign.reference
    if isinstance(reference, VaspReference):
        command = resolve(reference.vasp_cmd, situation.env, "reference.vasp_cmd")
        yield "ok", f"{command} ({shutil.which(split_command(command)[0])})"


@check("handlers")
def _handlers(situation: Situation) -> Iterator[tuple[State, str]]:
    """Custodian has the handlers that the campaign names."""
    from kmde_fw.reference.vasp.run import make_handlers

    reference = situation.campaign.reference
    if isinstance(reference, VaspReference):
        made = make_handlers(reference.handlers)
        yield "ok", ", ".join(type(handler).__name__ for handler in made) or "none: nothing is corrected"


@check("POTCARs")
def _potcars(situation: Situation) -> Iterator[tuple[State, str]]:
    """There is a POTCAR for every element."""
    from kmde_fw.reference.vasp.inputs import potcar_symbols
    from kmde_fw.reference.vasp.potcars import read_potcar

    reference = situation.campaign.reference
    if not isinstance(reference, VaspReference):
        return
    symbols, functional = potcar_symbols(reference, situation.elements)
    for element, symbol in symbols.items():
        try:
            potcar = read_potcar(symbol, functional)
        except KmdeError as error:
            yield "problem", f"{element}: {error}"
            continue
        yield (
            "ok",
            f"{element}: {potcar.titel}, {potcar.zval:g} electrons, ENMAX {potcar.enmax:g} eV, "
            f"sha256 {potcar.sha256[:12]}",
        )


@check("level of theory")
def _level(situation: Situation) -> Iterator[tuple[State, str]]:
    """Labels made here are of the level that the campaign was submitted with."""
    from kmde_fw.reference import describe_level, level_differences, make_engine

    level = make_engine(situation.campaign.reference, situation.elements, situation.env).level
    different = level_differences(level, situation.level) if situation.level is not None else []
    for what in different:
        yield "problem", f"here and where the campaign was submitted: {what}"
    if not different:
        yield "ok", describe_level(level)


@check("scratch")
def _scratch(situation: Situation) -> Iterator[tuple[State, str]]:
    """Run directories can be made."""
    from kmde_fw.reference import make_engine

    reference = situation.campaign.reference
    if not isinstance(reference, VaspReference):
        return
    engine = make_engine(reference, situation.elements, situation.env)
    assert not isinstance(reference, AseReference)
    folder: Path = engine.scratch(Path.cwd())  # type: ignore[union-attr]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"kmde")
    except OSError as error:
        yield "problem", f"{folder} cannot be written into: {error.strerror}; give the worker another scratch folder"
        return
    free = shutil.disk_usage(folder).free
    state: State = "ok" if free >= LITTLE_SPACE else "note"
    yield state, f"{folder} can be written into, {free / 2**30:.0f} GiB free"


@check("wall time")
def _wall_time(situation: Situation) -> Iterator[tuple[State, str]]:
    """How long a calculation may take here."""
    from kmde_fw.reference.vasp.run import seconds_left

    reference = situation.campaign.reference
    if isinstance(reference, VaspReference):
        seconds = seconds_left(reference)
        job = os.environ.get("SLURM_JOB_ID")
        where = f"in SLURM job {job}" if job else "outside of SLURM"
        if seconds is None:
            yield "note", f"no limit {where}: set reference.walltime if there is one that nobody here can see"
        else:
            yield "ok", f"{seconds:.0f} s for one calculation, {where}"
