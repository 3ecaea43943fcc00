"""Steps for tests of the launcher, imported by real rockets: they say that they run and then take their time."""

import os
import signal
import subprocess
import time
from pathlib import Path

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
