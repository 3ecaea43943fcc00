"""Numbers as people read them."""

import pytest

from kmde_fw.units import figures


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [
        (3587.2, 2, "3587"),
        (-240.4, 2, "-240"),
        (99.4, 2, "99"),
        (99.6, 2, "100"),
        (0.01442, 3, "0.0144"),
        (12.0, 3, "12"),
        (0.0, 2, "0"),
        (3.2e7, 3, "3.2e+07"),
        (float("inf"), 2, "inf"),
    ],
)
def test_figures(value, digits, said):
    assert figures(value, digits) == said
