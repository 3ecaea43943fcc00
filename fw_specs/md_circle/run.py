"""A run of MD outside the domain on purpose, and the way back: data, campaign, hot and compressed run, `kmde from-md`,
campaign, the same run again. Writes results/md_circle/. On one core some ten minutes; it goes on where it stopped.

Force errors are against the reference of the labels (SevenNet), on frames of both runs, for both models.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from kmde_fw.config import AseReference, load_campaign
from kmde_fw.hdnnp import HdnnpCalculator
from kmde_fw.records import Structure
from kmde_fw.reference import make_engine
from kmde_fw.reference.domain import check_bonds
from kmde_fw.units import MIN_BOND

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "results" / "md_circle"
#: the run that leaves the domain: compressed by 3 % in each direction, and hot
RUN = ["--temperature", "600", "--strain", "-0.03", "--steps", "600", "--timestep", "1", "--every", "10"]
#: frames of a run that are labelled to measure errors
MEASURED = 20


def kmde(*words: object, may_fail: bool = False) -> str:
    """A kmde command of this environment; what it prints. may_fail: a run that explodes has files all the same."""
    command = [sys.executable, "-m", "kmde_fw", *map(str, words)]
    return subprocess.run(command, check=not may_fail, stdout=subprocess.PIPE, text=True).stdout


def errors(trajectory: Path, calculators: dict[str, Any], reference: Any) -> dict[str, Any]:
    """Force RMSE (eV/Å), energy RMSE and spread around the mean error (meV/atom), parts of atoms outside, on frames."""
    frames = [f for f in ase.io.read(trajectory, index=":") if not check_bonds(Structure.from_atoms(f), MIN_BOND)]
    chosen = [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, MEASURED).astype(int))]
    wanted = []
    for atoms in chosen:
        atoms.calc = reference
        wanted.append((atoms.get_potential_energy() / len(atoms), atoms.get_forces()))
    found = {}
    for name, calculator in calculators.items():
        energies, forces, outside = [], [], []
        for atoms, (energy, force) in zip(chosen, wanted, strict=True):
            atoms.calc = calculator
            energies.append(1000 * (atoms.get_potential_energy() / len(atoms) - energy))
            forces.append(atoms.get_forces() - force)
            outside.append(calculator.results["extrapolating"].mean())
        found[name] = {
            "frames": len(chosen),
            "force_rmse": float(np.sqrt(np.square(forces).mean())),
            "energy_rmse": float(np.sqrt(np.square(energies).mean())),
            "energy_scatter": float(np.std(energies)),
            "atoms_outside": float(np.mean(outside)),
        }
    return found


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".kmde/md_circle"), help="folder of the data and runs")
    parser.add_argument(
        "--launchpad", type=Path, required=True, help="launchpad.yaml; its database keeps the campaigns"
    )
    parser.add_argument("--engine", default="ase", help="ase or lammps")
    arguments = parser.parse_args()
    work, database = arguments.work.resolve(), ["-l", arguments.launchpad]
    data = work / "data"
    data.mkdir(parents=True, exist_ok=True)
    kmde("make-data", HERE / "recipe.yaml", "-o", data)
    (data / "md_circle.yaml").write_text((HERE / "md_circle.yaml").read_text())
    kmde("run", data / "md_circle.yaml", *database, "--workers", 1, "--directory", work / "runs")

    def run(model: str, folder: Path) -> None:
        if not (folder / "domain.json").exists():
            start = work / "start.extxyz"
            ase.io.write(start, ase.io.read(data / "target.extxyz", index=0))
            words = ["--model", model, *database, "--engine", arguments.engine, *RUN, "-o", folder]
            print(kmde("md", start, *words, may_fail=True))

    run("md_circle", work / "before")
    back = work / "back"
    if not back.exists():
        words = ["--model", "md_circle", *database, "-o", back, "--name", "md_circle_hot", "--labels", 6]
        print(kmde("from-md", work / "before" / "trajectory.extxyz", *words))
    kmde("run", back / "campaign.yaml", *database, "--workers", 1, "--directory", work / "runs")
    run("md_circle_hot", work / "after")

    settings = load_campaign(data / "md_circle.yaml").reference
    assert isinstance(settings, AseReference)
    reference: Any = make_engine(settings, ("Al", "Fe", "Pt"))
    calculators = {}
    for name in ("md_circle", "md_circle_hot"):
        kmde("export", name, *database, "--format", "ase", "-o", work / name)
        calculators[name] = HdnnpCalculator(work / name)
    outcome: dict[str, Any] = {"run": RUN}
    for name, folder in (("before", "before"), ("after", "after")):
        report = json.loads((work / folder / "domain.json").read_text())
        domain = report["domain"]
        outcome[name] = {
            **{key: domain[key] for key in ("structures", "structures_outside", "atoms", "atoms_outside", "first")},
            "motifs": len(domain["motifs"]),
            "ms_per_step": report["ms_per_step"],
            "errors": errors(work / folder / "trajectory.extxyz", calculators, reference.calculator),
        }
    cycles = json.loads(kmde("status", "md_circle_hot", *database, "--json"))["cycles"]
    outcome["labels"] = cycles[-1]["n_surrogates"]
    outcome["target_atoms_outside"] = [cycle["n_outliers"] for cycle in cycles]
    outcome["surrogates"] = [surrogate for cycle in cycles for surrogate in cycle["surrogates"]]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "outcome.json").write_text(json.dumps(outcome, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(outcome, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
