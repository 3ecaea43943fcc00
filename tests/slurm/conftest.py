"""A real SLURM of one node, for the tests of this folder: own configuration, own keys, own ports, gone afterwards.

Skipped, and counted as skipped, where slurmctld, slurmd and munged are not installed (`make test-slurm` installs them
where it may), or where this is not root, as whom slurmd must run.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")

CONFIG = """\
ClusterName=testcluster
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
KillWait=10
MinJobAge=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 \
RealMemory=1000 Gres=gpu:fake:1 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=FORCE:4 State=UP
PartitionName=train Nodes=ALL MaxTime=INFINITE OverSubscribe=FORCE:4 State=UP
PartitionName=dft Nodes=ALL MaxTime=INFINITE OverSubscribe=FORCE:4 State=UP
PartitionName=closed Nodes=ALL State=DOWN
"""


@dataclass(frozen=True)
class Slurm:
    """The running cluster."""

    folder: Path

    def ask(self, *words: str) -> str:
        """What a SLURM command prints."""
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    def submit(self, script: Path, *options: str) -> str:
        """Number of the new job."""
        words = ("sbatch", "--parsable", f"--output={script}.out", *options, str(script))
        return self.ask(*words)

    def state(self, job: str) -> str:
        """RUNNING and the like; empty when the job has left the queue."""
        return self.ask("squeue", "-h", "-o", "%T", "-j", job) if job in self.ask("squeue", "-h", "-o", "%A") else ""


@pytest.fixture(scope="session")
def slurm(free_port: Callable[[], int]) -> Iterator[Slurm]:
    """SLURM on this machine; SLURM_CONF in the environment points to it while it runs."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"SLURM is not installed: no {', '.join(missing)} (apt-get install slurmctld slurmd munge)")
    if os.geteuid() != 0:
        pytest.skip("slurmd runs as root only, and this is not root")
    folder = Path(tempfile.mkdtemp(prefix="kmde_slurm_"))
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    config = CONFIG.format(
        host=host, folder=folder, port=free_port(), node_port=free_port(), cpus=len(os.sched_getaffinity(0))
    )
    (folder / "slurm.conf").write_text(config)
    (folder / "gres.conf").write_text("Name=gpu Type=fake File=/dev/null\n")
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    munge = [
        f"--{name}={folder / file}"
        for name, file in (
            ("key-file", "munge.key"),
            ("socket", "munge.sock"),
            ("pid-file", "munge.pid"),
            ("log-file", "munge.log"),
            ("seed-file", "munge.seed"),
        )
    ]
    commands = [["munged", "--foreground", "--num-threads=2", *munge], ["slurmctld", "-D", "-i"], ["slurmd", "-D"]]
    processes: list[subprocess.Popen[bytes]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        cluster = Slurm(folder)
        try:
            for command in commands:
                with (folder / f"{command[0]}.log").open("wb") as log:
                    processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
                time.sleep(0.5)
            _wait_for_node(folder, processes)
            yield cluster
        finally:
            subprocess.run(["scancel", "--user=root"], check=False, capture_output=True)
            for process in reversed(processes):
                process.terminate()
            for process in reversed(processes):
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    process.kill()  # slurmd waits for jobs whose processes it does not find any more
                    process.wait()
    shutil.rmtree(folder)


def _wait_for_node(folder: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    """Until the node is idle; the daemons' own words where it does not become so."""
    end = time.monotonic() + 60
    while time.monotonic() < end and all(process.poll() is None for process in processes):
        answer = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False)
        if answer.stdout.split()[:1] == ["idle"]:
            return
        time.sleep(0.5)
    logs = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(folder.glob("*.log")))
    raise AssertionError(f"SLURM did not come up: {logs}")
