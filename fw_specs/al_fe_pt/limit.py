"""What limits the errors on the displaced target: three train sets made for nothing else, and what a model leaves.

`python fw_specs/al_fe_pt/limit.py` writes results/al_fe_pt_compare/limit.json; some ten minutes on one core. None of
the three is a choice that a campaign could make: they bring no target atom into range on purpose, and one of them looks
at the labels of the displaced target itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kmde_fw.config import load_campaign
from kmde_fw.core.parents import derive_parents
from kmde_fw.hdnnp.metrics import energy_errors, force_rmse
from kmde_fw.hdnnp.training import train
from kmde_fw.inputs import read_labelled
from kmde_fw.records import Labelled, Structure
from kmde_fw.reference import make_engine

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "results" / "al_fe_pt_compare"
#: of the copies: a little more than the displaced target's own 0.05 Å, and its strain
DISPLACEMENT, STRAIN = 0.06, 0.02
#: labels in all: the parent as it is and copies of it
N = 6


def near(parent: Structure, dopant: str, seed: int) -> Structure:
    """A copy with one dopant on a random site, strained and displaced as the displaced target is."""
    rng = np.random.default_rng(seed)
    species = list(parent.species)
    species[rng.integers(len(species))] = dopant
    tensor = rng.uniform(-STRAIN, STRAIN, (3, 3))
    stretch = np.eye(3) + (tensor + tensor.T) / 2
    noise = rng.normal(0.0, DISPLACEMENT, parent.positions.shape)
    return Structure(tuple(species), parent.cell @ stretch, parent.positions @ stretch + noise)


def errors(model: Any, data: Sequence[Labelled]) -> dict[str, float]:
    """In meV/atom and eV/Å."""
    predicted = [model.predict(d.structure) for d in data]
    sizes = np.array([len(d.structure) for d in data])
    energies = energy_errors(np.array([p.energy for p in predicted]), np.array([d.energy for d in data]), sizes)
    return asdict(energies) | {"force_rmse": force_rmse([p.forces for p in predicted], [d.forces for d in data])}


def main() -> None:
    """Label, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    settings = load_campaign(HERE / "campaign.yaml")
    elements, dopant = tuple(settings.elements), settings.dopant
    initial, target, displaced = (
        read_labelled([HERE / f"{name}.extxyz"]) for name in ("train", "target", "displaced_target")
    )
    engine = make_engine(settings.reference)

    def labelled(structures: Sequence[Structure]) -> list[Labelled]:
        results = [engine.label(s) for s in structures]
        return [
            Labelled(s, r.energy, r.forces) for s, r in zip(structures, results, strict=True) if r.state == "accepted"
        ]

    (parent,) = derive_parents([d.structure for d in target], settings.design.max_atoms)
    shortest = np.arange(3) == np.linalg.norm(parent.cell, axis=1).argmin()
    double = parent.repeated(tuple((1 + shortest).tolist()))
    rows = []
    for seed in seeds:
        sets = {
            f"the parent and {N - 1} copies of {len(parent)} atoms": labelled(
                [parent, *(near(parent, dopant, 1000 * seed + k) for k in range(N - 1))]
            ),
            f"the parent and {N - 1} copies of {len(double)} atoms": labelled(
                [parent, *(near(double, dopant, 1000 * seed + k) for k in range(N - 1))]
            ),
            f"the displaced target itself, {len(displaced[0].structure)} atoms": displaced,
        }
        for name, added in sets.items():
            always = [d.structure.id for d in added]
            model, _ = train(
                [*initial, *added],
                elements,
                settings.descriptor,
                settings.network,
                settings.training,
                seed,
                always_train=always,
            )
            row = {"added": name, "labels": len(added), "seed": seed}
            row |= {"target": errors(model, target), "displaced": errors(model, displaced)}
            rows.append(row)
            print(
                f"{name}, seed {seed}: {row['displaced']['rmse']:.1f} meV/atom, "
                f"{row['displaced']['force_rmse']:.3f} eV/Å on the displaced target",
                flush=True,
            )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "limit.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
