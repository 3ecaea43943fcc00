import numpy as np
import pytest
import torch

from kmde_fw.hdnnp.network import Columns, Networks, initial_weights, split_weights

N_FEATURES = 6
COUNTS = (3, 0, 4)


def by_autograd(weights, inputs, by_energy, by_gradient, hidden):
    """Outputs, their slopes, and the gradient of Σ by_energy · E + Σ by_gradient · dE/dinputs, layer by layer."""
    weights, inputs = weights.clone().requires_grad_(), inputs.clone().requires_grad_()
    outputs = []
    for layers, signal in zip(split_weights(weights, 3, N_FEATURES, hidden), inputs.split(COUNTS), strict=True):
        *inner, (last, last_bias) = layers
        for weight, bias in inner:
            signal = torch.tanh(signal @ weight.T + bias)
        outputs.append((signal @ last.T + last_bias)[:, 0])
    energies = torch.cat(outputs)
    (slopes,) = torch.autograd.grad(energies.sum(), inputs, create_graph=True)
    (gradient,) = torch.autograd.grad((energies * by_energy).sum() + (slopes * by_gradient).sum(), weights)
    return energies.detach(), slopes.detach(), gradient


@pytest.mark.parametrize("hidden", [(5,), (7, 4), (4, 3, 5)])
@pytest.mark.parametrize("unseen", [(), (1, 4)])
def test_derivatives_are_those_of_autograd(hidden, unseen):
    generator = np.random.default_rng(0)
    weights = torch.from_numpy(3 * initial_weights(3, N_FEATURES, hidden, generator))
    inputs, by_energy, by_gradient = (
        torch.from_numpy(generator.normal(size=shape)) for shape in ((7, N_FEATURES), 7, (7, N_FEATURES))
    )
    scale = np.ones((3, N_FEATURES))
    scale[:, unseen] = 0.0
    inputs[:, unseen] = by_gradient[:, unseen] = 0.0
    columns = Columns.seen(scale)
    energies, slopes, gradient = by_autograd(weights, inputs, by_energy, by_gradient, hidden)
    networks = Networks(weights, 3, hidden, columns)
    found, found_slopes, trace = networks.evaluate(columns.pack(inputs), COUNTS)
    networks.backpropagate(trace, by_energy, columns.pack(by_gradient))
    np.testing.assert_allclose(found, energies, rtol=1e-12, atol=1e-12)
    slopes[:, unseen] = 0.0
    np.testing.assert_allclose(columns.unpack(found_slopes), slopes, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(networks.gradient(), gradient, rtol=1e-11, atol=1e-12)


def test_gradients_of_several_chunks_add_up():
    weights = torch.from_numpy(initial_weights(3, N_FEATURES, (5, 4), np.random.default_rng(0)))
    columns = Columns.all(N_FEATURES)
    gradients = []
    for times in (1, 2):
        networks = Networks(weights, 3, (5, 4), columns)
        for _ in range(times):
            energies, slopes, trace = networks.evaluate(torch.ones(7, N_FEATURES, dtype=torch.float64), COUNTS)
            networks.backpropagate(trace, torch.ones_like(energies), torch.ones_like(slopes))
        gradients.append(networks.gradient())
    np.testing.assert_allclose(gradients[1], 2 * gradients[0], rtol=1e-13)
