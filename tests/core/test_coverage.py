import json

import numpy as np
import pytest
from ase.build import bulk

from kmde_fw.config import Analysis
from kmde_fw.core import distributions
from kmde_fw.core.coverage import Coverage, coverage
from kmde_fw.core.distributions import pair_channels, sample_geometry, triplet_channels
from kmde_fw.records import Structure


def rattled(*arguments, seed=0, repeat=2, sigma=0.1, **keywords) -> Structure:
    atoms = bulk(*arguments, **keywords) * (repeat, repeat, repeat)
    atoms.rattle(sigma, seed=seed)
    return Structure.from_atoms(atoms)


CUTOFF = 4.0
CSCL = ("FeAl", "cesiumchloride"), {"a": 2.9}
FCC = [rattled("Al", "fcc", a=4.05, seed=s) for s in range(2)]
SALT = [rattled("FeAl", "cesiumchloride", a=2.9, seed=s) for s in range(2)]


def test_channels_come_in_fixed_order_whatever_that_of_the_elements():
    one = coverage(FCC, SALT, ("Fe", "Al"), Analysis(), CUTOFF)
    keys = [channel.key for channel in one.channels]
    assert keys == [*pair_channels(("Al", "Fe")), *triplet_channels(("Al", "Fe"))]
    assert [channel.kind for channel in one.channels] == ["distance"] * 3 + ["angle"] * 6
    other = coverage(FCC, SALT, ("Al", "Fe"), Analysis(), CUTOFF)
    assert one.to_document()["channels"] == other.to_document()["channels"]
    # the columns of the composition gap are in the caller's order: it is iron that is missing
    assert (one.elements, one.composition.absent) == (("Fe", "Al"), (0,))
    assert (other.elements, other.composition.absent) == (("Al", "Fe"), (1,))


def test_densities_integrate_to_one_on_shared_edges_that_cover_the_range():
    found = coverage(FCC, SALT, ("Al", "Fe"), Analysis(), CUTOFF)
    for channel in found.channels:
        edges = channel.edges
        assert edges[0] == 0
        assert edges[-2] < (CUTOFF if channel.kind == "distance" else 180) <= edges[-1]
        np.testing.assert_allclose(np.diff(edges), channel.width, atol=2e-6)
        assert channel.counts_train.shape == channel.counts_target.shape == (len(edges) - 1,)
        assert channel.density_target.sum() * channel.width == pytest.approx(1)
        assert np.all(channel.gap() >= 0)
    assert found["Al-Al"].density_train.sum() * found["Al-Al"].width == pytest.approx(1)


def test_no_sample_is_lost():
    # 60°, 90°, 120°, 180° with widths that divide 180 and that do not
    perfect = [Structure.from_atoms(bulk("Al", "fcc", a=4.0))]
    for width in (2.0, 7.0, 0.7):
        settings = Analysis(min_samples=10_000, fallback_angle_width=width, fallback_distance_width=0.03)
        found = coverage(perfect, perfect, ("Al",), settings, 3.0)
        angles = found["Al-Al-Al"]
        assert angles.counts_train.sum() == 66
        assert angles.counts_train[-1] == 6  # 180° exactly, in the last bin
        assert angles.edges[-2] < 180 < angles.edges[-1]
        assert found["Al-Al"].counts_train.sum() == 6


def test_a_large_target_has_exact_bins_of_nearly_the_same_width(monkeypatch):
    train, target = ([rattled(*a, repeat=4, sigma=0.03, **k)] for a, k in ((("Al", "fcc"), {"a": 4.05}), CSCL))
    exact = coverage(train, target, ("Al", "Fe"), Analysis(), CUTOFF)
    # what a target of a hundred thousand atoms does to the true limit
    monkeypatch.setattr(distributions, "MAX_DISTINCT", 2500)
    coarse = coverage(train, target, ("Al", "Fe"), Analysis(), CUTOFF)
    samples = sample_geometry(target, ("Al", "Fe"), CUTOFF)
    changed = []
    for channel in coarse.channels:
        values = (samples.distances if channel.kind == "distance" else samples.angles)[channel.key]
        np.testing.assert_array_equal(channel.counts_target, np.histogram(values, channel.edges)[0])
        usual = exact[channel.key].width
        if channel.width != usual:
            changed.append(channel.key)
            assert channel.width == pytest.approx(usual, abs=180 / 2500)
    assert changed == ["Al-Al-Al", "Al-Al-Fe", "Al-Fe-Fe"]


def test_bins_are_those_that_count_counts():
    channel = coverage(FCC, SALT, ("Al", "Fe"), Analysis(), CUTOFF)["Al-Al"]
    edges = channel.edges
    samples = np.array([-1.0, 0.0, edges[5], np.nextafter(edges[5], 0), edges[-2], edges[-1], edges[-1] + 1])
    last = len(edges) - 2
    assert channel.bins(samples).tolist() == [-1, 0, 5, 4, last, last, -1]
    np.testing.assert_array_equal(channel.count(samples), np.histogram(samples, edges)[0])


def test_equal_sets_have_no_gap():
    found = coverage(SALT, SALT, ("Al", "Fe"), Analysis(), CUTOFF)
    assert found.total == 0
    assert found.composition.closed


def test_a_channel_absent_from_train_is_missing_altogether():
    found = coverage(FCC, SALT, ("Al", "Fe"), Analysis(), CUTOFF)
    assert not found["Fe-Fe"].density_train.any()
    assert found["Fe-Fe"].missing == pytest.approx(1)
    assert 0 < found["Al-Al"].missing < 1
    assert found.composition.absent == (1,)
    assert found.total == pytest.approx(sum(channel.missing for channel in found.channels))


def test_without_train_structures_all_of_the_target_is_missing():
    found = coverage([], FCC, ("Al", "Fe"), Analysis(), CUTOFF)
    assert found.total == pytest.approx(2)  # Al-Al and Al-Al-Al
    assert found.composition.open


def test_a_channel_absent_from_the_target_has_no_gap():
    found = coverage(SALT, FCC, ("Al", "Fe", "Pt"), Analysis(), CUTOFF)
    assert found["Fe-Fe"].missing == 0
    assert found["Al-Pt"].missing == 0
    assert found["Al-Pt"].width == Analysis().fallback_distance_width


def test_gap_by_hand():
    # fcc train: 6 pairs at 2.828; target: 4 pairs at 2.598 and 3 at 3.0; fallback width 0.5: bins 5 and 6
    train, target = [bulk("Al", "fcc", a=4.0)], [bulk("Al", "bcc", a=3.0)]
    settings = Analysis(min_samples=10_000, fallback_distance_width=0.5)
    found = coverage(*([Structure.from_atoms(a) for a in s] for s in (train, target)), ("Al",), settings, 3.2)
    channel = found["Al-Al"]
    assert channel.counts_train.tolist() == [0, 0, 0, 0, 0, 6, 0]
    assert channel.counts_target.tolist() == [0, 0, 0, 0, 0, 4, 3]
    np.testing.assert_allclose(channel.difference(), [0, 0, 0, 0, 0, (4 / 7 - 1) / 0.5, 3 / 7 / 0.5])
    np.testing.assert_allclose(channel.gap(), [0, 0, 0, 0, 0, 0, 3 / 7 / 0.5])
    np.testing.assert_allclose(channel.gap("probability"), [0, 0, 0, 0, 0, 0, 3 / 7])
    assert channel.missing == pytest.approx(3 / 7)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"distance_widths": (0.15, 0.3)}, "Al-Al"),
        ({"angle_widths": (8.0, 12.0)}, "Al-Al-Al"),
        ({"min_samples": 10**6, "fallback_distance_width": 0.123}, "Al-Al"),
        ({"min_samples": 10**6, "fallback_angle_width": 1.23}, "Al-Al-Al"),
        ({"width_shifts": 1}, "Al-Al"),
    ],
)
def test_every_option_changes_the_width(changed, key):
    usual = coverage(FCC, SALT, ("Al", "Fe"), Analysis(), CUTOFF)[key].width
    other = coverage(FCC, SALT, ("Al", "Fe"), Analysis(**changed), CUTOFF)[key].width
    assert other != usual
    for name in ("distance_widths", "angle_widths"):
        if name in changed:
            assert changed[name][0] <= other <= changed[name][1]
    if "min_samples" in changed:
        assert other in changed.values()


def test_document():
    found = coverage(FCC, SALT, ("Al", "Fe"), Analysis(), CUTOFF)
    document = found.to_document()
    again = Coverage.from_document(json.loads(json.dumps(document)))
    assert again.to_document() == document
    assert type(document["channels"][0]["counts_train"][0]) is int
    assert again["Al-Fe"].counts_target.dtype == np.int64
    np.testing.assert_array_equal(again["Al-Fe"].gap(), found["Al-Fe"].gap())
    with pytest.raises(KeyError):
        found["Al-Xx"]
