"""The campaign file: strict, explained, and with a preset that does not move with our defaults."""

from pathlib import Path

import pytest

from kmde_fw.config import THESIS, Campaign, did_you_mean, find_upwards, parse_campaign
from kmde_fw.errors import ConfigError

EMT = {"engine": "ase", "calculator": "emt"}
LEAST = {"name": "c", "train": ["t.extxyz"], "target": ["u.extxyz"], "reference": EMT}


def test_the_least_campaign_has_a_value_for_everything():
    campaign = parse_campaign(LEAST)
    assert campaign.descriptor.cutoff == 4.0
    assert campaign.design.candidates == 20_000
    assert parse_campaign(campaign.model_dump(mode="json")) == campaign, "the stored configuration can be read again"


def test_thesis_sets_what_the_thesis_had_and_single_options_win():
    thesis = parse_campaign({**LEAST, "preset": "thesis"})
    for section, options in THESIS.items():
        for key, value in options.items():
            have = getattr(getattr(thesis, section), key)
            assert have == (tuple(value) if isinstance(value, list) else value), f"{section}.{key}"
    assert thesis.training.energy_loss == "total"
    assert thesis.design.selection == "top"
    assert thesis.design.derive_parents is False
    mixed = parse_campaign({**LEAST, "preset": "thesis", "training": {"max_closures": 7}})
    assert mixed.training.max_closures == 7
    assert mixed.training.learning_rate == 0.1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"trian": []}, r"unknown key 'trian': did you mean 'train'\?"),
        ({"design": {"stratgy": "x"}}, r"unknown key 'design.stratgy': did you mean 'strategy'\?"),
        ({"reference": {"engine": "ase"}}, r"'reference.calculator' is missing"),
        ({"reference": {**EMT, "domain": {"min_bonds": 1}}}, r"did you mean 'min_bond'\?"),
        ({"elements": ["Fe", "Fx"]}, r"elements.1: 'Fx' is not a chemical element"),
        ({"elements": ["Fe", "Fe"]}, r"an element is named twice"),
        ({"design": {"bond_range": [1.3, 0.9]}}, r"design.bond_range: the lower bound must be below the upper bound"),
        ({"name": "no spaces"}, r"name: String should match pattern"),
        ({"train": []}, r"train: .*at least 1"),
        ({"stop": {"max_surrogates": -1}}, r"stop.max_surrogates: .*greater than or equal to 0"),
        ({"stop": {"max_cost": -1}}, r"stop.max_cost: .*greater than or equal to 0"),
        ({"stop": {"max_costs": 1}}, r"did you mean 'max_cost'\?"),
        ({"stop": {"energy_change": 0}}, r"stop.energy_change: .*greater than 0"),
        ({"training": {"force_weight_near": {"elment": "Pt", "weight": 2}}}, r"did you mean 'element'\?"),
        ({"training": {"force_weight_near": {"element": "Pt"}}}, r"'training.force_weight_near.weight' is missing"),
        (
            {"training": {"force_weight": 0, "force_weight_near": {"element": "Pt", "weight": 2}}},
            r"force_weight_near changes nothing",
        ),
    ],
)
def test_mistakes_are_sentences(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse_campaign({**LEAST, **change})


def test_all_mistakes_at_once():
    with pytest.raises(ConfigError) as error:
        parse_campaign({**LEAST, "trian": [], "seed": -1})
    assert len(str(error.value).splitlines()) == 2


def test_every_option_of_a_section_is_described():
    for name, section in Campaign.model_json_schema()["$defs"].items():
        for key, option in section["properties"].items():
            assert "description" in option or "const" in option, f"{name}.{key}"


def test_picks_after():
    campaign = parse_campaign({**LEAST, "design": {"picks_per_cycle": 3}, "stop": {"max_surrogates": 7}})
    assert [campaign.picks_after(n) for n in (0, 3, 6, 7, 9)] == [3, 3, 1, 0, 0]


def test_did_you_mean():
    assert did_you_mean("emtt", ["emt", "lj"]) == ": did you mean 'emt'?"
    assert did_you_mean("zzz", ["emt", "lj"]) == ""


def test_find_upwards(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "c.yaml").write_text("")
    assert find_upwards(Path("c.yaml"), tmp_path / "a/b") == tmp_path / "c.yaml"
    with pytest.raises(ConfigError, match=r"no file nowhere\.yaml in"):
        find_upwards(Path("nowhere.yaml"), tmp_path)


def test_evaluate_names_sets_of_files():
    given = {"name": "a", "train": ["t"], "target": ["t"], "reference": {"calculator": "emt"}}
    assert parse_campaign({**given, "evaluate": {"moved": ["m.extxyz"]}}).evaluate == {"moved": ("m.extxyz",)}
    with pytest.raises(ConfigError, match=r"evaluate\.no way"):
        parse_campaign({**given, "evaluate": {"no way": ["m.extxyz"]}})
