"""A library of made-up POTCARs, the stand-in executable, and engines on both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from kmde_fw.config import VaspReference
from kmde_fw.records import Structure
from kmde_fw.reference.vasp import VaspEngine

DOCKER = Path(__file__).parents[3] / "docker"
STANDIN = f"{sys.executable} {DOCKER / 'vasp'}"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PMG_VASP_PSP_DIR."""
    folder = tmp_path_factory.mktemp("potcars")
    command = [sys.executable, str(DOCKER / "make_potcars.py"), str(folder), "Cu_pv", "Au", "Al", "Fe_pv", "Pt"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture
def potcars(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library, known to pymatgen in this process and to processes that it starts."""
    from pymatgen.core import SETTINGS

    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(library))
    monkeypatch.setenv("PMG_VASP_PSP_DIR", str(library))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return library


@pytest.fixture
def engine(potcars: Path) -> Callable[..., VaspEngine]:
    """engine(**reference): an engine for Au and Cu whose VASP is the stand-in."""

    def make(**reference: Any) -> VaspEngine:
        settings = VaspReference(engine="vasp", **{"poll": 0.05, **reference})
        return VaspEngine(settings, ("Cu", "Au"), {"vasp_cmd": STANDIN})

    return make


@pytest.fixture
def crystal() -> Structure:
    """Cu3Au-like, rattled, its species mixed up as a user may have them."""
    atoms = Atoms("CuAuCuCu", cell=np.diag([3.75, 3.75, 3.8]), pbc=True)
    atoms.set_scaled_positions([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    atoms.positions += np.random.default_rng(1).normal(0, 0.05, (4, 3))
    return Structure.from_atoms(atoms, "Cu3Au")
