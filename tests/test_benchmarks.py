"""What `benchmarks/run.py` makes of scripts that do, fail, or miss a peer; and the benchmarks at small size."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_small(monkeypatch, capsys):
    """The object that a benchmark prints when some of its constants are others."""
    threads, environment = torch.get_num_threads(), dict(os.environ)

    def run(name, **constants):
        monkeypatch.syspath_prepend(FOLDER)
        monkeypatch.setattr(sys, "argv", [name, "--json"])
        module = load(name)
        for constant, value in constants.items():
            assert hasattr(module, constant)
            monkeypatch.setattr(module, constant, value)
        module.main()
        result = json.loads(capsys.readouterr().out)
        assert {"row", "ours_seconds", "peers", "ratios", "goal", "reached", "versions"} <= set(result)
        assert result["ours_seconds"] > 0
        return result

    yield run
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def frame(tmp_path, monkeypatch):
    module = load("run")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "RESULTS.md")
    return module


def script(folder, name, body):
    (folder / f"{name}.py").write_text(f'{body}\nif __name__ == "__main__":\n    pass\n')


def test_every_script_is_a_row_whatever_it_prints(frame, tmp_path, capsys):
    result = {
        "row": "fast | thing",
        "ours_seconds": 0.0021,
        "peers": {"slowlib": 0.63, "other": None},
        "ratios": {"slowlib": 300.0, "other": None},
        "goal": "≥ 300 times",
        "reached": True,
        "versions": {"slowlib": "1.2"},
        "sizes": [{"atoms": 10, "seconds": {"all": 0.25}}, {"atoms": 20, "peak": 3}],
        "exponent": 1.03456,
    }
    script(tmp_path, "good", f"print('a library says hello'); print({json.dumps(json.dumps(result, indent=2))})")
    script(tmp_path, "bare", "print('{}')")
    script(tmp_path, "peerless", "import no_such_peer.part")
    script(tmp_path, "silent", "")
    script(tmp_path, "wrong", "raise AssertionError('the optimum differs')")
    (tmp_path / "helper.py").write_text("raise SystemExit('not a benchmark')\n")
    assert frame.main() == 1
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| fast \\| thing | `good.py` | 2.1 ms | slowlib 630 ms<br>other – | 300<br>– | ≥ 300 times | yes |" in text
    assert "| bare | `bare.py` | – | – | – | – | – |" in text
    assert "not measured: no_such_peer is not installed" in text
    assert "failed: it printed no JSON object" in text
    assert "failed: AssertionError: the optimum differs" in text
    assert "helper" not in text
    assert "- exponent: 1.035" in text
    assert "| atoms | seconds all | peak |" in text
    assert "| 20 | – | 3 |" in text
    assert "slowlib 1.2" in text
    assert "wrong: failed: AssertionError" in capsys.readouterr().out


def test_a_missing_peer_is_no_failure(frame, tmp_path):
    script(tmp_path, "peerless", "import no_such_peer")
    assert frame.main() == 0


def test_a_script_that_hangs_is_stopped(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(frame, "LIMIT", 0.3)
    script(tmp_path, "endless", "import time; time.sleep(30)")
    assert frame.run(tmp_path / "endless.py") == {"problem": "failed: not finished after 0.3 s"}


def test_every_script_of_the_folder_says_what_it_measures():
    for path in sorted(FOLDER.glob("*.py")):
        assert path.read_text("utf-8").startswith('"""'), path.name


def test_symmetry_functions(run_small):
    """Raises if a value differs from dscribe's."""
    small, large = run_small("symmetry_functions", STRUCTURES=1, REPEATS=1)["sizes"]
    assert (small["atoms"], large["atoms"]) == (102, 204)
    # work is counted: twice the atoms, about twice the work
    for what in ("pairs", "triplets", "derivatives_bytes"):
        assert 1.9 < large[what] / small[what] < 2.1


def test_prediction(run_small):
    pytest.importorskip("torchani")
    result = run_small("prediction", STRUCTURES=1, REPEATS=1)
    assert result["sizes"][1]["pairs"] == pytest.approx(2 * result["sizes"][0]["pairs"], rel=0.05)


def test_training(run_small):
    """Raises if loss or gradient differ from those by autograd through the geometry by more than 1e-10."""
    result = run_small("training", STRUCTURES=2, SIZES=(5, 10), REPEATS=1)
    assert 0 < result["largest_relative_difference_of_gradients"] < 1e-10
    assert [size["structures"] for size in result["sizes"]] == [5, 10]


def test_scoring(run_small):
    """Raises if a score differs from those with the neighbour lists of ASE and matscipy."""
    pytest.importorskip("matscipy")
    result = run_small("scoring", SAMPLE=20)
    assert set(result["ratios"]) == {"ase + numpy", "matscipy + numpy"}


def test_questions_are_answered_by_indexes(run_small):
    result = run_small("questions", CAMPAIGNS=3, CYCLES=2, EVERY=2, CANDIDATES=300, KEEP=50)
    assert result["scans"] == []
    assert set(result["seconds"]) >= {"why STRUCTURE", "candidates", "failures", "diff", "report"}
    assert result["documents"]["campaigns"] == 4
    size = result["bytes_of_a_candidate"]
    assert 5 < size["in_columns"] < 100 < size["as_document"] < 2000


def test_md(run_small):
    result = run_small("md", STEPS=30, CLOSURES=20, REPEAT=(1, 1, 1))
    assert result["reached"] in (True, False)
    assert result["sizes"][0]["engine"] == "ase"
    assert all(row["steps"] == 30 and row["ms_per_step"] > 0 for row in result["sizes"])
