"""why, candidates, motifs, outliers, failures, diff: what people see equals what the query layer says."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from kmde_fw.cli.candidates import terms_of
from kmde_fw.report.words import cure, exceeded_words, failure_words, function_words, motif_words
from kmde_fw.store import Store, queries


@pytest.fixture
def call(kmde, finished_launchpad: Path):
    """`kmde words` on the finished campaigns."""
    return lambda *words: kmde(*words, "-l", finished_launchpad)


def test_why_tells_the_whole_story_of_a_pick(call, finished: Store):
    pick = queries.surrogates(finished, "demo")[0]
    code, out, _ = call("why", pick["structure_id"][:8])
    assert code == 0
    assert "campaign demo, cycle 1, slot 0: " in out
    assert f"rank      {pick['rank'] + 1} of 400 candidates" in out
    assert "  recipe    p" in out, "a prototype or a parent"
    assert "because of" in out
    assert any(words in out for words in ("% above the train range", "of the train set"))
    assert "what it brought (with the 1 other picks of the cycle), before → after" in out
    assert "ase.calculators.emt.EMT" in out
    trained = {m for cycle in finished.cycles("demo")[1:] for m in cycle["models"]}
    found = [m["_id"] for m in json.loads(call("why", pick["structure_id"], "--json")[1])["models"]]
    assert trained <= set(found)
    assert f"models that learned from it: {len(found)}" in out
    assert call("why", pick["label_id"])[1] == out, "a label leads to its structure"
    record = json.loads(call("why", "demo/1/0", "--json")[1])
    assert record["structure"]["_id"] == pick["structure_id"]


def test_why_tells_what_a_pick_promised_and_what_came_of_it(call, finished: Store):
    from kmde_fw.report.passport import choice_lines

    pick = queries.surrogates(finished, "demo")[0]
    out = call("why", pick["structure_id"][:8])[1]
    before, after = (finished.get("analyses", f"demo/00{k}")["opinion"] for k in (0, 1))
    realised = (
        f"    energy zero known to {1e3 * before['zero']:.3g} → {1e3 * after['zero']:.3g} meV/atom, missing values "
        f"{before['open']} → {after['open']}, unknown of the vicinity {before['vicinity']:.3f} → "
        f"{after['vicinity']:.3f}"
    )
    assert f"{realised}\n" in out
    assert "promised" not in out, "this campaign chooses by motifs"
    choice = queries.passport(finished, pick["structure_id"])["chosen"][0]
    first = {"zero": [0.5, 0.01], "open": [40, 30], "vicinity": [0.4, 0.3], "strangeness": 1.25}
    second = {"zero": [0.01, 0.009], "open": [30, 10], "vicinity": [0.3, 0.25], "strangeness": 0.5}
    choice |= {"strategy": "environment", "score": 0.75, "promise": first}
    choice["gain"] |= {"promised": [first, second]}
    lines = choice_lines(choice)
    assert "  score     0.75 by environment, at the beginning of the cycle" in lines
    assert (
        "  promised  energy zero known to 500 → 10 meV/atom, missing values 40 → 30, unknown of the vicinity 0.400 → "
        "0.300; its atoms are 1.25 away from the target's"
    ) in lines
    at = lines.index(realised)
    assert lines[at + 1] == (
        "    promised by the picks of the cycle: energy zero known to 500 → 9 meV/atom, missing values 40 → 10, "
        "unknown of the vicinity 0.400 → 0.250"
    )


def test_status_has_what_each_train_set_leaves_open(call, finished: Store):
    rows = json.loads(call("status", "demo", "--json")[1])["cycles"]
    assert [row["opinion"] for row in rows] == [cycle["opinion"] for cycle in finished.cycles("demo")]
    assert set(rows[0]["opinion"]) == {"zero", "open", "vicinity", "far", "far_inside", "near_outside"}
    assert rows[0]["promised"] == rows[0]["realised"] == {}
    assert rows[1]["realised"]["open"] == [rows[0]["opinion"]["open"], rows[1]["opinion"]["open"]]


def test_the_score_of_motifs_is_shown_in_its_terms():
    from kmde_fw.report.passport import terms_words

    choice = {"score": 1.5, "motif_score": 2.0, "distance_penalty": 0.25, "energy_penalty": 0.25}
    assert terms_words({**choice, "strategy": "key_motif"}) == (
        "score     1.5 = motifs per atom 2 − distance penalty 0.25 − energy penalty 0.25"
    )
    assert terms_words({**choice, "strategy": "random"}).endswith("1.5 by random, at the beginning of the cycle")


def test_terms_of_other_strategies_are_printed_by_their_own_names(finished: Store):
    from kmde_fw.report.passport import choice_lines

    pick = queries.passport(finished, queries.surrogates(finished, "demo")[0]["structure_id"])["chosen"][0]
    lines = choice_lines({**pick, "closed_components": 12, "why": ["an Au corner", "new composition"]})
    assert "  closed_components 12" in lines
    assert "  why       [an Au corner, new composition]" in lines


def test_why_of_a_model_lists_its_train_set(call, finished: Store):
    model = finished.cycles("demo")[2]["models"][0]
    code, out, _ = call("why", model)
    assert code == 0
    assert "train set: 10 structures" in out
    assert out.count("initial train set") == 6
    assert f"sha256 {finished.get('models', model)['weights']['sha256']}" in out


def test_a_wrong_id_is_one_sentence(call):
    code, out, err = call("why", "000000")
    assert (code, out) == (1, "")
    assert err.startswith("kmde: no structure, label or model")


@pytest.mark.parametrize(
    ("words", "ask"),
    [
        (("candidates", "demo", "--cycle", 1, "--top", 7), lambda s: queries.candidates(s, "demo", 1, 7)),
        (("motifs", "demo"), lambda s: queries.motifs(s, "demo")),
        (("outliers", "demo", "--cycle", 0), lambda s: queries.outliers(s, "demo", 0)),
        (("failures", "demo"), lambda s: queries.failures(s, "demo")),
    ],
)
def test_tables_as_text_json_and_csv_say_the_same(call, finished: Store, words, ask):
    rows = ask(finished)
    assert rows
    code, out, _ = call(*words, "--json")
    assert code == 0
    assert json.loads(out) == json.loads(json.dumps(rows, default=lambda t: t.isoformat(timespec="seconds")))
    parsed = list(csv.DictReader(io.StringIO(call(*words, "--csv")[1])))
    assert len(parsed) == len(rows)
    heading = next(iter(parsed[0]))
    table = call(*words)[1]
    for name in parsed[0]:
        assert name.split()[0] in table
    assert parsed[0][heading] in table


def test_candidates_show_the_terms_that_their_strategy_went_by():
    promise = {"zero": [15e-3, 0.7e-3], "open": [65, 64], "vicinity": [0.2, 0.19], "strangeness": 0.5}
    row = {"motif_score": 3.0, "distance_penalty": 0.5, "energy_penalty": None, "promise": promise}

    def shown(strategy, row):
        return {name: cell(row) for name, cell in terms_of(strategy).items()}

    assert shown("environment", row) == {
        "zero meV>": pytest.approx(0.7),
        "closed>": 1,
        "known %>": pytest.approx(5.0),
        "strange>": 0.5,
    }
    nothing_open = {**row, "promise": {**promise, "open": [0, 0]}}
    assert shown("environment", nothing_open)["closed>"] == 0
    not_looked_at = {key: value for key, value in row.items() if key != "promise"}
    assert set(shown("environment", not_looked_at).values()) == {None}
    assert shown("gap_only", row) == {"motifs>": 3.0, "distance>": 0.5, "energy>": None}
    assert shown("random", row) == shown("direct", row) == {}


def test_diff_shows_the_option_and_both_campaigns(call):
    code, out, _ = call("diff", "demo", "twin", "--csv")
    assert code == 0
    rows = list(csv.reader(io.StringIO(out)))
    assert ["seed", "0", "1"] in rows
    assert ["campaign", "demo", "twin"] in rows
    assert any(row[0] == "cycle 2 energy rmse" for row in rows)
    assert json.loads(call("diff", "demo", "twin", "--json")[1])["settings"][1]["option"] == "seed"


def test_nothing_failed_is_said(call, finished: Store):
    rows = queries.failures(finished, "twin")
    out = call("failures", "twin")[1]
    assert ("nothing failed" in out) == (not rows)


def test_a_pick_without_a_label_says_what_stays_open():
    motif = {"channel": "Fe-Pt", "kind": "distance", "low": 2.64, "high": 2.65}
    promise = {"zero": [0.03, 0.001], "open": [40, 12], "vicinity": [0.4, 0.3]}
    row = {"kind": "slot", "reason": "VASP ended with exit code 134", "open_motifs": [motif], "promise": promise}
    assert failure_words(row) == (
        "VASP ended with exit code 134; stays open: key motifs Fe-Pt 2.640–2.650 Å; what was promised: energy zero "
        "known to 30 → 1 meV/atom, missing values 40 → 12, unknown of the vicinity 0.400 → 0.300"
    )
    assert failure_words({**row, "open_motifs": [], "promise": None}) == "VASP ended with exit code 134"


def test_words():
    assert function_words("G2 Al eta=0.01 rs=0 rc=4") == "Al neighbours (G2, η=0.01 R_s=0)"
    assert (
        function_words("G3 Al-Pt eta=0.1 zeta=4 lambda=-1 rc=4")
        == "Al and Pt neighbours at wide angles (G3, η=0.1 ζ=4 λ=-1)"
    )
    exceeded = {"function": "G3 Al-Al eta=0.1 zeta=4 lambda=1 rc=4", "value": 2.1, "low": 0.0, "high": 2.0}
    assert exceeded_words({**exceeded, "excess": 0.05}, "Pt") == (
        "5 % above the train range: two Al neighbours at narrow angles (G3, η=0.1 ζ=4 λ=1), 2.1 (train: 0 to 2)"
    )
    absent = exceeded_words({**exceeded, "high": 0.0, "excess": None}, "Pt")
    assert absent.endswith("no Pt of the train set has any (2.1)")
    distance = {"channel": "Fe-Pt", "kind": "distance", "low": 2.64, "high": 2.65}
    assert motif_words(distance) == "Fe-Pt 2.640–2.650 Å"
    assert motif_words({"channel": "Fe-Pt-Fe", "kind": "angle", "low": 58.2, "high": 59}) == "Fe-Pt-Fe 58.2–59.0°"


def test_outliers_of_one_target_with_all_that_they_exceed_and_what_would_help(call, finished: Store):
    rows = queries.outliers(finished, "demo", 0)
    name = max(rows, key=lambda row: len(row["exceeds"]))["name"]
    wanted = [row for row in rows if row["name"] == name]
    place = wanted[0]["structure"]
    parsed = list(csv.DictReader(io.StringIO(call("outliers", "demo", "--cycle", 0, "--target", name, "--csv")[1])))
    assert [row["atom"] for row in parsed] == [str(row["atom"]) for row in wanted]
    for cells, row in zip(parsed, wanted, strict=True):
        assert cells["what it exceeds"].splitlines() == [exceeded_words(e, row["element"]) for e in row["exceeds"]]
        assert cells["what would help"] == cure(row)
    by_number = json.loads(call("outliers", "demo", "--cycle", 0, "--target", place, "--json")[1])
    assert [row["atom"] for row in by_number] == [row["atom"] for row in wanted]
    code, _, error = call("outliers", "demo", "--target", "nobody")
    assert code == 1
    assert "no target structure 'nobody'; there are " in error
