"""Noisy perceptrons: what noise does, how it is made, and what learns."""

from __future__ import annotations

import numpy as np
import torch

from rlkit.nn.noisy import NoisyMLP, draw_noise

CPU = torch.device("cpu")


def net(*widths: int) -> NoisyMLP:
    return NoisyMLP(widths, sigma=0.5, generator=torch.Generator().manual_seed(0))


def test_one_layer_is_the_noisy_weight_matrix():
    layer, noise = net(3, 2), draw_noise((3, 2), np.random.default_rng(0), CPU)
    x = torch.randn(5, 3)
    parameters = layer.mean + layer.sigma * noise
    torch.testing.assert_close(layer(x, noise), x @ parameters[:6].view(2, 3).T + parameters[6:])


def test_noise_of_a_weight_is_the_product_of_its_input_and_output_noise():
    noise = draw_noise((3, 2), np.random.default_rng(0), CPU)
    weights, outputs = noise[:6].view(2, 3), noise[6:]
    inputs = weights[0] / outputs[0]
    torch.testing.assert_close(weights, torch.outer(outputs, inputs))


def test_without_noise_the_means_act():
    layer, x = net(3, 2), torch.randn(5, 3)
    torch.testing.assert_close(layer(x, None), x @ layer.mean[:6].view(2, 3).T + layer.mean[6:])


def test_noise_is_the_signed_root_of_a_normal_number():
    biases = draw_noise((1, 100_000), np.random.default_rng(0), CPU)[100_000:]
    assert abs(float(biases.mean())) < 0.01
    assert abs(float((biases**4).mean()) - 1.0) < 0.02  # f(ε)⁴ = ε², whose mean is 1


def test_sigma_starts_at_its_share_of_the_fan_in():
    torch.testing.assert_close(net(16, 2).sigma.detach(), torch.full((34,), 0.125))


def test_gradients_reach_the_means_and_the_sigmas():
    layer = net(3, 4, 2)
    layer(torch.randn(5, 3), draw_noise(layer.widths, np.random.default_rng(0), CPU)).square().sum().backward()
    assert layer.mean.grad.abs().sum() > 0
    assert layer.sigma.grad.abs().sum() > 0
