"""Put a campaign on the LaunchPad: by `kmde submit`, or by a StartCampaign firework that `lpad add` brought in."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, ClassVar

from fireworks import FWAction, LaunchPad, Workflow
from fireworks.utilities.fw_utilities import explicit_serialize

from kmde_fw.config import find_upwards
from kmde_fw.firetasks.base import CPU, KmdeTask
from kmde_fw.store import Store
from kmde_fw.workflows.cycle import campaign_workflow, cycle_fireworks, may_spawn
from kmde_fw.workflows.prepare import Prepared, prepare
from kmde_fw.workflows.register import register


def submit(launchpad: LaunchPad, prepared: Prepared) -> bool:
    """Register the campaign and add its workflow. False, and nothing is added, if it is on the LaunchPad already."""
    store = Store(launchpad.db)
    register(store, prepared)
    name = prepared.settings.name
    if not may_spawn(store, launchpad, name, 0, owner=f"submit {socket.gethostname()} {os.getpid()}"):
        return False
    launchpad.add_wf(campaign_workflow(store.campaign(name)))
    return True


@explicit_serialize
class StartCampaign(KmdeTask):
    """Read a campaign file where the rocket runs, register the campaign, spawn its cycle 0.

    campaign_file: absolute, or looked for in the launch directory and in each folder above it.
    """

    required_params: ClassVar = ["campaign_file"]

    def work(self, store: Store, fw_spec: dict[str, Any]) -> FWAction | None:
        """Load the files, register them, spawn."""
        prepared = prepare(find_upwards(Path(self["campaign_file"]), Path.cwd()))
        register(store, prepared)
        name = prepared.settings.name
        if not may_spawn(store, self.launchpad, name, 0, owner=f"firework {self.fw_id}"):
            return FWAction(stored_data={"note": f"campaign {name} is already on the LaunchPad; nothing was added"})
        return FWAction(detours=Workflow(cycle_fireworks(store.campaign(name), 0), name=f"{name} 000"))


def workflow_yaml(name: str, campaign_file: Path) -> str:
    """A workflow for `lpad add` that starts the campaign `name` from its file."""
    return f"""# Queue with: lpad -l launchpad.yaml add THIS_FILE    Work off with: rlaunch -l launchpad.yaml rapidfire
name: {name}
metadata:
  campaign: {name}
fws:
  - fw_id: -1
    name: {name} start
    spec:
      _category: {CPU}
      _add_launchpad_and_fw_id: true
      kmde: {{campaign: {name}, step: StartCampaign}}
      _tasks:
        - _fw_name: "{{{{kmde_fw.workflows.start.StartCampaign}}}}"
          # absolute, or looked for in the launch directory and in each folder above it
          campaign_file: {campaign_file}
  - fw_id: -2
    name: {name} finish
    spec:
      _category: {CPU}
      _add_launchpad_and_fw_id: true
      kmde: {{campaign: {name}, step: Finish}}
      _tasks:
        - _fw_name: "{{{{kmde_fw.workflows.cycle.Finish}}}}"
          campaign: {name}
          cycle: 0
# each cycle is inserted between the two while the campaign runs
links:
  "-1": [-2]
"""
