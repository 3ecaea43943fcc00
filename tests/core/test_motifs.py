import json

import numpy as np
import pytest

from kmde_fw.core.composition import CompositionGap
from kmde_fw.core.coverage import Channel, Coverage
from kmde_fw.core.distributions import AtomSamples
from kmde_fw.core.motifs import STRATEGIES, Motif, find_strategy, score_motifs, strategy
from kmde_fw.errors import ConfigError

CLOSED = CompositionGap(rank=1, residual=0.0)


def channel(key, kind, width, train, target) -> Channel:
    return Channel(key, kind, width, np.array(train), np.array(target))


def geometry(pairs=(), angles=()) -> dict[str, list[float]]:
    return {"A-A": list(pairs), "A-A-A": list(angles)}


def around(geometries) -> AtomSamples:
    atoms = sorted(geometries)
    return AtomSamples(
        tuple(atoms),
        {key: np.array([x for atom in atoms for x in geometries[atom][key]]) for key in ("A-A", "A-A-A")},
        {key: np.repeat(range(len(atoms)), [len(geometries[atom][key]) for atom in atoms]) for key in ("A-A", "A-A-A")},
    )


# distances, Δ = 0.5: d_train = 0.2 0 0.8 1, d_target = 0 1 0.4 0.6; d_target - d_train = -0.2 1 -0.4 -0.4
# angles, Δ = 60: 10 train samples 5 5 0, 10 target samples 2 3 5: (-3 -2 5) / 600
PAIRS = channel("A-A", "distance", 0.5, [1, 0, 4, 5], [0, 5, 2, 3])
ANGLES = channel("A-A-A", "angle", 60.0, [5, 5, 0], [2, 3, 5])
COVERAGE = Coverage(("A",), 2.0, (PAIRS, ANGLES), CLOSED)
OUTLIERS = {
    (3, 7): geometry(pairs=[0.5, 0.6, 1.2], angles=[30.0, 180.0]),
    (0, 2): geometry(pairs=[0.99, 1.0, 1.7], angles=[120.0, 179.0, 119.0]),
}


def found(name, measure="density", n_motifs=20):
    return score_motifs(COVERAGE, [around(OUTLIERS)], name, measure, n_motifs)


def facts(motifs):
    return [(m.channel, m.low, round(m.score, 6), m.count) for m in motifs]


def test_key_motifs_on_paper():
    motifs = found("key_motif")
    # three of the outliers' distances are in [0.5, 1), where the gap is 1; three angles in [120, 180], gap 5/600
    assert facts(motifs) == [("A-A", 0.5, 3.0, 3), ("A-A-A", 120.0, 0.025, 3)]
    assert [m.rank for m in motifs] == [0, 1]
    assert motifs[0].high == 1.0
    assert motifs[0].kind == "distance"
    assert motifs[0].gap == pytest.approx(1.0)
    assert motifs[0].atoms == ((0, 2), (3, 7))
    assert motifs[1].low <= 180.0 < motifs[1].high


def test_atoms_are_those_in_range():
    by_low = {(m.channel, m.low): m.atoms for m in found("outlier_only")}
    assert by_low["A-A", 1.5] == ((0, 2),)
    assert by_low["A-A-A", 0.0] == ((3, 7),)


def test_probability_is_free_of_units():
    motifs = found("key_motif", "probability")
    assert facts(motifs) == [("A-A", 0.5, 1.5, 3), ("A-A-A", 120.0, 1.5, 3)]
    assert motifs[1].gap == pytest.approx(0.5)


def test_measure_changes_the_ranking():
    few = {(0, 0): geometry(pairs=[0.7], angles=[170.0, 160.0])}
    first = {m: score_motifs(COVERAGE, [around(few)], "key_motif", m, 1)[0].channel for m in ("density", "probability")}
    assert first == {"density": "A-A", "probability": "A-A-A"}


def test_gap_only_needs_no_outliers():
    motifs = score_motifs(COVERAGE, [], "gap_only", "density", 20)
    assert facts(motifs) == [("A-A", 0.5, 1.0, 0), ("A-A-A", 120.0, round(5 / 600, 6), 0)]
    assert motifs[0].atoms == ()
    assert [m.score for m in found("gap_only")] == [m.score for m in motifs]


def test_outlier_only_counts_whatever_the_gap():
    motifs = found("outlier_only")
    assert facts(motifs) == [
        ("A-A", 0.5, 3.0, 3),
        ("A-A-A", 120.0, 3.0, 3),
        ("A-A", 1.0, 2.0, 2),
        ("A-A", 1.5, 1.0, 1),
        ("A-A-A", 0.0, 1.0, 1),
        ("A-A-A", 60.0, 1.0, 1),
    ]  # equal scores: in the order of the channels, then of the bins
    assert [m.rank for m in motifs] == list(range(6))
    assert motifs[2].gap == pytest.approx(-0.4)
    assert facts(found("outlier_only", "probability")) == facts(motifs)


def test_random_has_no_motifs():
    assert found("random") == []


def test_without_outliers_there_is_no_key_motif():
    assert score_motifs(COVERAGE, [], "key_motif", "density", 20) == []
    assert score_motifs(COVERAGE, [], "outlier_only", "density", 20) == []


def test_only_so_many():
    assert found("outlier_only", n_motifs=2) == found("outlier_only")[:2]


def test_blocks_of_outliers_add_up():
    blocks = [around({atom: OUTLIERS[atom]}) for atom in sorted(OUTLIERS)]
    for name in STRATEGIES:
        assert score_motifs(COVERAGE, blocks, name, "density", 20) == found(name)


def test_registry():
    assert list(STRATEGIES) == [
        "key_motif",
        "gap_only",
        "outlier_only",
        "environment",
        "random",
        "farthest_point",
        "direct",
    ]
    with pytest.raises(ConfigError, match=r"'key_motifs': did you mean 'key_motif'\?.*known: key_motif, gap_only"):
        find_strategy("key_motifs")
    with pytest.raises(ConfigError, match="unknown strategy"):
        found("best")
    with pytest.raises(ValueError, match="two strategies"):
        strategy("random")(lambda counts, gap: gap)


def test_a_new_strategy_is_an_entry(monkeypatch):
    monkeypatch.setattr("kmde_fw.core.motifs.STRATEGIES", dict(STRATEGIES))
    strategy("squared")(lambda counts, gap: counts**2 * gap)
    assert found("squared")[0].score == pytest.approx(9.0)


def test_document():
    for motif in found("outlier_only"):
        document = json.loads(json.dumps(motif.to_document()))
        assert Motif.from_document(document) == motif
        assert Motif.from_document({**document, "_id": "x", "campaign": "y"}) == motif
