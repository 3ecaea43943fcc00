"""The compiled loops against the formulas, written out one term at a time."""

from itertools import product

import numpy as np
import pytest
from ase.build import bulk

from kmde_fw.config import Descriptor
from kmde_fw.hdnnp import SymmetryFunctions, kernels
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure


def plain(structure, elements, d):
    """Features (n, F) and derivatives (n_pairs, 3, F) of the centre's features by the neighbour's position."""
    pairs = find_neighbours(structure, d.cutoff)
    species = structure.species_index(elements)
    radial = list(product(d.radial_eta, d.radial_shift))
    angular = list(product(d.angular_eta, d.angular_zeta, d.angular_lambda))
    element_pairs = [(a, b) for a in range(len(elements)) for b in range(a, len(elements))]
    first_angular = len(elements) * len(radial)
    n_features = first_angular + len(element_pairs) * len(angular)
    features, slopes = np.zeros((len(structure), n_features)), np.zeros((len(pairs.centre), 3, n_features))

    def cutoff(r):
        """f_c and df_c/dr."""
        x = r / d.cutoff
        if d.cutoff_function == "tanh3":
            tanh = np.tanh(1 - x)
            return tanh**3, -3 / d.cutoff * tanh**2 / np.cosh(1 - x) ** 2
        if d.cutoff_function == "poly2":
            return ((15 - 6 * x) * x - 10) * x**3 + 1, -30 / d.cutoff * x**2 * (x - 1) ** 2
        return 0.5 * (np.cos(np.pi * x) + 1), -0.5 * np.pi / d.cutoff * np.sin(np.pi * x)

    for i in range(len(structure)):
        own = range(pairs.starts[i], pairs.starts[i + 1])
        for p in own:
            r, v = pairs.distances[p], pairs.vectors[p]
            fc, dfc = cutoff(r)
            for m, (eta, shift) in enumerate(radial):
                column = species[pairs.neighbour[p]] * len(radial) + m
                gauss = np.exp(-eta * (r - shift) ** 2)
                features[i, column] += gauss * fc
                slopes[p, :, column] += gauss * (dfc - 2 * eta * (r - shift) * fc) * v / r
        for p, q in ((p, q) for p in own for q in own if q < p):
            rj, rk, vj, vk = pairs.distances[p], pairs.distances[q], pairs.vectors[p], pairs.vectors[q]
            far = np.linalg.norm(vj - vk)
            if far >= d.cutoff:
                continue
            cosine = vj @ vk / (rj * rk)
            dcosine_j, dcosine_k = vk / (rj * rk) - cosine * vj / rj**2, vj / (rj * rk) - cosine * vk / rk**2
            (fj, dfj), (fk, dfk), (ff, dff) = cutoff(rj), cutoff(rk), cutoff(far)
            a, b = sorted(species[pairs.neighbour[[p, q]]])
            for m, (eta, zeta, sign) in enumerate(angular):
                column = first_angular + element_pairs.index((a, b)) * len(angular) + m
                base = max(1 + sign * cosine, 0.0)
                bend, dbend = 2 ** (1 - zeta) * base**zeta, 2 ** (1 - zeta) * zeta * sign * base ** (zeta - 1)
                gauss = np.exp(-eta * (rj**2 + rk**2 + far**2))
                features[i, column] += bend * gauss * fj * fk * ff
                for pair, v, r, f, df, other, w, dcosine in (
                    (p, vj, rj, fj, dfj, fk, vj - vk, dcosine_j),
                    (q, vk, rk, fk, dfk, fj, vk - vj, dcosine_k),
                ):
                    by_side = (df - 2 * eta * r * f) * other * ff * v / r
                    by_far = fj * fk * (dff - 2 * eta * far * ff) * w / far
                    slope = gauss * (dbend * fj * fk * ff * dcosine + bend * (by_side + by_far))
                    slopes[pair, :, column] += slope
    return features, slopes


@pytest.mark.parametrize(
    "descriptor",
    [
        Descriptor(),
        Descriptor(cutoff=4.7, radial_shift=(0, 1.5), angular_zeta=(1, 2.5, 6)),
        Descriptor(radial_eta=(), angular_eta=(0.4,)),
        Descriptor(radial_eta=(1.3,), angular_eta=()),
        Descriptor(radial_eta=(0, 0.2), angular_eta=(0,)),
        Descriptor(cutoff_function="tanh3"),
        Descriptor(cutoff_function="poly2"),
    ],
    ids=["usual", "larger", "angular alone", "radial alone", "without Gaussians", "tanh³", "polynomial"],
)
def test_values_and_derivatives_are_those_of_the_formulas(make_structure, descriptor):
    for structure in (make_structure(), Structure.from_atoms(bulk("Fe", "hcp", a=2.5, c=4.1))):
        functions = SymmetryFunctions(("Al", "Fe", "Pt"), descriptor)
        fingerprint = functions.compute(structure, derivatives=True)
        features, slopes = plain(structure, functions.elements, descriptor)
        np.testing.assert_allclose(fingerprint.features, features, rtol=1e-12, atol=1e-12)
        for p, j in enumerate(fingerprint.neighbour):
            columns = functions.columns[fingerprint.species[j]]
            np.testing.assert_allclose(fingerprint.derivatives[p], slopes[p][:, columns], rtol=1e-12, atol=1e-12)
            assert not np.delete(slopes[p], columns, axis=1).any()
        np.testing.assert_array_equal(functions.compute(structure).features, fingerprint.features)


def test_blocks_of_triplets_add_up(make_structure):
    """A block ends within the structure, and one atom alone may be more than a block."""
    structure = Structure.from_atoms(make_structure().to_atoms() * (2, 2, 2))
    functions = SymmetryFunctions(("Al", "Fe", "Pt"), Descriptor(cutoff=5.0))
    pairs = find_neighbours(structure, 5.0)
    assert (np.diff(pairs.starts) ** 2).sum() / 2 > 4 * kernels._BLOCK
    small = functions.compute(make_structure()).features
    np.testing.assert_allclose(functions.compute(structure).features, np.tile(small, (8, 1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("largest", [0.1, 3.0, 80.0])
def test_series_are_right_to_the_last_digits(largest):
    x = np.linspace(0, largest, 1001)
    np.testing.assert_allclose(kernels._exponential(x), np.exp(-x), rtol=3e-16 * (2 + 4 * largest))
    r = np.linspace(1e-3, 4.0, 1001)
    fc, dfc = kernels._cutoff_function(r**2, 4.0, 0)
    np.testing.assert_allclose(fc, 0.5 * (np.cos(np.pi * r / 4) + 1), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(dfc, -np.pi / 8 * np.sin(np.pi * r / 4) / r, rtol=1e-12, atol=1e-15)
