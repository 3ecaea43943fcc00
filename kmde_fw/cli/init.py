"""kmde init: a commented campaign file to start from, or the files of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmde_fw.errors import ConfigError

TEMPLATE = """\
# A campaign of kmde_fw. Check it with `kmde validate`, try it without labels with `kmde plan`, run it with `kmde run`.
# Every option with its default, bounds and meaning: `kmde schema`. Paths are relative to this file.

name: my_campaign
description: what it is for

# What the potential has been trained on: structures with energy and forces (extxyz, vasprun.xml, OUTCAR), all labelled
# at the level of theory that `reference` gives.
train: [train.extxyz]

# What it will be used for. Energies and forces in these files are compared at the end and never used to choose.
target: [target.extxyz]

# Known crystals of the system (extxyz, POSCAR, CIF): candidates are made from them beside the thirteen prototypes.
# parents: [host.cif]

# The only elements allowed; default: all that the files contain.
# elements: [Al, Fe, Pt]

# `thesis` sets every option as the thesis had it; single options below still win.
# preset: thesis

reference:
  engine: ase                # any ASE calculator of the workers' Python environment
  calculator: emt            # emt, lj, sevennet, or module.Class
  arguments: {}              # its keyword arguments
  # domain:                  # where it can be trusted; candidates outside are not labelled
  #   min_bond: 0.85         # shortest bond over the sum of covalent radii
  #   scale: [0.88, 1.3]     # linear scale relative to its own equilibrium of the same crystal

training:
  seeds: [0]                 # one model per seed, trained in parallel
  max_closures: 900          # evaluations of loss and gradient at most

design:
  strategy: environment      # or key_motif, gap_only, outlier_only, random, farthest_point, direct
  picks_per_cycle: 1         # surrogates labelled in one cycle
  candidates: 20000          # candidates per cycle

stop:
  max_surrogates: 10         # N, the budget of labels
  # max_cost: 1.5            # the budget of their cost, in train cells (electrons cubed)
  zero_outliers: true        # stop when no target atom is an outlier, unless
  energy_change: 1.0         # the last labels still moved the energies predicted for the target (meV/atom), or
  force_change: 0.05         # its forces (eV/Å), or
  vicinity_gain: 0.03        # the best remaining candidate would tell this part of what is unknown near the target

seed: 0
"""


def init(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="where to write it; default: campaign.yaml, with --cluster the folder here"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite existing files")] = False,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="slurm|pbs", help="write the files of a cluster into the folder FILE instead"),
    ] = None,
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="--cluster: the MongoDB server")] = "db.example.org",
    database: Annotated[str, typer.Option(help="--cluster: name of the database")] = "kmde_fw",
    user: Annotated[str, typer.Option(help="--cluster: user of the database")] = "kmde_worker",
    tls: Annotated[bool, typer.Option("--tls/--no-tls", help="--cluster: whether the server speaks TLS")] = True,
    ca_file: Annotated[
        Path | None, typer.Option(help="--cluster: certificate of who signed the server's; default: the system's")
    ] = None,
    account: Annotated[str | None, typer.Option(help="--cluster: account of the jobs")] = None,
    partition: Annotated[
        list[str] | None,
        typer.Option(metavar="CATEGORY=NAME", help="--cluster: partition or queue of kmde_cpu, kmde_train or kmde_dft"),
    ] = None,
    vasp_cmd: Annotated[str, typer.Option(help="--cluster: what starts VASP")] = "srun vasp_std",
    scratch: Annotated[str, typer.Option(help="--cluster: folder of the run directories")] = "~/kmde_scratch",
) -> None:
    """Write a commented campaign file, or the files of a cluster."""
    if cluster is None:
        _campaign(file or Path("campaign.yaml"), force)
        return
    from kmde_fw.cluster import Site, write_cluster_files

    host, _, port = server.partition(":")
    if port and not port.isdigit():
        raise ConfigError(f"--server {server}: the port after the colon is a number, as in db.example.org:27017")
    site = Site(
        folder=(file or Path.cwd()).resolve(),
        server=host,
        port=int(port or 27017),
        database=database,
        user=user,
        tls=tls,
        ca_file=ca_file.resolve() if ca_file else None,
        account=account,
        partitions=dict(_pair(words) for words in partition or []),
        vasp_cmd=vasp_cmd,
        scratch=scratch,
    )
    for path in write_cluster_files(cluster, site, force):
        typer.echo(f"wrote {path}")
    typer.echo(
        "read them, mend walltime, ntasks and gres to what your cluster has, put the password of "
        f"{user} into {site.password_file} (chmod 600), then `kmde doctor -l {site.folder}/my_launchpad.yaml`"
    )


def _pair(words: str) -> tuple[str, str]:
    category, sign, name = words.partition("=")
    if not (sign and name):
        raise ConfigError(f"--partition {words}: write CATEGORY=NAME, as in kmde_dft=normal")
    return category, name


def _campaign(file: Path, force: bool) -> None:
    """The commented campaign file."""
    if file.exists() and not force:
        raise ConfigError(f"{file} exists already; give another name, or --force to overwrite it")
    try:
        file.write_text(TEMPLATE, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from None
    typer.echo(f"wrote {file}: name your train, target and reference in it, then `kmde validate {file}`")
