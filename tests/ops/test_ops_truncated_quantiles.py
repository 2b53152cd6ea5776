"""Truncated quantile critics: what is dropped, numbers computed by hand, gradients by autograd."""

from __future__ import annotations

import torch

from rlkit.ops import truncated_quantiles as truncated


def test_the_largest_quantiles_of_the_pool_are_dropped_whichever_critic_they_are_of() -> None:
    quantiles = torch.tensor([[[1.0, 2.0, 3.0]], [[10.0, 20.0, 30.0]]])  # [K=2, B=1, N=3]
    assert truncated.truncated_quantiles(quantiles, 0).tolist() == [[1, 2, 3, 10, 20, 30]]
    assert truncated.truncated_quantiles(quantiles, 1).tolist() == [[1, 2, 3, 10]]
    assert truncated.truncated_quantiles(quantiles, 2).tolist() == [[1, 2]]


def test_targets_carry_the_entropy_in_every_quantile() -> None:
    target = truncated.soft_quantile_target(
        torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([[2.0, 4.0]]), torch.tensor([-1.0]), torch.tensor(2.0)
    )
    assert target.tolist() == [[3.0, 4.0]]


def test_the_loss_is_averaged_over_critics_quantiles_and_targets() -> None:
    """One critic, levels 1/4 and 3/4, predictions 0: errors 2 (loss 1.5) and -0.5 (loss 0.125)."""
    loss, _ = truncated.quantile_critics_loss(torch.zeros(1, 1, 2), torch.tensor([[2.0, -0.5]]))
    expected = (0.25 * 1.5 + 0.75 * 0.125 + 0.75 * 1.5 + 0.25 * 0.125) / 4
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_gradients_are_those_of_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    quantiles = torch.randn(3, 20, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randn(20, 11, generator=generator, dtype=torch.float64)
    loss, found = truncated.quantile_critics_loss(quantiles, target)
    (right,) = torch.autograd.grad(loss, quantiles)
    torch.testing.assert_close(found.detach(), right, rtol=0, atol=1e-10)
    value, by_quantile = truncated.mean_value(quantiles)
    (right,) = torch.autograd.grad(value.sum(), quantiles)
    torch.testing.assert_close(by_quantile, right, rtol=0, atol=1e-10)
