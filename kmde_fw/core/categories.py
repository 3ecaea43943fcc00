"""Where atoms stand to the dopant: the categories by which force errors are told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure

#: by distance to the nearest dopant atom, Å: up to where an atom is a first and a second neighbour
FIRST, SECOND = 3.0, 5.0
#: names of the values of `places`
PLACES = ("dopant", "first_neighbour", "second_neighbour", "far")


def rarest_element(structures: Sequence[Structure]) -> str | None:
    """The element with the fewest atoms in these structures; None where two are equally rare or there is only one."""
    counts = Counter(symbol for structure in structures for symbol in structure.species)
    ranked = sorted(counts.items(), key=lambda item: item[1])
    return ranked[0][0] if len(ranked) > 1 and ranked[0][1] < ranked[1][1] else None


def places(structure: Structure, dopant: str) -> np.ndarray:
    """Of each atom (n,): 0 the dopant, 1 within 3.0 Å of one, 2 within 5.0 Å, 3 farther; periodic images count."""
    is_dopant = np.array(structure.species) == dopant
    pairs = find_neighbours(structure, SECOND)
    nearest = np.full(len(structure), np.inf)
    seen = is_dopant[pairs.neighbour]
    np.minimum.at(nearest, pairs.centre[seen], pairs.distances[seen])
    found = np.where(nearest < FIRST, 1, np.where(nearest < SECOND, 2, 3))
    found[is_dopant] = 0
    return found


def force_errors_by_category(
    predicted: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    place: Sequence[np.ndarray],
    outlier: Sequence[np.ndarray],
) -> dict[str, dict[str, float]]:
    """Force RMSE in eV/Å over all components, and atoms, of each category: outlier or not × place, and both totals.

    predicted, reference: (n, 3) of each structure; place: from `places`; outlier: (n,) bool. A category without atoms
    is left out. Keys: outlier_dopant, outlier_first_neighbour, ..., normal_far, outlier_all, normal_all.
    """
    squares = np.concatenate([((p - r) ** 2).mean(axis=1) for p, r in zip(predicted, reference, strict=True)])
    where, outside = np.concatenate(list(place)), np.concatenate(list(outlier))
    errors = {}
    for name, chosen in (("outlier", outside), ("normal", ~outside)):
        parts = [(f"{name}_{PLACES[k]}", chosen & (where == k)) for k in range(len(PLACES))]
        for category, members in (*parts, (f"{name}_all", chosen)):
            if members.any():
                errors[category] = {
                    "atoms": int(members.sum()),
                    "force_rmse": float(np.sqrt(squares[members].mean())),
                }
    return errors


def pool_categories(parts: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Several results of `force_errors_by_category` as one: atoms added, errors over all of them together."""
    names = [f"{kind}_{place}" for kind in ("outlier", "normal") for place in (*PLACES, "all")]
    pooled = {}
    for name in names:
        found = [part[name] for part in parts if name in part]
        if found:
            atoms = sum(entry["atoms"] for entry in found)
            mean_square = sum(entry["atoms"] * entry["force_rmse"] ** 2 for entry in found) / atoms
            pooled[name] = {"atoms": atoms, "force_rmse": float(np.sqrt(mean_square))}
    return pooled
