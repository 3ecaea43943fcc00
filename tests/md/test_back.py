"""Which frames left the domain, thinned; and the campaign that comes of it."""

import itertools

import numpy as np
import pytest

from kmde_fw.md.back import DIFFER, describe, find_departures, thermal_displacement
from kmde_fw.md.trajectory import Frame
from kmde_fw.records import Structure


def scaled(structure, factor):
    return Structure(structure.species, structure.cell * factor, structure.positions * factor)


def moved(structure, amount, seed=0):
    random = np.random.default_rng(seed).normal(0, amount, structure.positions.shape)
    return Structure(structure.species, structure.cell, structure.positions + random)


def frames(structures):
    return [Frame(k + 1, 10 * k, s) for k, s in enumerate(structures)]


def test_frames_inside_are_no_departures(model, copper_gold):
    found = find_departures(frames([d.structure for d in copper_gold]), model, None, 5)
    assert (found.frames, found.outside, found.chosen) == (6, 0, [])
    assert found.domain["atoms_outside"] == 0


def test_the_few_that_differ_are_chosen_the_first_among_them(model, copper_gold):
    inside, outside = copper_gold[0].structure, scaled(copper_gold[0].structure, 0.93)
    # twenty frames that are hardly different, and two that are
    run = [inside, *(moved(outside, 1e-4, k) for k in range(20)), scaled(inside, 1.15), inside, moved(outside, 0.15)]
    found = find_departures(frames(run), model, None, 5)
    assert found.outside == 22
    assert [d.frame.step for d in found.chosen] == [10, 210, 230]
    assert find_departures(frames(run), model, None, 2).chosen[0].frame.step == 10
    facts = describe(found.chosen[0], model, None)
    assert facts["n_outside"] == 4
    assert facts["motifs"] is None
    atom = facts["atoms"][0]
    assert atom["exceeds"][0]["function"] in model.symmetry_functions.keys
    assert atom["exceeds"][0]["excess"] > 0
    assert atom["neighbours"]


def test_a_long_run_is_thinned_as_it_goes(model, copper_gold, monkeypatch):
    """Frames that wait for the choice are bounded, and what differs most survives."""
    monkeypatch.setattr("kmde_fw.md.back.POOL", 8)
    first = copper_gold[0].structure
    most = []
    from kmde_fw.md import back

    keep = back._farthest
    monkeypatch.setattr("kmde_fw.md.back._farthest", lambda pool, *a: most.append(len(pool)) or keep(pool, *a))
    run = [scaled(first, 0.93 + 1e-4 * k) for k in range(60)]
    run[30] = scaled(first, 1.2)
    found = find_departures(iter(frames(run)), model, None, 3)
    assert max(most) <= 9
    assert 300 in [d.frame.step for d in found.chosen]
    assert found.chosen[0].frame.step == 0


def test_from_where_a_run_breaks_down_it_is_left_out(model, copper_gold):
    good = scaled(copper_gold[0].structure, 0.93)
    bad = Structure(good.species, good.cell, good.positions.copy())
    bad.positions[1] = bad.positions[0] + 0.3
    found = find_departures(frames([good, bad, good]), model, None, 5)
    assert (found.outside, found.left_out) == (1, 2)
    assert found.broke_down.startswith("frame 2 (step 10): atoms 1 (Cu) and 2 (Cu) are")
    close = scaled(good, 0.8)
    assert find_departures(frames([good, close]), model, None, 5, min_bond=0.85).left_out == 1
    # another run begins with its own frame 1
    both = itertools.chain(frames([good, bad]), frames([moved(good, 0.1)]))
    assert find_departures(both, model, None, 5).outside == 2


def test_differing_is_measured_in_train_ranges(model, copper_gold):
    outside = scaled(copper_gold[0].structure, 0.93)
    near = find_departures(frames([outside, moved(outside, 1e-3)]), model, None, 5)
    far = find_departures(frames([outside, moved(outside, 0.2)]), model, None, 5)
    assert len(near.chosen) == 1
    assert len(far.chosen) == 2
    assert 0 < DIFFER < 1


def test_thermal_displacement_is_that_of_the_atoms_without_drift_and_images(copper_gold):
    base = copper_gold[1].structure.repeated((2, 2, 2))
    generator = np.random.default_rng(0)
    straight = [
        Structure(base.species, base.cell, base.positions + generator.normal(0, 0.1, base.positions.shape) + 0.05 * k)
        for k in range(40)
    ]
    assert thermal_displacement(straight) == pytest.approx(0.1, rel=0.05)
    wrapped = [
        Structure(s.species, s.cell, (np.linalg.solve(s.cell.T, s.positions.T).T % 1.0) @ s.cell) for s in straight
    ]
    assert thermal_displacement(wrapped) == pytest.approx(thermal_displacement(straight), rel=1e-6)
    assert thermal_displacement(straight[:1]) is None
