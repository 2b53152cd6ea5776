"""Losses of soft actor-critic: numbers computed by hand, gradients by autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.ops import soft_actor_critic as soft


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_soft_value_is_the_least_critics_plus_the_entropy_bonus() -> None:
    value = soft.soft_value(torch.tensor([[1.0, 5.0], [2.0, -1.0]]), torch.tensor([-1.0, 2.0]), torch.tensor(0.5))
    torch.testing.assert_close(value, torch.tensor([1.5, -2.0]))


def test_the_critics_loss_is_half_the_sum_of_mean_squares() -> None:
    loss = soft.soft_critics_loss(torch.tensor([[1.0, 4.0], [3.0, 3.0]]), torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(loss, torch.tensor(0.5 * (4 + 1) / 2))


def test_the_policy_loss_weighs_log_probability_against_the_least_value() -> None:
    value, _ = soft.least_value(torch.tensor([[1.0, 4.0], [3.0, 2.0]]))
    loss = soft.soft_policy_loss(value, torch.tensor([-1.0, 1.0]), torch.tensor(0.1))
    torch.testing.assert_close(loss, torch.tensor(((-0.1 - 1) + (0.1 - 2)) / 2))


def test_the_temperature_rises_while_the_entropy_is_below_its_target() -> None:
    log_pi = torch.tensor([3.0, 1.0])  # entropy -2, target -1
    assert float(soft.temperature_loss_gradient(log_pi, -1.0)) == -1.0
    assert float(soft.temperature_loss(torch.tensor(0.5), log_pi, -1.0)) == -0.5


def test_gradients_are_those_of_autograd() -> None:
    q, log_pi, target = double(2, 50), double(50, seed=1), double(50, seed=2)
    temperature, log_temperature = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-1.2, dtype=torch.float64)
    for tensor in (q, log_pi, log_temperature):
        tensor.requires_grad_()

    (right,) = torch.autograd.grad(soft.soft_critics_loss(q, target), q)
    torch.testing.assert_close(soft.soft_critics_loss_gradient(q.detach(), target), right, rtol=0, atol=1e-10)

    least = torch.minimum(q[0], q[1])
    (right,) = torch.autograd.grad(least.sum(), q)
    value, by_value = soft.least_value(q.detach())
    torch.testing.assert_close(value, least.detach(), rtol=0, atol=0)
    torch.testing.assert_close(by_value, right, rtol=0, atol=1e-10)

    value.requires_grad_()
    by_value, by_log_prob = torch.autograd.grad(soft.soft_policy_loss(value, log_pi, temperature), (value, log_pi))
    torch.testing.assert_close(by_value, torch.full_like(value, -1 / 50), rtol=0, atol=1e-10)
    torch.testing.assert_close(by_log_prob, (temperature / 50).expand(50), rtol=0, atol=1e-10)

    (right,) = torch.autograd.grad(soft.temperature_loss(log_temperature, log_pi.detach(), -3.0), log_temperature)
    torch.testing.assert_close(soft.temperature_loss_gradient(log_pi.detach(), -3.0), right, rtol=0, atol=1e-10)
