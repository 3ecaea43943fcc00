"""A labelled data set, described by a small YAML recipe: crystals, what is done to them, and who labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import Field, ValidationError, model_validator

from kmde_fw.config import (
    AseReference,
    Element,
    NonNegative,
    PlainLoader,
    Positive,
    PositiveInt,
    Section,
    did_you_mean,
)
from kmde_fw.errors import ConfigError
from kmde_fw.records import Structure
from kmde_fw.reference.doping import first_atom, inequivalent_sites, site_names, substitute


class Group(Section):
    """Structures made in the same way from one host, or from each structure of a file."""

    host: str | None = Field(None, description="name of a crystal under `hosts`; or give `file`")
    file: str | None = Field(
        None, description="structures taken as they are, from an extxyz file relative to the recipe's folder"
    )
    repeat: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((1, 1, 1), description="supercell")
    dopant: Element | None = Field(
        None, description="replaces the first atom of one inequivalent site after another; null: the host as it is"
    )
    scales: tuple[Positive, ...] = Field((1.0,), min_length=1, description="linear scales; one structure for each")
    displacement: NonNegative = Field(0.0, description="standard deviation of random displacements, Å")
    strain: NonNegative = Field(
        0.0, lt=0.5, description="largest component of a random symmetric strain, all six drawn evenly from ± this"
    )
    relax: bool = Field(True, description="relax the positions in the fixed cell before labelling")

    @model_validator(mode="after")
    def _check_source(self) -> Group:
        if (self.host is None) == (self.file is None):
            raise ValueError("a group is made from a `host` or from the structures of a `file`: give one of the two")
        return self


class DataRecipe(Section):
    """A whole recipe file."""

    hosts: dict[str, str] = Field({}, description="name: structure file, relative to the recipe's folder")
    sets: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], tuple[Group, ...]] = Field(min_length=1)
    reference: AseReference
    fmax: Positive = Field(0.01, description="largest force left after a relaxation, eV/Å")
    max_steps: PositiveInt = Field(500, description="of one relaxation")
    seed: int = Field(0, ge=0, description="of the random displacements and strains")

    @model_validator(mode="after")
    def _check_names(self) -> DataRecipe:
        if "host" in self.sets:
            raise ValueError("sets: 'host' is the file of the relaxed hosts; give the set another name")
        for name, groups in self.sets.items():
            for group in groups:
                if group.host is not None and group.host not in self.hosts:
                    raise ValueError(
                        f"sets.{name}: no host {group.host!r}{did_you_mean(group.host, self.hosts)}; "
                        + (f"hosts are {', '.join(self.hosts)}" if self.hosts else "there are no `hosts`")
                    )
        return self


@dataclass(frozen=True, eq=False)
class Item:
    """One structure of a data set before relaxation.

    label: unique within its set; sites: (n,), the crystallographic site of each atom in the host; site, dopant_index,
    replaced: None in a structure without dopant.
    """

    label: str
    structure: Structure
    sites: np.ndarray
    relax: bool
    site: int | None = None
    dopant_index: int | None = None
    replaced: str | None = None


def load_recipe(path: Path) -> DataRecipe:
    """Read a recipe. Raises ConfigError with one line per mistake."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), PlainLoader)
    except OSError as error:
        raise ConfigError(f"cannot read recipe {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return DataRecipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_sentence(e)}" for e in error.errors())) from None


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = {*DataRecipe.model_fields, *Group.model_fields, *AseReference.model_fields}
        return f"unknown key {where!r}{did_you_mean(str(error['loc'][-1]), sorted(known))}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}".removeprefix(": ")


def plan(
    recipe: DataRecipe,
    crystals: Mapping[str, Structure],
    hosts: Mapping[str, Structure],
    files: Mapping[str, Sequence[Item]] | None = None,
) -> dict[str, list[Item]]:
    """The items of every set.

    crystals: as read from the files; the sites are theirs, because a relaxation blurs symmetry. hosts: relaxed, with
    the same atoms in the same order. files: the structures of each `file` of a group, as they are there.
    """
    items: dict[str, list[Item]] = {}
    for name, groups in recipe.sets.items():
        items[name] = []
        for group in groups:
            if group.host is None:
                prefix, made = "", _file_items(group, (files or {})[group.file or ""])
            else:
                prefix = f"{group.host}_" if len(recipe.hosts) > 1 else ""
                made = _host_items(group, group.host, prefix, crystals[group.host], hosts[group.host])
            items[name] += _distorted(recipe, group, prefix, made)
        labels = [item.label for item in items[name]]
        for label in labels:
            if labels.count(label) > 1:
                raise ConfigError(f"sets.{name}: two structures would be called {label}; make the groups differ")
    return items


def _host_items(group: Group, name: str, prefix: str, crystal: Structure, host: Structure) -> list[Item]:
    supercell = host.repeated(group.repeat)
    sites = inequivalent_sites(crystal)
    all_sites = np.tile(sites, len(supercell) // len(sites))
    if group.dopant is None:
        return [Item(name, supercell, all_sites, group.relax)]
    made = []
    for site, site_name in enumerate(site_names(crystal, sites)):
        atom = first_atom(sites, site)
        replaced = host.species[atom]
        if replaced != group.dopant:
            doped = substitute(supercell, atom, group.dopant)
            label = f"{prefix}{group.dopant}@{site_name}"
            made.append(Item(label, doped, all_sites, group.relax, site, atom, replaced))
    return made


def _file_items(group: Group, items: Sequence[Item]) -> list[Item]:
    if group.dopant is not None:
        raise ConfigError(f"the structures of {group.file} are taken as they are: `dopant` belongs to a `host`")
    cells = int(np.prod(group.repeat))
    return [
        replace(
            item, structure=item.structure.repeated(group.repeat), sites=np.tile(item.sites, cells), relax=group.relax
        )
        for item in items
    ]


def _distorted(recipe: DataRecipe, group: Group, prefix: str, made: Sequence[Item]) -> Iterator[Item]:
    for item in made:
        for scale in group.scales:
            parts = [item.label]
            if group.repeat != (1, 1, 1) and prefix:
                parts.append("x".join(map(str, group.repeat)))
            if len(group.scales) > 1 or scale != 1:
                parts.append(f"{scale:g}")
            if group.displacement:
                parts.append(f"d{group.displacement:g}")
            if group.strain:
                parts.append(f"s{group.strain:g}")
            label = "_".join(parts)
            structure = _distort(item.structure, scale, group.displacement, group.strain, recipe.seed, label)
            yield replace(item, label=label, structure=structure)


def _distort(
    structure: Structure, scale: float, displacement: float, strain: float, seed: int, label: str
) -> Structure:
    """Scaled, strained and displaced; the draw depends on the seed and the label alone, not on the rest of the recipe.

    The strain ε is symmetric and deforms cell and positions by 1 + ε; after it each Cartesian component of each atom
    moves by a normal draw, so `displacement` is the root mean square of one component.
    """
    key = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big")
    deformation = scale * np.eye(3)
    if strain:
        xx, yy, zz, yz, xz, xy = np.random.default_rng([seed, key, 1]).uniform(-strain, strain, 6)
        deformation = scale * (np.eye(3) + np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
    positions = structure.positions @ deformation
    if displacement:
        positions = positions + np.random.default_rng([seed, key]).normal(0.0, displacement, positions.shape)
    return Structure(structure.species, structure.cell @ deformation, positions, label)
