"""A model as files that n2p2 and LAMMPS' `pair_style hdnnp` read, in eV and Å."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from ase.data import atomic_masses, atomic_numbers

from kmde_fw import __version__
from kmde_fw.errors import ModelError
from kmde_fw.hdnnp.model import Hdnnp
from kmde_fw.hdnnp.n2p2.functions import Function, by_number, functions_of
from kmde_fw.hdnnp.network import Layers, split_weights

SETTINGS, SCALING, LAMMPS = "input.nn", "scaling.data", "pair_hdnnp.lmp"
#: our names of cutoff functions -> n2p2's numbers, and formulas
CUTOFF_TYPES = {
    "cosine": (1, "(cos(pi x) + 1) / 2"),
    "tanh3": (2, "tanh(1 - x)^3"),
    "poly2": (6, "1 - 10 x^3 + 15 x^4 - 6 x^5"),
}
#: what input.nn says of itself, so that it can be read back without being told the units
UNITS_LINE = "# Length unit: Angstrom. Energy unit: eV."
#: beyond every value of a symmetry function: a function that is limited by this and has scale 0 is not there
UNLIMITED = 1e300
#: neighbours that LAMMPS finds are so much (Å) farther away than the cutoff: it must not be smaller
SKIN = 0.01
#: the largest number that LAMMPS takes for maxew
NEVER = 2**31 - 1


def weights_file(element: str) -> str:
    """Name of the file with the weights of an element."""
    return f"weights.{atomic_numbers[element]:03d}.data"


def n2p2_files(model: Hdnnp, name: str, folder: str = ".") -> dict[str, str]:
    """File name -> text: input.nn, scaling.data, weights.*.data, and lines for a LAMMPS input.

    name: of the model, for comments; folder: where LAMMPS will find the files. Energies, forces and virials that n2p2
    computes of them are those of the model to rounding. A function that the networks do not see (scale 0) has weights
    0 and sigma 1; it is left out if it has no limits either. Raises ModelError for networks that n2p2 does not take.
    """
    if not model.hidden:
        raise ModelError(
            f"{name} has no hidden layer, and n2p2 takes no network without; train one with `network.hidden`"
        )
    elements = by_number(model.elements)
    written = {element: written_functions(model, element) for element in elements}
    files = {
        SETTINGS: "\n".join(_settings(model, name, written)) + "\n",
        SCALING: "".join(_scaling(model, written)),
    }
    networks = split_weights(
        torch.from_numpy(model.weights), len(model.elements), len(model.symmetry_functions), model.hidden
    )
    for element in elements:
        k = model.elements.index(element)
        columns = [column for _, column in written[element]]
        seen = model.scale[k, columns] != 0
        files[weights_file(element)] = "".join(_weights(name, element, networks[k], columns, seen))
    files[LAMMPS] = "\n".join(_lammps(model, name, elements, folder)) + "\n"
    return files


def written_functions(model: Hdnnp, element: str) -> list[tuple[Function, int]]:
    """The functions of an element with their columns, in n2p2's order."""
    k = model.elements.index(element)
    there = (model.scale[k] != 0) | (np.abs(model.minimum[k]) != UNLIMITED) | (np.abs(model.maximum[k]) != UNLIMITED)
    functions = functions_of(model.descriptor, model.elements, element)
    pairs = [(function, column) for column, function in enumerate(functions) if there[column]]
    return sorted(pairs, key=lambda pair: pair[0].order)


def _settings(model: Hdnnp, name: str, written: dict[str, list[tuple[Function, int]]]) -> Iterator[str]:
    """The lines of input.nn."""
    elements = list(written)
    yield f"# {name}, written by kmde_fw {__version__} for n2p2 and LAMMPS' pair_style hdnnp."
    yield UNITS_LINE
    number, formula = CUTOFF_TYPES[model.descriptor.cutoff_function]
    yield f"# G2: exp(-eta (r - rshift)^2) fc(x), narrow G3; fc(x) = {formula}, x = r / rcutoff."
    yield "# Inputs of the networks are (G - mean) / sigma, hidden layers are tanh, outputs linear, in eV;"
    yield "# atom_energy is what is added to the output of each atom of an element."
    yield ""
    yield f"number_of_elements {len(elements)}"
    yield f"elements {' '.join(elements)}"
    for element in elements:
        yield f"atom_energy {element} {_number(model.offsets[model.elements.index(element)])}"
    yield f"cutoff_type {number}"
    yield "scale_symmetry_functions_sigma"
    yield "scale_min_short 0.0"
    yield "scale_max_short 1.0"
    yield f"global_hidden_layers_short {len(model.hidden)}"
    yield f"global_nodes_short {' '.join(map(str, model.hidden))}"
    yield f"global_activation_short {'t ' * len(model.hidden)}l"
    yield ""
    yield "# symfunction_short <centre> 2 <neighbour> <eta> <rshift> <rcutoff>"
    yield "# symfunction_short <centre> 3 <neighbour> <neighbour> <eta> <lambda> <zeta> <rcutoff>"
    for element in elements:
        yield from (function.line for function, _ in written[element])


def _scaling(model: Hdnnp, written: dict[str, list[tuple[Function, int]]]) -> Iterator[str]:
    """scaling.data: of each function of each element its minimum, maximum, mean and sigma in the training data."""
    yield f"# {'e_index':>8} {'sf_index':>10} {'sf_min':>24} {'sf_max':>24} {'sf_mean':>24} {'sf_sigma':>24}\n"
    for e, (element, functions) in enumerate(written.items(), start=1):
        k = model.elements.index(element)
        for f, (_, column) in enumerate(functions, start=1):
            scale = model.scale[k, column]
            sigma = 1.0 / scale if scale != 0 else 1.0
            numbers = (model.minimum[k, column], model.maximum[k, column], model.center[k, column], sigma)
            yield f"{e:10d} {f:10d} {' '.join(map(_number, numbers))}\n"


def _weights(name: str, element: str, layers: Layers, columns: Sequence[int], seen: np.ndarray) -> Iterator[str]:
    """weights.*.data: layer by layer, all weights from one node to the next layer's, node after node; then biases."""
    yield f"# Weights (a) and biases (b) of {element} of {name}, written by kmde_fw {__version__}.\n"
    yield f"# {'connection':>22} t {'index':>9} {'l_s':>5} {'n_s':>5} {'l_e':>5} {'n_e':>5}\n"
    index = 0
    for end, (tensor, bias) in enumerate(layers, start=1):
        weight = tensor.numpy()
        if end == 1:
            weight = np.where(seen, weight[:, columns], 0.0)
        for start_node in range(weight.shape[1]):
            for end_node in range(weight.shape[0]):
                index += 1
                value = _number(weight[end_node, start_node])
                yield f"{value} a {index:9d} {end - 1:5d} {start_node + 1:5d} {end:5d} {end_node + 1:5d}\n"
        for node, value in enumerate(bias.numpy(), start=1):
            index += 1
            yield f"{_number(value)} b {index:9d} {end:5d} {node:5d}\n"


def _lammps(model: Hdnnp, name: str, elements: Sequence[str], folder: str) -> Iterator[str]:
    """Lines for a LAMMPS input."""
    types = ", ".join(f"{k} {element}" for k, element in enumerate(elements, start=1))
    cutoff = model.descriptor.cutoff + SKIN
    yield f"# {name}, for LAMMPS with the package ML-HDNNP, in units metal (eV, Angstrom)."
    yield f"# Atom types: {types}. Other types: other elements, or NULL, in the order of the types in pair_coeff."
    yield "# In an input, once the box is there: include " + LAMMPS
    place = f'"{folder}"'
    if " " not in folder:  # LAMMPS puts no variables into quotes
        place = "${hdnnp_dir}"
        yield "# Where LAMMPS is started elsewhere: -var hdnnp_dir /where/the/files/are"
        yield f"variable hdnnp_dir index {folder}"
    for k, element in enumerate(elements, start=1):
        yield f"mass {k} {atomic_masses[atomic_numbers[element]]:.6g}"
    yield "# What leaves the training range is counted and reported every 100 steps ('### NNP EW SUMMARY ###'), and"
    yield "# never ends the run: the limit, maxew, is for the warnings of one step (resetew yes)."
    yield "# showew yes: every one is written, with atom, symmetry function, value and limits."
    yield f"pair_style hdnnp {cutoff:g} dir {place} showew no showewsum 100 resetew yes maxew {NEVER}"
    yield f"pair_coeff * * {' '.join(elements)}"


def _number(value: float) -> str:
    """A number with all its digits, 24 characters wide."""
    return f"{float(value):24.16E}"
