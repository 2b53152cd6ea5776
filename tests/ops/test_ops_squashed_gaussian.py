"""The squashed Gaussian: its density is torch's, its gradients are autograd's, and it stays exact in the tails."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Normal, TanhTransform, TransformedDistribution
from torch.nn.functional import logsigmoid

from rlkit.ops.squashed_gaussian import squashed_gaussian, squashed_gaussian_gradient

ROWS, ACTIONS = 64, 3


def inputs(scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, log standard deviation and noise in float64; some log deviations lie outside [-20, 2]."""
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, ROWS, ACTIONS, generator=generator, dtype=torch.float64)
    log_std[0], log_std[1] = 2.5, -21.0
    return scale * mean, log_std, noise


def test_the_log_probability_is_that_of_the_transformed_distribution() -> None:
    mean, log_std, noise = inputs()
    sample = squashed_gaussian(mean, log_std, noise)
    std = log_std.clamp(-20, 2).exp()
    transform = TanhTransform(cache_size=1)  # remembers the value before tanh
    right = TransformedDistribution(Normal(mean, std), transform)
    action = transform(mean + std * noise)
    torch.testing.assert_close(sample.action, action, rtol=0, atol=1e-14)
    expected = right.log_prob(action).sum(dim=1)
    wide = (std > 1e-6).all(dim=1)  # elsewhere (u - m) / σ loses the noise, which ours is given
    assert wide.sum() == ROWS - 1
    torch.testing.assert_close(sample.log_prob[wide], expected[wide], rtol=0, atol=1e-10)


def test_at_the_mean_of_a_unit_gaussian_the_density_is_the_gaussians() -> None:
    zero = torch.zeros(1, 2, dtype=torch.float64)
    sample = squashed_gaussian(zero, zero, zero)
    assert abs(float(sample.log_prob) - 2 * -0.9189385332046727) < 1e-12


def test_far_out_the_log_probability_stays_finite_and_right() -> None:
    """At u = 40 tanh is one in float32; log(1 - a²) is 2 log 2 - 2u there."""
    mean = torch.full((1, 1), 40.0)
    sample = squashed_gaussian(mean, torch.zeros(1, 1), torch.zeros(1, 1))
    assert float(sample.action) == 1.0
    assert abs(float(sample.log_prob) - (-0.9189385 - (2 * 0.6931472 - 80.0))) < 1e-4


def test_gradients_are_those_of_autograd() -> None:
    mean, log_std, noise = (part.requires_grad_() for part in inputs())
    generator = torch.Generator().manual_seed(1)
    by_action = torch.randn(ROWS, ACTIONS, generator=generator, dtype=torch.float64)
    by_log_prob = torch.randn(ROWS, generator=generator, dtype=torch.float64)

    std = log_std.clamp(-20, 2).exp()
    before = mean + std * noise
    action = torch.tanh(before)
    volume = math.log(4) + logsigmoid(2 * before) + logsigmoid(-2 * before)  # log(1 - a²), another way round
    log_prob = (Normal(0.0, 1.0).log_prob(noise) - log_std.clamp(-20, 2) - volume).sum(dim=1)
    loss = (action * by_action).sum() + (log_prob * by_log_prob).sum()
    right = torch.autograd.grad(loss, (mean, log_std))

    with torch.inference_mode():
        sample = squashed_gaussian(mean, log_std, noise)
        found = squashed_gaussian_gradient(sample, by_action, by_log_prob)
    for ours, theirs in zip(found, right, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert (found[1][:2] == 0).all()  # clamped


def test_nothing_given_is_changed() -> None:
    given = inputs()
    copies = [part.clone() for part in given]
    sample = squashed_gaussian(*given)
    action = sample.action.clone()
    squashed_gaussian_gradient(sample, copies[0], copies[1][:, 0])
    assert all(torch.equal(part, copy) for part, copy in zip(given, copies, strict=True))
    assert torch.equal(sample.action, action)
