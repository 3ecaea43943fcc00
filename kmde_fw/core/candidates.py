"""Candidate surrogates: recipes, and the pool of them that a cycle chooses from. METHOD section 3.

A recipe says everything that is needed to build a crystal again; a pool is a numbered set of recipes that is computed,
not stored: recipe i of a pool is the same on every machine, however many machines share the work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from kmde_fw.config import Design
from kmde_fw.core.prototypes import (
    Family,
    families,
    parent_families,
    primitive_parent,
    prototype,
    shortest_bond,
    substitution_words,
)
from kmde_fw.errors import ConfigError, InputError
from kmde_fw.records import Structure

#: what the candidates of one prototype family are, over and over: 2/5 perfect crystals, 1/5 each of the others
VARIANTS = ("perfect", "uniaxial", "perfect", "shear", "displaced")
#: the same of a parent family after its first candidate, which is the parent itself. All are displaced, for forces of a
#: relaxed crystal are nearly zero and tell little: "displaced" ones are also strained and a little scaled, as what is
#: near the parent is, "scaled" ones over the whole range
PARENT_VARIANTS = ("displaced", "displaced", "scaled", "displaced", "displaced")
#: crystals of one kind whose lattice constants differ by less than this part are refused together
ALIKE = 0.05
#: displaced parents are scaled by up to this much
NEAR_PARENT = 0.02
#: parents are displaced by at least this part of max_displacement
LEAST_OF_PARENTS = 0.7
#: least part of a parent's candidates that have no foreign atom
UNDOPED = 0.05
#: cells are repeated before their atoms are displaced at random: displacing the only atom of a cell does nothing
MIN_DISPLACED_ATOMS = 4
_REPEATS = ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2))
_UNIAXIAL = ("x", "y", "z")
_SHEAR = ("xy", "xz", "yx", "yz", "zx", "zy")
#: what `Recipe.strain_axes` may be; in columns, its number in this row
_STRAINS = ("", *_UNIAXIAL, *_SHEAR)


@dataclass(frozen=True)
class Recipe:
    """How one candidate is made.

    index: its number in the pool; family: the crystal and what is on its sites; scale: the lattice constant a in Å of
    a prototype, the linear factor on a parent; repeat: cells along each lattice vector;
    strain_axes: "" for none, "z" for a uniaxial strain along z, "xz" for a shear that moves planes of constant z
    along x (Cartesian axes: those of a prototype's conventional cell); strain: its amplitude, 0.02 is 2 %;
    displacement: standard deviation in Å of the random displacement of each coordinate; seed: of that draw.
    """

    index: int
    family: Family
    scale: float
    repeat: tuple[int, int, int] = (1, 1, 1)
    strain_axes: str = ""
    strain: float = 0.0
    displacement: float = 0.0
    seed: int = 0

    def to_document(self) -> dict[str, Any]:
        """As plain types."""
        return {
            "index": self.index,
            "crystal": self.family.crystal,
            "assignment": list(self.family.assignment),
            "parent": self.family.parent,
            "cells": list(self.family.cells),
            "substitutions": [{"atom": atom, "element": element} for atom, element in self.family.substitutions],
            "scale": self.scale,
            "repeat": list(self.repeat),
            "strain_axes": self.strain_axes,
            "strain": self.strain,
            "displacement": self.displacement,
            "seed": self.seed,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_document`; other keys are left aside."""
        family = Family(
            document["crystal"],
            tuple(document["assignment"]),
            document["parent"],
            tuple((int(one["atom"]), one["element"]) for one in document["substitutions"]),
            _triple(document["cells"]),
        )
        return cls(
            index=int(document["index"]),
            family=family,
            scale=float(document["scale"]),
            repeat=_triple(document["repeat"]),
            strain_axes=document["strain_axes"],
            strain=float(document["strain"]),
            displacement=float(document["displacement"]),
            seed=int(document["seed"]),
        )

    def describe(self) -> str:
        """One line for people: "L1_0 Fe|Pt a=3.860 Å, uniaxial +2.1 % along z"."""
        family = self.family
        if family.parent is None:
            text = f"{family.crystal} {'|'.join(family.assignment)} a={self.scale:.3f} Å"
        else:
            text = family.crystal
            if family.cells != (1, 1, 1):
                text += f", {'×'.join(map(str, family.cells))} cells"
            if family.substitutions:
                text += f", {substitution_words(family.substitutions)}"
            if self.scale != 1:
                text += f", scaled by {self.scale:.4f}"
        if self.repeat != (1, 1, 1):
            text += f", {'×'.join(map(str, self.repeat))} cells"
        if len(self.strain_axes) == 1:
            text += f", uniaxial {100 * self.strain:+.1f} % along {self.strain_axes}"
        elif self.strain_axes:
            text += f", shear {100 * self.strain:+.1f} % in {self.strain_axes}"
        if self.displacement:
            text += f", displaced by {self.displacement:.3f} Å"
        return text


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = map(int, values)
    return x, y, z


def build(recipe: Recipe, parents: Mapping[str, Structure]) -> Structure:
    """The crystal of a recipe. parents: by structure id; only a recipe with a parent needs it there."""
    species, cell, positions = _crystal(recipe.family, parents)
    elements = tuple(sorted(set(species)))
    unit = Crystals.of([Structure(species, cell, positions)], elements)
    return _assemble(unit, _Recipes.of(recipe)).structure(0, elements, recipe.describe())


@dataclass(frozen=True, eq=False)
class Crystals:
    """Many crystals in few arrays, for compiled loops.

    cells: (n, 3, 3), rows are lattice vectors in Å; starts: (n + 1,), the atoms of crystal k are
    starts[k]:starts[k + 1] of species (n_atoms,), numbers in a tuple of elements, and of positions (n_atoms, 3) in Å.
    """

    cells: np.ndarray
    starts: np.ndarray
    species: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def n_atoms(self) -> np.ndarray:
        """Atoms of each crystal, (n,)."""
        return np.diff(self.starts)

    @classmethod
    def of(cls, structures: Sequence[Structure], elements: tuple[str, ...]) -> Crystals:
        """Raises InputError for a structure with an element that is not among `elements`."""
        species = [structure.species_index(elements) for structure in structures]
        for structure, kinds in zip(structures, species, strict=True):
            if kinds.min() < 0:
                raise InputError(
                    f"{structure.name or structure.formula} has an element that is not among {', '.join(elements)}"
                )
        return cls(
            np.array([s.cell for s in structures], dtype=np.float64).reshape(-1, 3, 3),
            np.cumsum([0, *map(len, structures)]),
            np.concatenate([np.zeros(0, dtype=np.int64), *species]),
            np.concatenate([np.zeros((0, 3)), *(s.positions for s in structures)]),
        )

    def structure(self, k: int, elements: tuple[str, ...], name: str) -> Structure:
        """Crystal number k."""
        atoms = slice(self.starts[k], self.starts[k + 1])
        species = tuple(elements[kind] for kind in self.species[atoms].tolist())
        return Structure(species, self.cells[k].copy(), self.positions[atoms].copy(), name)


@dataclass(frozen=True, eq=False)
class _Recipes:
    """Many recipes in columns (n,), what they are in `Recipe`; family: number of the crystal, strain_axes: in _STRAINS.

    repeat is (n, 3).
    """

    family: np.ndarray
    scale: np.ndarray
    repeat: np.ndarray
    strain_axes: np.ndarray
    strain: np.ndarray
    displacement: np.ndarray
    seed: np.ndarray

    @classmethod
    def of(cls, recipe: Recipe) -> _Recipes:
        """One recipe; its family is number 0."""
        return cls(
            family=np.array([0]),
            scale=np.array([recipe.scale]),
            repeat=np.array([recipe.repeat]),
            strain_axes=np.array([_STRAINS.index(recipe.strain_axes)]),
            strain=np.array([recipe.strain]),
            displacement=np.array([recipe.displacement]),
            seed=np.array([recipe.seed]),
        )

    def __getitem__(self, rows: np.ndarray) -> _Recipes:
        return _Recipes(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})


def _assemble(units: Crystals, recipes: _Recipes) -> Crystals:
    """The crystals of some recipes; units: that of each family, before it is scaled.

    Element by element, without sums whose order could depend on how many there are: a crystal is the same to the last
    bit whether it is made alone or among thousands.
    """
    scale, family, repeat = recipes.scale, recipes.family, recipes.repeat
    unit_size = units.n_atoms[family]
    sizes = unit_size * repeat.prod(axis=1)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    cells = scale[:, None, None] * units.cells[family]

    row = np.repeat(np.arange(len(sizes)), sizes)  # of each atom: its recipe, its copy of the unit, its atom there
    copy, atom = np.divmod(np.arange(starts[-1]) - starts[row], unit_size[row])
    atom += units.starts[family][row]
    positions = scale[row, None] * units.positions[atom]
    _, n_y, n_z = repeat[row].T
    for axis, steps in enumerate((copy // (n_y * n_z), copy // n_z % n_y, copy % n_z)):
        positions += steps[:, None] * cells[row, axis]
    cells *= repeat[:, :, None]

    for number, axes in enumerate(_STRAINS[1:], start=1):
        moved, along = "xyz".index(axes[0]), "xyz".index(axes[-1])
        strained = recipes.strain_axes == number
        cells[strained, :, moved] += recipes.strain[strained, None] * cells[strained, :, along]
        strained = strained[row]
        positions[strained, moved] += recipes.strain[row[strained]] * positions[strained, along]
    for k in np.flatnonzero(recipes.displacement).tolist():
        atoms = slice(starts[k], starts[k + 1])
        noise = np.random.default_rng(recipes.seed[k])
        positions[atoms] += noise.normal(0.0, recipes.displacement[k], positions[atoms].shape)
    return Crystals(cells, starts, units.species[atom], positions)


def _crystal(family: Family, parents: Mapping[str, Structure]) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Species, cell and positions of a family's crystal; a prototype's lattice constant is 1 Å."""
    if family.parent is None:
        return _prototype_crystal(family)
    if family.parent not in parents:
        raise InputError(
            f"the recipe needs the parent structure {family.parent} ({family.crystal}), which is not there"
        )
    crystal = primitive_parent(parents[family.parent]).structure.repeated(family.cells)
    species = list(crystal.species)
    for atom, element in family.substitutions:
        species[atom] = element
    return tuple(species), crystal.cell, crystal.positions


@lru_cache(maxsize=4096)
def _prototype_crystal(family: Family) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    crystal = prototype(family.crystal)
    return tuple(family.assignment[k] for k in crystal.orbits), crystal.cell, crystal.positions


class CandidatePool:
    """Exactly `design.candidates` recipes, numbered from 0, the same on every machine.

    The prototypes have half of them and the parents half. Each prototype has an equal share, and each parent; within
    it each family, but a parent with no foreign atom has at least UNDOPED of it; within a family the VARIANTS. The
    first candidate of a parent family is the parent itself, in every cycle. Perfect crystals lie on a grid over the
    range of sizes that is shifted in each cycle; strains, displacements and the sizes that go with them are drawn at
    random.

    elements: of the campaign (their order does not matter); parents: structures by id; seed: of the campaign;
    skipped: a sentence for each prototype or parent that is not used, for the caller to show.
    Raises ConfigError when nothing is left to make candidates of.
    """

    def __init__(
        self,
        elements: tuple[str, ...],
        design: Design,
        parents: Mapping[str, Structure],
        seed: int = 0,
        cycle: int = 0,
    ) -> None:
        self.elements = tuple(sorted(elements))
        self.design = design
        self.parents = dict(parents)
        self.seed = seed
        self.cycle = cycle
        prototypes, known, self.skipped = self._sources()
        sources = [*prototypes, *known]
        if not sources:
            raise ConfigError(
                "there is nothing to make candidates of: "
                + ("; ".join(self.skipped) or "design.prototypes is empty and there are no parents")
            )
        self.families: tuple[Family, ...] = tuple(family for source in sources for family in source)
        halves = iter(self._shares(design.candidates, bool(prototypes) + bool(known)).tolist())
        totals = [self._shares(next(halves), len(half)) for half in (prototypes, known) if half]
        shares = []
        for source, share in zip(sources, np.concatenate(totals).tolist(), strict=True):
            least = math.ceil(UNDOPED * share) if source[0].parent is not None and len(source) * UNDOPED > 1 else 0
            if least:
                shares.append(np.concatenate([[least], self._shares(share - least, len(source) - 1)]))
            else:
                shares.append(self._shares(share, len(source)))
        #: (n_families + 1,): the recipes of family f are first[f] ... first[f + 1] - 1
        self._first = np.concatenate([[0], np.cumsum(np.concatenate(shares))])
        crystals = [Structure(*_crystal(family, self.parents)) for family in self.families]
        self._units = Crystals.of(crystals, self.elements)
        self._recipes = self._draw()

    def __len__(self) -> int:
        return self.design.candidates

    def shard(self, k: int, n: int) -> range:
        """Numbers of the recipes of shard k of n. Strided, so that every shard has its part of the large cells."""
        return range(k, len(self), n)

    def structure(self, index: int) -> Structure:
        """The crystal of recipe `index`."""
        return self.structures([index])[0]

    def structures(self, indices: Sequence[int]) -> list[Structure]:
        """The crystals of some recipes, as `build` makes each of them, to the bit."""
        crystals = self.crystals(indices)
        names = [self.recipe(index).describe() for index in indices]
        return [crystals.structure(k, self.elements, name) for k, name in enumerate(names)]

    def crystals(self, indices: Sequence[int] | np.ndarray) -> Crystals:
        """The same in arrays, for counting; species are numbers in the pool's `elements`."""
        return _assemble(self._units, self._recipes[np.asarray(indices, dtype=np.int64)])

    def crystal_names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The prototype or parent that each of some recipes is made from."""
        families = self._recipes.family[np.asarray(indices, dtype=np.int64)]
        return [self.families[family].crystal for family in families.tolist()]

    def recipe(self, index: int) -> Recipe:
        """Recipe number `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"candidate {index} of a pool of {len(self)}")
        recipes = self._recipes
        x, y, z = recipes.repeat[index].tolist()
        return Recipe(
            index=index,
            family=self.families[recipes.family[index]],
            scale=float(recipes.scale[index]),
            repeat=(x, y, z),
            strain_axes=_STRAINS[recipes.strain_axes[index]],
            strain=float(recipes.strain[index]),
            displacement=float(recipes.displacement[index]),
            seed=int(recipes.seed[index]),
        )

    def alike(self, recipe: Recipe) -> np.ndarray:
        """Which recipes are the same decorated prototype and, to ALIKE, of the same size, (n,); of a parent: none.

        What a reference refuses for its size (compressed, expanded) it refuses for all of these.
        """
        if recipe.family.parent is not None or recipe.family not in self.families:
            return np.zeros(len(self), dtype=bool)
        same = self._recipes.family == self.families.index(recipe.family)
        return same & (np.abs(self._recipes.scale / recipe.scale - 1) < ALIKE)

    @property
    def of_parent(self) -> np.ndarray:
        """Which recipes are made from a parent, (n,)."""
        return np.array([family.parent is not None for family in self.families])[self._recipes.family]

    @property
    def unvaried(self) -> np.ndarray:
        """Which recipes are a parent, or a doped one, as it is: neither scaled nor strained nor displaced, (n,)."""
        recipes = self._recipes
        return self.of_parent & (recipes.scale == 1.0) & (recipes.strain == 0.0) & (recipes.displacement == 0.0)

    def _draw(self) -> _Recipes:
        """All recipes. Recipe i depends on row i of the drawn numbers, on nothing else that is drawn."""
        design, n, n_families = self.design, len(self), len(self.families)
        rng = np.random.default_rng([self.seed, self.cycle])
        grid_shift = rng.random()
        size, amount, direction, noise, moved = rng.random((n, 5)).T

        sizes = np.diff(self._first)
        family = np.repeat(np.arange(n_families), sizes)
        number = np.arange(n) - self._first[family]  # in its family
        # each family starts somewhere else in the row: a family with a single candidate is not always perfect
        rows = []
        for f, one in enumerate(self.families):
            row = VARIANTS if one.parent is None else PARENT_VARIANTS
            rows.append([self._possible(variant, f) for variant in _rotated(row, f + self.cycle)])
        of_parent = np.array([one.parent is not None for one in self.families])[family]
        itself = of_parent & (number == 0)
        variant = np.where(itself, "itself", np.array(rows)[family, (number - of_parent) % len(VARIANTS)])
        perfect, displaced = variant == "perfect", np.isin(variant, ("displaced", "scaled"))
        near = np.isin(variant, ("displaced", "strained")) & of_parent
        uniaxial, shear = variant == "uniaxial", variant == "shear"

        low, high = np.array([self._range_of_scales(f) for f in self.families])[family].T
        low, high = (np.where(near, np.clip(1 + s * NEAR_PARENT, low, high), e) for s, e in ((-1, low), (1, high)))
        # perfect crystals of a family: a grid; how many of them come before each, and how many there are
        before = np.cumsum(perfect) - perfect
        before -= before[self._first[family]]
        on_grid = (before + grid_shift) / np.maximum(np.bincount(family, perfect, n_families)[family], 1)
        axis = np.select(
            [uniaxial, shear, near & (design.max_strain > 0)],
            [
                1 + (direction * len(_UNIAXIAL)).astype(int),
                1 + len(_UNIAXIAL) + (direction * len(_SHEAR)).astype(int),
                1 + (direction * (len(_STRAINS) - 1)).astype(int),
            ],
        )
        less = np.where(of_parent, 1 - LEAST_OF_PARENTS, 1.0)
        repeats = np.array([self._repeat(f) for f in range(n_families)])
        return _Recipes(
            family=family,
            scale=np.where(itself, 1.0, low + (high - low) * np.where(perfect, on_grid, size)),
            repeat=np.where(displaced[:, None], repeats[family], 1),
            strain_axes=axis,
            strain=np.where(axis > 0, design.max_strain * (2 * amount - 1), 0.0),
            # never 0 if displaced
            displacement=np.where(displaced, design.max_displacement * (1 - moved * less), 0.0),
            seed=np.where(displaced, (noise * 2**31).astype(np.int64), 0),
        )

    def _possible(self, variant: str, f: int) -> str:
        """The variant itself, or another where the settings or the cell leave nothing to vary: at last "perfect"."""
        if variant in ("uniaxial", "shear") and self.design.max_strain == 0:
            return "perfect"
        if variant in ("displaced", "scaled"):
            x, y, z = self._repeat(f)
            if self.design.max_displacement == 0 or self._units.n_atoms[f] * x * y * z == 1:
                if variant == "scaled":
                    return "perfect"
                strained = self.families[f].parent is not None and self.design.max_strain > 0
                return "strained" if strained else "perfect"
        return variant

    def _repeat(self, f: int) -> tuple[int, int, int]:
        """The fewest cells with MIN_DISPLACED_ATOMS, or as many as max_atoms allows."""
        n = int(self._units.n_atoms[f])
        allowed = [r for r in _REPEATS if n * r[0] * r[1] * r[2] <= self.design.max_atoms]
        enough = [r for r in allowed if n * r[0] * r[1] * r[2] >= MIN_DISPLACED_ATOMS]
        return (enough or allowed[::-1])[0]

    def _sources(self) -> tuple[list[tuple[Family, ...]], list[tuple[Family, ...]], tuple[str, ...]]:
        """Families of each prototype and of each parent that can be used, and why the others cannot."""
        design, skipped = self.design, []
        names = tuple(dict.fromkeys(design.prototypes))
        large = [name for name in names if len(prototype(name)) > design.max_atoms]
        for name in large:
            skipped.append(
                f"prototype {name} is not used: its primitive cell has {len(prototype(name))} atoms, "
                f"more than design.max_atoms = {design.max_atoms}"
            )
        names = tuple(name for name in names if name not in large)
        found = families(names, self.elements)
        decorated = [tuple(family for family in found if family.crystal == name) for name in names]
        known = []
        for _, parent in sorted(self.parents.items()):
            try:
                known.append(parent_families(parent, self.elements, design.max_atoms))
            except InputError as error:
                skipped.append(str(error))
        return [source for source in decorated if source], known, tuple(skipped)

    def _range_of_scales(self, family: Family) -> tuple[float, float]:
        design = self.design
        if family.parent is not None:
            return design.parent_scale
        if design.lattice_scan == "constants":
            return design.constant_range
        low, high = design.bond_range
        return low / shortest_bond(family), high / shortest_bond(family)

    def _shares(self, total: int, parts: int) -> np.ndarray:
        """`total` divided into `parts` that differ by 1 at most; who has the 1 more moves on from cycle to cycle."""
        steps = np.arange(parts + 1) * total + (self.seed + self.cycle) * total % parts
        return np.diff(steps // parts)


def _rotated(row: tuple[str, ...], by: int) -> list[str]:
    by %= len(row)
    return [*row[by:], *row[:by]]
