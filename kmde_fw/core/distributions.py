"""Distances and angles of structures, by channel, periodic images included.

Channels: "Al-Fe" is a pair, in alphabetical order; "Al-Fe-Pt" an angle at the vertex in the middle, ends in
alphabetical order. Distances are Å, angles degrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from kmde_fw.neighbours import Neighbours, find_neighbours
from kmde_fw.records import Structure

#: Å and degrees; distances, angles, bin widths and bin edges are rounded to this many decimals (1e-6), so that the
#: equal bonds of a crystal, which differ in the last bits, fall on the same side of an edge on every machine
DECIMALS = 6
RESOLUTION = 10.0**-DECIMALS


def pair_channels(elements: Sequence[str]) -> tuple[str, ...]:
    """Keys of all unordered pairs, e.g. Al-Al, Al-Fe, Fe-Fe."""
    return tuple(f"{a}-{b}" for a, b in combinations_with_replacement(sorted(elements), 2))


def triplet_channels(elements: Sequence[str]) -> tuple[str, ...]:
    """Keys end-vertex-end of all triplets with unordered ends, grouped by vertex."""
    names = sorted(elements)
    return tuple(f"{a}-{v}-{b}" for v in names for a, b in combinations_with_replacement(names, 2))


@dataclass(frozen=True, eq=False)
class Geometry:
    """Samples by channel key: distances in Å and angles in degrees, each (n,), sorted. Every channel has an entry."""

    distances: dict[str, np.ndarray]
    angles: dict[str, np.ndarray]


def sample_geometry(structures: Sequence[Structure], elements: Sequence[str], cutoff: float) -> Geometry:
    """All distances and angles of some structures, METHOD section 1.

    Distances < cutoff (Å): each pair of a cell once (the pair of an atom with its own image included). Angles: each
    unordered pair of neighbours within the cutoff of each vertex once. Atoms of other elements are left out.
    """
    names = sorted(elements)
    distances, angles = [], []
    for structure in structures:
        pairs = _pairs(structure, find_neighbours(structure, cutoff), names, slice(None))
        distances.append(_distances(pairs, names, each_pair_once=True))
        angles.append(_angles(pairs, names))
    return Geometry(_join(distances, pair_channels(names)), _join(angles, triplet_channels(names)))


def atom_geometry(structure: Structure, atom: int, elements: Sequence[str], cutoff: float) -> Geometry:
    """geometry(a) of T(2.2): distances from an atom to each of its neighbours, and angles with it as the vertex."""
    return geometry_of_atoms([structure], [(0, atom)], elements, cutoff)[0, atom]


def geometry_of_atoms(
    structures: Sequence[Structure], atoms: Iterable[tuple[int, int]], elements: Sequence[str], cutoff: float
) -> dict[tuple[int, int], Geometry]:
    """`atom_geometry` of many atoms, given and returned as (structure, atom), with one search per structure."""
    names = sorted(elements)
    by_structure: dict[int, list[int]] = {}
    for number, atom in sorted(set(atoms)):
        by_structure.setdefault(number, []).append(atom)
    found = {}
    for number, members in by_structure.items():
        neighbours = find_neighbours(structures[number], cutoff)
        for atom in members:
            where = slice(neighbours.starts[atom], neighbours.starts[atom + 1])
            pairs = _pairs(structures[number], neighbours, names, where)
            found[number, atom] = Geometry(_distances(pairs, names, each_pair_once=False), _angles(pairs, names))
    return found


class _Pairs(NamedTuple):
    """Entries of a neighbour list, whole atoms at a time: atom numbers, species of both ends, vectors, lengths."""

    atom: np.ndarray
    centre: np.ndarray
    other: np.ndarray
    vectors: np.ndarray
    lengths: np.ndarray


def _pairs(structure: Structure, neighbours: Neighbours, names: Sequence[str], where: slice) -> _Pairs:
    """The pairs in a slice of the neighbour list of which both ends are among `names`; species are indices into it."""
    species = structure.species_index(tuple(names))
    centre, other = species[neighbours.centre[where]], species[neighbours.neighbour[where]]
    known = (centre >= 0) & (other >= 0)
    return _Pairs(
        neighbours.centre[where][known],
        centre[known],
        other[known],
        neighbours.vectors[where][known],
        neighbours.distances[where][known],
    )


def _distances(pairs: _Pairs, names: Sequence[str], each_pair_once: bool) -> dict[str, np.ndarray]:
    """Distances by channel, of whole structures (each_pair_once) or from one atom."""
    distances = {}
    for a, b in combinations_with_replacement(range(len(names)), 2):
        from_a_to_b = (pairs.centre == a) & (pairs.other == b)
        if each_pair_once:
            # the full list has every pair from both ends; those of an a-a pair are side by side when sorted
            found = np.sort(pairs.lengths[from_a_to_b])[:: 2 if a == b else 1]
        else:
            found = np.sort(pairs.lengths[from_a_to_b | ((pairs.centre == b) & (pairs.other == a))])
        distances[f"{names[a]}-{names[b]}"] = np.round(found, DECIMALS)
    return distances


def _angles(pairs: _Pairs, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Angles by channel, each unordered pair of neighbours of each vertex once."""
    first, second = _neighbour_pairs(pairs.atom)
    u, v = pairs.vectors[first], pairs.vectors[second]
    # not arccos, which loses half of the digits near 0° and 180°
    degrees = np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v), axis=1), np.einsum("ij,ij->i", u, v)))
    n = len(names)
    low = np.minimum(pairs.other[first], pairs.other[second])
    high = np.maximum(pairs.other[first], pairs.other[second])
    channel = (pairs.centre[first] * n + low) * n + high
    order = np.lexsort((degrees, channel))
    channel, degrees = channel[order], np.round(degrees[order], DECIMALS)
    angles = {}
    for vertex in range(n):
        for a, b in combinations_with_replacement(range(n), 2):
            number = (vertex * n + a) * n + b
            begin, end = np.searchsorted(channel, [number, number + 1])
            angles[f"{names[a]}-{names[vertex]}-{names[b]}"] = degrees[begin:end]
    return angles


def _neighbour_pairs(atom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (first, second), first < second, of all pairs of entries with equal values in a sorted array."""
    if not len(atom):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    end = np.searchsorted(atom, atom, side="right")  # where each entry's group ends
    partners = end - np.arange(len(atom)) - 1
    first = np.repeat(np.arange(len(atom)), partners)
    begin = np.cumsum(partners) - partners
    return first, first + 1 + np.arange(len(first)) - np.repeat(begin, partners)


def _join(parts: Sequence[dict[str, np.ndarray]], keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The samples of several structures, channel by channel, sorted."""
    return {key: np.sort(np.concatenate([np.zeros(0), *(part[key] for part in parts)])) for key in keys}


def rdf(
    structures: Sequence[Structure], elements: Sequence[str], cutoff: float, width: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Partial radial distribution functions g_ab(r), for plots and not for scores.

    Returns the bin centres (n_bins,) in Å and g (n_bins,) per pair channel: the mean number of b atoms at distance r
    from an a atom, over that of an ideal gas of the structures' mean density of b, so that g -> 1 at large r.
    Pairs that some structure cannot have are 0.
    """
    edges = np.arange(round(cutoff / width) + 1) * width
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    names = sorted(elements)
    parts = []
    for structure in structures:
        pairs = _pairs(structure, find_neighbours(structure, edges[-1]), names, slice(None))
        parts.append(_distances(pairs, names, each_pair_once=True))
    g = {}
    for key, distances in _join(parts, pair_channels(names)).items():
        a, b = key.split("-")
        # expected number of a-b pairs per shell volume, each pair once
        expected = sum(s.species.count(a) * s.species.count(b) / s.volume for s in structures) / (2 if a == b else 1)
        counts = np.histogram(distances, edges)[0]
        g[key] = counts / (expected * shells) if expected else np.zeros(len(shells))
    return (edges[1:] + edges[:-1]) / 2, g
