"""INCAR, KPOINTS, POSCAR and POTCAR of a single point, from a pymatgen input set with the campaign's overrides.

POSCAR lists atoms species by species. `VaspInputs.order` says where each of its atoms stands in the structure.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kmde_fw.config import VaspReference, did_you_mean
from kmde_fw.errors import EngineError
from kmde_fw.records import Structure
from kmde_fw.reference.vasp import tags
from kmde_fw.reference.vasp.potcars import write_potcar

#: tags with one value per species or atom of a cell, which a campaign gives by element
BY_ELEMENT = ("LDAUU", "LDAUJ", "LDAUL", "MAGMOM")
#: pymatgen's initial moment of an element that its input set says nothing about, μ_B
DEFAULT_MOMENT = 0.6


@dataclass(frozen=True, eq=False)
class VaspInputs:
    """What VASP reads, as pymatgen's objects, and how to undo the sorting.

    incar: tag -> value; kpoints: None where KSPACING decides; order: (n,), atom k of POSCAR is atom order[k] of the
    structure; sorted_structure: the structure in that order; symbols: POTCARs in the order of POSCAR's species.
    """

    incar: dict[str, Any]
    kpoints: Any
    order: np.ndarray
    sorted_structure: Structure
    symbols: tuple[str, ...]
    functional: str
    grid: tuple[int, int, int]

    def write(self, directory: Path) -> None:
        """The four files (three where KSPACING decides) into an existing directory."""
        from pymatgen.io.vasp.inputs import Incar, Poscar

        Incar(self.incar).write_file(str(directory / "INCAR"))
        if self.kpoints is not None:
            self.kpoints.write_file(str(directory / "KPOINTS"))
        poscar = Poscar(
            _pymatgen(self.sorted_structure), comment=self.sorted_structure.name or "kmde", sort_structure=False
        )
        poscar.write_file(str(directory / "POSCAR"), significant_figures=16)
        write_potcar(directory / "POTCAR", list(self.symbols), self.functional)


def make_inputs(settings: VaspReference, structure: Structure) -> VaspInputs:
    """The inputs of one structure. Raises EngineError where the campaign's settings cannot make any."""
    order = np.argsort(np.array(structure.species), kind="stable")
    ordered = Structure(
        tuple(structure.species[k] for k in order), structure.cell, structure.positions[order], structure.name
    )
    input_set = _input_set(settings, ordered)
    with warnings.catch_warnings():
        # that POTCARs, k-points and tags are not those of Materials Project is what the campaign file says
        warnings.simplefilter("ignore")
        incar, kpoints = _normal(input_set.incar), input_set.kpoints
        symbols = tuple(input_set.potcar_symbols)
    incar.pop("EDIFFG", None)
    if "LDAUU" not in incar or not tags.hubbard(incar, ordered.species):
        # what the campaign says of other elements; LDAU without lists would mean U = J = 1 eV to VASP
        incar = {tag: value for tag, value in incar.items() if not tag.startswith("LDAU")}
    if incar.get("ISPIN", 1) == 1:
        incar.pop("MAGMOM", None)
    return VaspInputs(
        incar=incar,
        kpoints=kpoints,
        order=order,
        sorted_structure=ordered,
        symbols=symbols,
        functional=str(input_set.user_potcar_functional),
        grid=_grid(kpoints, incar, structure.cell),
    )


def level_tags(settings: VaspReference, elements: Sequence[str]) -> dict[str, Any]:
    """The decisive tags, one value for all cells of the campaign. Raises EngineError where there is no such value.

    An input set may choose tags by what a cell contains, or how many atoms it has; labels would then not be on one
    scale. So the tags are made for each element alone, for all together and for twice as many atoms.
    """
    elements = sorted(elements)
    probes = [[element] for element in elements] + [[*elements, *elements], elements]
    found = [make_inputs(settings, _probe(probe)).incar for probe in probes]
    first, whole = tags.decisive(found[-1]), tags.hubbard(found[-1], elements)
    for probe, incar in zip(probes, found, strict=True):
        different = tags.changes(first, tags.decisive(incar))
        if different:
            tag, (value, other) = next(iter(different.items()))
            raise EngineError(
                f"reference: {settings.input_set} gives {tag} = {other} to a cell of {' '.join(probe)} and {value} to "
                f"others, which are two levels of theory; fix it with `incar: {{{tag}: ...}}`"
            )
        own = tags.hubbard(incar, sorted(probe))
        for element in probe:
            if own.get(element) != whole.get(element):
                raise EngineError(
                    f"reference: {settings.input_set} gives {element} another U in a cell of {' '.join(probe)} than in "
                    f"one of {' '.join(elements)}, which are two levels of theory; fix it with `incar: {{LDAU: true, "
                    f"LDAUU: {{{element}: ...}}}}`, or `LDAU: false`"
                )
    level = {tag: value for tag, value in first.items() if tag not in ("KSPACING", "KGAMMA")}
    if whole:
        level |= {tag: found[-1][tag] for tag in tags.SWITCHES if tag in found[-1]}
        level |= {tag: {element: values[tag] for element, values in whole.items()} for tag in tags.HUBBARD}
    return level


def kpoint_rule(settings: VaspReference) -> dict[str, Any]:
    """What decides the k-points of a cell, as plain types."""
    if settings.kspacing is not None:
        return {"KSPACING": settings.kspacing, "KGAMMA": True}
    if isinstance(settings.kpoints, tuple):
        return {"grid": list(settings.kpoints)}
    if settings.kpoints is not None:
        return {"reciprocal_density": settings.kpoints}
    cls, incar = _set_class(settings.input_set), _checked(settings)
    spacing = incar.get("KSPACING", cls.CONFIG["INCAR"].get("KSPACING"))
    if spacing is not None:
        return {"KSPACING": float(spacing), "KGAMMA": bool(incar.get("KGAMMA", True))}
    return dict(cls.CONFIG.get("KPOINTS", {}))


def potcar_symbols(settings: VaspReference, elements: Sequence[str]) -> tuple[dict[str, str], str]:
    """POTCAR of each element, and the functional that they are of."""
    inputs = make_inputs(settings, _probe(sorted(elements)))
    return dict(zip(sorted(elements), inputs.symbols, strict=True)), inputs.functional


def initial_moments(settings: VaspReference, elements: Sequence[str]) -> dict[str, float]:
    """Initial moment of every element, μ_B."""
    known = _set_class(settings.input_set).CONFIG["INCAR"].get("MAGMOM", {})
    asked = {**settings.magmoms, **_checked(settings).get("MAGMOM", {})}
    return {e: float(asked.get(e, known.get(e, DEFAULT_MOMENT))) for e in sorted(set(elements))}


def by_element(settings: VaspReference) -> dict[str, list[str]]:
    """What the campaign says element by element: key of the reference section -> elements that it names."""
    named = {"magmoms": list(settings.magmoms), "potcars": list(settings.potcars)}
    for tag, value in settings.incar.items():
        if isinstance(value, dict):
            named[f"incar.{tag}"] = list(value)
    return named


def _input_set(settings: VaspReference, structure: Structure) -> Any:
    from pymatgen.io.vasp.inputs import Kpoints

    cls = _set_class(settings.input_set)
    incar = _checked(settings)
    user: dict[str, Any] = {**tags.NO_FILES, **incar, **tags.SINGLE_POINT, "MAGMOM": {}}
    points: Any = {}
    if settings.kspacing is not None:
        user |= {"KSPACING": settings.kspacing, "KGAMMA": True}
    elif isinstance(settings.kpoints, tuple):
        points = Kpoints.gamma_automatic(settings.kpoints)
    elif settings.kpoints is not None:
        points = {"reciprocal_density": settings.kpoints}
    moments = initial_moments(settings, structure.species)
    crystal = _pymatgen(structure)
    crystal.add_site_property("magmom", [moments[s] for s in structure.species])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(
                structure=crystal,
                user_incar_settings=user,
                user_kpoints_settings=points,
                user_potcar_settings=dict(settings.potcars),
                user_potcar_functional=settings.functional,
                sort_structure=False,
                force_gamma=True,
            )
    except Exception as error:
        raise EngineError(
            f"reference: {settings.input_set} cannot be made for {structure.formula}: "
            f"{' '.join(str(error).split()) or type(error).__name__}"
        ) from None


def _checked(settings: VaspReference) -> dict[str, Any]:
    """The campaign's tags in capitals, every one known and none that makes something else than a single point."""
    known = _known_tags()
    incar = {}
    for name, value in settings.incar.items():
        tag = name.upper()
        if tag not in known:
            raise EngineError(f"reference.incar: VASP has no tag {name!r}{did_you_mean(tag, known)}")
        if tag in tags.SINGLE_POINT and value != tags.SINGLE_POINT[tag]:
            raise EngineError(
                f"reference.incar: {tag} = {value}: labels are single points ({tag} = {tags.SINGLE_POINT[tag]})"
            )
        if tag in tags.OF_ONE_CELL:
            raise EngineError(f"reference.incar: {tag} cannot be one number for cells of all sizes; leave it out")
        if tag in ("LSORBIT", "LNONCOLLINEAR") and value:
            raise EngineError(f"reference.incar: {tag}: only collinear spins can be labelled here; leave it out")
        mapping = isinstance(value, dict)
        if tag in tags.PER_CELL and not mapping and value is not None:
            raise EngineError(
                f"reference.incar: {tag} = {value} is of one cell; "
                + (f"give it by element, such as {tag}: {{Fe: 4.0}}" if tag in BY_ELEMENT else "leave it out")
            )
        if mapping and tag not in BY_ELEMENT:
            raise EngineError(
                f"reference.incar: {tag} is one value for all elements; by element can be {', '.join(BY_ELEMENT)}"
            )
        incar[tag] = value
    return _with_hubbard(incar)


def _with_hubbard(incar: dict[str, Any]) -> dict[str, Any]:
    """U by element made whole: no J where none is given, and the l of d or f electrons."""
    from pymatgen.core import Element

    given = {tag: incar[tag] for tag in tags.HUBBARD if incar.get(tag) is not None}
    if not given:
        return incar
    u = given.get("LDAUU", {})
    if not u or tags.truth(incar.get("LDAU")) is not True:
        missing = "LDAU: true" if u else "LDAUU"
        raise EngineError(f"reference.incar: {', '.join(given)} without {missing} has no effect; give it, too")
    for tag in given:
        for element, value in given[tag].items():
            if element not in u:
                raise EngineError(f"reference.incar: {tag} names {element}, and LDAUU does not")
            if tag != "LDAUL" and value < 0:
                raise EngineError(f"reference.incar: {tag} of {element} is {value:g}: it cannot be negative")
    moments = dict(given.get("LDAUL", {}))
    for element in u:
        block = Element(element).block
        if element not in moments and block not in ("d", "f"):
            raise EngineError(
                f"reference.incar: which electrons of {element} does U belong to? `LDAUL: {{{element}: 1}}` says p, "
                "2 d, 3 f"
            )
        moments.setdefault(element, 2 if block == "d" else 3)
    return {**incar, "LDAUU": u, "LDAUJ": given.get("LDAUJ", {}), "LDAUL": {e: int(n) for e, n in moments.items()}}


@lru_cache(maxsize=1)
def _known_tags() -> frozenset[str]:
    """The tags that pymatgen knows."""
    import json
    from importlib.resources import files

    return frozenset(json.loads(files("pymatgen.io.vasp").joinpath("incar_parameters.json").read_text())) | {"LH5"}


def _set_class(name: str) -> Any:
    from pymatgen.io.vasp import sets

    known = [
        n
        for n, c in vars(sets).items()
        if isinstance(c, type) and issubclass(c, sets.VaspInputSet) and hasattr(c, "CONFIG")
    ]
    if name not in known:
        raise EngineError(
            f"reference.input_set: pymatgen has no {name!r}{did_you_mean(name, known)}; "
            f"it has {', '.join(sorted(known))}"
        )
    return getattr(sets, name)


def _normal(incar: Any) -> dict[str, Any]:
    """The INCAR as VASP would read it back from its file."""
    from pymatgen.io.vasp.inputs import Incar

    return dict(Incar.from_str(str(incar)))


def read_incar(path: Path) -> dict[str, Any]:
    """The tags of an INCAR file."""
    from pymatgen.io.vasp.inputs import Incar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(Incar.from_file(str(path)))


def _grid(kpoints: Any, incar: dict[str, Any], cell: np.ndarray) -> tuple[int, int, int]:
    """Subdivisions of the k-point mesh; VASP's own rule for KSPACING (0.5 Å⁻¹ by default)."""
    if kpoints is not None and kpoints.num_kpts == 0 and len(kpoints.kpts[0]) == 3:
        a, b, c = (int(n) for n in kpoints.kpts[0])
        return a, b, c
    lengths = np.linalg.norm(2 * np.pi * np.linalg.inv(cell).T, axis=1)
    if kpoints is not None and kpoints.num_kpts == 0:
        # a length: the file is for VASP to expand, as max(1, l |b| + 0.5)
        a, b, c = (max(1, int(float(kpoints.kpts[0][0]) * length / (2 * np.pi) + 0.5)) for length in lengths)
        return a, b, c
    a, b, c = (max(1, int(np.ceil(length / float(incar.get("KSPACING", 0.5)) - 1e-9))) for length in lengths)
    return a, b, c


def _pymatgen(structure: Structure) -> Any:
    from pymatgen.core import Structure as Crystal

    return Crystal(structure.cell, list(structure.species), structure.positions, coords_are_cartesian=True)


def _probe(species: list[str]) -> Structure:
    """Atoms in a row, 3 Å apart: a cell that input sets can be asked about."""
    n = len(species)
    positions = np.array([[3.0 * k, 0.0, 0.0] for k in range(n)])
    return Structure(tuple(species), np.diag([3.0 * n, 3.0, 3.0]), positions)
