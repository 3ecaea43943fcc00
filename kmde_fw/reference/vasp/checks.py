"""What a VASP run must be to become a label: named checks, each empty or the reason of a refusal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kmde_fw.records import Structure
from kmde_fw.reference.vasp import tags
from kmde_fw.reference.vasp.parse import VaspRun

#: Å; vasprun.xml gives fractional coordinates with eight decimals
SAME_PLACE = 1e-4


def check_run(run: VaspRun) -> Iterator[tuple[str, str]]:
    """The checks that need nothing but the run itself, cheapest first: (name, reason or nothing)."""
    yield (
        "one ionic step",
        "" if run.n_ionic == 1 else f"{run.n_ionic} ionic steps: a relaxation or MD, no single point",
    )
    yield "electronic convergence", electronic_convergence(run)
    yield "forces' shape", "" if run.forces.shape == (len(run.structure), 3) else f"{run.forces.shape}"
    numbers: dict[str, Any] = {
        "energy": run.energy,
        "forces": run.forces,
        "stress": run.stress if run.stress is not None else 0.0,
    }
    infinite = [name for name, value in numbers.items() if not np.isfinite(value).all()]
    yield "finite numbers", f"not finite: {', '.join(infinite)}" if infinite else ""


def electronic_convergence(run: VaspRun) -> str:
    """Why the electronic loop is not converged, by its last step; `converged_electronic` only counts the steps.

    VASP stops when the changes of the free energy and of the band energy are below EDIFF, so the last change of the
    free energy is; a run that was stopped (STOPCAR, wall time) has fewer steps than NELM and a large last change.
    """
    if run.converged is not None:
        return "" if run.converged else "VASP says that EDIFF was not reached"
    nelm = int(run.parameters.get("NELM", 60))
    ediff = abs(float(run.parameters.get("EDIFF", run.incar.get("EDIFF", 1e-4))))
    if len(run.scf) >= nelm:
        return f"NELM = {nelm} electronic steps did not suffice"
    if len(run.scf) < 2:
        return f"{len(run.scf)} electronic steps: nothing says that it is converged"
    change = abs(run.scf[-1] - run.scf[-2])
    # the file has eight decimals
    if not change <= ediff + 2e-8:
        return f"the last of {len(run.scf)} steps changed the energy by {change:.2g} eV, EDIFF is {ediff:.1g} eV"
    return ""


def check_geometry(run: VaspRun, asked: Structure) -> str:
    """Why the run is not one of the structure asked for (atoms in POSCAR's order), or nothing."""
    if run.structure.species != asked.species:
        return f"calculated {run.structure.formula}, asked for {asked.formula}, or in another order"
    off = float(np.abs(run.structure.cell - asked.cell).max())
    if off > SAME_PLACE:
        return f"the cell has changed by {off:.2g} Å"
    shift = np.linalg.solve(asked.cell.T, (run.structure.positions - asked.positions).T).T
    moved = np.linalg.norm((shift - np.rint(shift)) @ asked.cell, axis=1)
    worst = int(np.argmax(moved))
    if moved[worst] > SAME_PLACE:
        return f"atom {worst + 1} ({asked.species[worst]}) has moved by {moved[worst]:.2g} Å"
    return ""


def check_level(changed: Mapping[str, Sequence[Any]], allowed: Sequence[str]) -> str:
    """Why tags that a correction changed (tag -> [asked, used]) make another level of theory, or nothing.

    KPOINTS may be among the tags. Tags that only steer the way to the answer (`tags.FREE`) and `allowed` ones do not.
    """
    wrong = not_allowed(changed, allowed)
    if not wrong:
        return ""
    accept = f"allow_changes: [{', '.join(wrong)}] would accept it"
    return f"a correction changed what decides the energy: {listed(wrong)} ({accept})"


def not_allowed(changed: Mapping[str, Sequence[Any]], allowed: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Those of the changed tags that decide the numbers and that nobody has allowed."""
    permitted = {tag.upper() for tag in allowed}
    return {tag: values for tag, values in changed.items() if tag not in tags.FREE and tag not in permitted}


def listed(changed: Mapping[str, Sequence[Any]]) -> str:
    """Changed tags in words: ENCUT 680 → 500."""
    return ", ".join(f"{tag} {_word(asked)} → {_word(used)}" for tag, (asked, used) in changed.items())


def check_potcars(run: VaspRun, titels: Sequence[str]) -> str:
    """Why the POTCARs are not those asked for, or nothing."""
    if list(run.titels) == list(titels):
        return ""
    return f"calculated with {'; '.join(run.titels)}, asked for {'; '.join(titels)}"


def _word(value: Any) -> str:
    return "unset" if value is None else str(value)
