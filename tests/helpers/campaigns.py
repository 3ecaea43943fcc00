"""Small Cu-Au campaigns: written, run by real processes or in this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from kmde_fw.cli.work import launch_all
from kmde_fw.store import Store
from kmde_fw.workflows.launchpad import launchpad_of
from kmde_fw.workflows.prepare import prepare
from kmde_fw.workflows.start import submit

CU_AU = Path(__file__).parents[2] / "fw_specs" / "cu_au"
BIN = Path(sys.executable).parent


def write_campaign(folder: Path, **changes: Any) -> Path:
    """A copy of the Cu-Au campaign, smaller, with changes laid over its sections."""
    shutil.copytree(CU_AU, folder, dirs_exist_ok=True)
    data = yaml.safe_load((CU_AU / "campaign.yaml").read_text())
    data["training"] = {"max_closures": 30, "seeds": [0, 1]}
    data["network"] = {"hidden": [8]}
    data["design"].update(candidates=400, picks_per_cycle=1)
    data["stop"]["max_surrogates"] = 2
    data["evaluate"] = {"again": ["target.extxyz"]}
    data["dopant"] = "Cu"
    for key, value in changes.items():
        data[key] = {**data[key], **value} if isinstance(value, dict) and isinstance(data.get(key), dict) else value
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def call(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command of this environment."""
    command = [str(BIN / str(words[0])), *map(str, words[1:])]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=240, env={**os.environ, "NO_COLOR": "1"}
    )


def picks(store: Store, name: str = "cu_au") -> list[str]:
    """Structure ids of the picks, cycle by cycle."""
    return [
        c["structure_id"] for s in store.find("selections", {"campaign": name}) for slot in s["slots"] for c in slot[:1]
    ]


def write_quick(folder: Path, name: str, **changes: Any) -> Path:
    """As `write_campaign` in a folder of the campaign's name, with one hasty model per cycle."""
    return write_campaign(folder / name, name=name, training={"seeds": [0], "max_closures": 3}, **changes)


def launch(file: Path, launchpad: Path) -> None:
    """A campaign from start to end, in this process; its launch directories are beside its file."""
    prepared = prepare(file)
    with launchpad_of(launchpad) as pad:
        submit(pad, prepared)
        launch_all(pad, [prepared.settings.name], file.parent)
