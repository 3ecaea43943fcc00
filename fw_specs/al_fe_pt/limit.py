"""What limits the errors on the displaced target, and those beside the dopant: what models of other train sets leave.

`python fw_specs/al_fe_pt/limit.py` writes results/al_fe_pt_compare/limit.json; some ten minutes on one core. None of
the train sets is a choice that a campaign could make: two are made for the displaced target alone, and bring no target
atom into range on purpose; the others look at the labels of the targets themselves.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kmde_fw.config import NearWeight, load_campaign
from kmde_fw.core.categories import FIRST, force_errors_by_category, places
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
#: how many times the forces near the dopant count in one of the trainings
WEIGHT = 100.0
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


def errors(model: Any, data: Sequence[Labelled], dopant: str) -> dict[str, float]:
    """In meV/atom and eV/Å; near, far: force errors of the dopant's first neighbours and of far atoms."""
    predicted = [model.predict(d.structure) for d in data]
    sizes = np.array([len(d.structure) for d in data])
    energies = energy_errors(np.array([p.energy for p in predicted]), np.array([d.energy for d in data]), sizes)
    forces = [p.forces for p in predicted], [d.forces for d in data]
    inside = [np.zeros(len(d.structure), dtype=bool) for d in data]
    where = force_errors_by_category(*forces, [places(d.structure, dopant) for d in data], inside)
    near, far = (where[f"normal_{place}"]["force_rmse"] for place in ("first_neighbour", "far"))
    return asdict(energies) | {"force_rmse": force_rmse(*forces), "near": near, "far": far}


def main() -> None:
    """Label, train, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
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
        weighted = NearWeight(element=dopant, within=FIRST, weight=WEIGHT)
        sets = {
            f"the parent and {N - 1} copies of {len(parent)} atoms": (
                labelled([parent, *(near(parent, dopant, 1000 * seed + k) for k in range(N - 1))]),
                None,
            ),
            f"the parent and {N - 1} copies of {len(double)} atoms": (
                labelled([parent, *(near(double, dopant, 1000 * seed + k) for k in range(N - 1))]),
                None,
            ),
            f"the displaced target itself, {len(displaced[0].structure)} atoms": (displaced, None),
            "the target itself": (target, None),
            f"the target itself, forces near {dopant} counted {WEIGHT:g} times": (target, weighted),
        }
        for name, (added, force_weight_near) in sets.items():
            always = [d.structure.id for d in added]
            model, _ = train(
                [*initial, *added],
                elements,
                settings.descriptor,
                settings.network,
                settings.training.model_copy(update={"force_weight_near": force_weight_near}),
                seed,
                always_train=always,
            )
            row = {"added": name, "labels": len(added), "seed": seed}
            row |= {"target": errors(model, target, dopant), "displaced": errors(model, displaced, dopant)}
            rows.append(row)
            on, off = row["displaced"], row["target"]
            print(
                f"{name}, seed {seed}: {on['rmse']:.1f} meV/atom, {on['force_rmse']:.3f} eV/Å on the displaced target; "
                f"on the target {off['near']:.3f} eV/Å beside {dopant}, {off['far']:.3f} far from it",
                flush=True,
            )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "limit.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
