"""A potential of n2p2 or RuNNer as a model of ours, where it can be represented; what cannot be is refused by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from pydantic import ValidationError

from kmde_fw.config import Descriptor
from kmde_fw.errors import InputError
from kmde_fw.hdnnp.model import Hdnnp
from kmde_fw.hdnnp.n2p2.functions import ANGULAR, FOREIGN_TYPES, RADIAL, Function, by_number, functions_of
from kmde_fw.hdnnp.n2p2.keywords import Entry, Keywords, read_text
from kmde_fw.hdnnp.n2p2.units import Units, stated_units
from kmde_fw.hdnnp.n2p2.write import CUTOFF_TYPES, SCALING, SETTINGS, UNLIMITED, weights_file
from kmde_fw.hdnnp.network import layer_shapes

#: n2p2's cutoff functions that are not ours, by number
FOREIGN_CUTOFFS = {
    0: "hard", 3: "scaled tanh³", 4: "exponential", 5: "polynomial of degree 3", 7: "polynomial of degree 7",
    8: "polynomial of degree 9",
}  # fmt: skip
ACTIVATIONS = {
    "l": "linear", "p": "softplus", "r": "ReLU", "g": "Gaussian", "c": "cosine", "e": "exponential", "h": "harmonic",
}  # fmt: skip
#: hidden activations that are tanh with other weights: (a, b, c) of a + b·tanh(c·x)
AS_TANH = {"t": (0.0, 1.0, 1.0), "s": (0.5, 0.5, 0.5), "S": (0.5, -0.5, 0.5)}


@dataclass(frozen=True, eq=False)
class Potential:
    """A potential from its files.

    model: ours, with the same energies and forces, in eV and Å. n_functions: symmetry functions of each element in the
    files; where the model's grid has more, those have no influence (scale 0). units: of the files.
    """

    model: Hdnnp
    n_functions: dict[str, int]
    units: Units


def units_of(keywords: Keywords, given: Units | None) -> Units:
    """What the user says, else what the file's comments say. InputError if nobody says it, or both and differently."""
    stated = stated_units(keywords.comments)
    if given is None and stated is None:
        raise InputError(
            f"{keywords.path}: does not say which units it is in; say it: --length angstrom or bohr, "
            "--energy ev or hartree"
        )
    if given is not None and stated is not None and given != stated:
        raise InputError(f"{keywords.path}: says that it is in {stated.text}, and you say {given.text}")
    return given or stated or Units()


def read_potential(folder: Path, given: Units | None = None) -> Potential:
    """Read input.nn, scaling.data and weights.*.data. Raises InputError, one sentence, for what cannot be used.

    given: the units of the files; None: as their comments say. With normalisation (mean_energy, conv_energy,
    conv_length) they are those of the data before it.
    """
    keywords = Keywords(folder / SETTINGS)
    units = units_of(keywords, given)
    _check_kind(keywords)
    elements = elements_of(keywords)
    hidden, activations = _network(keywords)
    functions = _functions(keywords, elements)
    descriptor = _descriptor(keywords, functions, units)
    conv_energy, mean_energy = _normalisation(keywords)
    rows = _scaling(folder / SCALING, functions)
    ours = tuple(sorted(elements))
    offsets = _atom_energies(keywords, ours) + mean_energy

    table = (len(ours), len(functions_of(descriptor, ours, ours[0])))
    center, scale = np.zeros(table), np.zeros(table)
    minimum, maximum = np.full(table, -UNLIMITED), np.full(table, UNLIMITED)
    parts = []
    for k, element in enumerate(ours):
        grid = {function: column for column, function in enumerate(functions_of(descriptor, ours, element))}
        columns = [grid[_in_angstrom(function, units)] for function in functions[element]]
        low, high, mean, sigma = rows[element].T
        minimum[k, columns], maximum[k, columns] = low, high
        center[k, columns], scale[k, columns] = _center_and_scale(keywords, folder, element, low, high, mean, sigma)
        path = folder / weights_file(element)
        layers = _layers(path, layer_shapes(len(columns), hidden), activations, "normalize_nodes" in keywords)
        layers[-1] = tuple(array * units.ev / conv_energy for array in layers[-1])  # type: ignore[assignment]
        first = np.zeros((len(layers[0][0]), table[1]))
        first[:, columns] = layers[0][0]
        layers[0] = first, layers[0][1]
        parts += [array.ravel() for layer in layers for array in layer]
    names = (SETTINGS, SCALING, *map(weights_file, ours))
    model = Hdnnp(
        elements=ours,
        descriptor=descriptor,
        hidden=hidden,
        weights=np.concatenate(parts),
        center=center,
        scale=scale,
        offsets=offsets * units.ev,
        minimum=minimum,
        maximum=maximum,
        provenance={
            "imported_from": folder.resolve().name,
            "units": {"length": units.length, "energy": units.energy},
            "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
        },
    )
    return Potential(model, {element: len(functions[element]) for element in ours}, units)


def elements_of(keywords: Keywords) -> tuple[str, ...]:
    """The elements of a potential, by atomic number. Raises InputError."""
    entry = keywords.one("elements")
    for word in entry.words:
        if word not in atomic_numbers or word == "X":
            raise InputError(f"{entry.where}: {word!r} is no chemical element")
    count = keywords.one("number_of_elements")
    if count.whole() != len(entry.words) or len(set(entry.words)) != len(entry.words):
        raise InputError(f"{entry.where}: names {' '.join(entry.words)}, where number_of_elements says {count.whole()}")
    return by_number(entry.words)


def _check_kind(keywords: Keywords) -> None:
    """Refuse what is not a sum of atomic networks of symmetry functions."""
    for entry in keywords.all("nnp_type"):
        if entry.words not in {("2G-HDNNP",), ("2",)}:
            raise InputError(f"{entry.where}: {' '.join(entry.words)} cannot be represented; only 2G-HDNNP can")
    for entry in keywords.all("nn_type_short"):
        if entry.whole() != 1:
            raise InputError(f"{entry.where}: {entry.words[0]} cannot be represented; only 1, networks of atoms, can")


def _network(keywords: Keywords) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Nodes and activations of the hidden layers."""
    count = keywords.one("global_hidden_layers_short").whole()
    entry = keywords.one("global_nodes_short")
    nodes = tuple(entry.whole(k) for k in range(len(entry.words)))
    if not nodes or len(nodes) != count or min(nodes) < 1:
        raise InputError(f"{entry.where}: gives the nodes of {len(nodes)} hidden layers, there are {count}")
    entry = keywords.one("global_activation_short")
    if len(entry.words) != count + 1:
        raise InputError(f"{entry.where}: gives {len(entry.words)} activations, {count + 1} layers need one")
    *hidden, last = entry.words
    for letter, possible in [(letter, "t or s") for letter in hidden] + [(last, "l")]:
        if letter not in (AS_TANH if possible != "l" else "l"):
            name = ACTIVATIONS.get(letter, {"t": "tanh", "s": "logistic"}.get(letter, "unknown"))
            raise InputError(
                f"{entry.where}: the activation {letter} ({name}) cannot be represented in "
                f"{'the output' if possible == 'l' else 'a hidden'} layer; {possible} can"
            )
    return nodes, tuple(hidden)


def _functions(keywords: Keywords, elements: Sequence[str]) -> dict[str, list[Function]]:
    """The symmetry functions of each element in n2p2's order, lengths as in the file."""
    keywords.one("symfunction_short")
    functions: dict[str, list[Function]] = {element: [] for element in elements}
    for entry in keywords.all("symfunction_short"):
        function = _function(entry, elements)
        if function in functions[function.centre]:
            raise InputError(f"{entry.where}: this symmetry function is there twice")
        functions[function.centre].append(function)
    for element, own in functions.items():
        if not own:
            raise InputError(f"{keywords.path}: {element} has no symmetry functions; is the file cut off?")
        own.sort(key=lambda function: function.order)
    return functions


def _function(entry: Entry, elements: Sequence[str]) -> Function:
    """One symfunction_short, refused if it is not one of ours."""
    if len(entry.words) < 2:
        raise InputError(f"{entry.where}: is cut off")
    kind = entry.whole(1)
    if kind not in (RADIAL, ANGULAR):
        name = FOREIGN_TYPES.get(kind, "unknown")
        raise InputError(
            f"{entry.where}: symmetry functions of type {kind} ({name}) cannot be represented; types 2 (radial) and 3 "
            "(narrow angular) can"
        )
    n = 1 if kind == RADIAL else 2
    if len(entry.words) not in ((6,) if kind == RADIAL else (8, 9)):
        raise InputError(f"{entry.where}: a function of type {kind} has {5 + n if n == 1 else 8} values")
    centre, neighbours = entry.words[0], entry.words[2 : 2 + n]
    for element in (centre, *neighbours):
        if element not in elements:
            raise InputError(f"{entry.where}: {element} is not among the elements {' '.join(elements)}")
    if kind == RADIAL:
        eta, shift, cutoff = (entry.number(k) for k in (3, 4, 5))
        bend = zeta = 0.0
    else:
        eta, bend, zeta, cutoff = (entry.number(k) for k in (4, 5, 6, 7))
        shift = entry.number(8) if len(entry.words) == 9 else 0.0
        for wrong, what in (
            (shift != 0, f"a shift of {shift:g} in an angular function cannot be represented; 0 can"),
            (bend not in (-1.0, 1.0), f"λ = {bend:g} cannot be represented; 1 and -1 can"),
            (zeta < 1, f"ζ = {zeta:g} cannot be represented; 1 and more can"),
        ):
            if wrong:
                raise InputError(f"{entry.where}: {what}")
    if not (np.isfinite([eta, shift, cutoff, zeta]).all() and eta >= 0 and shift >= 0 and cutoff > 0):
        raise InputError(f"{entry.where}: η, R_s and r_c should be positive numbers")
    return Function(centre, kind, by_number(neighbours), eta, cutoff, shift, bend, zeta)


def _in_angstrom(function: Function, units: Units) -> Function:
    a = units.angstrom
    return replace(function, eta=function.eta / a**2, shift=function.shift * a, cutoff=function.cutoff * a)


def _descriptor(keywords: Keywords, functions: dict[str, list[Function]], units: Units) -> Descriptor:
    """The smallest grid that holds all functions of all elements."""
    entry = keywords.one("cutoff_type")
    kind = entry.whole()
    known = {number: name for name, (number, _) in CUTOFF_TYPES.items()}
    if kind not in known:
        name = FOREIGN_CUTOFFS.get(kind, "unknown")
        raise InputError(f"{entry.where}: cutoff function {kind} ({name}) cannot be represented; 1, 2 and 6 can")
    for alpha in (*([entry.number(1)] if len(entry.words) > 1 else []), keywords.number("cutoff_alpha", 0.0)):
        if alpha != 0:
            raise InputError(f"{entry.where}: an inner cutoff (α = {alpha:g}) cannot be represented; 0 can")
    every = [_in_angstrom(function, units) for own in functions.values() for function in own]
    cutoffs = sorted({function.cutoff for function in every})
    if len(cutoffs) > 1:
        listed = ", ".join(f"{cutoff:g}" for cutoff in cutoffs)
        raise InputError(f"{keywords.path}: different cutoff radii ({listed} Å) cannot be represented; one for all can")
    radial = [function for function in every if function.kind == RADIAL]
    angular = [function for function in every if function.kind == ANGULAR]
    try:
        return Descriptor(
            cutoff=cutoffs[0],
            cutoff_function=known[kind],
            radial_eta=tuple(sorted({f.eta for f in radial})),
            radial_shift=tuple(sorted({f.shift for f in radial})) or (0.0,),
            angular_eta=tuple(sorted({f.eta for f in angular})),
            angular_zeta=tuple(sorted({f.zeta for f in angular})),
            angular_lambda=tuple(sorted({int(f.bend) for f in angular}, reverse=True)),
        )
    except ValidationError as error:
        from kmde_fw.config import sentence

        raise InputError(f"{keywords.path}: cannot be represented: {sentence(error.errors()[0], Descriptor)}") from None


def _normalisation(keywords: Keywords) -> tuple[float, float]:
    """conv_energy and mean_energy of a potential trained on normalised data; conv_length changes no value."""
    names = ("mean_energy", "conv_energy", "conv_length")
    there = [name for name in names if name in keywords]
    if there and len(there) < len(names):
        missing = ", ".join(name for name in names if name not in there)
        raise InputError(f"{keywords.path}: has {', '.join(there)} and lacks {missing}; they go together")
    conv_energy = keywords.number("conv_energy", 1.0)
    if conv_energy <= 0 or keywords.number("conv_length", 1.0) <= 0:
        raise InputError(f"{keywords.path}: conv_energy and conv_length should be positive numbers")
    return conv_energy, keywords.number("mean_energy", 0.0)


def _atom_energies(keywords: Keywords, elements: Sequence[str]) -> np.ndarray:
    """(n_elements,) of atom_energy, in the file's units."""
    energies: dict[str, float] = {}
    for entry in keywords.all("atom_energy"):
        if not entry.words or entry.words[0] not in elements or entry.words[0] in energies:
            raise InputError(f"{entry.where}: should name each element at most once, with its energy")
        energies[entry.words[0]] = entry.number(1)
    return np.array([energies.get(element, 0.0) for element in elements])


def _scaling(path: Path, functions: dict[str, list[Function]]) -> dict[str, np.ndarray]:
    """Element -> (n_functions, 4) minimum, maximum, mean and sigma (NaN where the file has none)."""
    rows = _rows(path)
    expected = [(e, f) for e, own in enumerate(functions.values(), 1) for f in range(1, len(own) + 1)]
    result = []
    for (element, function), (n, words) in zip(expected, rows, strict=False):
        where = f"{path}, line {n}"
        try:
            place, numbers = (int(words[0]), int(words[1])), [float(word) for word in words[2:6]]
        except (ValueError, IndexError):
            raise InputError(
                f"{where}: is no line of a scaling.data (element, function, minimum, maximum, mean, sigma)"
            ) from None
        if len(words) != len(rows[0][1]) or len(numbers) < 3:
            raise InputError(f"{where}: has {len(words)} values instead of {max(5, len(rows[0][1]))}; is it cut off?")
        if place != (element, function):
            raise InputError(
                f"{where}: function {function} of element {element} should stand here; the file does not belong to "
                f"{SETTINGS}"
            )
        if np.isnan(numbers).any():
            raise InputError(f"{where}: has a value that is not a number")
        result.append((*numbers, np.nan)[:4])
    if len(result) < len(expected):
        raise InputError(
            f"{path}: has {len(result)} of {len(expected)} functions that {SETTINGS} names; is it cut off?"
        )
    rest = rows[len(expected) :]
    if len(rest) > 1 or any(len(words) != 2 for _, words in rest):  # older programs end with a line of two energies
        raise InputError(
            f"{path}, line {rest[0][0]}: has more functions than the {len(expected)} that {SETTINGS} names"
        )
    table, ends = np.array(result), np.cumsum([len(own) for own in functions.values()])
    return dict(zip(functions, np.split(table, ends[:-1]), strict=True))


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Number and words of each line that is no comment. Raises InputError."""
    text = read_text(path)
    if text and not text.endswith("\n"):
        raise InputError(f"{path}: ends within a line: is it cut off? A whole file ends with a line break")
    lines = ((n, line.split()) for n, line in enumerate(text.splitlines(), start=1))
    return [(n, words) for n, words in lines if words and not words[0].startswith("#")]


def _center_and_scale(
    keywords: Keywords,
    folder: Path,
    element: str,
    low: np.ndarray,
    high: np.ndarray,
    mean: np.ndarray,
    sigma: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Ours, of n2p2's scaling: an input is (G - center) · scale."""
    by_range, centred = "scale_symmetry_functions" in keywords, "center_symmetry_functions" in keywords
    by_sigma = "scale_symmetry_functions_sigma" in keywords and not by_range and not centred
    if not by_range and not by_sigma:
        return (mean if centred else np.zeros_like(mean)), np.ones_like(mean)
    least, most = keywords.number("scale_min_short", 0.0), keywords.number("scale_max_short", 1.0)
    if not least < most:
        raise InputError(f"{keywords.path}: scale_min_short {least:g} should be below scale_max_short {most:g}")
    width = sigma if by_sigma else high - low
    if np.isnan(width).any():
        raise InputError(f"{folder / SCALING}: has no sigma, which scale_symmetry_functions_sigma needs")
    if not (width > 0).all():
        raise InputError(
            f"{folder / SCALING}: function {int(np.argmin(width > 0)) + 1} of {element} does not vary in its training "
            "data, and n2p2 divides by its range; the potential cannot predict"
        )
    scale = (most - least) / width
    start = mean if by_sigma or centred else low
    return start - least / scale, scale


def _layers(
    path: Path, shapes: Sequence[tuple[int, int]], activations: Sequence[str], divided: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """W (n_out, n_in) and bias (n_out,) of each layer, as those of a network of tanh.

    divided: normalize_nodes, n2p2 divides the sum of each node by the number of nodes before it.
    """
    values = []
    for n, words in _rows(path):
        try:
            values.append(float(words[0]))
        except ValueError:
            raise InputError(f"{path}, line {n}: {words[0]!r} is no number; this is no file of weights") from None
    expected = sum(n_out * (n_in + 1) for n_out, n_in in shapes)
    if len(values) != expected or not np.isfinite(values).all():
        wrong = "values that are not finite" if len(values) == expected else f"{len(values)} weights and biases"
        raise InputError(f"{path}: has {wrong}, the networks of {SETTINGS} have {expected} of them")
    layers, start = [], 0
    outputs = 0.0, 1.0  # the nodes before give a + b · (their value in n2p2)
    for (n_out, n_in), letter in zip(shapes, (*activations, "l"), strict=True):
        weight = np.array(values[start : start + n_out * n_in]).reshape(n_in, n_out).T
        bias = np.array(values[start + n_out * n_in : start + n_out * (n_in + 1)])
        start += n_out * (n_in + 1)
        if divided:
            weight, bias = weight / n_in, bias / n_in
        # f(x) = a + b·tanh(c·x): c goes into this layer, a and b into the next
        bias, weight = bias + outputs[0] * weight.sum(axis=1), outputs[1] * weight
        a, b, c = AS_TANH.get(letter, (0.0, 1.0, 1.0))
        layers.append((c * weight, c * bias))
        outputs = a, b
    return layers
