"""Molecular dynamics with a model: 1000 steps of 1 fs at constant energy, with ASE and with LAMMPS.

A model of Cu-Au, trained here on the train set of fw_specs/cu_au (two elements, 30 features, 60-60-1 tanh), 128
atoms of Cu3Au at 300 K. Said are the drift of the total energy per atom and ps (slope of a straight line), what it
moves around that line, and wall time per step, everything included: forces, which atoms extrapolate, the search for
motifs in every tenth step, trajectory and log every tenth. Both engines have the same start and the same forces.
"""

from __future__ import annotations

import os

os.environ |= {
    name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
}

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import arguments, finish, versions
from rich.table import Table

from kmde_fw.config import Descriptor, Network, Training
from kmde_fw.core.certificate import certify
from kmde_fw.errors import EngineError
from kmde_fw.hdnnp import to_bytes, train
from kmde_fw.hdnnp.calculator import ranges_of
from kmde_fw.inputs import read_labelled
from kmde_fw.md.engines import engine_versions
from kmde_fw.md.run import Settings, run_md

DATA = Path(__file__).parents[1] / "fw_specs" / "cu_au" / "train.extxyz"
STEPS = 1000
CLOSURES = 200
REPEAT = (2, 2, 1)
#: meV per atom and ps
GOAL = 0.05


def main() -> None:
    """Measure, print."""
    options = arguments(__doc__)
    torch.set_num_threads(1)
    data = read_labelled(DATA)
    settings = Training(max_closures=CLOSURES)
    model, _ = train(data, ("Au", "Cu"), Descriptor(), Network(), settings, seed=0)
    certificate = certify(
        model.elements,
        model.descriptor.cutoff,
        model.symmetry_functions.keys,
        ranges_of(model),
        [d.structure for d in data],
        model={"sha256": hashlib.sha256(to_bytes(model)).hexdigest()},
        data={},
        cite=[],
    )
    start = next(d.structure for d in data if len(set(d.structure.species)) == 2).to_atoms() * REPEAT
    rows: list[dict[str, Any]] = []
    table = Table("engine", "atoms", "steps", "drift, meV/(atom ps)", "around it, meV/atom", "ms per step")
    with tempfile.TemporaryDirectory() as place:
        for engine in ("ase", "lammps"):
            try:
                engine_versions(engine)
            except EngineError:
                table.add_row(engine, "not installed")
                continue
            run = Settings(engine=engine, ensemble="nve", temperature=300.0, steps=STEPS, timestep=1.0)
            result = run_md(model, certificate, start, run, Path(place) / engine)
            rows.append(
                {
                    "engine": engine,
                    "atoms": result.n_atoms,
                    "steps": result.steps,
                    "drift_mev_per_atom_ps": result.drift,
                    "fluctuation_mev_per_atom": result.fluctuation,
                    "ms_per_step": result.ms_per_step,
                }
            )
            facts = f"{result.drift:+.4f}", f"{result.fluctuation:.4f}", f"{result.ms_per_step:.1f}"
            table.add_row(engine, str(result.n_atoms), str(result.steps), *facts)
    result = {
        "row": f"one step of MD, {rows[0]['atoms']} atoms, ASE and all checks included",
        "ours_seconds": rows[0]["ms_per_step"] / 1000,
        # no peer, the same forces in another engine
        "peers": {f"the same in {row['engine']}": row["ms_per_step"] / 1000 for row in rows[1:]},
        "ratios": {f"the same in {row['engine']}": row["ms_per_step"] / rows[0]["ms_per_step"] for row in rows[1:]},
        "goal": f"drift of the energy below {GOAL} meV per atom and ps",
        "reached": all(abs(row["drift_mev_per_atom_ps"]) < GOAL for row in rows),
        "sizes": rows,
        "versions": versions("ase", "lammps", "mpich", "torch", "numba", "numpy"),
    }
    table.title = str(result["row"])
    finish(result, options.json, table)


if __name__ == "__main__":
    main()
