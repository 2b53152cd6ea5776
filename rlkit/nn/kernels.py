"""Small perceptrons in machine code: acting, gradients, Adam and the TD update.

With layers of about a hundred units numpy and torch spend more time between the matrix products than in them: one
observation through 120 and 84 units takes 1.7 us here and 7.6 us through numpy. Parameters are one flat vector, laid
out like `rlkit.nn.mlp.MLP.flat`. All kernels are in this file, because numba's cache of machine code watches no other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  # numba multiplies with it: load it before a run limits BLAS threads

WIDEST = 128
"""Units of the widest layer for which this is faster."""


def compiled(function: Callable[..., Any]) -> Any:
    """The function in machine code, kept on disk where there is a place for it."""
    options: Any = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except (RuntimeError, OSError) as error:  # neither the package nor the home can be written
        logging.getLogger(__name__).warning("compiled code is not kept (%s); every process compiles again", error)
        return numba.njit(function, **options)


@compiled
def td_update(  # type: ignore[no-untyped-def]
    flat, target_flat, widths, obs, action, reward, next_obs, discount, next_mask, weights, double, squared,
    activations, gradients, gradient, error,
):  # fmt: skip
    """Write the gradient of the mean loss and the errors; the loss."""
    rows, actions = len(reward), widths[-1]
    next_values = forward(target_flat, widths, next_obs, activations[0])
    selecting = forward(flat, widths, next_obs, activations[1]) if double else next_values
    for row in range(rows):
        allowed = next_mask[row % len(next_mask)]
        best = -1
        for candidate in range(actions):
            if allowed[candidate] and (best < 0 or selecting[row, candidate] > selecting[row, best]):
                best = candidate
        error[row] = reward[row] + discount[row] * next_values[row, best]  # the target, for now

    values = forward(flat, widths, obs, activations[0])
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
    backward(flat, widths, obs, activations[0], gradients, gradient)
    return loss


@compiled
def forward(flat, widths, x, memory):  # type: ignore[no-untyped-def]
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


@compiled
def backward(flat, widths, x, memory, gradients, gradient):  # type: ignore[no-untyped-def]
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


@compiled
def adam(flat, gradient, mean, square, steps, learning_rate, beta1, beta2, eps, max_norm):  # type: ignore[no-untyped-def]
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
