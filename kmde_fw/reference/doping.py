"""Doped cells of a crystal: its inequivalent sites, supercells, one atom replaced. Pure functions."""

from __future__ import annotations

import warnings
from contextlib import suppress

import numpy as np
import spglib
from ase.data import atomic_numbers

from kmde_fw.errors import InputError
from kmde_fw.records import Structure


def inequivalent_sites(structure: Structure, symprec: float = 1e-2) -> np.ndarray:
    """The crystallographic site of each atom, shape (n,), numbered by first appearance; symprec in Å.

    Symmetry does not know the unit cell: in a supercell, atoms that a lattice translation maps onto one another share a
    site.
    """
    numbers = [atomic_numbers[s] for s in structure.species]
    fractional = structure.positions @ np.linalg.inv(structure.cell)
    dataset = None
    # SpglibError, or None from versions that only announce the error: both are said below
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning), suppress(spglib.SpglibError):
        dataset = spglib.get_symmetry_dataset((structure.cell, fractional, numbers), symprec=symprec)
    if dataset is None:
        raise InputError(f"{structure.name}: spglib finds no symmetry in it; check its cell and positions")
    # an orbit is known by its first atom, so sorting orbits sorts by first appearance
    return np.unique(dataset.crystallographic_orbits, return_inverse=True)[1]


def site_names(structure: Structure, sites: np.ndarray) -> list[str]:
    """Name of each site: its element, and a number counted from 1 within that element: Fe1, Fe2, ..., Al1, ..."""
    counts: dict[str, int] = {}
    names = []
    for site in range(int(sites.max()) + 1):
        element = structure.species[first_atom(sites, site)]
        counts[element] = counts.get(element, 0) + 1
        names.append(f"{element}{counts[element]}")
    return names


def first_atom(sites: np.ndarray, site: int) -> int:
    """Index of the first atom on a site."""
    return int(np.flatnonzero(sites == site)[0])


def substitute(structure: Structure, atom: int, element: str) -> Structure:
    """The same structure with one atom replaced."""
    species = (*structure.species[:atom], element, *structure.species[atom + 1 :])
    return Structure(species, structure.cell, structure.positions, structure.name)
