"""Behler-Parrinello symmetry functions and their analytic derivatives, thesis T(1.2) and T(1.3).

With the cosine cutoff f_c(r) = (cos(π r / r_c) + 1) / 2 and sums over the neighbours j, k of atom i with r < r_c:

    G2 = Σ_j exp(-η (r_ij - R_s)²) f_c(r_ij)                                            for each neighbour element
    G3 = 2^(1-ζ) Σ_{j<k} (1 + λ cos θ_jik)^ζ exp(-η (r_ij² + r_ik² + r_jk²)) f_c(r_ij) f_c(r_ik) f_c(r_jk)
                                                                                 for each pair of neighbour elements

G3 is the "narrow" form: j and k must also be neighbours of each other. It is n2p2's type 3 and dscribe's G4.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit

from kmde_fw.config import Descriptor
from kmde_fw.errors import ModelError
from kmde_fw.neighbours import Neighbours, find_neighbours
from kmde_fw.records import Structure

#: pairs closer than this (Å) are two atoms on one spot, where directions have no meaning
SHORTEST_DISTANCE = 1e-3

#: derivatives of a large structure are made for so many pairs at a time (or for one atom's)
BLOCK_PAIRS = 1 << 15


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """The symmetry functions of every atom of a structure and, if asked for, their derivatives.

    species: (n,) index of each atom's element; features: (n, F), without units.
    starts, neighbour, vectors: the neighbour list (see `Neighbours`), pairs grouped by centre.
    derivatives: (n_pairs, 3, T) in Å⁻¹, or None: d G_i / d R_j of centre i and neighbour image j, only for the T
    columns that a neighbour of j's element can change, which are columns[element of j] of `features`.
    The derivative with respect to the centre's own position is minus the sum over its neighbours.
    """

    species: np.ndarray
    features: np.ndarray
    starts: np.ndarray
    neighbour: np.ndarray
    vectors: np.ndarray
    derivatives: np.ndarray | None
    columns: np.ndarray


@dataclass(frozen=True, eq=False)
class Block:
    """The symmetry functions of some atoms of a structure, as those of a structure of their own.

    atoms: (m,) their numbers in the whole structure: first the n_centres atoms that the block is of, with all their
    neighbours; then those neighbours that belong to other blocks, whose rows of the fingerprint mean nothing.
    """

    atoms: np.ndarray
    n_centres: int
    fingerprint: Fingerprint


class SymmetryFunctions:
    """All symmetry functions of one descriptor; every element has the same columns.

    keys: one stable name per column, e.g. "G2 Al eta=0.01 rs=0 rc=4" (neighbour element) or
    "G3 Al-Pt eta=0.1 zeta=4 lambda=-1 rc=4" (the two neighbours' elements).
    columns: (n_elements, T), see `Fingerprint`.
    """

    def __init__(self, elements: tuple[str, ...], settings: Descriptor) -> None:
        if not elements or len(set(elements)) != len(elements):
            raise ModelError(f"symmetry functions need a list of different elements, not {list(elements)}")
        self.elements = tuple(elements)
        self.settings = settings
        # all combinations, the last parameter running fastest; (n_radial, 2) and (n_angular, 3)
        self._radial = _combinations(settings.radial_eta, settings.radial_shift)
        self._angular = _combinations(settings.angular_eta, settings.angular_zeta, settings.angular_lambda)

        n_elements, n_radial, n_angular = len(elements), len(self._radial), len(self._angular)
        element_pairs = [(a, b) for a in range(n_elements) for b in range(a, n_elements)]
        cutoff = f"rc={settings.cutoff:g}"
        self.keys = tuple(
            [f"G2 {e} eta={eta:g} rs={shift:g} {cutoff}" for e in elements for eta, shift in self._radial]
            + [
                f"G3 {elements[a]}-{elements[b]} eta={eta:g} zeta={zeta:g} lambda={sign:g} {cutoff}"
                for a, b in element_pairs
                for eta, zeta, sign in self._angular
            ]
        )
        #: first column of the G3 of each pair of neighbour elements, (n_elements, n_elements)
        self._first_angular = np.empty((n_elements, n_elements), dtype=np.int64)
        for k, (a, b) in enumerate(element_pairs):
            self._first_angular[a, b] = self._first_angular[b, a] = n_elements * n_radial + k * n_angular
        # the columns that a neighbour of element e appears in: its G2, then the G3 with each other element
        self.columns = np.array(
            [
                [e * n_radial + m for m in range(n_radial)]
                + [self._first_angular[e, other] + m for other in range(n_elements) for m in range(n_angular)]
                for e in range(n_elements)
            ],
            dtype=np.int64,
        ).reshape(n_elements, n_radial + n_elements * n_angular)

    def __len__(self) -> int:
        return len(self.keys)

    def compute(self, structure: Structure, derivatives: bool = False) -> Fingerprint:
        """Symmetry functions of every atom. Raises ModelError for unknown elements and atoms on one spot."""
        return self._of_pairs(*self._find(structure), derivatives)

    def blocks(self, structure: Structure, derivatives: bool = False) -> Iterator[Block]:
        """`compute` a block of atoms at a time, so that derivatives need room for BLOCK_PAIRS pairs, not for all."""
        species, pairs = self._find(structure)
        first = 0
        while first < len(structure):
            most = pairs.starts[first] + BLOCK_PAIRS
            last = max(int(np.searchsorted(pairs.starts, most, side="right")) - 1, first + 1)
            where = slice(pairs.starts[first], pairs.starts[last])
            # the block as a structure of its own, in which the neighbours outside it come last and have no neighbours
            outside = np.unique(pairs.neighbour[where])
            outside = outside[(outside < first) | (outside >= last)]
            atoms = np.concatenate([np.arange(first, last), outside])
            inside = (pairs.neighbour[where] >= first) & (pairs.neighbour[where] < last)
            neighbour = np.where(
                inside, pairs.neighbour[where] - first, last - first + np.searchsorted(outside, pairs.neighbour[where])
            )
            starts = np.minimum(pairs.starts[first : first + len(atoms) + 1], pairs.starts[last]) - pairs.starts[first]
            starts = np.concatenate([starts, np.full(len(atoms) + 1 - len(starts), starts[-1])])
            own = Neighbours(
                pairs.centre[where] - first, neighbour, pairs.vectors[where], pairs.distances[where], starts
            )
            yield Block(atoms, last - first, self._of_pairs(species[atoms], own, derivatives))
            first = last

    def _find(self, structure: Structure) -> tuple[np.ndarray, Neighbours]:
        """Element of each atom, and the neighbours; checked."""
        species = structure.species_index(self.elements)
        if (species < 0).any():
            unknown = sorted(set(structure.species) - set(self.elements))
            raise ModelError(
                f"structure {structure.name or structure.formula} contains {', '.join(unknown)}, but the symmetry "
                f"functions are made for {', '.join(self.elements)}; add the element or leave the structure out"
            )
        pairs = find_neighbours(structure, self.settings.cutoff)
        _check_distances(structure, pairs)
        return species, pairs

    def _of_pairs(self, species: np.ndarray, pairs: Neighbours, derivatives: bool) -> Fingerprint:
        angle = np.pi * pairs.distances / self.settings.cutoff
        features = np.zeros((len(species), len(self)))
        n_rows = len(pairs.distances) if derivatives else 0
        slopes = np.zeros((n_rows, 3, self.columns.shape[1]))
        _accumulate(
            pairs.starts,
            species[pairs.neighbour],
            pairs.vectors,
            pairs.distances,
            0.5 * (np.cos(angle) + 1.0),
            -0.5 * np.pi / self.settings.cutoff * np.sin(angle),
            self.settings.cutoff,
            self._radial,
            self._angular,
            self._first_angular,
            features,
            slopes,
            derivatives,
        )
        return Fingerprint(
            species,
            features,
            pairs.starts,
            pairs.neighbour,
            pairs.vectors,
            slopes if derivatives else None,
            self.columns,
        )


def _combinations(*parameters: tuple[float, ...]) -> np.ndarray:
    grid = np.meshgrid(*(np.array(p, dtype=float) for p in parameters), indexing="ij")
    return np.stack([axis.ravel() for axis in grid], axis=1)


def _check_distances(structure: Structure, pairs: Neighbours) -> None:
    if len(pairs.distances) and pairs.distances.min() < SHORTEST_DISTANCE:
        p = int(pairs.distances.argmin())
        raise ModelError(
            f"structure {structure.name or structure.formula}: atoms {pairs.centre[p]} and {pairs.neighbour[p]} "
            f"are {pairs.distances[p]:.1e} Å apart; mend or remove the structure"
        )


@njit(cache=True, nogil=True)
def _accumulate(
    starts: np.ndarray,
    element: np.ndarray,
    vectors: np.ndarray,
    distances: np.ndarray,
    fc: np.ndarray,
    dfc: np.ndarray,
    cutoff: float,
    radial: np.ndarray,
    angular: np.ndarray,
    first_angular: np.ndarray,
    features: np.ndarray,
    slopes: np.ndarray,
    with_slopes: bool,
) -> None:
    """Add every pair and triplet to `features` (n, F) and, if asked, to `slopes` (n_pairs, 3, T).

    element, fc, dfc: element index of each pair's neighbour, cutoff function of its distance, and its derivative.
    """
    n_radial, n_angular = len(radial), len(angular)
    power = np.empty(n_angular)  # 2^(1-ζ) (1 + λ cos θ)^ζ
    dpower = np.empty(n_angular)  # its derivative with respect to cos θ
    along_ij = np.empty(n_angular)  # d G3 / d r_ij, and so on
    along_ik = np.empty(n_angular)
    along_jk = np.empty(n_angular)
    for i in range(len(starts) - 1):
        for j in range(starts[i], starts[i + 1]):
            r_ij, e_j = distances[j], element[j]
            for m in range(n_radial):
                eta, shift = radial[m, 0], radial[m, 1]
                gauss = np.exp(-eta * (r_ij - shift) ** 2)
                features[i, e_j * n_radial + m] += gauss * fc[j]
                if with_slopes:
                    slope = gauss * (dfc[j] - 2.0 * eta * (r_ij - shift) * fc[j]) / r_ij
                    for c in range(3):
                        slopes[j, c, m] += slope * vectors[j, c]

            for k in range(starts[i], j):
                r_ik, e_k = distances[k], element[k]
                x = vectors[j, 0] - vectors[k, 0]
                y = vectors[j, 1] - vectors[k, 1]
                z = vectors[j, 2] - vectors[k, 2]
                square_jk = x * x + y * y + z * z
                if square_jk >= cutoff * cutoff:
                    continue
                r_jk = np.sqrt(square_jk)
                squares = r_ij * r_ij + r_ik * r_ik + square_jk
                cosine = (r_ij * r_ij + r_ik * r_ik - square_jk) / (2.0 * r_ij * r_ik)
                fc_jk = 0.5 * (np.cos(np.pi * r_jk / cutoff) + 1.0)
                fcs = fc[j] * fc[k] * fc_jk
                for m in range(n_angular):
                    zeta, sign = angular[m, 1], angular[m, 2]
                    # rounding may carry |cos θ| beyond 1
                    base = 0.5 * max(1.0 + sign * cosine, 0.0)
                    lower = base ** (zeta - 1.0)
                    power[m] = 2.0 * lower * base
                    dpower[m] = zeta * sign * lower
                column = first_angular[e_j, e_k]
                for m in range(n_angular):
                    power[m] *= np.exp(-angular[m, 0] * squares)
                    features[i, column + m] += power[m] * fcs
                if not with_slopes:
                    continue

                # G3 is a function of the three distances; cos θ depends on all of them
                dfc_jk = -0.5 * np.pi / cutoff * np.sin(np.pi * r_jk / cutoff)
                for m in range(n_angular):
                    eta = angular[m, 0]
                    bend = dpower[m] * np.exp(-eta * squares) * fcs
                    along_ij[m] = bend * (1.0 / r_ik - cosine / r_ij) + power[m] * (
                        dfc[j] * fc[k] * fc_jk - 2.0 * eta * r_ij * fcs
                    )
                    along_ik[m] = bend * (1.0 / r_ij - cosine / r_ik) + power[m] * (
                        fc[j] * dfc[k] * fc_jk - 2.0 * eta * r_ik * fcs
                    )
                    along_jk[m] = -bend * r_jk / (r_ij * r_ik) + power[m] * (
                        fc[j] * fc[k] * dfc_jk - 2.0 * eta * r_jk * fcs
                    )
                # where the G3 with the other neighbour's element begin in a row of T columns
                row_j, row_k = n_radial + e_k * n_angular, n_radial + e_j * n_angular
                for c in range(3):
                    unit_ij, unit_ik = vectors[j, c] / r_ij, vectors[k, c] / r_ik
                    unit_jk = (vectors[j, c] - vectors[k, c]) / r_jk
                    for m in range(n_angular):
                        slopes[j, c, row_j + m] += along_ij[m] * unit_ij + along_jk[m] * unit_jk
                        slopes[k, c, row_k + m] += along_ik[m] * unit_ik - along_jk[m] * unit_jk
