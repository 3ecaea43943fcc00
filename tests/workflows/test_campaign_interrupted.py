"""Workers and `kmde run` killed in the middle: nothing goes on unseen, and the next `kmde run` goes on from there."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

from campaigns import BIN, call, write_campaign
from waiting import until


def test_workers_end_with_kmde_run_and_the_next_run_goes_on(kmde, launchpad_file, store, tmp_path):
    file = write_campaign(tmp_path / "c", training={"seeds": [0], "max_closures": 20_000, "patience": 20_000})
    words = [str(BIN / "kmde"), "run", str(file), "-l", str(launchpad_file), "--directory", str(tmp_path / "run")]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: any("Train" in step["message"] for step in store.progress("cu_au")))
    process.terminate()
    assert process.wait(timeout=40) == 128 + signal.SIGTERM
    until(lambda: not workers_of(tmp_path / "run"))
    assert store.database["fireworks"].count_documents({"state": "RUNNING"}) == 0
    status = json.loads(kmde("status", "cu_au", "-l", launchpad_file, "--json")[1])
    assert {f["reason"] for f in status["fizzled"]} == {"SystemExit: interrupted: stopped by signal 15 (SIGTERM)"}

    # kill -9 leaves nobody to tell the workers, and a killed worker leaves its firework RUNNING
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: any("Train" in step["message"] for step in store.progress("cu_au")))
    process.kill()
    process.wait()
    until(lambda: not workers_of(tmp_path / "run"))


def test_what_a_worker_killed_in_the_act_leaves_is_cleared_away(launchpad_file, store, tmp_path):
    """FireWorks had written the next cycle's fireworks, and neither their workflow nor the end of Advance."""
    file = write_campaign(tmp_path / "c", training={"seeds": [0], "max_closures": 3}, stop={"max_surrogates": 1})
    words = ("kmde", "run", file, "-l", launchpad_file, "--directory", tmp_path / "run")
    assert call(*words, cwd=tmp_path).returncode == 0
    fireworks, workflows, launches = (store.database[name] for name in ("fireworks", "workflows", "launches"))
    late = {fw["fw_id"] for fw in fireworks.find({"spec.kmde.cycle": 1})}
    (workflow,) = workflows.find()
    links = {
        key: [c for c in value if c not in late] for key, value in workflow["links"].items() if int(key) not in late
    }
    advance = fireworks.find_one({"spec.kmde.cycle": 0, "spec.kmde.step": "Advance"})
    finish = fireworks.find_one({"spec.kmde.step": "Finish"})
    links[str(advance["fw_id"])] = [finish["fw_id"]]
    parents = {
        key: [c for c in value if c not in late]
        for key, value in workflow["parent_links"].items()
        if int(key) not in late
    }
    parents[str(finish["fw_id"])] = [advance["fw_id"]]
    nodes = [n for n in workflow["nodes"] if n not in late]
    states = {key: value for key, value in workflow["fw_states"].items() if int(key) not in late}
    states.update({str(advance["fw_id"]): "RUNNING", str(finish["fw_id"]): "WAITING"})
    changed = {"links": links, "parent_links": parents, "nodes": nodes, "fw_states": states, "state": "RUNNING"}
    workflows.update_one({"_id": workflow["_id"]}, {"$set": {**changed, "locked": True}})
    fireworks.update_many({"fw_id": {"$in": list(late)}}, {"$set": {"state": "READY"}})
    fireworks.update_one({"_id": finish["_id"]}, {"$set": {"state": "WAITING", "launches": []}})
    fireworks.update_one({"_id": advance["_id"]}, {"$set": {"state": "RUNNING"}})
    # a process number that no process has any more
    worker = f"kmde {socket.gethostname()} {2**22 + 1}"
    launches.update_many(
        {"launch_id": {"$in": advance["launches"]}}, {"$set": {"state": "RUNNING", "fworker.name": worker}}
    )
    store.set_campaign_state("cu_au", "running", "")

    again = call(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "ready again: cu_au 000 Advance" in again.stdout
    assert store.campaign("cu_au")["state"] == "finished"
    assert {fw["state"] for fw in fireworks.find()} == {"COMPLETED"}
    assert not late & {fw["fw_id"] for fw in fireworks.find()}, "the orphans are gone, others have taken their place"


def test_children_that_were_never_told_of_their_parent_go_on(launchpad_file, store, tmp_path):
    """Evaluate was written as done, and its worker killed before its workflow and Advance heard of it."""
    file = write_campaign(tmp_path / "c", training={"seeds": [0], "max_closures": 3}, stop={"max_surrogates": 0})
    words = ("kmde", "run", file, "-l", launchpad_file, "--directory", tmp_path / "run")
    assert call(*words, cwd=tmp_path).returncode == 0
    fireworks, workflows = store.database["fireworks"], store.database["workflows"]
    steps = {fw["spec"]["kmde"]["step"]: fw["fw_id"] for fw in fireworks.find()}
    states = {f"fw_states.{steps['Evaluate']}": "RUNNING"}
    states |= {f"fw_states.{steps[step]}": "WAITING" for step in ("Advance", "Finish")}
    workflows.update_one({"nodes": steps["Evaluate"]}, {"$set": {**states, "state": "RUNNING"}})
    waiting = [steps["Advance"], steps["Finish"]]
    fireworks.update_many({"fw_id": {"$in": waiting}}, {"$set": {"state": "WAITING", "launches": []}})
    store.set_campaign_state("cu_au", "running", "")

    again = call(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert store.campaign("cu_au")["state"] == "finished"
    assert {fw["state"] for fw in fireworks.find()} == {"COMPLETED"}


def workers_of(directory: Path) -> list[str]:
    """Command lines of the workers that launch in a directory."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if f"--directory {directory}" in line and " work " in line]
