"""The networks: one multilayer perceptron per element, tanh hidden layers, linear output, double precision.

All weights live in one flat vector, element after element, layer after layer, W (n_out, n_in) row by row and then
the bias (n_out,): an optimiser, a model file and a comparison need nothing else.
"""

from itertools import pairwise

import numpy as np
import torch

#: W (n_out, n_in) and bias (n_out,) of each layer of one element's network
Layers = list[tuple[torch.Tensor, torch.Tensor]]


def layer_shapes(n_features: int, hidden: tuple[int, ...]) -> list[tuple[int, int]]:
    """(n_out, n_in) of each layer."""
    widths = (n_features, *hidden, 1)
    return [(n_out, n_in) for n_in, n_out in pairwise(widths)]


def n_parameters(n_elements: int, n_features: int, hidden: tuple[int, ...]) -> int:
    """Length of the flat vector of weights."""
    return n_elements * sum(n_out * (n_in + 1) for n_out, n_in in layer_shapes(n_features, hidden))


def initial_weights(
    n_elements: int, n_features: int, hidden: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray:
    """Uniform weights and biases within 1/sqrt(n_in), as torch.nn.Linear starts.

    Glorot's larger start ended at the same errors with a line search, and at threefold force errors without one.
    """
    parts = []
    for _ in range(n_elements):
        for n_out, n_in in layer_shapes(n_features, hidden):
            parts.append(generator.uniform(-1.0, 1.0, n_out * (n_in + 1)) / np.sqrt(n_in))
    return np.concatenate(parts)


def split_weights(flat: torch.Tensor, n_elements: int, n_features: int, hidden: tuple[int, ...]) -> list[Layers]:
    """The layers of each element's network as views of the flat vector."""
    shapes = layer_shapes(n_features, hidden)
    sizes = [size for n_out, n_in in shapes for size in (n_out * n_in, n_out)] * n_elements
    parts = iter(flat.split(sizes))
    return [[(next(parts).view(shape), next(parts)) for shape in shapes] for _ in range(n_elements)]


def energies_and_gradients(layers: Layers, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs (n,) and their derivatives with respect to the inputs (n, F).

    The derivatives are written out instead of asked of autograd, so that a loss with forces, T(1.7)-(1.8), needs
    only one ordinary backward pass.
    """
    signal = inputs
    slopes = []
    for weight, bias in layers[:-1]:
        signal = torch.tanh(torch.addmm(bias, signal, weight.T))
        slopes.append(1.0 - signal * signal)
    weight, bias = layers[-1]
    energies = torch.addmm(bias, signal, weight.T)[:, 0]
    gradients = weight.expand(len(inputs), -1)
    for (weight, _), slope in zip(reversed(layers[:-1]), reversed(slopes), strict=True):
        gradients = (gradients * slope) @ weight
    return energies, gradients
