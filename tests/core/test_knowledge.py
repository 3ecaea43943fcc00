"""What labels tell about the target's vicinity, against Gaussian conditioning written out and against enumeration."""

from itertools import combinations

import numpy as np
import pytest

from kmde_fw.core import knowledge as knowledge_module
from kmde_fw.core.knowledge import BLUR, LENGTH, Knowledge


def kernel(a, b):
    return np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=2) / (2 * LENGTH**2))


def variance_left(landmarks, seen):
    """Mean variance at the landmarks after `seen`, by conditioning: y = k(x, L) K⁻¹ f(L) + noise."""
    prior = kernel(landmarks, landmarks)
    if not len(seen):
        return np.trace(prior) / len(prior)
    maps = kernel(seen, landmarks) @ np.linalg.inv(prior)
    signal = maps @ prior @ maps.T
    noise = BLUR + 1 - np.diag(signal)
    gain = prior @ maps.T @ np.linalg.inv(signal + np.diag(noise))
    return np.trace(prior - gain @ maps @ prior) / len(prior)


def example(seed=0, n_landmarks=6, n_labelled=4, sizes=(1, 3, 2, 3, 1)):
    rng = np.random.default_rng(seed)
    landmarks, labelled = rng.normal(0, 0.6, (n_landmarks, 3)), rng.normal(0, 0.6, (n_labelled, 3))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return landmarks, labelled, rng.normal(0, 0.6, (len(owner), 3)), owner


def test_what_is_unknown_is_the_variance_that_conditioning_leaves():
    landmarks, labelled, offered, owner = example()
    known = Knowledge.of(1.0, landmarks, labelled, offered, owner)
    assert known.unknown() == pytest.approx(variance_left(landmarks, labelled), rel=1e-5)
    gains = known.gains(5)
    for candidate in range(5):
        after = variance_left(landmarks, np.concatenate([labelled, offered[owner == candidate]]))
        assert known.unknown() - gains[candidate] == pytest.approx(after, rel=1e-5)
        taken = Knowledge.of(1.0, landmarks, labelled, offered, owner)
        taken.take(candidate)
        assert taken.unknown() == pytest.approx(known.unknown() - gains[candidate], rel=1e-9)


def test_blocks_change_nothing(monkeypatch):
    whole = Knowledge.of(1.0, *example()).gains(5)
    monkeypatch.setattr(knowledge_module, "_AT_ONCE", 2)
    np.testing.assert_allclose(Knowledge.of(1.0, *example()).gains(5), whole, rtol=1e-12)


def test_a_candidate_without_such_atoms_tells_nothing():
    landmarks, labelled, offered, owner = example(sizes=(2, 0, 1))
    gains = Knowledge.of(1.0, landmarks, labelled, offered, owner).gains(4)
    assert gains[[1, 3]].tolist() == [0.0, 0.0]
    assert (gains[[0, 2]] > 0).all()


def test_copies_and_far_atoms_tell_little():
    landmarks = np.array([[0.0], [0.3]])
    labelled = np.array([[0.0]])
    offered = np.array([[0.0], [0.3], [5.0], [0.3], [0.3]])
    copy, new, far, twice = Knowledge.of(1.0, landmarks, labelled, offered, np.array([0, 1, 2, 3, 3])).gains(4)
    assert far < 1e-6 < copy < 0.1 * new
    assert new < twice < 1.1 * new


def test_a_displacement_must_be_large_enough_to_tell_slopes():
    """The middle of a cloud is nearer to all of it than any other point, and is what is known already."""
    rng = np.random.default_rng(1)
    landmarks = rng.normal(0, 0.3, (60, 8))
    direction = rng.normal(size=8) / np.sqrt(8)
    offered = np.array([0.02, 0.3])[:, None] * direction
    little, as_the_cloud = Knowledge.of(1.0, landmarks, np.zeros((1, 8)), offered, np.array([0, 1])).gains(2)
    assert as_the_cloud > 3 * little


def test_the_greedy_choice_is_near_the_best_pair():
    for seed in range(20):
        landmarks, labelled, offered, owner = example(seed, n_landmarks=20, sizes=(2,) * 8)
        known = Knowledge.of(1.0, landmarks, labelled, offered, owner)
        start = known.unknown()

        def gain(pair, parts=(landmarks, labelled, offered, owner), start=start):
            state = Knowledge.of(1.0, *parts)
            for candidate in pair:
                state.take(candidate)
            return start - state.unknown()

        picked = []
        for _ in range(2):
            picked.append(int(known.gains(8).argmax()))
            known.take(picked[-1])
        assert gain(picked) >= 0.9 * max(map(gain, combinations(range(8), 2)))
        assert gain(picked) == pytest.approx(start - known.unknown())
