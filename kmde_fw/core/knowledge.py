"""What labels tell about environments near the target: a Gaussian process that never sees a label.

The energy of an atom is taken for a smooth function of its environment (its symmetry functions, scaled): a Gaussian
process with the kernel k(x, y) = exp(-|x - y|²/(2 LENGTH²)), seen at each labelled atom with the variance BLUR. Its
remaining variance at environments near the target depends on where atoms are labelled, not on what came of it, so it
can be known before a calculation is paid. A candidate counts by what its atoms take away of it together: copies of
known ones, and of each other, take little; and so do tiny displacements, which say less about slopes than BLUR hides.

Landmarks L, a sample of the target's vicinity, stand for all (FITC: Snelson and Ghahramani, NIPS 18, 1257 (2006)): what
an atom tells about them is φ = K_LL^(-1/2) k(L, x) with the variance BLUR + 1 - |φ|², so that an atom far from all of
them tells nothing. Choosing what takes most of the summed variance away is A-optimal design (Chaloner and Verdinelli,
Stat. Sci. 10, 273 (1995)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: of the kernel, in the unit of the distances
LENGTH = 0.5
#: variance with which one atom's energy is seen, in that of the process
BLUR = 0.01
#: atoms that are looked at together: enough for the library, little memory
_AT_ONCE = 4096
#: added to the kernel's diagonal, so that it can be inverted
_JITTER = 1e-8


@dataclass(eq=False)
class Knowledge:
    """What is known about one element's environments, and what n candidates would add; make it with `Knowledge.of`.

    share: which part of all it is, of the sum over elements; wanted (L, L): K_LL / L; precision (L, L): of the
    landmarks in the basis of φ, with what is labelled; rows (A, L): φ/√variance of the candidates' atoms; owner (A,):
    the candidate of each, ascending.
    """

    share: float
    wanted: np.ndarray
    precision: np.ndarray
    rows: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(
        cls, share: float, landmarks: np.ndarray, labelled: np.ndarray, offered: np.ndarray, owner: np.ndarray
    ) -> Knowledge:
        """From scaled environments (L, F) of the vicinity, (n, F) of labelled atoms and (A, F) of the candidates'."""
        kernel = _kernel(landmarks, landmarks)
        values, vectors = np.linalg.eigh(kernel + _JITTER * np.eye(len(kernel)))
        root = vectors / np.sqrt(np.maximum(values, _JITTER)) @ vectors.T
        seen = _rows(labelled, landmarks, root)
        return cls(
            share=share,
            wanted=kernel / len(kernel),
            precision=np.eye(len(kernel)) + seen.T @ seen,
            rows=_rows(offered, landmarks, root),
            owner=owner,
        )

    def unknown(self) -> float:
        """Mean remaining variance at the landmarks, 0 to 1."""
        return float(np.sum(self.wanted * np.linalg.inv(self.precision)))

    def gains(self, n: int) -> np.ndarray:
        """What each of n candidates would take away of `unknown`, (n,)."""
        covariance = np.linalg.inv(self.precision)
        result = np.zeros(n)
        counts = np.bincount(self.owner, minlength=n)
        first = np.cumsum(counts) - counts
        # candidates with equally many atoms of this element are solved together (Woodbury's identity)
        for count in np.unique(counts[counts > 0]):
            candidates = np.flatnonzero(counts == count)
            for some in np.array_split(candidates, -(-len(candidates) * int(count) // _AT_ONCE)):
                rows = self.rows[first[some][:, None] + np.arange(count)]
                spread = rows @ covariance
                inner = np.eye(count) + rows @ spread.mT
                outer = spread @ self.wanted @ spread.mT
                result[some] = np.trace(np.linalg.solve(inner, outer), axis1=1, axis2=2)
        return result

    def take(self, candidate: int) -> None:
        """Count a candidate's atoms as labelled."""
        rows = self.rows[self.owner == candidate]
        self.precision = self.precision + rows.T @ rows


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (len(a), len(b)); rounding may leave them a little below 0."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
    squares -= (2.0 * a) @ b.T
    return squares


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.exp(np.maximum(squared_distances(a, b), 0.0) / (-2.0 * LENGTH**2))


def _rows(values: np.ndarray, landmarks: np.ndarray, root: np.ndarray) -> np.ndarray:
    """φ/√variance of environments (n, F), (n, L)."""
    rows = np.empty((len(values), len(landmarks)))
    for k in range(0, len(values), _AT_ONCE):
        features = _kernel(values[k : k + _AT_ONCE], landmarks) @ root
        variance = BLUR + np.maximum(1.0 - (features**2).sum(axis=1), 0.0)
        rows[k : k + _AT_ONCE] = features / np.sqrt(variance)[:, None]
    return rows
