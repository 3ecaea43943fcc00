"""Neighbours within a cutoff, periodic images included, in an order that does not depend on the machine."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from kmde_fw.records import Structure


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A full neighbour list (each pair seen from both ends, with the same distance), grouped by centre.

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
    """All pairs with distance < cutoff (Å), in linear time. Atoms may lie outside the cell, and it may be small."""
    import vesin  # here, because it imports torch

    search = vesin.NeighborList(cutoff=float(cutoff), full_list=False)
    ends, vectors = search.compute(
        points=np.ascontiguousarray(structure.positions, dtype=float),
        box=np.ascontiguousarray(structure.cell, dtype=float),
        periodic=True,
        quantities="PD",
        copy=False,
    )
    return Neighbours(*_from_both_ends(len(structure), ends.view(np.int64), vectors, float(cutoff)))


@njit(cache=True, nogil=True)
def _from_both_ends(
    n_atoms: int, ends: np.ndarray, half: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The arrays of `Neighbours` from pairs seen once: atoms (n, 2), and vectors (n, 3) from the first to the second.

    Those of an atom are sorted as they come, by distance, neighbour and vector. For the order these are rounded: equal
    distances that differ in the last bit must not change it between machines.
    """
    lengths = np.sqrt(half[:, 0] ** 2 + half[:, 1] ** 2 + half[:, 2] ** 2)
    starts = np.zeros(n_atoms + 1, dtype=np.int64)
    for p in range(len(ends)):
        if lengths[p] < cutoff:
            starts[ends[p, 0] + 1] += 1
            starts[ends[p, 1] + 1] += 1
    starts = np.cumsum(starts)
    n_pairs = starts[-1]
    centre, neighbour = np.empty(n_pairs, dtype=np.int64), np.empty(n_pairs, dtype=np.int64)
    vectors, distances, rounded = np.empty((n_pairs, 3)), np.empty(n_pairs), np.empty(n_pairs)
    filled = starts[:-1].copy()
    for p in range(len(ends)):
        if lengths[p] >= cutoff:
            continue
        x, y, z = half[p]
        micro = np.rint(lengths[p] * 1e6)
        for end in range(2):
            i, j = ends[p, end], ends[p, 1 - end]
            centre[filled[i]] = i
            # the pairs of i so far that come later move up by one
            slot = filled[i]
            filled[i] += 1
            while slot > starts[i]:
                q = slot - 1
                if rounded[q] < micro or (rounded[q] == micro and not _precedes(j, x, y, z, neighbour[q], vectors[q])):
                    break
                rounded[slot], neighbour[slot], distances[slot] = rounded[q], neighbour[q], distances[q]
                vectors[slot, 0], vectors[slot, 1], vectors[slot, 2] = vectors[q, 0], vectors[q, 1], vectors[q, 2]
                slot = q
            rounded[slot], neighbour[slot], distances[slot] = micro, j, lengths[p]
            vectors[slot, 0], vectors[slot, 1], vectors[slot, 2] = x, y, z
            x, y, z = -x, -y, -z
    return centre, neighbour, vectors, distances, starts


@njit(cache=True, nogil=True)
def _precedes(j: int, x: float, y: float, z: float, other: int, vector: np.ndarray) -> bool:
    """Which of two neighbours at the same distance comes first."""
    if j != other:
        return j < other
    for one, two in ((x, vector[0]), (y, vector[1]), (z, vector[2])):
        if np.rint(one * 1e6) != np.rint(two * 1e6):
            return np.rint(one * 1e6) < np.rint(two * 1e6)
    return False
