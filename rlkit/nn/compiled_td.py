"""The whole update of a small Q-network in one compiled call: targets, loss, gradient, clipping and Adam.

With layers of about a hundred units torch spends more time between the products of an update than in them. Here the
same equations (`rlkit.ops.value_learning`, Kingma and Ba 2015) run over the memory of the torch parameters, 2.5 times
as fast; a test compares them with the ordinary path. From `WIDEST` units on, torch's products are the faster ones.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
import scipy.linalg.cython_blas  # noqa: F401  # numba multiplies with it: load it before a run limits BLAS threads

from rlkit.nn.action_values import ActionValues, PerceptronValues
from rlkit.nn.optim import Adam
from rlkit.types import Bools, Floats

Integers: TypeAlias = npt.NDArray[np.int64]
WIDEST = 128
"""Units of the widest layer for which this is faster."""


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
        _adam(
            flat, self._gradient, adam.exp_avg.numpy(), adam.exp_avg_sq.numpy(), int(adam.steps), adam.learning_rate,
            adam.betas[0], adam.betas[1], adam.eps, self._max_norm,
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


def _compile(function: Callable[..., Any]) -> Any:
    """The function in machine code, kept on disk where there is a place for it."""
    options: Any = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except (RuntimeError, OSError) as error:  # neither the package nor the home can be written
        logging.getLogger(__name__).warning("compiled code is not kept (%s); every process compiles again", error)
        return numba.njit(function, **options)


@_compile
def _update(  # type: ignore[no-untyped-def]
    flat, target_flat, widths, obs, action, reward, next_obs, discount, next_mask, weights, double, squared,
    activations, gradients, gradient, error,
):  # fmt: skip
    """Write the gradient of the mean loss and the errors; the loss."""
    rows, actions = len(reward), widths[-1]
    next_values = _forward(target_flat, widths, next_obs, activations[0])
    selecting = _forward(flat, widths, next_obs, activations[1]) if double else next_values
    for row in range(rows):
        allowed = next_mask[row % len(next_mask)]
        best = -1
        for candidate in range(actions):
            if allowed[candidate] and (best < 0 or selecting[row, candidate] > selecting[row, best]):
                best = candidate
        error[row] = reward[row] + discount[row] * next_values[row, best]  # the target, for now

    values = _forward(flat, widths, obs, activations[0])
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
    _backward(flat, widths, obs, activations[0], gradients, gradient)
    return loss


@_compile
def _forward(flat, widths, x, memory):  # type: ignore[no-untyped-def]
    """Outputs [B, out]; every layer's activations stay in `memory`, one after the other."""
    rows, layers, at, used = len(x), len(widths) - 1, 0, 0
    for layer in range(layers):
        fan_in, fan_out = widths[layer], widths[layer + 1]
        weight = flat[at : at + fan_in * fan_out].reshape(fan_out, fan_in)
        bias = flat[at + fan_in * fan_out : at + fan_in * fan_out + fan_out]
        y = memory[used : used + rows * fan_out].reshape(rows, fan_out)
        np.dot(x, weight.T, y)
        lowest = np.float32(-np.inf) if layer == layers - 1 else np.float32(0.0)
        for row in range(rows):
            for unit in range(fan_out):
                y[row, unit] = max(y[row, unit] + bias[unit], lowest)
        at += fan_out * (fan_in + 1)
        used += rows * fan_out
        x = y
    return x


@_compile
def _backward(flat, widths, x, memory, gradients, gradient):  # type: ignore[no-untyped-def]
    """Write `gradient`, laid out like `flat`; the gradient by the outputs lies in the buffer of the last layer."""
    rows, layers = len(x), len(widths) - 1
    at, used = len(flat), len(memory)
    for layer in range(layers - 1, -1, -1):
        fan_in, fan_out = widths[layer], widths[layer + 1]
        at -= fan_out * (fan_in + 1)
        used -= rows * fan_out
        inputs = x if layer == 0 else memory[used - rows * fan_in : used].reshape(rows, fan_in)
        by_output = gradients[layer % 2][: rows * fan_out].reshape(rows, fan_out)
        np.dot(by_output.T, inputs, gradient[at : at + fan_in * fan_out].reshape(fan_out, fan_in))
        by_bias = gradient[at + fan_in * fan_out : at + fan_in * fan_out + fan_out]
        by_bias[:] = 0.0
        for row in range(rows):
            for unit in range(fan_out):
                by_bias[unit] += by_output[row, unit]
        if layer > 0:
            by_input = gradients[(layer - 1) % 2][: rows * fan_in].reshape(rows, fan_in)
            np.dot(by_output, flat[at : at + fan_in * fan_out].reshape(fan_out, fan_in), by_input)
            for row in range(rows):
                for unit in range(fan_in):
                    if inputs[row, unit] <= 0.0:
                        by_input[row, unit] = 0.0


@_compile
def _adam(flat, gradient, mean, square, steps, learning_rate, beta1, beta2, eps, max_norm):  # type: ignore[no-untyped-def]
    """One step of Adam against the gradient, shortened to `max_norm`."""
    scale = np.float32(min(1.0, max_norm / (math.sqrt(np.dot(gradient, gradient)) + 1e-6)))
    keep_mean, keep_square = np.float32(beta1), np.float32(beta2)
    new_mean, new_square = np.float32(1.0 - beta1), np.float32(1.0 - beta2)
    step = np.float32(learning_rate / (1.0 - beta1**steps))
    correction = np.float32(math.sqrt(1.0 - beta2**steps))
    small = np.float32(eps)
    for i in range(len(flat)):
        slope = gradient[i] * scale
        mean[i] = keep_mean * mean[i] + new_mean * slope
        square[i] = keep_square * square[i] + new_square * slope * slope
        flat[i] -= step * mean[i] / (np.sqrt(square[i]) / correction + small)
