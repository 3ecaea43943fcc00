"""kmde init: a commented campaign file to start from."""

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
  max_closures: 500          # evaluations of loss and gradient at most

design:
  strategy: environment      # or key_motif, gap_only, outlier_only, random, farthest_point, direct
  picks_per_cycle: 1         # surrogates labelled in one cycle
  candidates: 20000          # candidates per cycle

stop:
  max_surrogates: 10         # N, the budget of labels
  zero_outliers: true        # stop when no target atom is an outlier
  vicinity_gain: 0.03        # and labels bring what is near the target hardly nearer; null: at once

seed: 0
"""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="where to write it")] = Path("campaign.yaml"),
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing file")] = False,
) -> None:
    """Write a commented campaign file."""
    if file.exists() and not force:
        raise ConfigError(f"{file} exists already; give another name, or --force to overwrite it")
    try:
        file.write_text(TEMPLATE, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from None
    typer.echo(f"wrote {file}: name your train, target and reference in it, then `kmde validate {file}`")
