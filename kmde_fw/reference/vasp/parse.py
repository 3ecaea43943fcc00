"""What a VASP run left: vasprun.xml or OUTCAR, read into one record."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kmde_fw.errors import InputError
from kmde_fw.records import Structure

#: kB per eV/Å³; VASP's stress has the opposite sign of ASE's
KBAR = 1602.1766208
#: tags that OUTCAR writes out, defaults included
_HEADER = (
    "PREC", "ENCUT", "ISPIN", "NELM", "EDIFF", "LREAL", "NSW", "IBRION", "ISMEAR", "SIGMA", "GGA", "METAGGA", "LASPH",
    "ADDGRID", "LHFCALC", "IVDW", "LDAU", "ISYM",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class VaspRun:
    """One run. Arrays in the order of POSCAR; of the last ionic step where there are several.

    structure: positions that the forces belong to; energies in eV of the whole cell: e_fr_energy (matches the forces),
    e_0_energy (σ → 0), e_wo_entrp, those that the file has; forces (n, 3) eV/Å; stress (6,) eV/Å³ in ASE's sign and
    Voigt order, None where there is none; scf: e_fr_energy after each electronic step, empty where the file does not
    say; converged: VASP's own word where it is written (OUTCAR), else None; incar: as VASP read it; parameters: as it
    used them, defaults included; grid: k-point subdivisions or None; moment: of the cell, μ_B, or None.
    """

    source: Path
    structure: Structure
    energies: dict[str, float]
    forces: np.ndarray
    stress: np.ndarray | None
    n_ionic: int
    scf: list[float]
    converged: bool | None
    incar: dict[str, Any]
    parameters: dict[str, Any]
    titels: list[str]
    version: str
    grid: list[int] | None = None
    moment: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def energy(self) -> float:
        """The energy that the forces are the derivative of, eV."""
        return self.energies["e_fr_energy"]


def read_run(directory: Path) -> VaspRun:
    """The run in a directory: its vasprun.xml, or where there is none its OUTCAR. Raises InputError, one sentence.

    A path to one of these files itself will do, too.
    """
    from monty.os.path import zpath

    if not directory.exists():
        raise InputError(f"there is no {directory}")
    if directory.is_file():
        return read_file(directory)
    for name, reader in (("vasprun.xml", read_vasprun), ("OUTCAR", read_outcar)):
        path = Path(zpath(str(directory / name)))
        if path.is_file():
            if path.stat().st_size == 0:
                raise InputError(f"{path} is empty: the calculation did not run")
            return reader(path)
    raise InputError(f"{directory} has neither vasprun.xml nor OUTCAR: no calculation has run there")


def read_file(path: Path, whole: bool = True) -> VaspRun:
    """The run that a vasprun*.xml or *OUTCAR* (or one of them compressed) tells of. Raises InputError.

    whole: one that was cut off is an error; else its finished ionic steps are read.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: the calculation did not run")
    if "OUTCAR" in path.name:
        return read_outcar(path, whole)
    if "vasprun" in path.name.lower():
        return read_vasprun(path, whole)
    raise InputError(f"{path} is neither a run directory nor a vasprun.xml or OUTCAR: name one of these")


def read_vasprun(path: Path, whole: bool = True) -> VaspRun:
    """A vasprun.xml. Raises InputError where it is not complete (whole) or has no finished ionic step."""
    from pymatgen.io.vasp.outputs import Vasprun

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = Vasprun(
                str(path), parse_dos=False, parse_eigen=False, parse_potcar_file=False, exception_on_bad_xml=whole
            )
            last = found.ionic_steps[-1]
            forces = np.array(last["forces"], dtype=float)
            stress = np.array(last["stress"], dtype=float) if "stress" in last else None
            crystal = last["structure"]
            energies = {k: float(last[k]) for k in ("e_fr_energy", "e_0_energy", "e_wo_entrp") if k in last}
            scf = [float(step["e_fr_energy"]) for step in last["electronic_steps"] if "e_fr_energy" in step]
            run = VaspRun(
                source=path,
                structure=Structure(
                    tuple(str(site.specie.symbol) for site in crystal),
                    np.array(crystal.lattice.matrix),
                    np.array(crystal.cart_coords),
                ),
                energies=energies,
                forces=forces,
                stress=None if stress is None else -stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / KBAR,
                n_ionic=int(found.nionic_steps),
                scf=scf,
                converged=None,
                incar=dict(found.incar),
                parameters=dict(found.parameters),
                titels=[str(t).strip() for t in found.potcar_symbols],
                version=str(found.vasp_version),
                grid=_grid(found.kpoints),
                moment=_moment(path),
            )
    except Exception as error:  # whatever the parser stumbles over in half a file
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} cannot be read ({text[:200]}): the calculation was cut off or is something else"
        ) from None
    if "e_fr_energy" not in energies:
        raise InputError(f"{path} has no e_fr_energy: the calculation was cut off or is something else")
    return run


def read_outcar(path: Path, whole: bool = True) -> VaspRun:
    """An OUTCAR, by ASE's reader and the header's tags, with the INCAR beside it: an OUTCAR does not tell all tags.

    Raises InputError where it is not complete (whole) or has no finished ionic step.
    """
    import ase.io
    from monty.io import zopen

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = ase.io.read(str(path), index=":", format="vasp-out")
        with zopen(path, "rt", encoding="utf-8", errors="replace") as file:
            text = str(file.read())
        atoms = frames[-1]
        results = atoms.calc.results
        free = [float(x) for x in re.findall(r"free  energy   TOTEN\s+=\s+(-?[\d.]+)", text)]
        zero = [float(x) for x in re.findall(r"energy\(sigma->0\) =\s+(-?[\d.]+)", text)]
        aborting = re.findall(r"aborting loop( because EDIFF is reached)?", text)
        version = re.search(r"vasp\.(\d+\.\d+\.\d+)", text)
        run = VaspRun(
            source=path,
            structure=Structure.from_atoms(atoms),
            energies={"e_fr_energy": free[-1], **({"e_0_energy": zero[-1]} if zero else {})},
            forces=np.array(atoms.get_forces(apply_constraint=False)),
            stress=np.array(results["stress"]) if "stress" in results else None,
            n_ionic=len(frames),
            scf=[],
            converged=bool(aborting and aborting[-1]),
            incar=_incar_beside(path),
            parameters=_header(text),
            titels=list(dict.fromkeys(t.strip() for t in re.findall(r"TITEL\s*=\s*(.+)", text))),
            version=version[1] if version else "?",
            grid=_outcar_grid(text),
            moment=_moment(path),
            notes=["read from OUTCAR: single electronic steps were not seen"],
        )
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} cannot be read ({words[:200]}): the calculation was cut off or is something else"
        ) from None
    if whole and "General timing" not in text:
        raise InputError(f"{path} has no end: the calculation was cut off")
    return run


def _header(text: str) -> dict[str, Any]:
    """The tags that OUTCAR writes out, as numbers where they are."""
    found: dict[str, Any] = {}
    for tag in _HEADER:
        match = re.search(rf"\b{tag}\s*=\s*([^\s;]+)", text)
        if match:
            found[tag] = _number(match[1])
    if "ENCUT" in found:
        found["ENMAX"] = found["ENCUT"]
    return found


def _number(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _grid(kpoints: Any) -> list[int] | None:
    try:
        return [int(n) for n in kpoints.kpts[0]] if kpoints.num_kpts == 0 else None
    except (AttributeError, IndexError, TypeError, ValueError):
        return None


def _incar_beside(path: Path) -> dict[str, Any]:
    """The tags of the INCAR in the folder of an OUTCAR, nothing where there is none."""
    from monty.os.path import zpath
    from pymatgen.io.vasp.inputs import Incar

    incar = Path(zpath(str(path.with_name("INCAR"))))
    return dict(Incar.from_file(str(incar))) if incar.is_file() else {}


def _outcar_grid(text: str) -> list[int] | None:
    """Subdivisions of an automatic k-point mesh as an OUTCAR has them, None where it has none."""
    match = re.search(r"generate k-points for:\s+(\d+)\s+(\d+)\s+(\d+)", text)
    return [int(n) for n in match.groups()] if match else None


def _moment(path: Path) -> float | None:
    """The magnetic moment of the cell, as the OUTCAR beside (or at) `path` has it last."""
    from monty.io import zopen
    from monty.os.path import zpath

    outcar = Path(zpath(str(path.parent / "OUTCAR")))
    if not outcar.is_file():
        return None
    with zopen(outcar, "rt", encoding="utf-8", errors="replace") as file:
        found = re.findall(r"number of electron\s+\S+\s+magnetization\s+(-?[\d.]+)", str(file.read()))
    return float(found[-1]) if found else None
