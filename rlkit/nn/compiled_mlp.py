"""A small perceptron in compiled code: its forward and backward pass over the memory of its flat parameters.

With layers of about a hundred units numpy and torch spend more time between the matrix products than in them: one
observation through 120 and 84 units takes 1.7 us here and 7.6 us through numpy. From `WIDEST` units on, whole batches
depend on who multiplies fastest, see `rlkit.nn.linear`; one row is faster here at any width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  # numba multiplies with it: load it before a run limits BLAS threads

from rlkit import machine_code

WIDEST = 128
"""Units of the widest layer for which this is faster."""


def compiled(function: Callable[..., Any]) -> Any:
    """The function in machine code."""
    return machine_code.kept(function, _CACHE, nogil=True, error_model="numpy")


_CACHE = machine_code.cache_folder(
    "nn", (path.read_bytes() for path in sorted(Path(__file__).parent.glob("compiled_*.py")))
)


@compiled
def forward(flat, widths, x, memory, tanh):  # type: ignore[no-untyped-def]
    """Outputs [B, out]; every layer's activations stay in `memory`, one after the other.

    `tanh` tells the hidden layers' activation, else it is ReLU.
    """
    rows, layers, at, used = len(x), len(widths) - 1, 0, 0
    for layer in range(layers):
        fan_in, fan_out = widths[layer], widths[layer + 1]
        weight = flat[at : at + fan_in * fan_out].reshape(fan_out, fan_in)
        bias = flat[at + fan_in * fan_out : at + fan_in * fan_out + fan_out]
        y = memory[used : used + rows * fan_out].reshape(rows, fan_out)
        np.dot(x, weight.T, y)
        is_relu = layer < layers - 1 and not tanh
        lowest = np.float32(0.0) if is_relu else np.float32(-np.inf)
        for row in range(rows):
            for unit in range(fan_out):
                y[row, unit] = max(y[row, unit] + bias[unit], lowest)
        if tanh and layer < layers - 1:
            take_tanh(memory[used : used + rows * fan_out])
        at += fan_out * (fan_in + 1)
        used += rows * fan_out
        x = y
    return x


@compiled
def forward_row(flat, widths, x, tanh, output):  # type: ignore[no-untyped-def]
    """Outputs [out] for one input [in]; `tanh` as of `forward`, `output` is 0 for none, 1 for ReLU, 2 for tanh."""
    layers, at = len(widths) - 1, 0
    for layer in range(layers):
        fan_in, fan_out = widths[layer], widths[layer + 1]
        y = np.dot(flat[at : at + fan_in * fan_out].reshape(fan_out, fan_in), x)
        at += fan_in * fan_out
        kind = (2 if tanh else 1) if layer < layers - 1 else output
        lowest = np.float32(0.0) if kind == 1 else np.float32(-np.inf)
        for unit in range(fan_out):
            y[unit] = max(y[unit] + flat[at + unit], lowest)
        if kind == 2:
            take_tanh(y)
        at += fan_out
        x = y
    return x


@compiled
def backward(flat, widths, x, memory, by_output, scratch, gradient, tanh):  # type: ignore[no-untyped-def]
    """Write `gradient`, laid out like `flat`, for the gradient [B, out] by the outputs that `forward` left in `memory`.

    `scratch` has two rows of B times the widest layer; `by_output` may lie in row (layers - 1) % 2.
    """
    rows, layers = len(x), len(widths) - 1
    at, used = len(flat), len(memory)
    by_bias = gradient[at - widths[layers] :]
    by_bias[:] = 0.0
    for row in range(rows):
        for unit in range(len(by_bias)):
            by_bias[unit] += by_output[row, unit]
    for layer in range(layers - 1, -1, -1):
        fan_in, fan_out = widths[layer], widths[layer + 1]
        at -= fan_out * (fan_in + 1)
        used -= rows * fan_out
        inputs = x if layer == 0 else memory[used - rows * fan_in : used].reshape(rows, fan_in)
        np.dot(by_output.T, inputs, gradient[at : at + fan_in * fan_out].reshape(fan_out, fan_in))
        if layer > 0:
            by_input = scratch[(layer - 1) % 2][: rows * fan_in].reshape(rows, fan_in)
            np.dot(by_output, flat[at : at + fan_in * fan_out].reshape(fan_out, fan_in), by_input)
            through_activation(by_input, inputs, gradient[at - fan_in : at], tanh)
            by_output = by_input


@compiled
def through_activation(by_output, activations, by_bias, tanh):  # type: ignore[no-untyped-def]
    """Make of the gradient [B, units] by a layer's output that by what its activation was given, in place.

    Its sum over the rows goes into `by_bias` [units], in the same pass: less than half of the time of torch's two.
    """
    rows, units = by_output.shape
    zero, one = np.float32(0.0), np.float32(1.0)
    by_bias[:] = zero
    for row in range(rows):
        if tanh:
            for unit in range(units):
                y = activations[row, unit]
                slope = by_output[row, unit] * (one - y * y)
                by_output[row, unit] = slope
                by_bias[unit] += slope
        else:
            for unit in range(units):
                slope = zero if activations[row, unit] <= zero else by_output[row, unit]  # NaN goes on
                by_output[row, unit] = slope
                by_bias[unit] += slope


@compiled
def take_tanh(x):  # type: ignore[no-untyped-def]
    """Take tanh of a float32 vector in place, up to 2e-7 (absolute), in a loop that the compiler turns into vectors.

    tanh |x| = (1 - t) / (1 + t) with t = exp(-2 |x|) = 2^k exp(f), where f lies within ± log(2) / 2.
    """
    per_octave, octave = np.float32(-2.0 / math.log(2.0)), np.float32(math.log(2.0))
    half, one, largest = np.float32(0.5), np.float32(1.0), np.float32(40.0)
    for i in range(len(x)):
        z = per_octave * min(abs(x[i]), largest)
        k = np.floor(z + half)
        f = octave * (z - k)
        series = one + f / np.float32(7.0)  # the exponential's, by Horner's rule
        series = one + f * series / np.float32(6.0)
        series = one + f * series / np.float32(5.0)
        series = one + f * series / np.float32(4.0)
        series = one + f * series / np.float32(3.0)
        series = one + f * series * half
        series = one + f * series
        power = np.int32((np.int32(k) + 127) << 23).view(np.float32)  # 2^k, written into the exponent's bits
        t = series * power
        x[i] = math.copysign((one - t) / (one + t), x[i])


@compiled
def adam_step(  # type: ignore[no-untyped-def]
    flat, gradient, mean, square, steps, learning_rate, beta1, beta2, eps, weight_decay, max_norm
):
    """One step of Adam (Kingma and Ba 2015) against the gradient, shortened to `max_norm`, with an L2 penalty added.

    `flat`, `gradient` and the moments `mean` and `square` are float32 vectors of one length, which nothing checks here.
    """
    scale = np.float32(1.0)
    if max_norm < np.inf:
        scale = np.float32(min(1.0, max_norm / (math.sqrt(np.dot(gradient, gradient)) + 1e-6)))
    decay = np.float32(weight_decay)
    keep_mean, keep_square = np.float32(beta1), np.float32(beta2)
    new_mean, new_square = np.float32(1.0 - beta1), np.float32(1.0 - beta2)
    step = np.float32(learning_rate / (1.0 - beta1**steps))
    correction = np.float32(1.0 / math.sqrt(1.0 - beta2**steps))
    small = np.float32(eps)
    for i in range(len(flat)):
        slope = gradient[i] * scale + decay * flat[i]
        mean[i] = keep_mean * mean[i] + new_mean * slope
        square[i] = keep_square * square[i] + new_square * slope * slope
        flat[i] -= step * mean[i] / (np.sqrt(square[i]) * correction + small)
