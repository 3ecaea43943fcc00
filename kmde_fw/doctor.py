"""Can this machine do its part? Named checks, each a function that says what it found; a new one is an entry here.

`kmde_fw.workflows.health` asks the same of the campaigns of a database.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmde_fw.config import AseReference, Campaign, VaspReference
from kmde_fw.errors import KmdeError
from kmde_fw.findings import Checks, Finding, State
from kmde_fw.worker_env import query_of

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


#: of a machine, for a campaign
CHECKS: Checks[Situation] = Checks()


@CHECKS.enter("worker file")
def _worker_file(situation: Situation) -> Iterator[Finding]:
    """FireWorks' rlaunch can read the my_fworker.yaml: it ends with a KeyError where one of its keys is missing."""
    if situation.worker is None:
        return
    missing = [key for key in WORKER_KEYS if key not in situation.worker]
    if missing:
        lines = " and ".join(f"`{key}: {WORKER_KEYS[key]}`" for key in missing)
        yield Finding(
            "problem",
            f"my_fworker.yaml lacks {' and '.join(missing)}, and rlaunch fails without: write {lines} into it",
        )
        return
    query_of(situation.worker)
    yield Finding("ok", f"category {situation.worker['category']!r}, query {situation.worker['query']!r}")


@CHECKS.enter("calculator")
def _calculator(situation: Situation) -> Iterator[Finding]:
    """The ASE calculator can be set up."""
    from kmde_fw.reference import describe_level, make_engine

    if isinstance(situation.campaign.reference, AseReference):
        engine = make_engine(situation.campaign.reference)
        _ = engine.calculator
        yield Finding("ok", f"{describe_level(engine.level)} ({engine.level['package']})")


@CHECKS.enter("VASP")
def _command(situation: Situation) -> Iterator[Finding]:
    """The command that starts VASP is known and there."""
    from kmde_fw.reference.vasp.run import split_command
    from kmde_fw.worker_env import resolve

    reference = situation.campaign.reference
    if isinstance(reference, VaspReference):
        command = resolve(reference.vasp_cmd, situation.env, "reference.vasp_cmd")
        yield Finding("ok", f"{command} ({shutil.which(split_command(command)[0])})")


@CHECKS.enter("handlers")
def _handlers(situation: Situation) -> Iterator[Finding]:
    """Custodian has the handlers that the campaign names."""
    from kmde_fw.reference.vasp.run import make_handlers

    reference = situation.campaign.reference
    if isinstance(reference, VaspReference):
        made = make_handlers(reference.handlers)
        yield Finding("ok", ", ".join(type(handler).__name__ for handler in made) or "none: nothing is corrected")


@CHECKS.enter("POTCARs")
def _potcars(situation: Situation) -> Iterator[Finding]:
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
            yield Finding("problem", f"{element}: {error}")
            continue
        yield Finding(
            "ok",
            f"{element}: {potcar.titel}, {potcar.zval:g} electrons, ENMAX {potcar.enmax:g} eV, "
            f"sha256 {potcar.sha256[:12]}",
        )


@CHECKS.enter("level of theory")
def _level(situation: Situation) -> Iterator[Finding]:
    """Labels made here are of the level that the campaign was submitted with."""
    from kmde_fw.reference import describe_level, level_differences, make_engine

    level = make_engine(situation.campaign.reference, situation.elements, situation.env).level
    different = level_differences(level, situation.level) if situation.level is not None else []
    for what in different:
        yield Finding("problem", f"here and where the campaign was submitted: {what}")
    if not different:
        yield Finding("ok", describe_level(level))


@CHECKS.enter("scratch")
def _scratch(situation: Situation) -> Iterator[Finding]:
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
        remedy = "give the worker another scratch folder"
        yield Finding("problem", f"{folder} cannot be written into: {error.strerror}; {remedy}")
        return
    free = shutil.disk_usage(folder).free
    state: State = "ok" if free >= LITTLE_SPACE else "note"
    yield Finding(state, f"{folder} can be written into, {free / 2**30:.0f} GiB free")


@CHECKS.enter("wall time")
def _wall_time(situation: Situation) -> Iterator[Finding]:
    """How long a calculation may take here."""
    from kmde_fw.reference.vasp.run import seconds_left

    reference = situation.campaign.reference
    if isinstance(reference, VaspReference):
        seconds = seconds_left(reference)
        job = os.environ.get("SLURM_JOB_ID")
        where = f"in SLURM job {job}" if job else "outside of SLURM"
        if seconds is None:
            yield Finding("note", f"no limit {where}: set reference.walltime if there is one that nobody here can see")
        else:
            yield Finding("ok", f"{seconds:.0f} s for one calculation, {where}")
