"""The report says what the database says, opens offline, and looks right at desktop and phone width (with Chromium)."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kmde_fw.cli import main
from kmde_fw.errors import StoreError
from kmde_fw.report.facts import report_facts, verdict
from kmde_fw.report.page import page
from kmde_fw.report.svg import Series, chart, crystal
from kmde_fw.report.words import cure, measures_words
from kmde_fw.store import Store, queries
from kmde_fw.units import figures

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def facts(finished: Store) -> dict:
    return report_facts(finished, "demo")


def text_of(page_: str) -> str:
    """The visible text, tags as single spaces."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page_, flags=re.S)))


def test_the_command_writes_one_file_that_needs_nothing_else(capsys, monkeypatch, finished_launchpad: Path, tmp_path):
    file = tmp_path / "report.html"
    monkeypatch.setattr("sys.argv", ["kmde", "report", "demo", "-o", str(file), "-l", str(finished_launchpad)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    text = file.read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "<script" not in text
    assert "src=" not in text
    assert len(text) < 2_000_000
    assert capsys.readouterr().out.startswith(f"wrote {file}: With 4 surrogate structures")


def test_every_number_of_the_cycles_is_the_databases(finished: Store, facts: dict):
    text = text_of(page(facts))
    for cycle in finished.cycles("demo"):
        target = cycle["metrics"]["target"]
        row = (
            f"{cycle['n_outliers']} {cycle['gap']:.3f} {target['energy_rmse']['mean']:.2f} "
            f"{target['energy_bias']['mean']:+.2f} {target['energy_scatter']['mean']:.2f} "
            f"{target['force_rmse']['mean']:.4f}"
        )
        assert row in text
    first, last = finished.cycles("demo")[0], finished.cycles("demo")[-1]
    assert f"outlier atoms {first['n_outliers']} → {last['n_outliers']}" in text


def test_what_each_train_set_leaves_open_and_what_was_promised(finished: Store, facts: dict):
    text = text_of(page(facts))
    for cycle in finished.cycles("demo"):
        opinion = cycle["opinion"]
        promised = queries.promised_together(cycle["promised"])
        changes = cycle["changes"]
        moved = f"{figures(changes['energy'], 2)} meV/atom, {changes['forces']:.2g} eV/Å" if changes else "–"
        row = (
            f"{figures(1e3 * opinion['zero'], 3)} {opinion['open']} {opinion['vicinity']:.3f} {opinion['far']} "
            f"{opinion['far_inside']} {moved} {measures_words(promised) if promised else '–'}"
        )
        assert row in text


def test_the_verdict_is_three_sentences_that_the_documents_bear_out(finished: Store, facts: dict):
    asked, reached, why = facts["verdict"]
    last = finished.cycles("demo")[-1]
    assert "6 target structures" in asked
    assert "from 6 labelled structures (reference: EMT)" in asked
    assert f"the energy error is {last['metrics']['target']['energy_rmse']['mean']:.2f} meV/atom" in reached
    assert finished.campaign("demo")["reason"] in why
    by_element = [o["element"] for o in queries.outliers(finished, "demo")]
    for element in set(by_element):
        assert f"{by_element.count(element)} {element}" in why
    text = text_of(page(facts))
    assert all(sentence in text for sentence in facts["verdict"])


def test_a_verdict_without_labels_outliers_or_end():
    cycle = {"n_outliers": 2, "n_surrogates": 0, "energy_rmse": None}
    facts = {
        "cycles": [cycle, {**cycle, "n_outliers": 0, "n_surrogates": 1}],
        "targets": [{"n_atoms": 2}, {"n_atoms": 4}],
        "n_train": 3,
        "level": {"calculator": "ase.calculators.emt.EMT"},
        "n_outliers": [2, 0],
        "outliers": [],
        "reason": "",
        "composition_gap": ["composition gap", "no composition gap: closed"],
    }
    assert verdict(facts) == [
        "Asked was a potential for 2 target structures of 2 to 4 atoms from 3 labelled structures (reference: EMT); "
        "with these alone 2 target atoms lie outside what it has learned.",
        "With 1 surrogate structure, 0 of the 2 are left.",
        "It is still running; no atom of the target is outside the trained range.",
    ]
    errors = {"energy_rmse": 2.0, "energy_bias": -1.0, "energy_scatter": 1.5}
    facts["cycles"] = [
        {**cycle, **errors, "force_rmse": force} for cycle, force in zip(facts["cycles"], (0.1, 0.2), strict=True)
    ]
    assert "the force error 0.2000 eV/Å (worse than at first: 0.1000)" in verdict(facts)[1]


def test_each_surrogate_has_a_card_with_picture_passport_and_ids(finished: Store, facts: dict):
    text = page(facts)
    rows = queries.surrogates(finished, "demo")
    assert text.count('<article class="card">') == len(rows)
    assert text.count('class="crystal"') == len(rows)
    for row in rows:
        assert f"kmde why {row['structure_id'][:8]}" in text
        assert html.escape(row["description"]) in text
        assert f"{row['rank'] + 1} of 400, score {row['score']:.4g}" in text


def test_failures_cost_settings_and_versions_are_there(finished: Store, facts: dict):
    text = text_of(page(facts))
    for failure in queries.failures(finished, "demo"):
        assert failure["reason"] in text
    assert "800 candidates were looked at, 4 were labelled" in text
    assert "0 of 4 labels and 0 of 6 models were there already" in text
    changed = {s["option"] for s in facts["settings"] if not s["default"]}
    assert {"training.max_closures", "design.candidates", "stop.max_surrogates"} <= changed
    assert "training.patience" not in changed
    assert finished.campaign("demo")["versions"]["torch"] in text
    assert facts["cost"]["total"] == pytest.approx(sum(c["seconds"] for c in finished.cycles("demo")))


def test_distributions_integrate_to_one_and_energies_are_the_evaluations(finished: Store, facts: dict):
    for channel in facts["channels"]:
        for name in ("target", "train", "extended"):
            widths = np.diff(channel[name]["edges"])
            total = float(np.sum(widths * channel[name]["values"]))
            assert total == pytest.approx(1.0) or total == 0.0
        assert len(channel["target"]["values"]) <= 210
    evaluation = finished.get("evaluations", "demo/002")
    sizes = [t["n_atoms"] for t in facts["targets"]]
    assert np.allclose(np.array(facts["energies"]["after"]) * sizes, evaluation["rows"][0]["target_energies"])
    rmse = 1000 * np.sqrt(np.mean(np.subtract(facts["energies"]["after"], facts["energies"]["reference"]) ** 2))
    assert rmse == pytest.approx(evaluation["rows"][0]["target"]["energy_rmse"])


def test_json_is_all_that_the_page_says(capsys, monkeypatch, finished_launchpad: Path, facts: dict):
    monkeypatch.setattr("sys.argv", ["kmde", "report", "demo", "--json", "-l", str(finished_launchpad)])
    with pytest.raises(SystemExit):
        main()
    record = json.loads(capsys.readouterr().out)
    assert record["verdict"] == facts["verdict"]
    assert record["cycles"] == facts["cycles"]


def test_without_a_closed_cycle_there_is_nothing_to_report(store: Store):
    store.insert_campaign({"_id": "new", "config_hash": "x"})
    with pytest.raises(StoreError, match="nothing to report"):
        report_facts(store, "new")


def test_cures_are_said_in_words():
    outlier = {"element": "Pt", "exceeds": []}
    assert cure(outlier) == "any structure with Pt"
    outlier["exceeds"] = [
        {"function": "G2 Al eta=0.01 rs=0 rc=4", "value": 1.0, "low": 2.0, "high": 3.0},
        {"function": "G3 Al-Pt eta=0.1 zeta=4 lambda=1 rc=4", "value": 4.0, "low": 2.0, "high": 3.0},
    ]
    assert cure(outlier) == (
        "a structure where Pt has fewer or farther Al neighbours and more or nearer Al…Pt pairs around it than any so "
        "far"
    )


def test_charts_skip_missing_points_and_say_so_without_any():
    assert "no data: y" in chart([Series("a", [0, 1], [None, None])], "x", "y")
    svg = chart([Series("a", [0, 1, 2], [1.0, None, 3.0]), Series("b", [0], [0.0])], "x", "y", log=True)
    assert svg.count("<circle") == 2, "0 has no place on a logarithmic axis"


@pytest.mark.parametrize(
    ("species", "cell", "positions", "n"),
    [
        (["Fe"], [[0, 2, 2], [2, 0, 2], [2, 2, 0]], [[0, 0, 0]], 14),
        (["Fe"], [[-1.4, 1.4, 1.4], [1.4, -1.4, 1.4], [1.4, 1.4, -1.4]], [[0, 0, 0]], 9),
        (["Cu", "Au"], np.eye(3) * 3.0, [[0, 0, 0], [1.5, 1.5, 1.5]], 9),
    ],
)
def test_crystals_are_shown_as_in_textbooks(species, cell, positions, n):
    """fcc has 8 corners and 6 faces; bcc and CsCl 8 corners and a centre."""
    assert crystal(species, np.array(cell), np.array(positions), "x").count('class="atom"') == n


LOOK = """<script>addEventListener('load', () => {
  document.querySelectorAll('details').forEach(d => d.open = true);
  const found = {width: innerWidth, overflow: document.documentElement.scrollWidth - innerWidth, cut: [], overlap: [],
                 empty: 0, faint: [], charts: 0};
  const lum = c => { const v = c.match(/[0-9.]+/g).slice(0, 3).map(x => { x /= 255;
    return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4 });
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2] };
  const ground = e => { for (; e; e = e.parentElement) { const b = getComputedStyle(e).backgroundColor;
    if (b !== 'rgba(0, 0, 0, 0)') return b } return 'rgb(255, 255, 255)' };
  document.querySelectorAll('.chart svg').forEach(svg => {
    found.charts += 1;
    const box = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll('text')];
    const boxes = texts.map(t => t.getBoundingClientRect());
    boxes.forEach((b, i) => {
      if (b.left < box.left - 1 || b.right > box.right + 1 || b.bottom > box.bottom + 1 || b.top < box.top - 1)
        found.cut.push(texts[i].textContent);
      boxes.slice(i + 1).forEach((c, j) => {
        if (b.left < c.right - 1 && c.left < b.right - 1 && b.top < c.bottom - 1 && c.top < b.bottom - 1)
          found.overlap.push(texts[i].textContent + ' / ' + texts[i + 1 + j].textContent);
      });
    });
    const drawn = [...svg.querySelectorAll('circle, path:not(.axis)')].some(e => e.getBoundingClientRect().width > 0);
    if (!drawn) found.empty += 1;
  });
  document.querySelectorAll('p, td, th, dd, dt, h1, h2, h3, h4, a, summary, .tile span, .cell, text').forEach(e => {
    const style = getComputedStyle(e), colour = e.tagName === 'text' ? style.fill : style.color;
    const a = lum(colour), b = lum(ground(e)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.faint.push(e.textContent.slice(0, 30) + ' ' + ratio.toFixed(1));
  });
  parent.postMessage(JSON.stringify(found), '*');
});</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(("width", "scheme"), [(1280, 1), (1280, 0), (390, 1), (390, 0)])
def test_nothing_is_cut_overlaps_is_empty_or_faint_in_a_browser(facts: dict, tmp_path: Path, width: int, scheme: int):
    """scheme: Chromium's number of the preferred colour scheme, 0 dark, 1 light."""
    (tmp_path / "report.html").write_text(page(facts).replace("</body>", LOOK))
    file = tmp_path / "frame.html"  # a window of Chromium's own is never narrower than 500 pixels
    file.write_text(
        "<script>addEventListener('message', e => document.title = e.data)</script>"
        f'<iframe src="report.html" style="border:0;width:{width}px;height:3000px"></iframe>'
    )
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,3000"]
    command += [f"--user-data-dir={tmp_path / 'chromium'}", f"--blink-settings=preferredColorScheme={scheme}"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=10000", "--dump-dom", str(file)], capture_output=True, text=True, timeout=120
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, flags=re.S)
    assert title is not None, done.stderr[-1000:]
    found = json.loads(html.unescape(title[1]))
    assert found["width"] == width
    assert found["charts"] > 8
    assert found["overflow"] <= 0, found
    assert (found["cut"], found["overlap"], found["empty"], found["faint"]) == ([], [], 0, []), found
