"""Distances and angles of structures, by channel, periodic images included.

Samples come in three forms: `Geometry`, sorted arrays, for small structures; `Tally`, how often each value occurs, in a
room that does not grow with the structures, for the coverage; `AtomSamples`, with the atom that each sample belongs to,
block by block, for the motifs. All of them are made by one compiled loop.

Channels: "Al-Fe" is a pair, in alphabetical order; "Al-Fe-Pt" an angle at the vertex in the middle, ends in
alphabetical order. Distances are Å, angles degrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numba import njit

from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure

#: Å and degrees; distances, angles, bin widths and bin edges are rounded to this many decimals (1e-6), so that the
#: equal bonds of a crystal, which differ in the last bits, fall on the same side of an edge on every machine
DECIMALS = 6
RESOLUTION = 10.0**-DECIMALS
_PER_UNIT = 10.0**DECIMALS

#: structures are worked on in blocks of atoms with at most this many angles together (or one atom), so that the room
#: needed beside the neighbour list does not grow with the structure
BLOCK_ANGLES = 1 << 20
#: distinct values of one channel that a `Tally` keeps before it coarsens its grid
MAX_DISTINCT = 1 << 20


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
    blocks = [block for s in structures for block in _blocks(s, elements, cutoff, each_pair_once=True)]
    return _join(blocks, elements)


class Tally:
    """How often each value of one channel occurs, on a grid that coarsens before it needs more than some room.

    The grid's step is RESOLUTION × 2^k: k = 0 as long as there are at most MAX_DISTINCT different values (samples are
    rounded to RESOLUTION, so that nothing is lost), then the smallest k for which it is so; values are rounded down to
    the grid. With k > 0 the step is at most twice the range of the values over MAX_DISTINCT, which is 8e-6 Å for 4 Å
    and 3.5e-4° for 180°. Bins whose edges lie on the grid hold the same samples whatever k. The order in which samples
    are added does not matter.
    """

    def __init__(self) -> None:
        self._shift = 0
        self._values = np.zeros(0, dtype=np.int32)  # in steps of the grid
        self._counts = np.zeros(0, dtype=np.int64)
        self._waiting: list[np.ndarray] = []
        self._n_waiting = 0

    def add(self, samples: np.ndarray) -> None:
        """Take in samples, (n,) int32 in units of RESOLUTION, in any order."""
        self._waiting.append(samples.copy())  # not a view, which would keep the whole block that it is from
        self._n_waiting += len(samples)
        if self._n_waiting > MAX_DISTINCT:
            self._settle()

    @property
    def step(self) -> int:
        """Step of the grid in units of RESOLUTION, a power of two."""
        self._settle()
        return 1 << self._shift

    @property
    def values(self) -> np.ndarray:
        """The different values, (m,), ascending, in Å or degrees."""
        self._settle()
        return (self._values.astype(np.int64) << self._shift) / _PER_UNIT

    @property
    def counts(self) -> np.ndarray:
        """How many samples have each of `values`, (m,) int64."""
        self._settle()
        return self._counts

    def histogram(self, edges: np.ndarray) -> np.ndarray:
        """How many samples lie in each bin, (n_bins,) int64; edges: ascending, Å or degrees, the last one included."""
        values = self.values
        first = np.searchsorted(values, edges)
        first[-1] = np.searchsorted(values, edges[-1], side="right")
        return np.diff(np.concatenate([[0], np.cumsum(self.counts)])[first])

    def __len__(self) -> int:
        """Number of samples."""
        return int(self._counts.sum()) + self._n_waiting

    def __add__(self, other: Tally) -> Tally:
        """The samples of both, on the coarser of their grids."""
        both = Tally()
        both._shift = (max(self.step, other.step)).bit_length() - 1
        values = [tally._values >> (both._shift - tally._shift) for tally in (self, other)]
        both._include(np.concatenate(values), np.concatenate([self._counts, other._counts]))
        return both

    def _settle(self) -> None:
        if self._n_waiting:
            samples = np.sort(np.concatenate(self._waiting) >> self._shift)
            self._waiting, self._n_waiting = [], 0
            values, counts = _sum_equal(samples, np.ones(len(samples), dtype=np.int64))
            self._include(np.concatenate([self._values, values]), np.concatenate([self._counts, counts]))

    def _include(self, values: np.ndarray, counts: np.ndarray) -> None:
        """Replace what there is, and coarsen the grid while it is too much."""
        order = np.argsort(values, kind="stable")
        self._values, self._counts = _sum_equal(values[order], counts[order])
        while len(self._values) > MAX_DISTINCT:
            self._shift += 1
            self._values, self._counts = _sum_equal(self._values >> 1, self._counts)


def tally_geometry(structures: Sequence[Structure], elements: Sequence[str], cutoff: float) -> dict[str, Tally]:
    """The samples of `sample_geometry`, counted, by channel: first all pairs, then all triplets.

    In time linear in the number of atoms, and beside the neighbour list of one structure in bounded room.
    """
    tallies = {key: Tally() for key in _channels(elements)}
    for structure in structures:
        for block in _blocks(structure, elements, cutoff, each_pair_once=True):
            for key, tally in tallies.items():
                tally.add(block.samples(key))
    return tallies


@dataclass(frozen=True, eq=False)
class AtomSamples:
    """The geometry(a) of T(2.2) of some atoms: per channel the samples, and which atom each of them belongs to.

    atoms: as (structure, atom); values: (n,) per channel key, Å or degrees; owners: (n,) per channel key, places in
    `atoms`.
    """

    atoms: tuple[tuple[int, int], ...]
    values: dict[str, np.ndarray]
    owners: dict[str, np.ndarray]


class AroundAtoms:
    """The geometry around many atoms, as blocks of `AtomSamples` that are made anew whenever one iterates.

    structures: those that `atoms`, given as (structure, atom) in any order, count in. The blocks come in ascending
    order of structure and atom.
    """

    def __init__(
        self, structures: Sequence[Structure], atoms: Iterable[tuple[int, int]], elements: Sequence[str], cutoff: float
    ) -> None:
        self._structures, self._elements, self._cutoff = structures, elements, cutoff
        self._atoms: dict[int, list[int]] = {}
        for number, atom in sorted(set(atoms)):
            self._atoms.setdefault(number, []).append(atom)

    def __iter__(self) -> Iterator[AtomSamples]:
        keys = _channels(self._elements)
        for number, atoms in self._atoms.items():
            structure = self._structures[number]
            for block in _blocks(structure, self._elements, self._cutoff, each_pair_once=False, atoms=np.array(atoms)):
                yield AtomSamples(
                    tuple((number, int(atom)) for atom in block.atoms),
                    {key: block.samples(key) / _PER_UNIT for key in keys},
                    {key: block.owners(key) for key in keys},
                )


def _channels(elements: Sequence[str]) -> tuple[str, ...]:
    return pair_channels(elements) + triplet_channels(elements)


@dataclass(frozen=True, eq=False)
class _Block:
    """Samples of some atoms, by channel, in units of RESOLUTION, and the place in `atoms` that each belongs to."""

    atoms: np.ndarray
    begin: dict[str, int]
    end: dict[str, int]
    all_samples: np.ndarray
    all_owners: np.ndarray

    def samples(self, key: str) -> np.ndarray:
        """Of one channel, (n,) int32."""
        return self.all_samples[self.begin[key] : self.end[key]]

    def owners(self, key: str) -> np.ndarray:
        """Of one channel, (n,) int32."""
        return self.all_owners[self.begin[key] : self.end[key]]


def _blocks(
    structure: Structure,
    elements: Sequence[str],
    cutoff: float,
    each_pair_once: bool,
    atoms: np.ndarray | None = None,
) -> Iterator[_Block]:
    """Samples of all atoms of a structure, or of some, a block of atoms at a time.

    each_pair_once: of the two ends of a distance only one has it (right for whole structures), else both have.
    """
    names = sorted(elements)
    keys = _channels(names)
    number = {key: k for k, key in enumerate(keys)}
    pair_number = np.array([[number["-".join(sorted((a, b)))] for b in names] for a in names])
    triplet_number = np.array([[[number[f"{min(a, b)}-{v}-{max(a, b)}"] for b in names] for a in names] for v in names])
    neighbours = find_neighbours(structure, cutoff)
    species = structure.species_index(tuple(names))
    if atoms is None:
        atoms = np.arange(len(structure))
    for members in _split(atoms, np.diff(neighbours.starts)):
        counts, samples, owners = _sample(
            members,
            each_pair_once,
            species,
            neighbours.starts,
            neighbours.neighbour,
            neighbours.vectors,
            neighbours.distances,
            pair_number,
            triplet_number,
            len(keys),
        )
        ends = np.cumsum(counts)
        yield _Block(
            members,
            dict(zip(keys, (ends - counts).tolist(), strict=True)),
            dict(zip(keys, ends.tolist(), strict=True)),
            samples,
            owners,
        )


def _split(atoms: np.ndarray, n_neighbours: np.ndarray) -> list[np.ndarray]:
    """Atoms in pieces of at most BLOCK_ANGLES angles each, or of one atom."""
    n = n_neighbours[atoms]
    angles = np.cumsum(n * (n - 1) // 2)
    pieces, first = [], 0
    while first < len(atoms):
        done = angles[first - 1] if first else 0
        last = max(int(np.searchsorted(angles, done + BLOCK_ANGLES, side="right")), first + 1)
        pieces.append(atoms[first:last])
        first = last
    return pieces


@njit(cache=True, nogil=True)
def _sample(
    atoms: np.ndarray,
    each_pair_once: bool,
    species: np.ndarray,
    starts: np.ndarray,
    neighbour: np.ndarray,
    vectors: np.ndarray,
    distances: np.ndarray,
    pair_number: np.ndarray,
    triplet_number: np.ndarray,
    n_channels: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many samples each channel has, (n_channels,); the samples, channel after channel; their places in `atoms`.

    species: index of each atom's element, -1 to leave it out; starts, neighbour, vectors, distances: as in
    `Neighbours`; pair_number, triplet_number: number of a channel by the elements of both ends, and of vertex and ends.
    """
    n_elements = len(pair_number)
    counts = np.zeros(n_channels, dtype=np.int64)
    met = np.empty(n_elements, dtype=np.int64)  # neighbours of each element
    for i in atoms:
        v = species[i]
        if v < 0:
            continue
        met[:] = 0
        for p in range(starts[i], starts[i + 1]):
            e = species[neighbour[p]]
            if e >= 0:
                met[e] += 1
                if not each_pair_once or _is_first_end(i, neighbour[p], vectors[p]):
                    counts[pair_number[v, e]] += 1
        for a in range(n_elements):
            counts[triplet_number[v, a, a]] += met[a] * (met[a] - 1) // 2
            for b in range(a):
                counts[triplet_number[v, a, b]] += met[a] * met[b]

    at = np.cumsum(counts) - counts  # where the next sample of each channel goes
    samples = np.empty(counts.sum(), dtype=np.int32)
    owners = np.empty(len(samples), dtype=np.int32)
    for place in range(len(atoms)):
        i = atoms[place]
        v = species[i]
        if v < 0:
            continue
        for p in range(starts[i], starts[i + 1]):
            e = species[neighbour[p]]
            if e < 0:
                continue
            if not each_pair_once or _is_first_end(i, neighbour[p], vectors[p]):
                channel = pair_number[v, e]
                samples[at[channel]] = np.rint(distances[p] * _PER_UNIT)
                owners[at[channel]] = place
                at[channel] += 1
            x, y, z = vectors[p]
            for q in range(starts[i], p):
                other = species[neighbour[q]]
                if other < 0:
                    continue
                a, b, c = vectors[q]
                # not arccos, which loses half of the digits near 0° and 180°
                sine = math.sqrt((y * c - z * b) ** 2 + (z * a - x * c) ** 2 + (x * b - y * a) ** 2)
                angle = math.atan2(sine, x * a + y * b + z * c) * (180.0 / math.pi)
                channel = triplet_number[v, e, other]
                samples[at[channel]] = np.rint(angle * _PER_UNIT)
                owners[at[channel]] = place
                at[channel] += 1
    return counts, samples, owners


@njit(cache=True, nogil=True)
def _is_first_end(centre: int, neighbour: int, vector: np.ndarray) -> bool:
    """Whether this is the one of a pair's two entries in a full neighbour list that counts."""
    if centre != neighbour:
        return centre < neighbour
    # an atom and its image: of the two directions the one whose first component other than 0 is positive
    for x in vector:
        if x != 0.0:
            return x > 0.0
    return False


@njit(cache=True, nogil=True)
def _sum_equal(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different ones of some ascending values, and the sums of their counts."""
    different, sums = values.copy(), counts.copy()
    n = 0
    for k in range(len(values)):
        if n and different[n - 1] == values[k]:
            sums[n - 1] += counts[k]
        else:
            different[n], sums[n] = values[k], counts[k]
            n += 1
    return different[:n].copy(), sums[:n].copy()


def _join(blocks: Sequence[_Block], elements: Sequence[str]) -> Geometry:
    """The samples of several blocks, channel by channel, sorted."""
    samples = {
        key: np.sort(np.concatenate([np.zeros(0, dtype=np.int32), *(block.samples(key) for block in blocks)]))
        / _PER_UNIT
        for key in _channels(elements)
    }
    return Geometry(
        {key: samples[key] for key in pair_channels(elements)},
        {key: samples[key] for key in triplet_channels(elements)},
    )


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
    pairs = list(combinations_with_replacement(range(len(names)), 2))
    counts = np.zeros((len(pairs), len(shells)))
    expected = np.zeros(len(pairs))  # b atoms around all a atoms, per volume
    for structure in structures:
        neighbours = find_neighbours(structure, edges[-1])
        species = structure.species_index(tuple(names))
        numbers = structure.counts(tuple(names))
        for k, (a, b) in enumerate(pairs):
            from_a_to_b = (species[neighbours.centre] == a) & (species[neighbours.neighbour] == b)
            counts[k] += np.histogram(np.round(neighbours.distances[from_a_to_b], DECIMALS), edges)[0]
            expected[k] += numbers[a] * numbers[b] / structure.volume
    g = counts / np.where(expected > 0, expected, 1.0)[:, None] / shells
    return (edges[1:] + edges[:-1]) / 2, dict(zip(pair_channels(names), g, strict=True))
