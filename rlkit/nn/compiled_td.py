"""The whole update of a small Q-network in one compiled call: targets, loss, gradient, clipping and Adam.

The equations of the ordinary path (`rlkit.ops.value_learning`, Kingma and Ba 2015) over the memory of the torch
parameters, 2.5 times as fast; a test compares the two.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rlkit.nn.action_values import ActionValues, PerceptronValues
from rlkit.nn.compiled_mlp import WIDEST, adam_step, backward, compiled, forward
from rlkit.nn.optim import Adam
from rlkit.types import Bools, Floats

Integers: TypeAlias = npt.NDArray[np.int64]


class CompiledTD:
    """Updates `network` towards the TD targets of `target_network`, both small perceptrons of plain values on a CPU."""

    def __init__(
        self,
        network: PerceptronValues,
        target_network: PerceptronValues,
        optimizer: Adam,
        *,
        double: bool,
        squared: bool,
        max_grad_norm: float | None,
    ) -> None:
        self._network, self._target, self._optimizer = network, target_network, optimizer
        self._double, self._squared = double, squared
        self._max_norm = math.inf if max_grad_norm is None else max_grad_norm
        self._widths = np.array(network.mlp.widths)
        self._gradient = np.zeros(network.flat.numel(), np.float32)
        self._allocate(0)

    def _allocate(self, rows: int) -> None:
        """Memory for batches of this size."""
        size = rows * int(self._widths[1:].sum())
        self._activations = np.zeros((2, size), np.float32)
        self._gradients = np.zeros((2, rows * int(self._widths.max())), np.float32)
        self._rows = rows

    def update(
        self, obs: Floats, action: Integers, reward: Floats, next_obs: Floats, discount: Floats,
        next_mask: Bools | None, weights: Floats | None,
    ) -> tuple[float, Floats]:  # fmt: skip
        """One update from B transitions: the loss, and the magnitude of each TD error [B]."""
        rows = len(reward)
        if rows != self._rows:
            self._allocate(rows)
        if next_mask is None:
            next_mask = np.ones((1, int(self._widths[-1])), np.bool_)  # one row that counts for all
        if weights is None:
            weights = np.ones(1, np.float32)
        adam, flat = self._optimizer, self._network.flat.numpy()
        error = np.empty(rows, np.float32)
        adam.steps += 1
        batch = (np.ascontiguousarray(part) for part in (obs, action, reward, next_obs, discount, next_mask, weights))
        loss = _update(
            flat, self._target.flat.numpy(), self._widths, *batch,
            self._double, self._squared, self._activations, self._gradients, self._gradient, error,
        )  # fmt: skip
        adam_step(
            flat, self._gradient, adam.exp_avg.numpy(), adam.exp_avg_sq.numpy(), adam.steps, adam.learning_rate,
            adam.betas[0], adam.betas[1], adam.eps, adam.weight_decay, self._max_norm,
        )  # fmt: skip
        return loss, error


def compiled_td(
    network: ActionValues,
    target_network: ActionValues,
    optimizer: Adam,
    *,
    double: bool,
    squared: bool,
    max_grad_norm: float | None,
) -> CompiledTD | None:
    """The compiled update where it is the faster one, for small perceptrons on a CPU; else None."""
    if not (isinstance(network, PerceptronValues) and isinstance(target_network, PerceptronValues)):
        return None
    if not network.flat.is_cpu or max(network.mlp.widths) > WIDEST:
        return None
    return CompiledTD(network, target_network, optimizer, double=double, squared=squared, max_grad_norm=max_grad_norm)


@compiled
def _update(  # type: ignore[no-untyped-def]
    flat, target_flat, widths, obs, action, reward, next_obs, discount, next_mask, weights, double, squared,
    activations, gradients, gradient, error,
):  # fmt: skip
    """Write the gradient of the mean loss and the errors; the loss."""
    rows, actions = len(reward), widths[-1]
    next_values = forward(target_flat, widths, next_obs, activations[0], False)
    selecting = forward(flat, widths, next_obs, activations[1], False) if double else next_values
    for row in range(rows):
        allowed = next_mask[row % len(next_mask)]
        best = -1
        for candidate in range(actions):
            if allowed[candidate] and (best < 0 or selecting[row, candidate] > selecting[row, best]):
                best = candidate
        error[row] = reward[row] + discount[row] * next_values[row, best]  # the target, for now

    values = forward(flat, widths, obs, activations[0], False)
    by_output = gradients[(len(widths) - 2) % 2][: rows * actions].reshape(rows, actions)
    by_output[:] = 0.0
    loss = 0.0
    for row in range(rows):
        difference = values[row, action[row]] - error[row]
        magnitude = abs(difference)
        weight = weights[row % len(weights)] / rows
        if squared:
            loss += weight * difference * difference
            slope = 2.0 * difference
        else:
            loss += weight * (0.5 * difference * difference if magnitude <= 1.0 else magnitude - 0.5)
            slope = min(max(difference, -1.0), 1.0)
        by_output[row, action[row]] = weight * slope
        error[row] = magnitude
    backward(flat, widths, obs, activations[0], by_output, gradients, gradient, False)
    return loss
