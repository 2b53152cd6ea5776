"""Distributions over actions against torch.distributions, and what the environment gets of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, distributions

from rlkit.errors import UnsupportedTaskError
from rlkit.nn.action_heads import ActionHead, action_head
from rlkit.nn.actor_critic import ActorCritic

DISCRETE = spaces.Discrete(4, start=-2)
MULTI = spaces.MultiDiscrete([3, 2, 4], start=[1, 0, -1])
BOX = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 0.5], np.float32))
SPACES = [DISCRETE, MULTI, BOX]
BATCH = 50


def theirs(space: Any, outputs: Tensor, log_std: Tensor, raw: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies by torch.distributions."""
    if isinstance(space, spaces.Box):
        normal = distributions.Normal(outputs, log_std.exp())
        return normal.log_prob(raw).sum(1), normal.entropy().sum(1)
    logits = outputs if mask is None else outputs.masked_fill(~mask, -1e8)
    sizes = [4] if space is DISCRETE else [3, 2, 4]
    parts = [distributions.Categorical(logits=part) for part in logits.split(sizes, dim=1)]
    log_probs = [part.log_prob(action) for part, action in zip(parts, raw.unbind(1), strict=True)]
    return torch.stack(log_probs).sum(0), torch.stack([part.entropy() for part in parts]).sum(0)


def batch(head: ActionHead, masked: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Outputs, log stds, raw actions and masks in float64."""
    rng = np.random.default_rng(0)
    outputs = rng.standard_normal((BATCH, head.size)) * 2
    log_std = rng.standard_normal(head.log_stds) * 0.3
    mask = masks(head, rng) if masked else None
    raw = head.draw(outputs.astype(np.float32), log_std.astype(np.float32), rng, mask).raw
    dtype = torch.float64 if head.log_stds else torch.int64
    tensors = (torch.from_numpy(outputs), torch.from_numpy(log_std), torch.from_numpy(raw).to(dtype))
    return (*tensors, None if mask is None else torch.from_numpy(mask))


def masks(head: ActionHead, rng: np.random.Generator) -> Any:
    """Random masks that allow the first choice of each component."""
    mask = rng.random((BATCH, head.size)) < 0.5
    mask[:, 0 if head.size == 4 else [0, 3, 5]] = True
    return mask


@pytest.mark.parametrize(("space", "masked"), [(DISCRETE, True), (MULTI, True), *((space, False) for space in SPACES)])
def test_log_prob_entropy_and_gradients_equal_torch_distributions(space: Any, masked: bool) -> None:
    head = action_head(space)
    outputs, log_std, raw, mask = batch(head, masked)
    trace = head.trace(outputs, log_std, raw, mask)
    outputs.requires_grad_()
    log_std.requires_grad_()
    log_prob, entropy = theirs(space, outputs, log_std, raw, mask)
    torch.testing.assert_close(trace.log_prob, log_prob, rtol=0, atol=1e-12)
    torch.testing.assert_close(trace.entropy, entropy, rtol=0, atol=1e-12)

    weights = torch.randn(BATCH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = (weights * log_prob).sum() + 0.3 * entropy.sum()
    wanted = torch.autograd.grad(loss, (outputs, log_std), allow_unused=True)
    with torch.inference_mode():
        found = trace.gradient(weights, 0.3)
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=1e-12)
    if head.log_stds:
        torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-11)
    if mask is not None:
        assert (found[0][~mask] == 0).all()


@pytest.mark.parametrize("space", SPACES, ids=["discrete", "multi", "box"])
def test_draws_have_the_log_probability_that_learning_finds(space: Any) -> None:
    head, rng = action_head(space), np.random.default_rng(0)
    outputs = rng.standard_normal((BATCH, head.size)).astype(np.float32)
    log_std = np.full(head.log_stds, -0.3, np.float32)
    mask = None if space is BOX else masks(head, rng)
    drawn = head.draw(outputs, log_std, rng, mask)
    assert drawn.raw.shape == (BATCH, head.raw_size)
    assert drawn.raw.dtype == head.raw_dtype
    tensors = (torch.from_numpy(part) for part in (outputs, log_std, drawn.raw))
    trace = head.trace(*tensors, None if mask is None else torch.from_numpy(mask))
    np.testing.assert_allclose(drawn.log_prob, trace.log_prob.numpy(), atol=1e-5)


def test_choices_are_drawn_as_often_as_they_are_probable() -> None:
    head, rng, count = action_head(DISCRETE), np.random.default_rng(0), 40_000
    logits = np.array([0.0, 1.0, -1.0, 2.0], np.float32)
    mask = np.array([True, True, True, False])
    raw = head.draw(np.tile(logits, (count, 1)), np.zeros(0, np.float32), rng, np.tile(mask, (count, 1))).raw
    probabilities = np.exp(logits) * mask
    np.testing.assert_allclose(
        np.bincount(raw[:, 0], minlength=4) / count, probabilities / probabilities.sum(), atol=0.01
    )


@pytest.mark.parametrize("space", [DISCRETE, MULTI], ids=["discrete", "multi"])
def test_forbidden_actions_are_never_drawn_nor_best(space: Any) -> None:
    head, rng = action_head(space), np.random.default_rng(0)
    rows = np.arange(BATCH)
    for _ in range(50):
        mask = masks(head, rng)
        outputs = (np.where(mask, -5.0, 5.0) + rng.standard_normal(mask.shape)).astype(np.float32)
        for raw in (head.draw(outputs, np.zeros(0, np.float32), rng, mask).raw, head.mode(outputs, mask)):
            begins = [0] if space is DISCRETE else [0, 3, 5]
            assert all(mask[rows, begin + raw[:, k]].all() for k, begin in enumerate(begins))


def test_a_draw_of_zero_never_takes_a_forbidden_first_action() -> None:
    class Zeros(np.random.Generator):
        def random(self, size: Any) -> Any:  # type: ignore[override]
            return np.zeros(size)

    head = action_head(DISCRETE)
    mask = np.array([[False, False, True, True]])
    drawn = head.draw(np.zeros((1, 4), np.float32), np.zeros(0, np.float32), Zeros(np.random.PCG64(0)), mask)
    assert drawn.raw.item() == 2


def test_the_gaussian_has_its_mean_and_std_and_the_environment_gets_it_clipped() -> None:
    head, rng = action_head(BOX), np.random.default_rng(0)
    mean, log_std = np.array([0.2, 0.4], np.float32), np.log(np.array([2.0, 0.5], np.float32))
    raw = head.draw(np.tile(mean, (40_000, 1)), log_std, rng, None).raw
    np.testing.assert_allclose(raw.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(raw.std(0), [2.0, 0.5], rtol=0.02)
    sent = head.to_environment(raw)
    np.testing.assert_array_equal(sent, np.clip(raw, BOX.low, BOX.high))
    assert (raw != sent).any()


@pytest.mark.parametrize("space", SPACES, ids=["discrete", "multi", "box"])
def test_the_environment_gets_members_of_its_space(space: Any) -> None:
    head, rng = action_head(space), np.random.default_rng(0)
    outputs = rng.standard_normal((BATCH, head.size)).astype(np.float32)
    for raw in (head.draw(outputs, np.zeros(head.log_stds, np.float32), rng, None).raw, head.mode(outputs, None)):
        actions = head.to_environment(raw)
        assert actions.dtype == space.dtype
        assert all(space.contains(action) for action in actions)


@pytest.mark.parametrize("space", [spaces.MultiBinary(3), spaces.Box(0, 5, (2,), np.int64), spaces.Text(4)])
def test_other_actions_are_refused_by_name(space: Any) -> None:
    with pytest.raises(UnsupportedTaskError, match="Discrete, MultiDiscrete or continuous"):
        action_head(space)


@pytest.mark.parametrize("space", SPACES, ids=["discrete", "multi", "box"])
def test_the_gradient_of_both_networks_is_that_of_autograd(space: Any) -> None:
    """In float64: the default type decides the type of a network's parameters."""
    torch.set_default_dtype(torch.float64)
    try:
        head = action_head(space)
        net = ActorCritic(
            5, (16, 8), head, activation="tanh", log_std=-0.2,
            generator=torch.Generator().manual_seed(0), device=torch.device("cpu"),
        )  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)
    generator = torch.Generator().manual_seed(1)
    _, _, raw, mask = batch(head, masked=space is not BOX)
    obs, by_log_prob, by_value = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((BATCH, 5), BATCH, BATCH)
    )
    with torch.inference_mode():
        found = net.trace(obs, raw, mask).gradient(by_log_prob, -0.1, by_value)

    log_prob, entropy = theirs(space, net.policy(obs), net.log_std, raw, mask)
    loss = (by_log_prob * log_prob).sum() - 0.1 * entropy.sum() + (by_value * net.value(obs)[:, 0]).sum()
    parameters = [net.policy.flat, *([net.log_std] if head.log_stds else []), net.value.flat]
    wanted = torch.cat(torch.autograd.grad(loss, parameters))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def test_the_networks_lie_in_one_vector_in_the_order_of_the_gradient() -> None:
    net = ActorCritic(
        3, (4,), action_head(BOX), activation="tanh", log_std=0.5,
        generator=torch.Generator().manual_seed(0), device=torch.device("cpu"),
    )  # fmt: skip
    assert torch.equal(net.flat, torch.cat([net.policy.flat, net.log_std, net.value.flat]))
    obs = np.ones((2, 3), np.float32)
    net.flat.zero_()
    assert (net.values(obs) == 0).all()
    assert (net.act(obs, None, None)[1] == 0).all()
    many = np.ones((100, 3), np.float32)
    net.flat.fill_(0.1)
    np.testing.assert_allclose(net.values(many)[:2], net.values(obs), atol=1e-6)
