"""The records that travel between layers: plain, immutable, with a content hash for a name."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

#: version of the documents' form; a database of another version is refused, an older one may be migrated
SCHEMA_VERSION = 3


def content_hash(value: Any) -> str:
    """sha256 (hex) of anything that JSON can hold, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Structure:
    """A periodic crystal.

    species: one chemical symbol per atom; cell: (3, 3), rows are lattice vectors in Å;
    positions: (n, 3), Cartesian, in Å; name: for people, not part of the identity.
    """

    species: tuple[str, ...]
    cell: np.ndarray
    positions: np.ndarray
    name: str = ""

    def __len__(self) -> int:
        return len(self.species)

    @cached_property
    def id(self) -> str:
        """Content hash over species, cell and positions, these rounded to 1e-6 Å."""
        digest = hashlib.sha256(" ".join(self.species).encode())
        for array in (self.cell, self.positions):
            digest.update(np.rint(np.asarray(array) * 1e6).astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def volume(self) -> float:
        """Volume of the cell in Å³."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def formula(self) -> str:
        """Counts by element, alphabetical: Al77Fe24Pt."""
        return "".join(f"{e}{n if n > 1 else ''}" for e, n in sorted(Counter(self.species).items()))

    def counts(self, elements: tuple[str, ...]) -> np.ndarray:
        """Atoms per element, shape (n_elements,)."""
        have = Counter(self.species)
        return np.array([have[element] for element in elements], dtype=float)

    def species_index(self, elements: tuple[str, ...]) -> np.ndarray:
        """Index of each atom's element in `elements`, shape (n,), int64. KeyError-free: absent elements get -1."""
        index = {element: k for k, element in enumerate(elements)}
        return np.array([index.get(s, -1) for s in self.species], dtype=np.int64)

    def repeated(self, repeats: tuple[int, int, int]) -> Structure:
        """A supercell; the atoms of the first cell come first, in their order."""
        shifts = np.array([(i, j, k) for i in range(repeats[0]) for j in range(repeats[1]) for k in range(repeats[2])])
        positions = (self.positions[None] + (shifts @ self.cell)[:, None]).reshape(-1, 3)
        return Structure(self.species * len(shifts), self.cell * np.array(repeats)[:, None], positions, self.name)

    def to_document(self) -> dict[str, Any]:
        """As plain types for BSON and JSON."""
        return {
            "_id": self.id,
            "species": list(self.species),
            "cell": np.asarray(self.cell).tolist(),
            "positions": np.asarray(self.positions).tolist(),
            "name": self.name,
            "formula": self.formula,
            "n_atoms": len(self),
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Structure:
        """The inverse of `to_document`."""
        return cls(
            tuple(document["species"]),
            np.array(document["cell"], dtype=float),
            np.array(document["positions"], dtype=float).reshape(-1, 3),
            document.get("name", ""),
        )

    @classmethod
    def from_atoms(cls, atoms: Any, name: str = "") -> Structure:
        """From an ase.Atoms."""
        return cls(tuple(atoms.get_chemical_symbols()), atoms.cell.array.copy(), atoms.get_positions(), name)

    def to_atoms(self) -> Any:
        """As an ase.Atoms, periodic in three directions."""
        from ase import Atoms

        return Atoms(list(self.species), positions=self.positions, cell=self.cell, pbc=True)


@dataclass(frozen=True, eq=False)
class Labelled:
    """A structure with its reference energy (eV, of the whole cell), forces (n, 3) in eV/Å and, where known, stress.

    stress: (6,) in eV/Å³, ASE's sign and Voigt order, or None. level_key: of its level of theory, where its file says
    so (`kmde import` writes it), else empty. vasp: of its VASP run, to compare with a campaign: {file} of a vasprun.xml
    or OUTCAR, or the tags, POTCAR titles and k-points that `kmde import` without a campaign writes, else empty.
    """

    structure: Structure
    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None
    level_key: str = ""
    vasp: Mapping[str, Any] = field(default_factory=dict)


#: accepted: may be trained on; rejected: calculated or not, it fails a check; failed: the calculation itself broke
LabelState = Literal["accepted", "rejected", "failed"]


@dataclass(frozen=True, eq=False)
class LabelResult:
    """The outcome of one reference calculation. Only an accepted one may be trained on.

    energy: eV, of the whole cell, the one that matches the forces; forces: (n, 3) eV/Å; stress: (6,) eV/Å³, ASE's sign
    and Voigt order, None where the reference has none. All three may be None unless the state is accepted (a rejected
    result keeps what was calculated, as evidence). reason: a sentence, empty if accepted. checks: name of each check
    that was made -> "passed" or why not. corrections: what was changed on the way to make the calculation work, as
    plain types. notes: sentences that a reader of the label should know. details: what else is known of the
    calculation (energies of other kinds, the last lines of its output), as plain types. versions: of the packages that
    calculated.
    """

    state: LabelState
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    reason: str = ""
    checks: dict[str, str] = field(default_factory=dict)
    corrections: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    run_directory: str = ""
    seconds: float = 0.0
    host: str = field(default_factory=platform.node)
    versions: dict[str, str] = field(default_factory=dict)


def cycle_key(campaign: str, cycle: int, *parts: str | int) -> str:
    """The _id of a document of one cycle: al_fe_pt/003/motif/001 sorts as it counts."""
    return "/".join([campaign, f"{cycle:03d}", *(f"{p:03d}" if isinstance(p, int) else p for p in parts)])
