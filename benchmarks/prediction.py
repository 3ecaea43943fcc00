"""Energy and forces of one structure, neighbour search included, against a TorchANI model of the same width.

Both have 57 features, networks 57-60-60-1 (tanh, one per element, Al, Fe and Pt), a cutoff of 4.0 Å, and double
precision; weights are random. `Hdnnp.predict` gives the stress as well. TorchANI: `AEVComputer` with 3 radial shifts
per element and 2 × 4 angular terms per pair of elements (its angular cutoff must be the smaller one: 3.9999 Å),
`ANINetworks`, forces by autograd. Its features are ANI's, so that values cannot be compared, and it counts all
triplets where our narrow functions need those with three sides below the cutoff. The goal is about its default
neighbour list, `all_pairs`, whose work grows with the square of the number of atoms; its `cell_list`, which has to be
asked for, is measured too. Times are per structure; all go through the first five structures in turn, in one thread.
"""

from __future__ import annotations

import os

os.environ |= {
    name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
}
os.environ["TORCHANI_NO_WARN_EXTENSIONS"] = "1"

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase.io import read
from common import arguments, finish, for_each, medians_in_turn, versions
from rich.table import Table

from kmde_fw.config import Descriptor
from kmde_fw.hdnnp import Hdnnp, SymmetryFunctions
from kmde_fw.hdnnp.network import initial_weights, n_parameters
from kmde_fw.neighbours import find_neighbours
from kmde_fw.records import Structure

DATA = Path(__file__).parents[1] / "fw_specs" / "al_fe_pt"
ELEMENTS = ("Al", "Fe", "Pt")
HIDDEN = (60, 60)
CUTOFF = Descriptor().cutoff
REPEATS = 7
STRUCTURES = 5
#: TorchANI's seconds over ours, by number of atoms
GOALS = {102: 10, 204: 25}


def main() -> None:
    """Measure, print."""
    options = arguments(__doc__)
    torch.set_num_threads(1)
    ours = model()
    table = Table("atoms", "ours", "TorchANI, default", "ratio", "TorchANI, cell_list", "ratio")
    sizes = []
    for name in ("train.extxyz", "target.extxyz"):
        structures = [Structure.from_atoms(atoms) for atoms in read(DATA / name, f":{STRUCTURES}")]
        n_atoms = len(structures[0])
        medians = medians_in_turn(
            [
                for_each(ours.predict, structures),
                for_each(torchani_prediction("all_pairs"), structures),
                for_each(torchani_prediction("cell_list"), structures),
            ],
            REPEATS,
        )
        own, default, cell_list = (seconds / len(structures) for seconds in medians)
        sizes.append(
            {
                "atoms": n_atoms,
                "ours_seconds": own,
                "torchani_default_seconds": default,
                "torchani_cell_list_seconds": cell_list,
                "ratio": default / own,
                "ratio_cell_list": cell_list / own,
                "goal": GOALS[n_atoms],
                "pairs": sum(len(find_neighbours(s, CUTOFF).distances) for s in structures) / len(structures),
            }
        )
        times = f"{1e3 * own:.2f} ms", f"{1e3 * default:.1f} ms", f"{default / own:.1f}"
        table.add_row(str(n_atoms), *times, f"{1e3 * cell_list:.1f} ms", f"{cell_list / own:.1f}")
    result = {
        "row": "energy, forces (and stress) of 102 atoms; 204 below",
        "ours_seconds": sizes[0]["ours_seconds"],
        "peers": {
            "TorchANI": sizes[0]["torchani_default_seconds"],
            "TorchANI with cell_list": sizes[0]["torchani_cell_list_seconds"],
        },
        "ratios": {"TorchANI": sizes[0]["ratio"], "TorchANI with cell_list": sizes[0]["ratio_cell_list"]},
        "goal": ", ".join(f"≥ {goal} times TorchANI for {atoms} atoms" for atoms, goal in GOALS.items()),
        "reached": all(size["ratio"] >= size["goal"] for size in sizes),
        "sizes": sizes,
        "parameters": n_parameters(len(ELEMENTS), 57, HIDDEN),
        "versions": versions("torchani", "torch", "numba", "numpy"),
    }
    table.title = str(result["row"])
    finish(result, options.json, table)


def model() -> Hdnnp:
    """A model with random weights: what it costs does not depend on them."""
    descriptor = Descriptor()
    shape = (len(ELEMENTS), len(SymmetryFunctions(ELEMENTS, descriptor)))
    return Hdnnp(
        elements=ELEMENTS,
        descriptor=descriptor,
        hidden=HIDDEN,
        weights=initial_weights(*shape, HIDDEN, np.random.default_rng(0)),
        center=np.zeros(shape),
        scale=np.ones(shape),
        offsets=np.zeros(len(ELEMENTS)),
        minimum=np.zeros(shape),
        maximum=np.ones(shape),
    )


def torchani_prediction(neighbour_list: str) -> Callable[[Structure], torch.Tensor]:
    """A function that gives the forces (n, 3) of a structure."""
    from torchani.aev import AEVComputer, ANIAngular, ANIRadial
    from torchani.nn import ANINetworks, AtomicNetwork

    radial = ANIRadial(eta=4.0, shifts=[1.0, 2.0, 3.0], cutoff=4.0)
    angular = ANIAngular(eta=4.0, zeta=8.0, shifts=[1.0, 2.5], sections=[0.4, 1.2, 2.0, 2.8], cutoff=3.9999)
    features = AEVComputer(radial=radial, angular=angular, num_species=len(ELEMENTS), neighborlist=neighbour_list)
    layers = features.out_dim, *HIDDEN, 1
    assert layers[0] == 57
    networks = ANINetworks({e: AtomicNetwork(layers, activation=torch.nn.Tanh(), bias=True) for e in ELEMENTS})
    features, networks = features.double(), networks.double()
    periodic = torch.ones(3, dtype=torch.bool)

    def predict(structure: Structure) -> torch.Tensor:
        species = torch.from_numpy(structure.species_index(ELEMENTS))[None]
        positions = torch.from_numpy(structure.positions)[None].clone().requires_grad_()
        aevs = features(species, positions, torch.from_numpy(structure.cell), periodic)
        (slope,) = torch.autograd.grad(networks(species, aevs).sum(), positions)
        return -slope[0]

    return predict


if __name__ == "__main__":
    main()
