"""Symmetry functions with all their analytic derivatives, against the values alone in dscribe's ACSF.

The 57 functions of Al-Fe-Pt with r_c = 4.0 Å for 20 structures of the train set (102 atoms) and of the target (204);
times are per structure, in one thread, all in turn. Ours comes twice: the functions from a given neighbour list, which
is what the goal is about, and `SymmetryFunctions.compute`, which includes the search by the library vesin.
`ACSF.create` always includes its own search. Its values must be the same to 1e-12; derivatives it has only by finite
differences, which take thousands of times as long and are not measured.
"""

from __future__ import annotations

import os

os.environ |= {
    name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
}

from itertools import pairwise
from pathlib import Path

import numpy as np
from ase.io import read
from common import arguments, finish, for_each, medians_in_turn, versions
from rich.table import Table

from kmde_fw.config import Descriptor
from kmde_fw.hdnnp import SymmetryFunctions
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure

DATA = Path(__file__).parents[1] / "fw_specs" / "al_fe_pt"
ELEMENTS = ("Al", "Fe", "Pt")
DESCRIPTOR = Descriptor()
REPEATS = 11
STRUCTURES = 20
GOAL = 4


def main() -> None:
    """Compare values, measure, print."""
    options = arguments(__doc__)
    sizes = [measure(name) for name in ("train.extxyz", "target.extxyz")]
    first = sizes[0]
    result = {
        "row": f"57 symmetry functions and their derivatives, {first['atoms']} atoms, neighbours given",
        "ours_seconds": first["ours_seconds"],
        "peers": {"dscribe: values alone, its search included": first["dscribe_seconds"]},
        "ratios": {
            "dscribe": first["ratio"],
            "with our search included": first["ratio_with_search"],
        },
        "goal": f"≥ {GOAL} times, values equal to 1e-12",
        "reached": bool(first["ratio"] >= GOAL),
        "sizes": sizes,
        "versions": versions("dscribe", "vesin", "numba", "numpy"),
    }
    table = Table(title=str(result["row"]))
    for name in (
        "atoms",
        "ours: values and\nderivatives",
        "ours: values",
        "ours: search",
        "ours: search, values\nand derivatives",
        "dscribe: search\nand values",
        "ratio without\nour search",
        "ratio with",
    ):
        table.add_column(name, justify="right")
    for size in sizes:
        keys = "ours_seconds", "values_seconds", "search_seconds", "with_search_seconds", "dscribe_seconds"
        ratios = (f"{size[key]:.1f}" for key in ("ratio", "ratio_with_search"))
        table.add_row(str(size["atoms"]), *(f"{1e3 * size[key]:.3f} ms" for key in keys), *ratios)
    finish(result, options.json, table)


def measure(name: str) -> dict[str, float]:
    """Equal values, then seconds per structure, of the structures of one file."""
    functions, peer = SymmetryFunctions(ELEMENTS, DESCRIPTOR), acsf()
    crystals = read(DATA / name, f":{STRUCTURES}")
    for atoms in crystals:
        atoms.wrap()  # dscribe 2.1 misses neighbours of atoms outside the cell
    structures = [Structure.from_atoms(atoms) for atoms in crystals]
    differences = []
    for structure, atoms in zip(structures, crystals, strict=True):
        features, theirs = functions.compute(structure).features, peer.create(atoms)[:, columns()]
        np.testing.assert_allclose(features, theirs, rtol=1e-12, atol=1e-12)
        differences.append(float(np.abs(features - theirs).max()))
    given = [(s.species_index(ELEMENTS), find_neighbours(s, DESCRIPTOR.cutoff)) for s in structures]
    medians = medians_in_turn(
        [
            for_each(lambda known: functions.of_pairs(*known, derivatives=True), given),
            for_each(lambda known: functions.of_pairs(*known, derivatives=False), given),
            for_each(lambda structure: find_neighbours(structure, DESCRIPTOR.cutoff), structures),
            for_each(lambda structure: functions.compute(structure, derivatives=True), structures),
            for_each(peer.create, crystals),
        ],
        REPEATS,
    )
    ours, values, search, with_search, theirs = (seconds / len(structures) for seconds in medians)
    fingerprint = functions.compute(structures[0], derivatives=True)
    return {
        "atoms": len(structures[0]),
        "ours_seconds": ours,
        "values_seconds": values,
        "search_seconds": search,
        "with_search_seconds": with_search,
        "dscribe_seconds": theirs,
        "ratio": theirs / ours,
        "ratio_with_search": theirs / with_search,
        "largest_difference": max(differences),
        "pairs": len(fingerprint.neighbour),
        "triplets": triplets(structures[0]),
        "derivatives_bytes": fingerprint.derivatives.nbytes,
    }


def acsf():
    """The same functions in dscribe."""
    from dscribe.descriptors import ACSF

    d = DESCRIPTOR
    return ACSF(
        r_cut=d.cutoff,
        g2_params=[(eta, shift) for eta in d.radial_eta for shift in d.radial_shift],
        g4_params=[(eta, zeta, sign) for eta in d.angular_eta for zeta in d.angular_zeta for sign in d.angular_lambda],
        species=ELEMENTS,
        periodic=True,
    )


def columns() -> list[int]:
    """Where ours stand in dscribe's: by element G1, which we have not, and G2; then G4 of (0,0), (1,0), (1,1) ..."""
    d, n = DESCRIPTOR, len(ELEMENTS)
    n_radial = len(d.radial_eta) * len(d.radial_shift)
    n_angular = len(d.angular_eta) * len(d.angular_zeta) * len(d.angular_lambda)
    found = [e * (1 + n_radial) + 1 + m for e in range(n) for m in range(n_radial)]
    for a in range(n):
        for b in range(a, n):
            found += [n * (1 + n_radial) + (b * (b + 1) // 2 + a) * n_angular + m for m in range(n_angular)]
    return found


def triplets(structure: Structure) -> int:
    """How often two neighbours of an atom are neighbours of each other, each two once: the terms of one G3."""
    pairs = find_neighbours(structure, DESCRIPTOR.cutoff)
    number = 0
    for start, end in pairwise(pairs.starts):
        vectors = pairs.vectors[start:end]
        near = np.linalg.norm(vectors[:, None] - vectors, axis=2) < DESCRIPTOR.cutoff
        number += int(np.triu(near, 1).sum())
    return number


if __name__ == "__main__":
    main()
