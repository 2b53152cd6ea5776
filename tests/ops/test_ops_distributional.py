"""The categorical projection and the quantile loss against plain loops, numbers by hand and autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit.ops import distributional as ops

SUPPORT = torch.linspace(-2.0, 2.0, 5, dtype=torch.float64)


def projected_by_loop(rewards, discounts, probabilities):
    """Algorithm 1 of Bellemare et al. 2017, atom by atom."""
    result = torch.zeros(len(rewards), 5, dtype=torch.float64)
    for row in range(len(rewards)):
        for atom in range(5):
            moved = min(max(float(rewards[row] + discounts[row] * SUPPORT[atom]), -2.0), 2.0)
            position = moved + 2.0
            for neighbour in range(5):
                share = max(0.0, 1.0 - abs(position - neighbour))
                result[row, neighbour] += share * probabilities[row, atom]
    return result


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_projection_is_the_papers_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    rewards = 4.0 * torch.rand(6, generator=generator, dtype=torch.float64) - 2.0
    discounts = torch.rand(6, generator=generator, dtype=torch.float64).round(decimals=1)
    probabilities = torch.softmax(torch.randn(6, 5, generator=generator, dtype=torch.float64), dim=1)
    found = ops.categorical_projection(SUPPORT, rewards, discounts, probabilities)
    torch.testing.assert_close(found, projected_by_loop(rewards, discounts, probabilities))


def test_projection_keeps_probability_and_mean_inside_the_support():
    probabilities = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1]], dtype=torch.float64)
    found = ops.categorical_projection(
        SUPPORT, torch.tensor([0.3]).double(), torch.tensor([0.5]).double(), probabilities
    )
    assert found.sum().item() == pytest.approx(1.0)
    assert (found @ SUPPORT).item() == pytest.approx(0.3)


def test_termination_puts_all_probability_beside_the_reward():
    found = ops.categorical_projection(
        SUPPORT, torch.tensor([0.25]).double(), torch.tensor([0.0]).double(), torch.full((1, 5), 0.2).double()
    )
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0, 0.75, 0.25, 0.0]]).double())


def test_the_clipped_share_is_the_probability_outside_the_atoms():
    probabilities = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2]], dtype=torch.float64)
    step = (SUPPORT[1] - SUPPORT[0]).item()
    rewards = torch.tensor([step, 0.0], dtype=torch.float64)  # the first moves its last atom out
    found = ops.clipped_share(SUPPORT, rewards, torch.ones(2).double(), probabilities)
    assert found.item() == pytest.approx(0.05)


def test_categorical_gradient_is_that_of_autograd():
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    target = torch.softmax(torch.randn(3, 5, dtype=torch.float64), dim=1)
    (right,) = torch.autograd.grad(ops.categorical_loss(logits, target).sum(), logits)
    torch.testing.assert_close(ops.categorical_loss_gradient(logits.detach(), target), right)


@pytest.mark.parametrize("threshold", [1.0, 0.3, 0.0])
def test_quantile_gradient_is_that_of_autograd(threshold):
    quantiles = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    targets, levels = torch.randn(4, 3, dtype=torch.float64), torch.rand(4, 7, dtype=torch.float64)
    loss, found = ops.quantile_loss(quantiles, levels, targets, threshold)
    (right,) = torch.autograd.grad(loss.sum(), quantiles)
    torch.testing.assert_close(found.detach(), right)


def test_quantile_loss_by_hand():
    # level 0.25, errors 0.5 and -2: 0.25 * 0.125 and 0.75 * 1.5, averaged
    loss, _ = ops.quantile_loss(torch.tensor([[0.0]]), torch.tensor([0.25]), torch.tensor([[0.5, -2.0]]))
    assert loss.item() == pytest.approx((0.25 * 0.125 + 0.75 * 1.5) / 2)


@pytest.mark.parametrize(("threshold", "huber"), [(0.5, (0.25 * 0.75 + 0.75 * 3.75) / 2), (0.0, (0.25 + 0.75 * 4) / 2)])
def test_the_threshold_says_where_the_loss_becomes_linear(threshold, huber):
    # level 0.25, errors 1 and -4: κ (|e| - κ / 2) / κ is 0.75 and 3.75
    loss, _ = ops.quantile_loss(torch.tensor([[0.0]]), torch.tensor([0.25]), torch.tensor([[1.0, -4.0]]), threshold)
    assert loss.item() == pytest.approx(huber)


def test_following_the_gradient_finds_the_quantiles():
    samples = torch.linspace(0.0, 1.0, 1001, dtype=torch.float64)[None]
    levels, quantiles = ops.quantile_midpoints(4).double(), torch.zeros(1, 4, dtype=torch.float64)
    for _ in range(2000):
        quantiles -= 0.01 * ops.quantile_loss(quantiles, levels, samples, 0.0)[1]
    torch.testing.assert_close(quantiles[0], torch.tensor([0.125, 0.375, 0.625, 0.875]).double(), atol=0.01, rtol=0)
