"""Losses of policy gradient methods against numbers by hand and against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlkit.ops import policy_gradient as ops

CLIP = 0.2


def reals(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"), [(2.0, 1.0, -1.2), (2.0, -1.0, 2.0), (0.5, 1.0, -0.5), (0.5, -1.0, 0.8)]
)
def test_the_surrogate_is_cut_only_where_it_would_gain(ratio: float, advantage: float, loss: float) -> None:
    assert ops.clipped_surrogate_loss(reals(ratio), reals(advantage), CLIP).item() == pytest.approx(loss)


def test_surrogate_gradient_is_that_of_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    log_ratio = torch.randn(500, generator=generator, dtype=torch.float64).mul(0.5).requires_grad_()
    advantage = torch.randn(500, generator=generator, dtype=torch.float64)
    (wanted,) = torch.autograd.grad(ops.clipped_surrogate_loss(log_ratio.exp(), advantage, CLIP), log_ratio)
    found = ops.clipped_surrogate_loss_gradient(log_ratio.detach().exp(), advantage, CLIP)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-15)
    assert 100 < (found == 0).sum() < 400


def test_policy_gradient_is_that_of_autograd() -> None:
    log_prob, advantage = reals(-0.1, -3.0, -1.0).requires_grad_(), reals(2.0, -1.0, 0.5)
    loss = ops.policy_gradient_loss(log_prob, advantage)
    assert loss.item() == pytest.approx(-(-0.2 + 3.0 - 0.5) / 3)
    (wanted,) = torch.autograd.grad(loss, log_prob)
    torch.testing.assert_close(ops.policy_gradient_loss_gradient(advantage), wanted)


def test_value_gradient_is_that_of_autograd_with_and_without_a_clip() -> None:
    value, target, old = reals(1.0, 2.0, -1.0).requires_grad_(), reals(0.0, 5.0, 0.5), reals(0.9, 3.0, -1.0)
    (wanted,) = torch.autograd.grad(ops.value_loss(value, target), value)
    torch.testing.assert_close(ops.value_loss_gradient(value.detach(), target), wanted)
    clipped = ops.clipped_value(value, old, CLIP)
    torch.testing.assert_close(clipped, reals(1.0, 2.8, -1.0))
    (wanted,) = torch.autograd.grad(ops.value_loss(clipped, target), value)
    found = ops.value_loss_gradient(clipped.detach(), target) * ops.value_within(value.detach(), old, CLIP)
    torch.testing.assert_close(found, wanted)
    assert found[1] == 0


def test_kl_and_clip_fraction_by_hand() -> None:
    log_ratio = reals(0.0, math.log(2.0))
    assert ops.approximate_kl(log_ratio).item() == pytest.approx((1.0 - math.log(2.0)) / 2)
    assert ops.clip_fraction(log_ratio.exp(), CLIP).item() == 0.5


def test_normalised_advantages_have_mean_zero_and_deviation_one() -> None:
    found = ops.normalised(reals(1.0, 2.0, 6.0))
    assert found.mean().item() == pytest.approx(0)
    assert found.std().item() == pytest.approx(1, abs=1e-7)
    assert ops.normalised(reals(5.0)).item() == 5.0
