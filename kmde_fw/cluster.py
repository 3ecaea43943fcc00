"""The files that FireWorks wants on a cluster, filled in: where the database is, what each kind of machine takes.

They hold no password: that is in the environment or in a file of its own (`password_file`), see `store.connect`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kmde_fw.config import did_you_mean
from kmde_fw.errors import ConfigError

#: categories of steps, each with its own kind of machine
CATEGORIES = ("kmde_cpu", "kmde_train", "kmde_dft")
#: seconds ahead of the wall time when SLURM tells a job, and when a job takes nothing new
WARNING = 120

LAUNCHPAD = """\
# Where FireWorks and kmde_fw keep everything. No password here: it is in the environment (KMDE_MONGO_PASSWORD) or in
# `password_file`, which only you may read (chmod 600). kmde reads either, and hands it on to FireWorks' own programs:
#   kmde fw lpad -l {folder}/my_launchpad.yaml get_wflows
host: {server}
port: {port}
name: {database}
username: {user}
authsource: admin
password_file: {password_file}
mongoclient_kwargs:
  tls: {tls}
{certificate}  # a server that is gone is noticed after 10 s
  serverSelectionTimeoutMS: 10000
  connectTimeoutMS: 10000
  socketTimeoutMS: 120000
  retryWrites: true
  w: majority
  journal: true
strm_lvl: INFO
"""

FW_CONFIG = """\
# FireWorks' own settings; it reads them from the current folder, ~/.fireworks, or where FW_CONFIG_FILE points:
#   export FW_CONFIG_FILE={folder}/FW_config.yaml
# a rocket says every 10 minutes that it lives; one that is silent for 4 hours is lost. Keep the second far above the
# first, and above what the clocks of your machines differ by: `lpad detect_lostruns` below it kills live runs
PING_TIME_SECS: 600
RUN_EXPIRATION_SECS: 14400
# a job may wait in the queue for two weeks before `lpad detect_unreserved` takes its reservation away
RESERVATION_EXPIRATION_SECS: 1209600
# seconds between two looks of rlaunch and qlaunch rapidfire
RAPIDFIRE_SLEEP_SECS: 30
# job names are the steps' names: cu_au 001 Label slot 0
QUEUE_JOBNAME_MAXLEN: 40
# the oldest of equal priority first
SORT_FWS: FIFO
"""

FWORKER = """\
# {what}
name: {category}@{cluster}
category: {category}
query: '{{}}'
{env}"""

ENV_DFT = """\
env:
  vasp_cmd: {vasp_cmd}   # what `>>vasp_cmd<<` in a campaign stands for here
  scratch: {scratch}   # and `>>scratch<<`: the folder of the run directories, on a disk that outlives the job
"""

QADAPTER = """\
# {what}
# Submit with: kmde fw qlaunch -l {folder}/my_launchpad.yaml -w {here}/my_fworker.yaml -q {here}/my_qadapter.yaml \\
#                              {submit}
_fw_name: '{{{{fireworks.user_objects.queue_adapters.common_adapter.CommonAdapter}}}}'
_fw_q_type: {queue}
_fw_q_name: {category}
# seconds for {listing}; FireWorks' 5 are too few for a busy one
_fw_timeout: 30
# `exec`: the queue's signals come to kmde launch, which releases the firework, and not to a shell that dies of them
rocket_launch: exec {kmde} launch -l {folder}/my_launchpad.yaml -w {here}/my_fworker.yaml {mode}
pre_rocket: export FW_CONFIG_FILE={folder}/FW_config.yaml OMP_NUM_THREADS={threads}
{resources}{more}"""

SLURM = """\
nodes: 1
ntasks: {ntasks}
cpus_per_task: {threads}
walltime: '{walltime}'
# SIGUSR1 to the job's main process so many seconds ahead of the wall time (SLURM may send it a minute earlier)
signal: B:USR1@{warning}
"""

PBS = """\
nnodes: 1
ppnode: {cores}
walltime: '{walltime}'
"""

#: by queue system: the command that lists its jobs, and what a job asks for
QUEUES = {"slurm": ("squeue", SLURM), "pbs": ("qstat", PBS)}


@dataclass(frozen=True)
class Kind:
    """One kind of machine, as its queue is asked for it.

    mode: words of `kmde launch`; submit: of `kmde fw qlaunch`; ntasks: processes (of VASP); threads: OMP_NUM_THREADS of
    each; walltime: hh:mm:ss.
    """

    what: str
    mode: str
    submit: str
    ntasks: int
    threads: int
    walltime: str
    gpus: int = 0


KINDS: Mapping[str, Kind] = {
    "kmde_cpu": Kind(
        "Analysis, candidates, choice, errors: many short steps, one job takes one after another.",
        "rapidfire --wait 300 --reserve 600",
        "rapidfire -m 1 --nlaunches infinite",
        1,
        4,
        "04:00:00",
    ),
    "kmde_train": Kind(
        "Trainings, a job each. With `training: {device: cuda}` in the campaign they use the GPU.",
        "singleshot",
        "-r rapidfire -m 8 --nlaunches infinite",
        1,
        8,
        "12:00:00",
        gpus=1,
    ),
    "kmde_dft": Kind(
        "Labels, a job each: VASP under custodian.",
        "singleshot",
        "-r rapidfire -m 20 --nlaunches infinite",
        32,
        1,
        "24:00:00",
    ),
}


@dataclass(frozen=True)
class Site:
    """What is to be known of a cluster.

    folder: of the files; server, port, database, user, tls: of MongoDB; ca_file: certificate of the authority that
    signed the server's, None: one that the system knows; account: that jobs are charged to; partitions: category ->
    partition or queue, without one the default's; vasp_cmd, scratch: of the machines that label; kmde: the command as
    jobs call it, empty: the one of this Python environment. ConfigError for a partition of an unknown category.
    """

    folder: Path
    server: str = "db.example.org"
    port: int = 27017
    database: str = "kmde_fw"
    user: str = "kmde_worker"
    tls: bool = True
    ca_file: Path | None = None
    password_file: Path = Path("~/.config/kmde_fw/mongo_password")
    account: str | None = None
    partitions: Mapping[str, str] = field(default_factory=dict)
    vasp_cmd: str = "srun vasp_std"
    scratch: str = "~/kmde_scratch"
    kmde: str = ""

    def __post_init__(self) -> None:
        for category in self.partitions:
            if category not in CATEGORIES:
                raise ConfigError(
                    f"--partition: no category {category!r}{did_you_mean(category, CATEGORIES)}; "
                    f"known: {', '.join(CATEGORIES)}"
                )


def cluster_files(queue: str, site: Site) -> dict[Path, str]:
    """Text of each file, by its path below the site's folder. queue: slurm or pbs. ConfigError for another."""
    if queue not in QUEUES:
        raise ConfigError(f"--cluster {queue}: no such queue system{did_you_mean(queue, QUEUES)}; slurm or pbs")
    listing, resources = QUEUES[queue]
    certificate = f"  tlsCAFile: {site.ca_file}\n" if site.ca_file and site.tls else ""
    files = {
        Path("my_launchpad.yaml"): LAUNCHPAD.format(
            folder=site.folder,
            server=site.server,
            port=site.port,
            database=site.database,
            user=site.user,
            tls="true" if site.tls else "false",
            certificate=certificate,
            password_file=site.password_file,
        ),
        Path("FW_config.yaml"): FW_CONFIG.format(folder=site.folder),
    }
    for category, kind in KINDS.items():
        env = ENV_DFT.format(vasp_cmd=site.vasp_cmd, scratch=site.scratch) if category == "kmde_dft" else ""
        files[Path(category) / "my_fworker.yaml"] = FWORKER.format(
            what=kind.what, category=category, cluster=queue, env=env
        )
        more = {"account": site.account, "queue": site.partitions.get(category)}
        if queue == "slurm" and kind.gpus:
            more["gres"] = f"gpu:{kind.gpus}"
        files[Path(category) / "my_qadapter.yaml"] = QADAPTER.format(
            what=kind.what,
            queue=queue.upper(),
            listing=listing,
            category=category,
            folder=site.folder,
            here=site.folder / category,
            kmde=site.kmde or _kmde(),
            mode=kind.mode,
            submit=kind.submit,
            threads=kind.threads,
            resources=resources.format(
                ntasks=kind.ntasks,
                threads=kind.threads,
                cores=kind.ntasks * kind.threads,
                walltime=kind.walltime,
                warning=WARNING,
            ),
            more="".join(f"{key}: {value}\n" for key, value in more.items() if value),
        )
    return files


def write_cluster_files(queue: str, site: Site, force: bool = False) -> list[Path]:
    """Write all of them; none if one is there already. Returns their paths. ConfigError where that cannot be."""
    files = {site.folder / path: text for path, text in cluster_files(queue, site).items()}
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise ConfigError(f"{', '.join(there)} exist already; give another folder, or --force to overwrite them")
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename}: {error.strerror}") from None
    return list(files)


def _kmde() -> str:
    """The kmde of this Python environment, which a job finds without the user's shell settings."""
    beside = Path(sys.executable).with_name("kmde")
    return str(beside) if beside.exists() else (shutil.which("kmde") or "kmde")
