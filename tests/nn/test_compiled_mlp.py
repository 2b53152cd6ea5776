"""The compiled perceptron against the ordinary one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlkit.nn.compiled_mlp import backward, forward, take_tanh
from rlkit.nn.mlp import MLP


def test_tanh_is_right_to_rounding_everywhere():
    x = np.concatenate([np.linspace(-12, 12, 100_001), [50, -50, 1e30, -1e30, np.inf, -np.inf]]).astype(np.float32)
    y = x.copy()
    take_tanh(y)
    assert np.abs(y - np.tanh(x.astype(np.float64))).max() < 2e-7
    nan = np.full(3, np.nan, np.float32)
    take_tanh(nan)
    assert np.isnan(nan).all()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden", [(), (9,), (16, 7)])
def test_outputs_and_gradient_equal_those_of_the_ordinary_network(activation, hidden):
    net = MLP(5, hidden, 3, activation=activation, generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    x, by_output = rng.standard_normal((20, 5)).astype(np.float32), rng.standard_normal((20, 3)).astype(np.float32)
    widths, flat = np.array(net.widths), net.flat.detach().numpy()
    memory = np.zeros(20 * sum(net.widths[1:]), np.float32)
    scratch, gradient = np.zeros((2, 20 * max(net.widths)), np.float32), np.zeros_like(flat)

    trace = net.trace(torch.from_numpy(x))
    outputs = forward(flat, widths, x, memory, activation == "tanh")
    np.testing.assert_allclose(outputs, trace.output, atol=1e-6)
    backward(flat, widths, x, memory, by_output, scratch, gradient, activation == "tanh")
    np.testing.assert_allclose(gradient, trace.weight_gradient(torch.from_numpy(by_output)), atol=2e-6)
