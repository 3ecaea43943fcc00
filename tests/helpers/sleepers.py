"""Steps for tests of the launcher, imported by real rockets: they say that they run and then take their time.

With what queues them and asks for their state, for the tests themselves.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

from fireworks import Firework, LaunchPad, Workflow
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.firetasks.base import KmdeTask


@explicit_serialize
class Sleep(KmdeTask):
    """Start a process in a session of its own, say so, wait. how: sleep, deaf (to signals), fail, quick."""

    required_params = ["how"]  # noqa: RUF012

    def work(self, store, fw_spec):
        """See the class."""
        if self["how"] == "fail":
            raise ValueError("two and two is five")
        if self["how"] == "quick":
            Path("done").touch()
            return
        child = subprocess.Popen(["sleep", "300"], start_new_session=True)
        if self["how"] == "deaf":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
        try:
            Path("runs.tmp").write_text(f"{os.getpid()} {child.pid}")
            Path("runs.tmp").rename("runs")
            time.sleep(300)
        finally:
            child.kill()
            child.wait()


def add_sleeper(pad: LaunchPad, how: str, category: str = "kmde_cpu") -> int:
    """Queue one firework of campaign `nap`. Returns its id."""
    spec = {
        "_tasks": [{"_fw_name": "{{sleepers.Sleep}}", "how": how}],
        "_category": category,
        "_add_launchpad_and_fw_id": True,
        "kmde": {"campaign": "nap", "cycle": 0, "step": "Sleep"},
    }
    firework = {"fw_id": -1, "name": f"nap {how}", "spec": spec, "created_on": "2026-01-01T00:00:00"}
    pad.add_wf(Workflow([Firework.from_dict(firework)], metadata={"campaign": "nap"}))
    return int(pad.fireworks.find_one({}, sort=[("fw_id", -1)])["fw_id"])


def state(pad: LaunchPad, fw_id: int) -> str:
    """Of a firework, in FireWorks' words."""
    return str(pad.fireworks.find_one({"fw_id": fw_id}, {"state": 1})["state"])
