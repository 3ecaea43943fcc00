"""What the score needs to know of each candidate: motif counts, distance penalty, shortest bond; T(2.4) and T(2.5).

Everything about a structure is found in one compiled pass over its pairs and triplets. The terms are put together in
`selection`, because the weights of motifs change from pick to pick while the counts do not.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numba
import numpy as np

from kmde_fw.core.candidates import CandidatePool, Crystals
from kmde_fw.core.distributions import RESOLUTION
from kmde_fw.core.motifs import Motif
from kmde_fw.records import Structure
from kmde_fw.units import radius_sums

#: d_min of T(2.5) over the sum of the covalent radii, and the penalty's strength in score per Å²
MIN_DISTANCE = 0.85
PENALTY = 50.0
#: cosines closer than this to the edge of a motif are decided by the angle itself
_COSINE_MARGIN = 1e-9
#: candidates that are built at once
_BATCH = 1000


@dataclass(frozen=True, eq=False)
class Scorer:
    """Motifs and radii as arrays, ready for many structures. Make it with `Scorer.of`.

    Channels are numbered: pair (a, b) is a·n + b, triplet (vertex, a, b) is (vertex·n + a)·n + b, in any order of the
    ends. The motifs of channel c are entries[starts[c]:starts[c + 1]], as indices into low, high, cos_low, cos_high.
    """

    elements: tuple[str, ...]
    cutoff: float
    n_motifs: int
    sums: np.ndarray
    low: np.ndarray
    high: np.ndarray
    cos_low: np.ndarray
    cos_high: np.ndarray
    pair_starts: np.ndarray
    pair_entries: np.ndarray
    triplet_starts: np.ndarray
    triplet_entries: np.ndarray

    @classmethod
    def of(cls, motifs: Sequence[Motif], elements: Sequence[str], cutoff: float) -> Scorer:
        """For these motifs, with distances and angles between neighbours closer than `cutoff` (Å)."""
        elements = tuple(elements)
        n = len(elements)
        pairs: list[list[int]] = [[] for _ in range(n**2)]
        triplets: list[list[int]] = [[] for _ in range(n**3)]
        for m, motif in enumerate(motifs):
            kinds = [elements.index(element) for element in motif.channel.split("-")]
            if motif.kind == "distance":
                a, b = kinds
                for channel in {a * n + b, b * n + a}:
                    pairs[channel].append(m)
            else:
                a, vertex, b = kinds
                for channel in {(vertex * n + a) * n + b, (vertex * n + b) * n + a}:
                    triplets[channel].append(m)
        # values are compared after rounding to RESOLUTION, edges are multiples of it: so the edges move by half of it
        low = np.array([motif.low for motif in motifs]) - RESOLUTION / 2
        high = np.array([motif.high for motif in motifs]) - RESOLUTION / 2
        return cls(
            elements,
            float(cutoff),
            len(motifs),
            radius_sums(elements),
            low,
            high,
            np.cos(np.radians(np.clip(low, 0.0, 180.0))),
            np.cos(np.radians(np.clip(high, 0.0, 180.0))),
            *_as_rows(pairs),
            *_as_rows(triplets),
        )

    def count(self, crystals: Crystals) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Motif counts (n, n_motifs), distance penalty P_dist T(2.5) (n,), shortest bond over its radius sum (n,).

        N_m counts each pair of a cell once, and each unordered pair of neighbours of each vertex once. The shortest
        bond is exact up to 1 and infinite when no atoms are closer than the cutoff and than touching spheres.
        crystals: their species are numbers in `elements`.
        """
        n = len(crystals)
        counts, penalties, bonds = np.zeros((n, self.n_motifs), dtype=np.uint32), np.empty(n), np.empty(n)
        cells, positions = _turned(crystals)
        _scan(
            cells,
            positions,
            crystals.starts,
            crystals.species,
            len(self.elements),
            self.sums,
            self.cutoff,
            self.low,
            self.high,
            self.cos_low,
            self.cos_high,
            self.pair_starts,
            self.pair_entries,
            self.triplet_starts,
            self.triplet_entries,
            counts,
            penalties,
            bonds,
        )
        return counts, penalties, bonds

    def __call__(self, structure: Structure) -> tuple[np.ndarray, float, float]:
        """`count` of a single structure. Raises InputError if it has an element that is not among `elements`."""
        counts, penalties, bonds = self.count(Crystals.of([structure], self.elements))
        return counts[0], float(penalties[0]), float(bonds[0])


def _as_rows(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of different lengths as (starts, entries)."""
    starts = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
    return starts, np.array([m for row in lists for m in row], dtype=np.int64)


def _turned(crystals: Crystals) -> tuple[np.ndarray, np.ndarray]:
    """Cells and positions, each crystal in a frame with c along z and b in the plane of y and z: distances stay."""
    frames = np.empty_like(crystals.cells)  # rows: the new x, y, z
    for k in (2, 1, 0):
        rest = crystals.cells[:, k]
        for done in range(k + 1, 3):
            rest = rest - _dot(crystals.cells[:, k], frames[:, done])[:, None] * frames[:, done]
        frames[:, k] = rest / np.sqrt(_dot(rest, rest))[:, None]
    of_atom = np.repeat(frames, crystals.n_atoms, axis=0)
    cells = np.stack([_dot(crystals.cells, frames[:, None, k]) for k in range(3)], axis=-1)
    return cells, np.stack([_dot(crystals.positions, of_atom[:, k]) for k in range(3)], axis=-1)


def _dot(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Over the last axis, of 3, always in the same order: a sum does not depend on how many crystals there are."""
    return u[..., 0] * v[..., 0] + u[..., 1] * v[..., 1] + u[..., 2] * v[..., 2]


@numba.njit(cache=True)
def _scan(  # type: ignore[no-untyped-def]
    cells,
    positions,
    starts,
    species,
    n_elements,
    sums,
    cutoff,
    low,
    high,
    cos_low,
    cos_high,
    pair_starts,
    pair_entries,
    triplet_starts,
    triplet_entries,
    counts,
    penalties,
    bonds,
):
    """Add the motif counts of each crystal to `counts`; set its distance penalty and shortest bond.

    Crystals as `_turned` makes them.
    """
    reach = max(cutoff, sums.max())
    wide = reach + 1e-9  # loops go a little further, for rounding
    units = np.empty((64, 3))  # unit vectors to the neighbours of one atom, and their elements
    others = np.empty(64, dtype=np.int64)
    # without angles a pair of two atoms is looked at from one of them, and counts twice
    angles = len(triplet_entries) > 0
    for crystal in range(len(cells)):
        begin, end = starts[crystal], starts[crystal + 1]
        cell, points, kinds = cells[crystal], positions[begin:end], species[begin:end]
        penalty, shortest = 0.0, np.inf
        for i in range(len(kinds)):
            vertex = kinds[i]
            first, last = vertex * n_elements**2, (vertex + 1) * n_elements**2
            has_angles = triplet_starts[last] > triplet_starts[first]
            n_near = 0
            for j in range(0 if angles else i, len(kinds)):
                other = kinds[j]
                ends = 1 if angles or i == j else 2
                touching = sums[vertex, other]
                closest = MIN_DISTANCE * touching
                pair = vertex * n_elements + other
                begin_pair, end_pair = pair_starts[pair], pair_starts[pair + 1]
                # images of j within the sphere: planes of the lattice that cut it, rows in the plane, points in the row
                dx, dy, dz = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
                for a in _multiples(cell[0, 0], -wide - dx, wide - dx):
                    x, row, point = dx + a * cell[0, 0], dy + a * cell[0, 1], dz + a * cell[0, 2]
                    height = np.sqrt(max(wide * wide - x * x, 0.0))
                    for b in _multiples(cell[1, 1], -height - row, height - row):
                        y, at = row + b * cell[1, 1], point + b * cell[1, 2]
                        half = np.sqrt(max(height * height - y * y, 0.0))
                        for c in _multiples(cell[2, 2], -half - at, half - at):
                            if i == j and a == 0 and b == 0 and c == 0:
                                continue
                            z = at + c * cell[2, 2]
                            distance = np.sqrt(x * x + y * y + z * z)
                            if distance >= reach:
                                continue
                            shortest = min(shortest, distance / touching)
                            if distance < closest:
                                penalty += ends * PENALTY * (closest - distance) ** 2
                            if distance >= cutoff:
                                continue
                            for entry in range(begin_pair, end_pair):
                                m = pair_entries[entry]
                                if low[m] <= distance < high[m]:
                                    counts[crystal, m] += ends
                            if has_angles and distance > 0.0:
                                if n_near == len(others):  # full: twice the room
                                    units = np.concatenate((units, np.empty_like(units)))
                                    others = np.concatenate((others, np.empty_like(others)))
                                units[n_near, 0] = x / distance
                                units[n_near, 1] = y / distance
                                units[n_near, 2] = z / distance
                                others[n_near] = other
                                n_near += 1
            _count_angles(
                units[:n_near],
                others[:n_near],
                triplet_starts[first : last + 1],
                triplet_entries,
                n_elements,
                low,
                high,
                cos_low,
                cos_high,
                counts[crystal],
            )
        # every pair was seen from both of its ends
        for kind in range(n_elements):
            for other_kind in range(kind, n_elements):
                pair = kind * n_elements + other_kind
                for entry in range(pair_starts[pair], pair_starts[pair + 1]):
                    counts[crystal, pair_entries[entry]] //= 2
        penalties[crystal], bonds[crystal] = penalty / 2.0, shortest


@numba.njit(cache=True)
def _count_angles(  # type: ignore[no-untyped-def]
    units, others, starts, entries, n_elements, low, high, cos_low, cos_high, counts
):
    """Add to `counts` the angles at one vertex, between unit vectors to neighbours of the elements `others`.

    The motifs of ends a and b are entries[starts[a·n + b]:starts[a·n + b + 1]].
    """
    for p in range(len(units)):
        row = others[p] * n_elements
        if starts[row] == starts[row + n_elements]:
            continue
        for q in range(p + 1, len(units)):
            channel = row + others[q]
            begin, end = starts[channel], starts[channel + 1]
            if begin == end:
                continue
            cosine = units[p, 0] * units[q, 0] + units[p, 1] * units[q, 1] + units[p, 2] * units[q, 2]
            for entry in range(begin, end):
                m = entries[entry]
                if cosine > cos_low[m] + _COSINE_MARGIN or cosine < cos_high[m] - _COSINE_MARGIN:
                    continue
                if cosine < cos_low[m] - _COSINE_MARGIN and cosine > cos_high[m] + _COSINE_MARGIN:
                    counts[m] += 1
                    continue
                angle = _angle(units[p], units[q], cosine)
                if low[m] <= angle < high[m]:
                    counts[m] += 1


@numba.njit(cache=True)
def _multiples(step, low, high):  # type: ignore[no-untyped-def]
    """The whole numbers k with low <= k · step <= high."""
    return range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)


@numba.njit(cache=True)
def _angle(u, v, cosine):  # type: ignore[no-untyped-def]
    """Degrees between two unit vectors; atan2 keeps the digits that arccos loses near 0° and 180°."""
    x = u[1] * v[2] - u[2] * v[1]
    y = u[2] * v[0] - u[0] * v[2]
    z = u[0] * v[1] - u[1] * v[0]
    return np.degrees(np.arctan2(np.sqrt(x * x + y * y + z * z), cosine))


def count_motifs(
    structures: Sequence[Structure], motifs: Sequence[Motif], elements: Sequence[str], cutoff: float
) -> np.ndarray:
    """N_m of T(2.4): how often each structure contains each motif, (n_structures, n_motifs), int64."""
    scorer = Scorer.of(motifs, elements, cutoff)
    return scorer.count(Crystals.of(structures, scorer.elements))[0].astype(np.int64)


@dataclass(frozen=True, eq=False)
class Columns:
    """What is known of candidates before any energy, one row per candidate.

    index: (n,) number in the pool; n_atoms: (n,); composition: (n, n_elements) atoms per element of the campaign;
    distance_penalty: (n,) P_dist T(2.5); bond: (n,) shortest bond over the sum of its covalent radii;
    counts: (n, n_motifs) N_m.
    """

    index: np.ndarray
    n_atoms: np.ndarray
    composition: np.ndarray
    distance_penalty: np.ndarray
    bond: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def concatenate(cls, parts: Sequence[Columns]) -> Columns:
        """The rows of all parts in the order of their index, however they were cut into shards."""
        joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        order = np.argsort(joined["index"], kind="stable")
        return cls(**{name: array[order] for name, array in joined.items()})

    def to_document(self) -> dict[str, Any]:
        """Each column as its dtype, its shape and its zlib-compressed bytes (little-endian, row by row)."""
        return {f.name: _pack(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Columns:
        """The inverse of `to_document`."""
        return cls(**{f.name: _unpack(document[f.name]) for f in fields(cls)})


def _pack(array: np.ndarray) -> dict[str, Any]:
    array = array.astype(array.dtype.newbyteorder("<"))
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": zlib.compress(array.tobytes(), 1)}


def _unpack(column: dict[str, Any]) -> np.ndarray:
    flat = np.frombuffer(zlib.decompress(column["data"]), dtype=np.dtype(column["dtype"]))
    return flat.reshape(column["shape"]).copy()


def score_candidates(
    pool: CandidatePool,
    indices: Sequence[int],
    motifs: Sequence[Motif],
    cutoff: float,
    progress: Callable[[int, int, str], None] | None = None,
) -> Columns:
    """Build and count some candidates of a pool (a shard of it). Columns' elements are those of the pool.

    progress: called every now and then with (done, total, message).
    """
    scorer = Scorer.of(motifs, pool.elements, cutoff)
    index = np.array(indices, dtype=np.int64)
    parts = []
    for begin in range(0, max(len(index), 1), _BATCH):
        batch = index[begin : begin + _BATCH]
        crystals = pool.crystals(batch)
        counts, penalties, bonds = scorer.count(crystals)
        owner = np.repeat(np.arange(len(batch)), crystals.n_atoms)
        kinds = len(pool.elements)
        composition = np.bincount(owner * kinds + crystals.species, minlength=len(batch) * kinds)
        parts.append(
            Columns(
                index=batch,
                n_atoms=crystals.n_atoms.astype(np.int32),
                composition=composition.reshape(len(batch), kinds).astype(np.int32),
                distance_penalty=penalties,
                bond=bonds,
                counts=counts,
            )
        )
        if progress is not None:
            progress(begin + len(batch), len(index), "candidates")
    return Columns.concatenate(parts)
