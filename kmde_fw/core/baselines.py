"""Choices that look at descriptors alone: what the key motifs are to be compared with.

Arrays in, an order out; each returns row numbers of candidates, the first to be labelled first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

#: (candidates (n, D), known (m, D), number of clusters, seed) -> row numbers, best first
Baseline = Callable[[np.ndarray, np.ndarray, int, Sequence[int]], np.ndarray]


def structure_features(features: Sequence[np.ndarray], species: Sequence[np.ndarray], n_elements: int) -> np.ndarray:
    """One row per structure, (n_structures, n_elements × (F + 1)), from its atoms' symmetry functions.

    features: (n_atoms, F); species: (n_atoms,) element indices. For each element: the sum over its atoms, and their
    number, both divided by the atoms of the structure. The average over atoms is what is usual for whole structures;
    taken by element, because symmetry functions of different central elements are different quantities.
    """
    rows = []
    for values, kinds in zip(features, species, strict=True):
        extended = np.column_stack([values, np.ones(len(values))])
        sums = np.zeros((n_elements, extended.shape[1]))
        np.add.at(sums, kinds, extended)
        rows.append(np.ravel(sums / len(values)))
    return np.array(rows)


def farthest_points(candidates: np.ndarray, known: np.ndarray, n_clusters: int, seed: Sequence[int]) -> np.ndarray:
    """Farthest-point sampling: again and again the candidate whose nearest known or chosen one is farthest away.

    Euclidean distances of columns scaled to unit standard deviation over the candidates, as Imbalzano et al., J. Chem.
    Phys. 148, 241730 (2018). candidates: (n, D); known: (m, D), m ≥ 1, those of the train set. It makes no
    clusters and draws nothing. Of equally far candidates the first.
    """
    points, others = _scaled(candidates, known)
    nearest = np.full(len(points), np.inf)
    for other in others:
        nearest = np.minimum(nearest, ((points - other) ** 2).sum(axis=1))
    order = np.empty(len(points), dtype=np.int64)
    for k in range(len(points)):
        order[k] = nearest.argmax()
        nearest = np.minimum(nearest, ((points - points[order[k]]) ** 2).sum(axis=1))
        nearest[order[: k + 1]] = -1.0
    return order


def direct(candidates: np.ndarray, known: np.ndarray, n_clusters: int, seed: Sequence[int]) -> np.ndarray:
    """DIRECT-style sampling: principal components, clusters, one of each cluster, the nearest to its centre.

    After Qi et al., npj Comput. Mater. 10, 43 (2024): columns scaled to unit standard deviation, components with an
    eigenvalue above 1 (Kaiser's rule), weighted by their share of the variance. k-means of candidates and train set
    together stands in for BIRCH. Clusters without a train structure come first, among them the largest; then the next
    nearest of each cluster, and so on. candidates: (n, D); known: (m, D); seed: of the first centres.
    """
    from scipy.cluster.vq import kmeans2

    points, others = _scaled(candidates, known)
    everything = np.concatenate([points, others])
    mean = everything.mean(axis=0)
    _, singular, axes = np.linalg.svd(everything - mean, full_matrices=False)
    variances = singular**2 / len(everything)
    kept = max(1, int((variances > 1.0).sum()))
    weights = variances[:kept] / max(variances[:kept].sum(), np.finfo(float).tiny)
    components = (everything - mean) @ axes[:kept].T * weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an empty cluster is no harm: nothing is taken from it
        centres, cluster = kmeans2(
            components, min(n_clusters, len(everything)), minit="++", rng=np.random.default_rng(seed)
        )
    distance = np.linalg.norm(components - centres[cluster], axis=1)[: len(points)]
    own, taken = cluster[: len(points)], set(cluster[len(points) :].tolist())
    sizes = np.bincount(own, minlength=len(centres))
    clusters = sorted(range(len(centres)), key=lambda c: (c in taken, -sizes[c], c))
    place = np.empty(len(centres), dtype=np.int64)
    place[clusters] = np.arange(len(centres))
    turn = np.empty(len(points), dtype=np.int64)
    for c in clusters:
        members = np.flatnonzero(own == c)
        turn[members[np.argsort(distance[members], kind="stable")]] = np.arange(len(members))
    return np.lexsort((place[own], turn))


#: strategies that choose in descriptor space; `design.strategy` may have these names
BASELINES: dict[str, Baseline] = {"farthest_point": farthest_points, "direct": direct}


def _scaled(candidates: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with their columns divided by the standard deviation over the candidates; columns without any become 0."""
    deviation = candidates.std(axis=0)
    varies = deviation > 1e-10 * np.maximum(1.0, np.abs(candidates).max(axis=0, initial=0.0))
    scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
    return candidates * scale, known * scale
