import numpy as np
import pytest

from kmde_fw.hdnnp import energy_errors, force_rmse


def test_energy_errors_are_per_atom_and_in_mev():
    errors = energy_errors([-10.0, -39.9], [-10.02, -39.94], [2, 4])  # +10 and +10 meV/atom
    assert (errors.rmse, errors.bias) == (pytest.approx(10), pytest.approx(10))
    assert errors.scatter == pytest.approx(0, abs=1e-9)
    errors = energy_errors([0.003, -0.001], [0, 0], [1, 1])
    assert (errors.bias, errors.scatter) == (pytest.approx(1), pytest.approx(2))
    assert errors.rmse**2 == pytest.approx(errors.bias**2 + errors.scatter**2)


def test_force_rmse_is_over_all_components():
    one, three = np.zeros((1, 3)), np.zeros((3, 3))
    assert force_rmse([one, three], [one + np.array([0.6, 0, 0]), three]) == pytest.approx(0.6 / np.sqrt(12))
