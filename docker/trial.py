#!/usr/bin/env python3
"""Campaigns with the stand-in VASP, from start to end by lpad and rlaunch processes: does the right thing come out?

    python docker/trial.py same      # Al-Fe-Pt with engine vasp and with the calculator behind the stand-in: the same?
    python docker/trial.py faults    # Cu-Au, once for each fault of the stand-in: corrected and recorded, or refused?
    python docker/trial.py failing   # Cu-Au, 30 % of its labels fail at random: does it end and name what stays open?

Each works in a temporary folder with an embedded server of its own, and writes what came out into
results/vasp_stand_in/. It ends with 1 where something is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kmde_fw.report.cycles import cycle_rows, open_slots, refusals
from kmde_fw.store import Store, read_launchpad, server
from kmde_fw.workflows.launchpad import ensure_initialised, open_launchpad
from kmde_fw.workflows.start import workflow_yaml

ROOT = Path(__file__).resolve().parents[1]
SPECS = ROOT / "fw_specs"
RESULTS = ROOT / "results" / "vasp_stand_in"
BIN = Path(sys.executable).parent
#: vasprun.xml has eight decimals
PRINTED = 1e-8
#: forces and stresses of a potential in single precision, eV/Å and eV/Å³
SINGLE = 2e-6

Outcome = dict[str, Any]


class Place:
    """A folder with a server, made-up POTCARs, and a worker whose VASP is the stand-in."""

    def __init__(self, folder: Path, host: str) -> None:
        self.folder = folder
        self.host = host
        make = [sys.executable, ROOT / "docker" / "make_potcars.py", folder / "potcars", "Al", "Fe_pv", "Pt"]
        subprocess.run([*make, "Cu_pv", "Au"], check=True, stdout=subprocess.DEVNULL)
        self.worker = folder / "my_fworker.yaml"
        env = {"vasp_cmd": f"{sys.executable} {ROOT / 'docker' / 'vasp'}", "scratch": str(folder / "scratch")}
        self.worker.write_text(yaml.safe_dump({"name": "here", "category": "", "query": "{}", "env": env}))

    def run(
        self, name: str, campaigns: Sequence[Mapping[str, Any]], data: Path, standin: Mapping[str, str], rockets: int
    ) -> Store:
        """Run campaigns beside their data in a database called `name`: lpad add, then rlaunch processes. Its store."""
        folder = self.folder / name
        shutil.copytree(data, folder)
        flows = []
        for campaign in campaigns:
            path = folder / f"{campaign['name']}.yaml"
            path.write_text(yaml.safe_dump(dict(campaign)))
            flows.append(folder / f"{campaign['name']}_workflow.yaml")
            flows[-1].write_text(workflow_yaml(campaign["name"], path))
        launchpad = folder / "launchpad.yaml"
        launchpad.write_text(yaml.safe_dump({"host": self.host, "name": name, "uri_mode": True, "strm_lvl": "ERROR"}))
        pad = open_launchpad(read_launchpad(launchpad))
        ensure_initialised(pad)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("KMDE_", "SLURM_"))},
            "PMG_VASP_PSP_DIR": str(self.folder / "potcars"), "OMP_NUM_THREADS": "1", **standin,
        }  # fmt: skip
        flags = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL}
        subprocess.run([BIN / "lpad", "-l", launchpad, "add", *flows], check=True, **flags)
        words = [BIN / "rlaunch", "-l", launchpad, "-w", self.worker, "rapidfire", "--sleep", "2"]
        processes = [subprocess.Popen(words, **flags) for _ in range(rockets)]
        for process in processes:
            process.wait()
        return Store(pad.db)


@contextmanager
def place() -> Iterator[Place]:
    """A `Place` that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="kmde-trial-") as temporary:
        folder = Path(temporary)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        process, _ = server.start(folder / "db", "127.0.0.1", port)
        try:
            yield Place(folder, f"mongodb://{process.address}/?{server.URI_OPTIONS}")
        finally:
            server.stop(folder / "db")


def surrogates(store: Store, campaign: str) -> list[dict[str, Any]]:
    """The labels that a campaign chose, in order, with the outcomes that say where."""
    found = store.outcomes(campaign, 10**6)
    return [{"at": o["_id"], **store.get("labels", o["label_id"])} for o in found if o["label_id"] is not None]


def same(options: argparse.Namespace) -> tuple[Outcome, bool]:
    """The same campaign by both engines: picks, energies, forces, stresses, and what was learned from them."""
    by_vasp = yaml.safe_load((SPECS / "al_fe_pt" / "campaign_vasp.yaml").read_text())
    demo = yaml.safe_load((SPECS / "al_fe_pt" / "campaign.yaml").read_text())
    by_vasp |= {"stop": demo["stop"], "reference": {**by_vasp["reference"], "scratch": ">>scratch<<"}}
    # vasp knows no range of scales outside which nothing is labelled
    by_ase = {**by_vasp, "reference": {**demo["reference"], "domain": {"min_bond": 0.85}}}
    name, data, standin = by_vasp["name"], SPECS / "al_fe_pt", {"KMDE_STANDIN_CALCULATOR": "sevennet"}
    started = time.monotonic()
    with place() as here:
        ase = here.run("by_ase", [by_ase], data, standin, options.rockets)
        vasp = here.run("by_vasp", [by_vasp], data, standin, options.rockets)
        first, second = surrogates(ase, name), surrogates(vasp, name)
        rows = [
            {
                "pick": a["at"],
                "formula": ase.get_structures([a["structure_id"]])[0].formula,
                "same_structure": a["structure_id"] == v["structure_id"],
                "energy": a["energy"],
                "energy_difference": abs(a["energy"] - v["energy"]),
                "force_difference": _largest(a["forces"], v["forces"]),
                "stress_difference": _largest(a["stress"], v["stress"]),
            }
            for a, v in zip(first, second, strict=False)
        ]
        cycles = [
            {
                "cycle": a["cycle"],
                "outliers": [a["n_outliers"], v["n_outliers"]],
                **{key: [a[key], v[key]] for key in ("energy_rmse", "force_rmse", "decision")},
            }
            for a, v in zip(cycle_rows(ase, name), cycle_rows(vasp, name), strict=False)
        ]
        ends = [store.campaign(name) for store in (ase, vasp)]
    minutes = (time.monotonic() - started) / 60
    outcome = {"minutes": minutes, "ended": [end["reason"] for end in ends], "picks": rows, "cycles": cycles}
    finished = [end["state"] for end in ends] == ["finished", "finished"]
    return outcome, finished and len(first) == len(second) and judge_same(outcome)


def judge_same(outcome: Outcome) -> bool:
    """Whether both campaigns chose and learned the same, and ended for the same reason, whatever its numbers."""
    first, second = (re.sub(r"[-+.\de]*\d", "#", reason) for reason in outcome["ended"])
    return (
        first == second
        and bool(outcome["picks"])
        and all(r["same_structure"] for r in outcome["picks"])
        # the potential calculates in single precision: in POSCAR's order of atoms its last digit may be another
        and all(r["energy_difference"] <= PRINTED + np.spacing(np.float32(abs(r["energy"]))) for r in outcome["picks"])
        and all(r["force_difference"] <= SINGLE and r["stress_difference"] <= SINGLE for r in outcome["picks"])
        and all(c["outliers"][0] == c["outliers"][1] for c in outcome["cycles"])
    )


def _largest(first: Any, second: Any) -> float:
    a, b = np.array(first), np.array(second)
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")


#: fault, changes of the reference section, how its label must end, a part of the reason or what was corrected
FAULTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("edddav", {}, "accepted", "edddav"),
    ("edddav:always", {}, "accepted", "edddav"),
    ("brmix", {}, "accepted", "brmix"),
    ("brmix:always", {}, "failed", "given up after 5 corrections (brmix)"),
    ("subspace", {}, "failed", "knows no correction for: subspacematrix"),
    ("subspace", {"incar": {"LREAL": "Auto"}}, "rejected", "LREAL Auto → False"),
    ("subspace", {"incar": {"LREAL": "Auto"}, "allow_changes": ["LREAL"]}, "accepted", "subspacematrix"),
    ("zbrent", {}, "rejected", "EDIFF 1e-05 → 1e-06"),
    ("zbrent", {"allow_changes": ["EDIFF"]}, "accepted", "zbrent"),
    ("tet", {"incar": {"ISMEAR": -5}}, "rejected", "ISMEAR -5 → 0"),
    ("tet", {"incar": {"ISMEAR": -5}, "allow_changes": ["ISMEAR", "SIGMA"]}, "accepted", "tet"),
    ("unconverged", {}, "accepted", "Unconverged"),
    ("unconverged:2", {}, "accepted", "Unconverged, Unconverged"),
    ("unconverged:always", {}, "failed", "given up after 5 corrections (Unconverged)"),
    ("unconverged:always", {"handlers": {}}, "rejected", "electronic steps did not suffice"),
    ("early:always", {}, "rejected", "the last of 5 steps changed the energy by 2 eV"),
    ("hang", {"incar": {"ALGO": "Fast"}, "handlers": {"FrozenJobErrorHandler": {"timeout": 3}}}, "accepted", "Frozen"),
    ("hang:always", {"handlers": {"FrozenJobErrorHandler": {"timeout": 3}}}, "failed", "Frozen job"),
    ("hang:always", {"handlers": {}, "walltime": 3, "walltime_reserve": 1}, "failed", "its wall time was over"),
    ("crash", {}, "failed", "VASP ended with exit code 134"),
    ("segfault", {}, "failed", "VASP ended with signal 11 (SIGSEGV)"),
    ("truncated", {}, "failed", "found no complete output"),
    ("stars", {}, "rejected", "not finite: forces"),
    ("moved", {}, "rejected", "has moved by"),
    ("ionic", {}, "rejected", "2 ionic steps"),
    ("slow", {"walltime": 3}, "failed", "its wall time was over"),
    ("slow", {"walltime": 100}, "accepted", ""),
    ("garbage", {}, "failed", "UnicodeDecodeError"),
    ("silent", {}, "failed", "found no complete output"),
]


def cu_au(reference: Mapping[str, Any], surrogates: int, **design: Any) -> dict[str, Any]:
    """A small Cu-Au campaign labelled by VASP. Its picks are not replaced, and it never gives up."""
    data = yaml.safe_load((SPECS / "cu_au" / "campaign.yaml").read_text())
    common = {"engine": "vasp", "poll": 0.2, "scratch": ">>scratch<<", "keep": "failed", "max_failed_fraction": 1}
    data["reference"] = {**common, "domain": {"min_bond": 0.8}, "potcars": {"Cu": "Cu_pv", "Au": "Au"}, **reference}
    data["network"] = {"hidden": [6]}
    data["training"] = {"max_closures": 15, "seeds": [0]}
    data["design"] = {"candidates": 300, "max_atoms": 12, "shards": 1, "replacements": 0, **design}
    data["stop"] = {"max_surrogates": surrogates, "rule": "budget"}
    return data


def trained_wrongly(store: Store, campaign: str) -> list[str]:
    """Labels in train sets that no accepted calculation gave, or that are not what EMT says of their structure."""
    from ase.calculators.emt import EMT

    own = {label["_id"]: label for label in surrogates(store, campaign)}
    given, *later = (set(cycle["train_labels"]) for cycle in store.cycles(campaign))
    used = set().union(*later) - given
    wrong = [key for key in used if key not in own or own[key]["state"] != "accepted"]
    for key in used - set(wrong):
        atoms = store.get_structures([own[key]["structure_id"]])[0].to_atoms()
        atoms.calc = EMT()
        if (
            abs(atoms.get_potential_energy() - own[key]["energy"]) > PRINTED
            or _largest(atoms.get_forces(), own[key]["forces"]) > PRINTED
        ):
            wrong.append(key)
    return wrong


def faults(options: argparse.Namespace) -> tuple[Outcome, bool]:
    """One campaign of one label for each fault, each at a level of its own, so that they share no label."""
    started, rows = time.monotonic(), []
    with place() as here:
        campaigns = []
        for number, (fault, reference, _, _) in enumerate(FAULTS):
            command = f"env KMDE_STANDIN_FAULT={fault} {sys.executable} {ROOT / 'docker' / 'vasp'}"
            incar = {**reference.get("incar", {}), "ENCUT": 500 + number}
            campaign = cu_au({**reference, "incar": incar, "vasp_cmd": command}, 1, picks_per_cycle=1)
            campaigns.append({**campaign, "name": f"fault_{number:02d}"})
        store = here.run("faults", campaigns, SPECS / "cu_au", {}, options.rockets)
        for campaign, (fault, reference, expected, word) in zip(campaigns, FAULTS, strict=True):
            end = store.campaign(campaign["name"])
            outcome = store.outcomes(campaign["name"], 10**6)[0]
            label = store.get("labels", outcome["label_id"] or outcome["refused"][0]["label_id"])
            corrected = ", ".join(e for c in label["corrections"] for e in c["errors"])
            wrong = trained_wrongly(store, campaign["name"])
            rows.append(
                {
                    "fault": fault,
                    "reference": reference,
                    "state": label["state"],
                    "reason": label["reason"],
                    "corrected": corrected,
                    "changed_tags": label["details"]["changed_tags"],
                    "campaign": f"{end['state']}: {end['reason']}",
                    "as_expected": end["state"] == "finished"
                    and label["state"] == expected
                    and word in (corrected if expected == "accepted" else label["reason"])
                    and not wrong,
                }
            )
        potcars = len(list((here.folder / "scratch").rglob("POTCAR*")))
    fine = all(row["as_expected"] for row in rows) and not potcars
    return {"minutes": (time.monotonic() - started) / 60, "potcars_left": potcars, "faults": rows}, fine


def failing(options: argparse.Namespace) -> tuple[Outcome, bool]:
    """30 % of the labels crash, first without reserves, then with them."""
    found, started = {}, time.monotonic()
    with place() as here:
        for name, replacements in (("without_reserves", 0), ("with_reserves", 3)):
            campaign = cu_au({}, 12, picks_per_cycle=3, replacements=replacements)
            fault = {"KMDE_STANDIN_FAULT": "crash:always@0.3"}
            store = here.run(name, [campaign], SPECS / "cu_au", fault, options.rockets)
            end = store.campaign("cu_au")
            found[name] = {
                "state": end["state"],
                "reason": end["reason"],
                "labels": len(surrogates(store, "cu_au")),
                "refused": [{k: row[k] for k in ("formula", "state", "reason")} for row in refusals(store, "cu_au")],
                "open": open_slots(store, "cu_au"),
                "trained_wrongly": len(trained_wrongly(store, "cu_au")),
                "slots_without_label": sum(o["label_id"] is None for o in store.outcomes("cu_au", 10**6)),
            }
    fine = all(
        f["state"] == "finished" and f["refused"] and not f["trained_wrongly"]
        and len(f["open"]) == f["slots_without_label"]
        for f in found.values()
    ) and bool(found["without_reserves"]["open"])  # fmt: skip
    return {"minutes": (time.monotonic() - started) / 60, **found}, fine


def page() -> str:
    """All outcomes that are there, for people."""
    found = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}
    lines = [
        "# Campaigns with the stand-in VASP",
        "",
        "By `lpad add` and `rlaunch rapidfire` from start to end; only the executable is not VASP (`docker/vasp`).",
    ]
    if "same" in found:
        cycles = found["same"]["cycles"]
        lines += [
            "",
            "## The same picks and energies as with the calculator behind it (`python docker/trial.py same`)",
            "",
            "The Al-Fe-Pt campaign with `engine: ase` and 7net-0, and with `engine: vasp` and 7net-0 behind the "
            "stand-in. vasprun.xml prints eight decimals; the potential calculates in single precision, whose last "
            "digit of such an energy is 3.05e-5 eV, and it may change with the order of the atoms, which POSCAR sorts. "
            "With EMT, which has double precision, it is 1e-8 (`tests/workflows/test_vasp_campaign.py`).",
            "",
            "| pick | surrogate | same structure | energy, eV | differs by | forces by, eV/Å |",
            "|---|---|---|---|---|---|",
        ]
        for k, row in enumerate(found["same"]["picks"], start=1):
            lines.append(
                f"| {k} | {row['formula']} | {'yes' if row['same_structure'] else 'NO'} | {row['energy']:.6f} | "
                f"{row['energy_difference']:.1e} | {row['force_difference']:.1e} |"
            )
        ends = [f"{cycles[-1]['energy_rmse'][k]:.2f}" for k in (0, 1)]
        lines += [
            "",
            f"Outliers by cycle: {', '.join(str(c['outliers'][0]) for c in cycles)}, and the same by VASP. A training "
            "of hundreds of steps makes more of a last digit: the energy RMSE at the end is "
            f"{ends[0]} and {ends[1]} meV/atom.",
        ]
    if "faults" in found:
        lines += [
            "",
            "## Faults (`python docker/trial.py faults`)",
            "",
            "One campaign of one label for each. `:2`, `:always`: how often it strikes; else once. Every accepted "
            "label was compared with the calculator, no other one is in a train set, and no POTCAR was left.",
            "",
            "| fault | with | label | why, or what was corrected | as expected |",
            "|---|---|---|---|---|",
        ]
        for row in found["faults"]["faults"]:
            settings = ", ".join(f"{k}: {v}" for k, v in row["reference"].items())
            tags = ", ".join(
                f"{tag} {'unset' if a is None else a} → {b}" for tag, (a, b) in row["changed_tags"].items()
            )
            corrected = row["corrected"] + (f" ({tags})" if tags else "")
            why = (row["reason"] or corrected or "–").replace("|", "/")
            expected = "yes" if row["as_expected"] else "NO"
            lines.append(f"| {row['fault']} | {settings or '–'} | {row['state']} | {why} | {expected} |")
    if "failing" in found:
        lines += ["", "## 30 % of the labels fail at random (`python docker/trial.py failing`)", ""]
        for name in ("without_reserves", "with_reserves"):
            row = found["failing"][name]
            lines.append(
                f"- {name.replace('_', ' ')}: {row['state']}: {row['reason']}. {row['labels']} labels, "
                f"{len(row['refused'])} refused, {row['slots_without_label']} picks without a label"
                + (", each named with what it leaves open:" if row["open"] else ".")
            )
            lines += [f"  - cycle {slot['cycle']}, slot {slot['slot']}: {slot['open']}" for slot in row["open"]]
    return "\n".join([*lines, ""])


def main() -> None:
    """Run what is asked for, write it, say whether it is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=("same", "faults", "failing"))
    parser.add_argument("--rockets", type=int, default=1, help="rlaunch processes at once")
    options = parser.parse_args()
    outcome, fine = {"same": same, "faults": faults, "failing": failing}[options.trial](options)
    RESULTS.mkdir(parents=True, exist_ok=True)
    outcome = {"as_expected": fine, "rockets": options.rockets, **outcome}
    path = RESULTS / f"{options.trial}.json"
    path.write_text(json.dumps(outcome, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / "README.md").write_text(page())
    print(f"{'as it should be' if fine else 'NOT as it should be'}: {path.relative_to(ROOT)}")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
