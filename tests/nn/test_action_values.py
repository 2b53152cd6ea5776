"""Networks of action values: the fast one equals the composed one, gradients are right, parts do what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rlkit.nn.action_values import ComposedValues, Design, Draws, PerceptronValues, action_values
from rlkit.nn.flat import flatten_parameters

CPU = torch.device("cpu")
PLAIN = Design(actions=3, outputs=2, hidden=(8, 6))
DESIGNS = {
    "plain": PLAIN,
    "one hidden layer": replace(PLAIN, hidden=(8,)),
    "dueling": replace(PLAIN, dueling=True),
    "noisy": replace(PLAIN, noisy_sigma=0.5),
    "implicit": replace(PLAIN, implicit=True),
    "all": replace(PLAIN, dueling=True, noisy_sigma=0.5, implicit=True),
    "pictures": replace(PLAIN, image="impala", dueling=True),
}


def build(design: Design):
    shape = (2, 8, 8) if design.image else (5,)
    return action_values(design, shape, CPU, torch.Generator().manual_seed(0))


def batch(design: Design, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if design.image:
        return torch.randint(0, 256, (count, 2, 8, 8), generator=generator, dtype=torch.uint8)
    return torch.randn(count, 5, generator=generator)


def draws_for(network, design: Design, count: int = 4) -> Draws:
    levels = torch.rand(count, design.outputs, generator=torch.Generator().manual_seed(2)) if design.implicit else None
    return Draws(network.draw_noise(np.random.default_rng(0)), levels)


@pytest.mark.parametrize("name", DESIGNS)
def test_outputs_have_a_row_for_each_action(name):
    design, network = DESIGNS[name], build(DESIGNS[name])
    draws = draws_for(network, design)
    outputs = network.outputs(batch(design), draws)
    assert outputs.shape == (4, 3, 2)
    torch.testing.assert_close(network.trace(batch(design), draws).output, outputs)
    np.testing.assert_allclose(network.act_outputs(batch(design).numpy(), draws), outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DESIGNS)
def test_weight_gradients_are_those_of_finite_differences(name):
    design, network = DESIGNS[name], build(DESIGNS[name])
    obs, draws = batch(design), draws_for(network, design)
    weights = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(3))
    gradient = network.trace(obs, draws).weight_gradient(weights)
    assert gradient.shape == network.flat.shape
    direction = torch.randn(network.flat.shape, generator=torch.Generator().manual_seed(4)) * 1e-3
    before = network.flat.clone()
    network.flat.copy_(before + direction)
    higher = (network.outputs(obs, draws) * weights).sum()
    network.flat.copy_(before - direction)
    lower = (network.outputs(obs, draws) * weights).sum()
    torch.testing.assert_close((higher - lower) / 2, gradient @ direction, rtol=0.03, atol=1e-4)


def test_the_fast_network_equals_the_composed_one():
    fast, composed = build(PLAIN), ComposedValues(PLAIN, (5,), CPU, torch.Generator().manual_seed(9))
    assert isinstance(fast, PerceptronValues)
    assert fast.flat.shape == composed.flat.shape
    composed.flat.copy_(fast.flat)  # both lie layer by layer
    obs, weights = batch(PLAIN), torch.randn(4, 3, 2)
    torch.testing.assert_close(fast.outputs(obs), composed.outputs(obs))
    torch.testing.assert_close(fast.trace(obs).weight_gradient(weights), composed.trace(obs).weight_gradient(weights))


def test_noise_changes_outputs_and_its_absence_gives_the_means():
    network = build(DESIGNS["noisy"])
    obs = batch(PLAIN)
    noisy = [network.outputs(obs, Draws(network.draw_noise(np.random.default_rng(seed)))) for seed in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])
    assert torch.equal(network.outputs(obs), network.outputs(obs))


def test_dueling_streams_see_different_noise():
    network = build(DESIGNS["all"])
    noise = network.draw_noise(np.random.default_rng(0))
    assert len(noise) == 2
    assert not torch.equal(noise[0][:10], noise[1][:10])


def test_implicit_quantiles_depend_on_their_level_only():
    network = build(DESIGNS["implicit"])
    obs = batch(PLAIN)
    levels = torch.tensor([[0.1, 0.9]]).expand(4, 2)
    forward, backward = network.outputs(obs, Draws(levels=levels)), network.outputs(obs, Draws(levels=levels.flip(1)))
    torch.testing.assert_close(forward, backward.flip(2))
    assert not torch.allclose(forward[:, :, 0], forward[:, :, 1])


def test_flattened_parameters_and_module_are_one():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Conv2d(1, 1, 2))
    flat = flatten_parameters(module)
    assert flat.numel() == 8 + 5
    flat.fill_(7.0)
    assert all((parameter == 7.0).all() for parameter in module.parameters())
