"""A target of 1 000 to 100 000 atoms: analysed, its outliers found, energy and forces predicted.

Supercells of one Al-Fe-Pt target structure, atoms displaced as by heat so that no two environments are equal and many
atoms are outliers. Each size runs in a process of its own, which says its seconds and its peak memory; the first small
run in it, in which things are compiled, and the imports do not count. The network is untrained, which costs the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read
from common import arguments, finish, peak_mib, versions
from rich.table import Table

from kmde_fw.config import Analysis, Descriptor
from kmde_fw.core.analysis import analyse
from kmde_fw.core.distributions import tally_geometry
from kmde_fw.hdnnp.model import Hdnnp, feature_scaling
from kmde_fw.hdnnp.network import initial_weights
from kmde_fw.hdnnp.symmetry_functions import SymmetryFunctions
from kmde_fw.records import Structure

DATA = Path(__file__).parents[1] / "fw_specs" / "al_fe_pt"
ELEMENTS = ("Al", "Fe", "Pt")
HIDDEN = (60, 60)
HEAT = 0.05  # Å, standard deviation of the displacements
REPEATS = ((1, 1, 5), (2, 2, 4), (3, 4, 4), (5, 5, 6), (8, 8, 8))  # of a cell of 204 atoms
#: what is called linear and bounded here
MOST_EXPONENT, MOST_BYTES_PER_ATOM = 1.1, 10_000
STEPS = ("features", "analysis", "prediction")


def main() -> None:
    """One process per size, one table."""
    if sys.argv[1:2] == ["--size"]:
        print(json.dumps(run(tuple(int(n) for n in sys.argv[2:5]))))
        return
    options = arguments(__doc__)
    sizes = []
    for repeat in REPEATS:
        command = [sys.executable, __file__, "--size", *map(str, repeat)]
        sizes.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    atoms = np.array([size["atoms"] for size in sizes])
    seconds = np.array([sum(size["seconds"].values()) for size in sizes])
    cpu = np.array([size["cpu_seconds"] for size in sizes])
    # below, a good part is the train set's, which is the same for all sizes
    large = atoms > 5000
    exponent = float(np.polyfit(np.log(atoms[large]), np.log(cpu[large]), 1)[0])
    last = sizes[-1]
    per_atom = last["growth_mib"] * 2**20 / last["atoms"]
    result = {
        "row": f"target of {last['atoms']} atoms: analysis, outliers, energy and forces",
        "ours_seconds": float(seconds[-1]),
        "goal": f"linear time (exponent ≤ {MOST_EXPONENT}), memory ≤ {MOST_BYTES_PER_ATOM // 1000} kB per atom",
        "reached": exponent <= MOST_EXPONENT and per_atom <= MOST_BYTES_PER_ATOM,
        "exponent_above_5000_atoms": exponent,
        "peak_mib": last["peak_mib"],
        "bytes_per_atom": per_atom,
        "sizes": sizes,
        "versions": versions("numba", "numpy", "torch"),
    }
    title = f"large target: CPU seconds grow as atoms^{exponent:.2f} above 5000"
    table = Table("atoms", *STEPS, "all, s", "CPU, s", "peak, MiB", "of which here", "outliers", title=title)
    for size, total in zip(sizes, seconds, strict=True):
        table.add_row(
            str(size["atoms"]),
            *(f"{size['seconds'][step]:.2f}" for step in STEPS),
            f"{total:.2f}",
            f"{size['cpu_seconds']:.2f}",
            f"{size['peak_mib']:.0f}",
            f"{size['growth_mib']:.0f}",
            str(size["outliers"]),
        )
    finish(result, options.json, table)


def run(repeat: tuple[int, ...]) -> dict[str, Any]:
    """Everything for one size, measured."""
    train = [Structure.from_atoms(atoms) for atoms in read(DATA / "train.extxyz", ":")]
    functions = SymmetryFunctions(ELEMENTS, Descriptor())
    train_features = [functions.compute(structure).features for structure in train]
    model = untrained(train, train_features, len(functions))
    cell = read(DATA / "target.extxyz", 0)
    measure([Structure.from_atoms(cell)], train, train_features, functions, model)

    before = peak_mib()
    atoms = cell * repeat
    atoms.rattle(HEAT, seed=0)
    target = [Structure.from_atoms(atoms)]
    del atoms
    start = time.process_time()
    seconds, outliers = measure(target, train, train_features, functions, model)
    spent = time.process_time() - start
    peak = peak_mib()
    tallies = tally_geometry(target, ELEMENTS, Descriptor().cutoff)
    return {
        "atoms": len(target[0]),
        "seconds": seconds,
        "cpu_seconds": spent,
        "peak_mib": peak,
        "growth_mib": peak - before,
        "outliers": outliers,
        "pairs": sum(len(t) for key, t in tallies.items() if key.count("-") == 1),
        "angles": sum(len(t) for key, t in tallies.items() if key.count("-") == 2),
        "values_kept": sum(len(t.values) for t in tallies.values()),
    }


def measure(
    target: list[Structure],
    train: list[Structure],
    train_features: list[np.ndarray],
    functions: SymmetryFunctions,
    model: Hdnnp,
) -> tuple[dict[str, float], int]:
    """Wall seconds of each step, and the number of outliers."""
    clock = [time.perf_counter()]
    features = [functions.compute(structure).features for structure in target]
    clock.append(time.perf_counter())
    cutoff = Descriptor().cutoff
    found = analyse(train, target, train_features, features, ELEMENTS, cutoff, Analysis(), "key_motif")
    n_outliers = len(found.outliers)
    del features, found
    clock.append(time.perf_counter())
    for structure in target:
        assert np.isfinite(model.predict(structure).forces).all()
    clock.append(time.perf_counter())
    return dict(zip(STEPS, np.diff(clock).tolist(), strict=True)), n_outliers


def untrained(train: list[Structure], features: list[np.ndarray], n_features: int) -> Hdnnp:
    """A model with initial weights, scaled to the train set."""
    species = np.concatenate([structure.species_index(ELEMENTS) for structure in train])
    rows = np.concatenate(features)
    scaling = [feature_scaling(rows[species == e]) for e in range(len(ELEMENTS))]
    return Hdnnp(
        elements=ELEMENTS,
        descriptor=Descriptor(),
        hidden=HIDDEN,
        weights=initial_weights(len(ELEMENTS), n_features, HIDDEN, np.random.default_rng(0)),
        center=np.array([center for center, _ in scaling]),
        scale=np.array([scale for _, scale in scaling]),
        offsets=np.zeros(len(ELEMENTS)),
        minimum=np.array([rows[species == e].min(axis=0) for e in range(len(ELEMENTS))]),
        maximum=np.array([rows[species == e].max(axis=0) for e in range(len(ELEMENTS))]),
    )


if __name__ == "__main__":
    main()
