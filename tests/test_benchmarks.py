"""The frame of the benchmarks: what `benchmarks/run.py` makes of scripts that do, fail, or miss a peer."""

import importlib.util
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def frame(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("benchmarks_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
