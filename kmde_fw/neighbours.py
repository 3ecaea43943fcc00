"""Neighbours within a cutoff, periodic images included, in an order that does not depend on the machine."""

from dataclasses import dataclass

import numpy as np

from kmde_fw.records import Structure


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A full neighbour list (each pair seen from both ends), grouped by centre.

    centre, neighbour: (n_pairs,) atom indices; vectors: (n_pairs, 3), from the centre to that neighbour image, Å;
    distances: (n_pairs,) Å; starts: (n_atoms + 1,), the pairs of atom i are starts[i]:starts[i + 1], nearest first.
    An atom is a neighbour of itself only through a periodic image.
    """

    centre: np.ndarray
    neighbour: np.ndarray
    vectors: np.ndarray
    distances: np.ndarray
    starts: np.ndarray


def find_neighbours(structure: Structure, cutoff: float) -> Neighbours:
    """All pairs with distance < cutoff (Å)."""
    import vesin  # here, because it imports torch

    search = vesin.NeighborList(cutoff=float(cutoff), full_list=True)
    i, j, vectors, distances = search.compute(
        points=np.ascontiguousarray(structure.positions, dtype=float),
        box=np.ascontiguousarray(structure.cell, dtype=float),
        periodic=True,
        quantities="ijDd",
    )
    inside = distances < cutoff
    i, j, vectors, distances = (
        i[inside].astype(np.int64),
        j[inside].astype(np.int64),
        vectors[inside],
        distances[inside],
    )
    # rounded: equal distances that differ in the last bit must not change the order between machines
    v = np.round(vectors, 6)
    order = np.lexsort((v[:, 2], v[:, 1], v[:, 0], j, np.round(distances, 6), i))
    starts = np.searchsorted(i[order], np.arange(len(structure) + 1))
    return Neighbours(i[order], j[order], vectors[order], distances[order], starts)
