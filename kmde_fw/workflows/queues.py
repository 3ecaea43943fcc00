"""Queue systems: which job we are in, and which jobs there are. A new one is an entry of QUEUES."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kmde_fw.config import did_you_mean
from kmde_fw.errors import ConfigError, EngineError

#: seconds in which a queue must answer: a busy squeue takes many
PATIENCE = 60.0


@dataclass(frozen=True)
class Queue:
    """One queue system. Jobs are known by their number, as FireWorks reads it from what sbatch and qsub print.

    job_variable: a job's environment has its id there. listing, cluster_command: what to run. parse: listing to
    job -> whether it runs (False: it waits); parse_cluster: what tells one such queue from another.
    """

    name: str
    job_variable: str
    listing: tuple[str, ...]
    parse: Callable[[str], dict[str, bool]]
    cluster_command: tuple[str, ...]
    parse_cluster: Callable[[str], str]

    def jobs(self) -> dict[str, bool]:
        """Jobs that are in the queue: number -> whether it runs. EngineError where the queue does not answer."""
        return self.parse(_ask(self.listing))

    def cluster(self) -> str:
        """Name of the cluster whose queue answers here. EngineError where it does not answer."""
        return self.parse_cluster(_ask(self.cluster_command))


def current_job(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The job that this process is in: queue, job, cluster, user; empty outside of every job."""
    for queue in QUEUES.values():
        job = environment.get(queue.job_variable, "")
        if job:
            cluster = environment.get("SLURM_CLUSTER_NAME", "") if queue.name == "slurm" else _server(job)
            return {"queue": queue.name, "job": _number(job), "cluster": cluster, "user": getpass.getuser()}
    return {}


def queue_here(name: str | None = None) -> Queue | None:
    """The queue of that name; without one, that whose listing command is on this machine, if there is one.

    Raises ConfigError for an unknown name.
    """
    if name is None:
        return next((queue for queue in QUEUES.values() if shutil.which(queue.listing[0])), None)
    if name not in QUEUES:
        raise ConfigError(f"no queue system {name!r}{did_you_mean(name, QUEUES)}; known: {', '.join(QUEUES)}")
    return QUEUES[name]


def _ask(command: tuple[str, ...]) -> str:
    words = " ".join(command)
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except OSError as error:
        raise EngineError(f"cannot ask the queue: {command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise EngineError(f"the queue does not answer: `{words}` took more than {PATIENCE:.0f} s") from None
    if answer.returncode:
        last = answer.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise EngineError(f"the queue does not answer: `{words}` ended with {answer.returncode}: {last[0]}")
    return answer.stdout


def _number(job: str) -> str:
    """The job's number: 123 of 123, 123.server and 123_4 (an element of an array, whose jobs share it)."""
    match = re.match(r"\d+", job.strip())
    return match[0] if match else job.strip()


def _server(job: str) -> str:
    """pbs01 of 123.pbs01.example.org."""
    return job.partition(".")[2].partition(".")[0]


def _slurm_jobs(listing: str) -> dict[str, bool]:
    """Of lines `123 RUNNING`. What completes still holds its nodes; CONFIGURING nodes are not there yet."""
    jobs: dict[str, bool] = {}
    for line in listing.splitlines():
        job, _, state = line.strip().partition(" ")
        if job:
            waits = state.strip() in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING")
            jobs[_number(job)] = jobs.get(_number(job), False) or not waits
    return jobs


def _pbs_jobs(listing: str) -> dict[str, bool]:
    """Of qstat's table, whose last but one column is the state. C, F and X have ended."""
    jobs: dict[str, bool] = {}
    for line in listing.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0][0].isdigit() and words[-2] not in ("C", "F", "X"):
            jobs[_number(words[0])] = jobs.get(_number(words[0]), False) or words[-2] not in ("Q", "H", "W", "T")
    return jobs


def _slurm_cluster(answer: str) -> str:
    match = re.search(r"^ClusterName\s*=\s*(\S+)", answer, re.MULTILINE)
    return match[1] if match else ""


def _pbs_cluster(answer: str) -> str:
    match = re.search(r"^Server:\s*([^\s.]+)", answer, re.MULTILINE)
    return match[1] if match else ""


QUEUES = {
    queue.name: queue
    for queue in (
        Queue(
            "slurm",
            "SLURM_JOB_ID",
            ("squeue", "-h", "-o", "%A %T"),
            _slurm_jobs,
            ("scontrol", "show", "config"),
            _slurm_cluster,
        ),
        Queue("pbs", "PBS_JOBID", ("qstat",), _pbs_jobs, ("qstat", "-B", "-f"), _pbs_cluster),
    )
}
