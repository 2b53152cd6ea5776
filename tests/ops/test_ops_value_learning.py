"""Targets and losses of deep Q-learning against numbers by hand and against autograd."""

from __future__ import annotations

import math

import pytest
import torch

from rlkit.ops import value_learning as ops


def test_target_bootstraps_unless_terminated():
    target = ops.td_target(torch.tensor([1.0, 1.0]), torch.tensor([0.9, 0.0]), torch.tensor([10.0, 10.0]))
    torch.testing.assert_close(target, torch.tensor([10.0, 1.0]))


def test_forbidden_actions_are_never_greatest():
    q = torch.tensor([[1.0, 9.0, 2.0]])
    assert ops.allowed(q, torch.tensor([[True, False, True]])).argmax(dim=1).item() == 2
    assert ops.allowed(q, None) is q


def test_huber_is_half_the_square_inside_one_and_linear_outside():
    torch.testing.assert_close(ops.huber_loss(torch.tensor([0.5, -3.0])), torch.tensor([0.125, 2.5]))


@pytest.mark.parametrize("name", ["huber", "squared"])
def test_loss_gradients_are_those_of_autograd(name):
    loss, gradient = (ops.__dict__[f"{name}_loss"], ops.__dict__[f"{name}_loss_gradient"])
    error = torch.tensor([0.3, -0.7, 2.0, -5.0], dtype=torch.float64, requires_grad=True)
    (right,) = torch.autograd.grad(loss(error).sum(), error)
    torch.testing.assert_close(gradient(error.detach()), right)


def test_dueling_keeps_the_mean_of_the_value_and_the_differences_of_the_advantages():
    value, advantage = torch.tensor([[[5.0]]]), torch.tensor([[[1.0], [2.0], [6.0]]])
    q = ops.dueling(value, advantage)
    torch.testing.assert_close(q[0, :, 0], torch.tensor([3.0, 4.0, 8.0]))


def test_soft_value_is_the_temperature_times_log_sum_exp():
    q, temperature = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64), 0.7
    soft = ops.soft_value(q[:, :, None], ops.log_policy(q, temperature), temperature)
    expected = temperature * math.log(sum(math.exp(v / temperature) for v in (1.0, 2.0, -1.0)))
    assert soft.item() == pytest.approx(expected, abs=1e-12)


def test_soft_value_leaves_out_forbidden_actions():
    values = torch.tensor([[1.0, 50.0]], dtype=torch.float64)
    log_pi = ops.log_policy(ops.allowed(values, torch.tensor([[True, False]])), 0.1)
    assert ops.soft_value(values[:, :, None], log_pi, 0.1).item() == pytest.approx(1.0)


def test_munchausen_bonus_is_clipped_from_below():
    bonus = ops.munchausen_bonus(torch.tensor([-1.0, -1000.0]), 0.03, 0.9, -1.0)
    torch.testing.assert_close(bonus, torch.tensor([-0.027, -0.9]))
