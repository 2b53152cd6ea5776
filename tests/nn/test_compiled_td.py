"""The compiled update of a small Q-network against the ordinary one, part by part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlkit.nn.action_values import Design, action_values
from rlkit.nn.compiled_mlp import WIDEST
from rlkit.nn.compiled_td import CompiledTD, compiled_td
from rlkit.nn.optim import Adam, clip_norm
from rlkit.nn.return_heads import ValueHead
from rlkit.ops.value_learning import allowed

CPU = torch.device("cpu")
ROWS, OBS, ACTIONS = 37, 4, 3


def networks(hidden=(9, 7)):
    design = Design(actions=ACTIONS, outputs=1, hidden=hidden)
    generator = torch.Generator().manual_seed(0)
    return [action_values(design, (OBS,), CPU, generator) for _ in range(2)]


def batch(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((ROWS, ACTIONS)) < 0.6
    mask[:, 0] = True
    return {
        "obs": rng.standard_normal((ROWS, 2 * OBS)).astype(np.float32)[:, ::2],  # not contiguous, as replay's views
        "action": rng.integers(ACTIONS, size=ROWS),
        "reward": 3.0 * rng.standard_normal(ROWS).astype(np.float32),
        "next_obs": rng.standard_normal((ROWS, OBS)).astype(np.float32),
        "discount": (0.9 * (rng.random(ROWS) < 0.7)).astype(np.float32),
        "next_mask": mask,
        "weights": rng.random(ROWS).astype(np.float32),
    }


def ordinary_update(network, target_network, optimizer, data, *, double, squared, max_grad_norm):
    tensors = {name: None if value is None else torch.from_numpy(value.copy()) for name, value in data.items()}
    head = ValueHead("squared" if squared else "huber")
    next_values = target_network.outputs(tensors["next_obs"])[:, :, 0]
    selecting = network.outputs(tensors["next_obs"])[:, :, 0] if double else next_values
    best = allowed(selecting, tensors["next_mask"]).argmax(dim=1)
    rows = torch.arange(ROWS)
    target = tensors["reward"] + tensors["discount"] * next_values[rows, best]
    trace = network.trace(tensors["obs"])
    loss, by_taken, error = head.loss(trace.output[rows, tensors["action"]], target[:, None], None)
    weights = torch.ones(ROWS) if tensors["weights"] is None else tensors["weights"]
    by_output = torch.zeros(ROWS, ACTIONS, 1)
    by_output[rows, tensors["action"]] = by_taken * weights[:, None] / ROWS
    gradient = trace.weight_gradient(by_output)
    if max_grad_norm is not None:
        clip_norm(gradient, max_grad_norm)
    optimizer.step(gradient)
    return float((weights * loss).mean()), error.numpy()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("hidden", [(9, 7), (), (5, 6, 7)])
def test_ten_updates_stay_with_torch(double, squared, max_grad_norm, optional, hidden):
    (ours, target), (theirs, their_target) = networks(hidden), networks(hidden)
    options = {"double": double, "squared": squared, "max_grad_norm": max_grad_norm}
    update = compiled_td(ours, target, Adam(ours.flat, 0.01), **options)
    assert isinstance(update, CompiledTD)
    optimizer = Adam(theirs.flat, 0.01)
    for seed in range(10):
        data = batch(seed)
        if not optional:
            data |= {"next_mask": None, "weights": None}
        loss, error = update.update(**data)
        expected_loss, expected_error = ordinary_update(theirs, their_target, optimizer, data, **options)
        assert loss == pytest.approx(expected_loss, rel=1e-4, abs=1e-6)
        np.testing.assert_allclose(error, expected_error, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.flat, theirs.flat, rtol=1e-3, atol=2e-5)


def test_batches_may_change_their_size():
    network, target = networks()
    update = compiled_td(network, target, Adam(network.flat, 0.01), double=False, squared=False, max_grad_norm=None)
    for rows in (ROWS, 5, ROWS):
        _, error = update.update(**{name: value[:rows] for name, value in batch(0).items()})
        assert error.shape == (rows,)


def test_wide_networks_are_left_to_torch():
    network, target = networks((WIDEST + 1,))
    assert compiled_td(network, target, Adam(network.flat, 0.1), double=False, squared=False, max_grad_norm=1.0) is None
