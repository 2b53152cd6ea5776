"""The forward and backward pass of a perceptron in numpy and compiled code, for where OpenBLAS multiplies fastest.

Between the products of layers of 256 units torch's dispatcher takes a tenth of the time. Here a forward pass is one
call, and what a backward pass does beside its products is one pass over each gradient. All arrays are float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rlkit.nn.compiled_mlp import forward, through_activation
from rlkit.types import Floats

Integers: TypeAlias = npt.NDArray[np.int64]


def layer_arrays(flat: Floats, widths: Sequence[int]) -> list[tuple[Floats, Floats]]:
    """Weight [out, in] and bias [out] of each layer, views of the flat vector."""
    layers, at = [], 0
    for fan_in, fan_out in pairwise(widths):
        end = at + fan_in * fan_out
        layers.append((flat[at:end].reshape(fan_out, fan_in), flat[end : end + fan_out]))
        at = end + fan_out
    return layers


def layer_outputs(x: Floats, flat: Floats, widths: Integers, *, tanh: bool) -> list[Floats]:
    """Output [B, out] of every layer for rows [B, in]; after ReLU or tanh, but for the last one."""
    rows, each = len(x), widths[1:].tolist()
    memory = np.empty(rows * sum(each), np.float32)
    forward(flat, widths, np.ascontiguousarray(x), memory, tanh)
    outputs, used = [], 0
    for width in each:
        outputs.append(memory[used : used + rows * width].reshape(rows, width))
        used += rows * width
    return outputs


def backward(
    by_output: Floats,
    inputs: Sequence[Floats],
    layers: Sequence[tuple[Floats, Floats]],
    gradients: Sequence[tuple[Floats, Floats]] | None,
    *,
    tanh: bool,
    first_column: int | None,
) -> Floats | None:
    """Write the gradient of each layer's weight and bias, and return that of the input from a column on, if wanted.

    Args:
        by_output: Gradient [B, out] by the last layer's output.
        inputs: Of each layer, [B, in]: the network's, then the outputs of the hidden layers.
        layers: As `layer_arrays` gives them.
        gradients: Likewise, to write into; None: those of the parameters are not wanted.
        tanh: After hidden layers; else ReLU.
        first_column: Where the part of the input begins whose gradient is wanted; None: nothing is.
    """
    if gradients is not None:
        np.sum(by_output, 0, out=gradients[-1][1])
    for index in reversed(range(1, len(layers))):
        if gradients is not None:
            np.matmul(by_output.T, inputs[index], out=gradients[index][0])
        by_output = _by_input(by_output, layers[index][0])
        by_bias = np.empty(by_output.shape[1], np.float32) if gradients is None else gradients[index - 1][1]
        through_activation(by_output, inputs[index], by_bias, tanh)
    if gradients is not None:
        np.matmul(by_output.T, inputs[0], out=gradients[0][0])
    return None if first_column is None else _by_input(by_output, layers[0][0][:, first_column:])


def _by_input(by_output: Floats, weight: Floats) -> Floats:
    product: Floats = by_output * weight if len(weight) == 1 else by_output @ weight  # of one unit: an outer product
    return product
