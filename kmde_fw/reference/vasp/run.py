"""VASP under custodian in one directory: handlers and validators made fresh, an end before the job's end."""

from __future__ import annotations

import inspect
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmde_fw.config import HANDLERS, VaspReference, did_you_mean
from kmde_fw.errors import EngineError

#: VASP may take this part of walltime_reserve to end by itself after STOPCAR, before it is killed
PATIENCE = 0.5
#: programs that start another one
LAUNCHERS = frozenset({"srun", "mpirun", "mpiexec", "mpiexec.hydra", "aprun", "ibrun", "jsrun", "env", "nice"})
#: lines of VASP's own output that go into the document of a failed label
TAIL = 12


@dataclass(frozen=True)
class Verdict:
    """What custodian says about a run: empty reason if it found nothing wrong in the end.

    corrections: one per correction, in order: handler, errors, actions, as plain types.
    """

    reason: str
    corrections: list[dict[str, Any]]


def run(directory: Path, command: str, settings: VaspReference, seconds: float | None) -> Verdict:
    """Run VASP with corrections until it is done or given up. seconds: it is stopped after so many; None: never.

    Leaves no process behind, however it ends, even if this process is killed. custodian.json and custodian.log stay in
    the directory.
    """
    from custodian.custodian import Custodian, CustodianError
    from custodian.vasp.jobs import VaspJob
    from custodian.vasp.validators import VaspFilesValidator, VasprunXMLValidator

    job = VaspJob(_guarded(split_command(command)), backup=False, auto_gamma=False)
    end = _end_of_time(job, seconds, settings.walltime_reserve) if seconds is not None else None
    handlers = [*make_handlers(settings.handlers), *([end] if end else [])]
    custodian = Custodian(
        handlers,
        [job],
        validators=[VasprunXMLValidator(), VaspFilesValidator()],
        max_errors=settings.max_corrections,
        polling_time_step=settings.poll,
        monitor_freq=1,
        directory=str(directory),
    )
    reason = ""
    with _log_into(directory / "custodian.log"):
        try:
            custodian.run()
        except CustodianError as error:
            reason = " ".join(str(error).split())
        except Exception as error:  # a handler or parser that stumbles over what VASP left
            reason = f"custodian failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        finally:
            # also when a signal ends this worker: nobody would look after VASP any more
            if hasattr(job, "_vasp_process"):
                job.terminate(str(directory))
    log = custodian.run_log[-1] if custodian.run_log else {}
    return Verdict(_reason(log, reason, end, seconds, job), [_plain(c) for c in log.get("corrections", [])])


def make_handlers(wanted: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """New error handlers of custodian, by class name. EngineError for an unknown one, or unknown arguments."""
    from custodian.custodian import ErrorHandler
    from custodian.vasp import handlers

    known = [
        n
        for n, c in vars(handlers).items()
        if isinstance(c, type) and issubclass(c, ErrorHandler) and c is not ErrorHandler
    ]
    made = []
    for name, arguments in wanted.items():
        if name not in known:
            raise EngineError(
                f"reference.handlers: custodian has no {name!r}{did_you_mean(name, known)}; "
                f"it has {', '.join(sorted(known))}"
            )
        cls = getattr(handlers, name)
        takes = [p for p in inspect.signature(cls).parameters if p != "kwargs"]
        for argument in arguments:
            if argument not in takes:
                raise EngineError(
                    f"reference.handlers: {name} takes no {argument!r}{did_you_mean(argument, takes)}; "
                    f"it takes {', '.join(takes) or 'nothing'}"
                )
        made.append(cls(**{**HANDLERS.get(name, {}), **arguments}))
    return made


def split_command(command: str) -> list[str]:
    """The words of a command line; EngineError unless its program is there, and the one that a launcher starts."""
    words = shlex.split(command)
    if not words:
        raise EngineError("reference.vasp_cmd is empty: give the command that starts VASP, such as `srun vasp_std`")
    wanted = [words[0]]
    if Path(words[0]).name in LAUNCHERS and not any(map(shutil.which, words[1:])):
        # `mpirun -n 4 vasp_std`; in `srun singularity exec vasp.sif vasp_std` it is singularity that must be here
        wanted.append(words[-1])
    missing = next((program for program in wanted if shutil.which(program) is None), None)
    if missing is not None:
        raise EngineError(
            f"the program {missing!r} of the command that starts VASP ({command!r}) is not on this machine; load its "
            "module, or mend vasp_cmd in the worker's env"
        )
    return words


def _guarded(words: list[str]) -> list[str]:
    """The command under `guard.py`, which ends it when this process is killed; as it is where that needs Linux."""
    if sys.platform != "linux":
        return words
    # -I: neither the folder of the file nor anything of the user's is imported from
    return [sys.executable, "-I", str(Path(__file__).with_name("guard.py")), str(os.getpid()), *words]


def seconds_left(settings: VaspReference) -> float | None:
    """How long VASP may run from now on: by the campaign's walltime, and within a SLURM job by what is left of it.

    Raises EngineError where a job has too little time left to begin at all: the firework then fizzles, and runs in the
    next job.
    """
    limits = [settings.walltime] if settings.walltime is not None else []
    job = os.environ.get("SLURM_JOB_ID")
    if job:
        left = slurm_seconds_left(job)
        if left is not None:
            if left <= settings.walltime_reserve:
                raise EngineError(
                    f"SLURM job {job} has {left:.0f} s left, less than walltime_reserve "
                    f"({settings.walltime_reserve:g} s): no calculation is begun; rerun this firework in another job"
                )
            limits.append(left - settings.walltime_reserve)
    return min(limits) if limits else None


def slurm_seconds_left(job: str) -> float | None:
    """Time left of a SLURM job by squeue; None where it has no limit or squeue does not answer."""
    try:
        answer = subprocess.run(
            ["squeue", "-h", "-j", job, "-o", "%L"], capture_output=True, text=True, timeout=60, check=True
        ).stdout.strip()
        days, _, clock = answer.rpartition("-")
        seconds = 0
        for part in clock.split(":"):
            seconds = 60 * seconds + int(part)
        return float(int(days or 0) * 86400 + seconds)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def tail(directory: Path) -> list[str]:
    """The last lines that VASP printed, standard error last."""
    lines: list[str] = []
    for name in ("vasp.out", "std_err.txt"):
        path = directory / name
        if path.is_file():
            text = path.read_bytes()[-4000:].decode("utf-8", "replace")
            lines += [line.rstrip()[:300] for line in text.splitlines() if line.strip(" -|")][-TAIL:]
    return lines


def _end_of_time(job: Any, seconds: float, reserve: float) -> Any:
    """A handler of custodian's that asks VASP to stop when its time is over, and kills it if it does not."""
    from custodian.custodian import ErrorHandler

    class EndOfTime(ErrorHandler):  # type: ignore[misc, unused-ignore]
        is_monitor = True
        is_terminating = False
        raises_runtime_error = False

        def __init__(self) -> None:
            self.stop_at = time.monotonic() + seconds
            self.kill_at = self.stop_at + PATIENCE * reserve
            self.reached = False

        def check(self, directory: str = "./") -> bool:
            now = time.monotonic()
            if now >= self.kill_at and job._vasp_process.poll() is None:
                job.terminate(directory)
            if self.reached or now < self.stop_at or job._vasp_process.poll() is not None:
                return False
            self.reached = True
            return True

        def correct(self, directory: str = "./") -> dict[str, Any]:
            # by this VASP ends after the running electronic step and closes its files
            (Path(directory) / "STOPCAR").write_text("LABORT = .TRUE.\n")
            return {"errors": ["out of time"], "actions": None}

    return EndOfTime()


def _reason(log: Mapping[str, Any], error: str, end: Any, seconds: float | None, job: Any) -> str:
    """Custodian's verdict in words; empty if it found nothing wrong."""
    if end is not None and end.reached:
        return f"stopped after {seconds:.0f} s, when its wall time was over"
    if log.get("nonzero_return_code") or (log.get("validator") is not None and _return_code(job)):
        return f"VASP ended with {_exit_words(_return_code(job))}"
    if log.get("max_errors") or log.get("max_errors_per_job"):
        kinds = [e for correction in log["corrections"] for e in correction["errors"]]
        return f"given up after {len(log['corrections'])} corrections ({', '.join(dict.fromkeys(kinds))})"
    if log.get("handler") is not None:
        errors = log["corrections"][-1]["errors"] if log["corrections"] else []
        return f"{type(log['handler']).__name__} knows no correction for: {', '.join(errors)}"
    if log.get("validator") is not None:
        return f"{type(log['validator']).__name__} found no complete output"
    return error


def _return_code(job: Any) -> int:
    process = getattr(job, "_vasp_process", None)
    return 0 if process is None or process.returncode is None else int(process.returncode)


def _exit_words(code: int) -> str:
    import signal

    if code < 0:
        return f"signal {-code} ({signal.Signals(-code).name})"
    return f"exit code {code}"


def _plain(correction: Mapping[str, Any]) -> dict[str, Any]:
    """A correction as plain types; numbers, text and truth values only inside its actions."""
    return {
        "handler": type(correction["handler"]).__name__,
        "errors": [str(e) for e in correction["errors"]],
        "actions": _plain_value(correction["actions"] or []),
    }


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_value(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


@contextmanager
def _log_into(path: Path) -> Iterator[None]:
    """What custodian and its handlers log and warn goes into a file, not to the worker's output."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    root, custodian = logging.getLogger(), logging.getLogger("custodian")
    level = custodian.level
    root.addHandler(handler)
    custodian.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        custodian.setLevel(level)
        root.removeHandler(handler)
        handler.close()
