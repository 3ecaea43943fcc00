"""Candidate surrogates: recipes, and the pool of them that a cycle chooses from. METHOD section 3.

A recipe says everything that is needed to build a crystal again; a pool is a numbered set of recipes that is computed,
not stored: recipe i of a pool is the same on every machine, however many machines share the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from kmde_fw.config import Design
from kmde_fw.core.prototypes import Family, families, parent_families, primitive_parent, prototype, shortest_bond
from kmde_fw.errors import ConfigError, InputError
from kmde_fw.records import Structure

#: what the candidates of one family are, over and over: 2/5 perfect crystals, 1/5 each of the others
VARIANTS = ("perfect", "uniaxial", "perfect", "shear", "displaced")
#: cells are repeated before their atoms are displaced at random: displacing the only atom of a cell does nothing
MIN_DISPLACED_ATOMS = 4
_REPEATS = ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2))
_UNIAXIAL = ("x", "y", "z")
_SHEAR = ("xy", "xz", "yx", "yz", "zx", "zy")


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
        substitution = self.family.substitution
        return {
            "index": self.index,
            "crystal": self.family.crystal,
            "assignment": list(self.family.assignment),
            "parent": self.family.parent,
            "substitution": None if substitution is None else {"atom": substitution[0], "element": substitution[1]},
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
        substitution = document["substitution"]
        family = Family(
            document["crystal"],
            tuple(document["assignment"]),
            document["parent"],
            None if substitution is None else (int(substitution["atom"]), substitution["element"]),
        )
        x, y, z = document["repeat"]
        return cls(
            index=int(document["index"]),
            family=family,
            scale=float(document["scale"]),
            repeat=(int(x), int(y), int(z)),
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
            if family.substitution is not None:
                text += f", {family.substitution[1]} on site {family.substitution[0]}"
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


def build(recipe: Recipe, parents: Mapping[str, Structure]) -> Structure:
    """The crystal of a recipe. parents: by structure id; only a recipe with a parent needs it there."""
    species, cell, positions = _crystal(recipe.family, parents)
    cell, positions = recipe.scale * cell, recipe.scale * positions
    if recipe.repeat != (1, 1, 1):
        shifts = np.indices(recipe.repeat).reshape(3, -1).T @ cell
        positions = (shifts[:, None, :] + positions).reshape(-1, 3)
        cell = cell * np.array(recipe.repeat)[:, None]
        species = species * len(shifts)
    if recipe.strain_axes:
        deformation = np.eye(3)
        deformation["xyz".index(recipe.strain_axes[0]), "xyz".index(recipe.strain_axes[-1])] += recipe.strain
        cell, positions = cell @ deformation.T, positions @ deformation.T
    if recipe.displacement:
        positions = positions + np.random.default_rng(recipe.seed).normal(0.0, recipe.displacement, positions.shape)
    return Structure(species, cell, positions, recipe.describe())


def _crystal(family: Family, parents: Mapping[str, Structure]) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Species, cell and positions of a family's crystal; a prototype's lattice constant is 1 Å."""
    if family.parent is None:
        return _prototype_crystal(family)
    if family.parent not in parents:
        raise InputError(
            f"the recipe needs the parent structure {family.parent} ({family.crystal}), which is not there"
        )
    crystal = primitive_parent(parents[family.parent]).structure
    species = list(crystal.species)
    if family.substitution is not None:
        atom, element = family.substitution
        species[atom] = element
    return tuple(species), crystal.cell, crystal.positions


@lru_cache(maxsize=4096)
def _prototype_crystal(family: Family) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    crystal = prototype(family.crystal)
    return tuple(family.assignment[k] for k in crystal.orbits), crystal.cell, crystal.positions


class CandidatePool:
    """Exactly `design.candidates` recipes, numbered from 0, the same on every machine.

    Each prototype and each parent has an equal share, within it each family, within a family the VARIANTS. Perfect
    crystals lie on a grid over the range of sizes that is shifted in each cycle; strains, displacements and the sizes
    that go with them are drawn at random.

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
        sources, self.skipped = self._sources()
        if not sources:
            raise ConfigError(
                "there is nothing to make candidates of: "
                + ("; ".join(self.skipped) or "design.prototypes is empty and there are no parents")
            )
        self.families: tuple[Family, ...] = tuple(family for source in sources for family in source)
        shares = []
        for source, share in zip(sources, self._shares(design.candidates, len(sources)), strict=True):
            shares.append(self._shares(int(share), len(source)))
        #: (n_families + 1,): the recipes of family f are first[f] ... first[f + 1] - 1
        self._first = np.concatenate([[0], np.cumsum(np.concatenate(shares))])
        self._grid_shift = float(np.random.default_rng([seed, cycle]).random())
        self._ranges = [self._range_of_scales(family) for family in self.families]
        self._sizes = [self._size(family) for family in self.families]

    def __len__(self) -> int:
        return self.design.candidates

    def shard(self, k: int, n: int) -> range:
        """Numbers of the recipes of shard k of n. Strided, so that every shard has its part of the large cells."""
        return range(k, len(self), n)

    def structure(self, index: int) -> Structure:
        """The crystal of recipe `index`."""
        return build(self.recipe(index), self.parents)

    def recipe(self, index: int) -> Recipe:
        """Recipe number `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"candidate {index} of a pool of {len(self)}")
        f = int(np.searchsorted(self._first, index, side="right")) - 1
        j, n_family = index - int(self._first[f]), int(self._first[f + 1] - self._first[f])
        design, (low, high) = self.design, self._ranges[f]
        # each family starts somewhere else in the row: a family with a single candidate is not always perfect
        variants = [self._possible(variant, f) for variant in _rotated(VARIANTS, f + self.cycle)]
        variant = variants[j % len(variants)]
        perfect = Recipe(index, self.families[f], low)
        if variant == "perfect":
            k, n_perfect = _count(variants, "perfect", j), _count(variants, "perfect", n_family)
            return replace(perfect, scale=low + (high - low) * (k + self._grid_shift) / n_perfect)
        rng = np.random.default_rng([self.seed, self.cycle, index])
        recipe = replace(perfect, scale=float(rng.uniform(low, high)))
        if variant == "displaced":
            displacement = float(design.max_displacement * (1.0 - rng.random()))  # never 0
            return replace(recipe, repeat=self._repeat(f), displacement=displacement, seed=int(rng.integers(2**31)))
        axes = _UNIAXIAL if variant == "uniaxial" else _SHEAR
        strain = float(rng.uniform(-design.max_strain, design.max_strain))
        return replace(recipe, strain_axes=axes[rng.integers(len(axes))], strain=strain)

    def _possible(self, variant: str, f: int) -> str:
        """The variant itself, or "perfect" where the settings or the cell leave nothing to vary."""
        if variant in ("uniaxial", "shear") and self.design.max_strain == 0:
            return "perfect"
        if variant == "displaced":
            x, y, z = self._repeat(f)
            if self.design.max_displacement == 0 or self._sizes[f] * x * y * z == 1:
                return "perfect"
        return variant

    def _repeat(self, f: int) -> tuple[int, int, int]:
        """The fewest cells with MIN_DISPLACED_ATOMS, or as many as max_atoms allows."""
        allowed = [r for r in _REPEATS if self._sizes[f] * r[0] * r[1] * r[2] <= self.design.max_atoms]
        enough = [r for r in allowed if self._sizes[f] * r[0] * r[1] * r[2] >= MIN_DISPLACED_ATOMS]
        return (enough or allowed[::-1])[0]

    def _sources(self) -> tuple[list[tuple[Family, ...]], tuple[str, ...]]:
        """Families of each prototype and parent that can be used, and why the others cannot."""
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
        sources = [tuple(family for family in found if family.crystal == name) for name in names]
        for _, parent in sorted(self.parents.items()):
            try:
                sources.append(parent_families(parent, self.elements, design.max_atoms))
            except InputError as error:
                skipped.append(str(error))
        return [source for source in sources if source], tuple(skipped)

    def _size(self, family: Family) -> int:
        if family.parent is None:
            return len(prototype(family.crystal))
        return len(primitive_parent(self.parents[family.parent]).structure)

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


def _count(row: list[str], item: str, n: int) -> int:
    """How often `item` is among the first n of `row` repeated for ever."""
    return n // len(row) * row.count(item) + row[: n % len(row)].count(item)
