"""The networks: one multilayer perceptron per element, tanh hidden layers, linear output, double precision.

All weights live in one flat vector, element after element, layer after layer, W (n_out, n_in) row by row and then
the bias (n_out,): an optimiser, a model file and a comparison need nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


def with_first_layers(flat: torch.Tensor, maps: torch.Tensor, hidden: tuple[int, ...]) -> torch.Tensor:
    """A copy of the flat vector in which each element's first W (n_out, F) is W·M, with its M of maps (E, F, F)."""
    result = flat.clone()
    for layers, one in zip(split_weights(result, len(maps), maps.shape[1], hidden), maps, strict=True):
        layers[0][0].copy_(layers[0][0] @ one)
    return result


@dataclass(frozen=True, eq=False)
class Columns:
    """How inputs are packed: those that the networks do not see (scale 0 for every element) are left out, and columns
    of zeros added up to a multiple of 4, for which matrix products are up to twice as fast.

    kept: (n_kept,) columns of the n_features; width: of a packed array, with one column of zeros or more.
    """

    kept: torch.Tensor
    n_features: int
    width: int

    @classmethod
    def all(cls, n_features: int) -> Columns:
        """All of them, as they are: packing does not pay for a single evaluation."""
        return cls(torch.arange(n_features), n_features, n_features)

    @classmethod
    def seen(cls, scale: np.ndarray, device: str = "cpu") -> Columns:
        """Those with a scale, (n_elements, F), other than 0."""
        kept = np.flatnonzero((scale != 0).any(axis=0))
        return cls(torch.from_numpy(kept).to(device), scale.shape[1], 4 * (len(kept) // 4 + 1))

    def places(self) -> np.ndarray:
        """(n_features,) where each column stands in a packed array; those left out: in the last, which is zero."""
        places = np.full(self.n_features, self.width - 1)
        places[self.kept.cpu().numpy()] = np.arange(len(self.kept))
        return places

    def pack(self, array: torch.Tensor) -> torch.Tensor:
        """(n, n_features) -> (n, width)."""
        if self.width == self.n_features == len(self.kept):
            return array
        packed = array.new_zeros((len(array), self.width))
        packed[:, : len(self.kept)] = array[:, self.kept]
        return packed

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """(n, width) -> (n, n_features), zero where nothing was kept."""
        array = packed.new_zeros((len(packed), self.n_features))
        array[:, self.kept] = packed[:, : len(self.kept)]
        return array


#: what the way back needs of one element: h_0 to h_L, and (g_l, t_l) of each hidden layer
Trace = tuple[list[torch.Tensor], list[tuple[torch.Tensor, torch.Tensor]]]


class Networks:
    """The networks of all elements with one set of weights; derivatives are written out, not asked of autograd.

    With h_0 the inputs, h_l = tanh(h_(l-1) W_l^T + b_l), and the outputs h_L w^T + b, the derivatives of the outputs
    with respect to the inputs are g_0, where g_L = w, g_(l-1) = t_l W_l and t_l = g_l (1 - h_l²).
    """

    def __init__(self, weights: torch.Tensor, n_elements: int, hidden: tuple[int, ...], columns: Columns) -> None:
        self.columns, self.shape = columns, (n_elements, columns.n_features, hidden)
        self.networks = split_weights(weights, *self.shape)
        for layers in self.networks:
            layers[0] = columns.pack(layers[0][0]), layers[0][1]
        #: sums of what `backpropagate` found, in the form of `networks`
        self.slopes = [[(torch.zeros_like(w), torch.zeros_like(b)) for w, b in layers] for layers in self.networks]

    def evaluate(self, inputs: torch.Tensor, counts: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, list[Trace]]:
        """Outputs (n,), their derivatives with respect to the inputs (n, width), and a trace for `backpropagate`.

        inputs: (n, width), packed, of atoms sorted by element; counts: atoms of each element.
        """
        energies, gradients, trace = torch.empty_like(inputs[:, 0]), torch.empty_like(inputs), []
        parts = inputs.split(counts), energies.split(counts), gradients.split(counts)
        for layers, signal, energy, gradient in zip(self.networks, *parts, strict=True):
            *hidden, (last, last_bias) = layers
            signals = [signal]
            for weight, bias in hidden:
                signals.append(_tanh_(torch.addmm(bias, signals[-1], weight.T)))
            torch.addmv(last_bias, signals[-1], last[0], out=energy)
            chain: list[tuple[torch.Tensor, torch.Tensor]] = []
            g = last.expand(len(signal), -1)
            for (weight, _), h in zip(reversed(hidden), reversed(signals), strict=False):
                t = _tanh_backward(g, h)
                chain.insert(0, (g, t))
                g = t @ weight
            gradient.copy_(g)
            trace.append((signals, chain))
        return energies, gradients, trace

    def backpropagate(self, trace: list[Trace], by_energy: torch.Tensor, by_gradient: torch.Tensor) -> None:
        """Add to the slopes of a loss with respect to the weights, from those to the outputs and to the derivatives."""
        counts = [len(signals[0]) for signals, _ in trace]
        parts = by_energy.split(counts), by_gradient.split(counts)
        for layers, slopes, (signals, chain), by_e, by_g in zip(self.networks, self.slopes, trace, *parts, strict=True):
            *hidden, (last, _) = layers
            *hidden_slopes, (last_slope, last_bias_slope) = slopes
            # from g_0 to g_L; what comes by 1 - h_l² waits for the way back
            waiting = []
            for (weight, _), (slope, _), (g, t), h in zip(hidden, hidden_slopes, chain, signals[1:], strict=True):
                slope.addmm_(t.T, by_g)
                by_t = by_g @ weight.T
                by_g = _tanh_backward(by_t, h)
                waiting.append(by_t.mul_(g))
            last_slope.add_(by_g.sum(0)).add_(by_e @ signals[-1])
            last_bias_slope.add_(by_e.sum())
            # from h_L to h_0
            by_h = by_e[:, None] * last
            for k in reversed(range(len(hidden))):
                by_sum = _tanh_backward(by_h.addcmul_(waiting[k], signals[k + 1], value=-2.0), signals[k + 1])
                hidden_slopes[k][0].addmm_(by_sum.T, signals[k])
                hidden_slopes[k][1].add_(by_sum.sum(0))
                if k:
                    by_h = by_sum @ hidden[k][0]

    def gradient(self) -> torch.Tensor:
        """The slopes as a flat vector, in the order of the weights."""
        parts = []
        for (first, first_bias), *others in self.slopes:
            parts += [self.columns.unpack(first), first_bias, *(tensor for pair in others for tensor in pair)]
        return torch.cat([tensor.reshape(-1) for tensor in parts])


def _tanh_(x: torch.Tensor) -> torch.Tensor:
    """Tanh in place, within 4e-16, in a third of the time of torch.tanh."""
    return x.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)


#: (y, tanh) -> y · (1 - tanh²), in one go
_tanh_backward = torch.ops.aten.tanh_backward
