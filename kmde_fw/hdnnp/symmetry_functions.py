"""Behler-Parrinello symmetry functions and their analytic derivatives, thesis T(1.2) and T(1.3).

With the cutoff function f_c(r) = (cos(π r / r_c) + 1) / 2 (or one of two others, see `config.Descriptor`) and sums over
the neighbours j, k of atom i with r < r_c:

    G2 = Σ_j exp(-η (r_ij - R_s)²) f_c(r_ij)                                            for each neighbour element
    G3 = 2^(1-ζ) Σ_{j<k} (1 + λ cos θ_jik)^ζ exp(-η (r_ij² + r_ik² + r_jk²)) f_c(r_ij) f_c(r_ik) f_c(r_jk)
                                                                                 for each pair of neighbour elements

G3 is the "narrow" form: j and k must also be neighbours of each other. It is n2p2's type 3 and dscribe's G4.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from kmde_fw.config import Descriptor
from kmde_fw.errors import ModelError
from kmde_fw.hdnnp.kernels import CUTOFF_FUNCTIONS, Channels, accumulate
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
        # all combinations, the last parameter running fastest
        radial = list(product(settings.radial_eta, settings.radial_shift))
        bends = tuple(product(settings.angular_zeta, map(float, settings.angular_lambda)))
        etas = settings.angular_eta if bends else ()
        angular = [(eta, *bend) for eta in etas for bend in bends]
        n_elements, n_radial, n_angular = len(elements), len(radial), len(angular)
        element_pairs = [(a, b) for a in range(n_elements) for b in range(a, n_elements)]
        cutoff = f"rc={settings.cutoff:g}"
        if settings.cutoff_function != "cosine":
            cutoff += f" fc={settings.cutoff_function}"
        self.keys = tuple(
            [f"G2 {e} eta={eta:g} rs={shift:g} {cutoff}" for e in elements for eta, shift in radial]
            + [
                f"G3 {elements[a]}-{elements[b]} eta={eta:g} zeta={zeta:g} lambda={sign:g} {cutoff}"
                for a, b in element_pairs
                for eta, zeta, sign in angular
            ]
        )
        first_angular = np.empty((n_elements, n_elements), dtype=np.int64)
        for k, (a, b) in enumerate(element_pairs):
            first_angular[a, b] = first_angular[b, a] = n_elements * n_radial + k * n_angular
        # the columns that a neighbour of element e appears in: its G2, then the G3 with each other element
        self.columns = np.array(
            [
                [e * n_radial + m for m in range(n_radial)]
                + [first_angular[e, other] + m for other in range(n_elements) for m in range(n_angular)]
                for e in range(n_elements)
            ],
            dtype=np.int64,
        ).reshape(n_elements, n_radial + n_elements * n_angular)
        self._channels = Channels(
            settings.cutoff,
            CUTOFF_FUNCTIONS.index(settings.cutoff_function),
            np.array(radial, dtype=float).reshape(n_radial, 2),
            np.array(etas, dtype=float),
            bends or ((1.0, 1.0),),  # the compiler cannot do with an empty tuple
            first_angular,
        )

    def __len__(self) -> int:
        return len(self.keys)

    def compute(self, structure: Structure, derivatives: bool = False) -> Fingerprint:
        """Symmetry functions of every atom. Raises ModelError for unknown elements and atoms on one spot."""
        return self.of_pairs(*self._find(structure), derivatives)

    def blocks(self, structure: Structure, derivatives: bool = False) -> Iterator[Block]:
        """`compute` a block of atoms at a time, so that derivatives need room for BLOCK_PAIRS pairs, not for all."""
        species, pairs = self._find(structure)
        if len(pairs.distances) <= BLOCK_PAIRS:
            yield Block(np.arange(len(structure)), len(structure), self.of_pairs(species, pairs, derivatives))
            return
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
            yield Block(atoms, last - first, self.of_pairs(species[atoms], own, derivatives))
            first = last

    def of_pairs(self, species: np.ndarray, pairs: Neighbours, derivatives: bool) -> Fingerprint:
        """`compute` from the element of each atom (n,) and a list of all pairs within the cutoff."""
        features = np.zeros((len(species), len(self)))
        slopes = np.empty((len(pairs.distances) if derivatives else 0, 3, self.columns.shape[1]))
        element = species[pairs.neighbour].astype(np.uint32)
        accumulate(pairs.starts, element, pairs.vectors, pairs.distances, self._channels, features, slopes)
        return Fingerprint(
            species,
            features,
            pairs.starts,
            pairs.neighbour,
            pairs.vectors,
            slopes if derivatives else None,
            self.columns,
        )

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


def _check_distances(structure: Structure, pairs: Neighbours) -> None:
    if len(pairs.distances) and pairs.distances.min() < SHORTEST_DISTANCE:
        p = int(pairs.distances.argmin())
        raise ModelError(
            f"structure {structure.name or structure.formula}: atoms {pairs.centre[p]} and {pairs.neighbour[p]} "
            f"are {pairs.distances[p]:.1e} Å apart; mend or remove the structure"
        )
