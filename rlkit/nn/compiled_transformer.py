"""A step of a transformer with memory in compiled code, for small batches on a CPU.

One token of a few rows goes through forty small operations in each layer. Torch spends more time between them than in
them, and its products wait for weights that the other layers have driven out of the cache. Here a layer is one call,
and each weight is read once, in the order it lies in memory. The numbers are those of `TransformerCore.step` to
rounding; a test compares the two. Nothing is learned through it: there are no gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlkit import machine_code
from rlkit.attention.layers import Block
from rlkit.attention.rope import rotary_angles
from rlkit.nn.cores import Memory, TransformerCore, TransformerMemory
from rlkit.types import Floats

MOST_ROWS = 64
"""Rows for which this is about twice as fast or more (4 layers of width 128 or 256)."""

_CACHE = machine_code.cache_folder("transformer", [Path(__file__).read_bytes()])
_SUMS = {"reassoc", "contract", "nsz"}  # sums may be taken in any order, which makes vectors of them; NaN stays NaN


def _compiled(function: Callable[..., Any]) -> Any:
    return machine_code.kept(function, _CACHE, nogil=True, error_model="numpy", fastmath=_SUMS)


class LayerWeights(NamedTuple):
    """Memory of a block's parameters."""

    attention_norm: Floats
    attention_norm_bias: Floats
    project: Floats
    project_bias: Floats
    merge: Floats
    merge_bias: Floats
    perceptron_norm: Floats
    perceptron_norm_bias: Floats
    widen: Floats
    widen_bias: Floats
    narrow: Floats
    narrow_bias: Floats


class Scratch(NamedTuple):
    """What a step writes on the way."""

    tokens: Floats  # [B, width]
    normed: Floats  # [B, width]
    heads: Floats  # [B, (H + 2K) D]
    found: Floats  # [B, width]
    added: Floats  # [B, width]
    hidden: Floats  # [B, expansion · width]
    logits: Floats  # [context]


class CompiledSteps:
    """Steps of one core, over the memory of its parameters."""

    def __init__(self, core: TransformerCore) -> None:
        self._core = core
        self._plain = all(_is_plain(block) for block in core.blocks)
        self._parameters: list[Tensor] = [core.embed.weight, core.embed.bias, core.norm.weight, core.norm.bias]
        self._parameters += [parameter for block in core.blocks for parameter in _ordered(block)]
        self._places: list[int] = []  # where the parameters lay when their arrays were taken
        self._arrays: list[Floats] = []
        self._layers: list[LayerWeights] = []
        self._speed = rotary_angles(torch.ones(()), core.head_size).numpy()
        self._scratch: Scratch | None = None

    def fits(self, x: Tensor, memory: Memory) -> bool:
        """Whether a step of features [B, D] can be taken here."""
        return (
            self._plain and x.device.type == "cpu" and x.dtype == torch.float32 and len(x) <= MOST_ROWS
            and not torch.is_grad_enabled() and all(part.is_contiguous() for part in memory)
        )  # fmt: skip

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, TransformerMemory]:
        """As the core's step; keys, values and the input are remembered in place."""
        keys, values, given, position = memory
        places, stored = position.numpy(), (keys.numpy(), values.numpy())
        inputs = np.ascontiguousarray(x.numpy())
        given.numpy()[np.arange(len(x)), places % self._core.context] = inputs
        self._follow_parameters()
        scratch = self._scratch_for(len(x))
        embed, embed_bias, norm, norm_bias = self._arrays[:4]
        if self._core.encoder is None:
            product(inputs, embed, embed_bias, scratch.tokens)
        else:
            scratch.tokens[:] = self._core.embedded(x).numpy()
        angles = places[:, None].astype(np.float32) * self._speed
        cosine, sine = np.cos(angles), np.sin(angles)
        for layer, weights in enumerate(self._layers):
            layer_step(weights, *stored, layer, places, cosine, sine, scratch)
        y = torch.empty(len(x), self._core.size)
        normalise(scratch.tokens, norm, norm_bias, y.numpy())
        return y, TransformerMemory(keys, values, given, position + 1)

    def _follow_parameters(self) -> None:
        """Take their arrays again when they have moved, as when they are laid out flat."""
        places = [parameter.data_ptr() for parameter in self._parameters]
        if places != self._places:
            self._arrays = [parameter.detach().numpy() for parameter in self._parameters]
            size, of_layers = len(LayerWeights._fields), self._arrays[4:]
            self._layers = [LayerWeights(*of_layers[at : at + size]) for at in range(0, len(of_layers), size)]
            self._places = places

    def _scratch_for(self, rows: int) -> Scratch:
        if self._scratch is None or len(self._scratch.normed) != rows:
            width, block = self._core.size, self._core.blocks[0]
            assert isinstance(block, Block)
            sizes = (width, width, block.attention.project.out_features, width, width, block.widen.out_features)
            shapes = [(rows, size) for size in sizes]
            self._scratch = Scratch(*(np.zeros(shape, np.float32) for shape in (*shapes, self._core.context)))
        return self._scratch


def _ordered(block: torch.nn.Module) -> list[Tensor]:
    """Parameters of a block as `LayerWeights` has them."""
    assert isinstance(block, Block)
    layers = (
        block.attention_norm, block.attention.project, block.attention.merge, block.perceptron_norm, block.widen,
        block.narrow,
    )  # fmt: skip
    return [parameter for layer in layers for parameter in (layer.weight, layer.bias)]


def _is_plain(block: torch.nn.Module) -> bool:
    """Whether it has nothing that this file does not know."""
    assert isinstance(block, Block)
    extras = (block.attention.sink, block.attention.query_norm, block.attention_gate)
    return all(extra is None for extra in extras)


@_compiled
def layer_step(weights, keys, values, layer, position, cosine, sine, scratch):  # type: ignore[no-untyped-def]
    """Take the tokens through a block in place; the ring of keys and values [B, layers, K, context, D] too.

    `cosine` and `sine` [B, D / 2] are those of the step's rotary angles.
    """
    y = scratch.tokens
    normalise(y, weights.attention_norm, weights.attention_norm_bias, scratch.normed)
    product(scratch.normed, weights.project, weights.project_bias, scratch.heads)
    for row in range(len(y)):
        of_layer = keys[row, layer], values[row, layer]
        attend(
            scratch.heads[row], of_layer[0], of_layer[1], position[row], cosine[row], sine[row], scratch.found[row],
            scratch.logits,
        )  # fmt: skip
    product(scratch.found, weights.merge, weights.merge_bias, scratch.added)
    add(y, scratch.added)
    normalise(y, weights.perceptron_norm, weights.perceptron_norm_bias, scratch.normed)
    product(scratch.normed, weights.widen, weights.widen_bias, scratch.hidden)
    for row in range(len(y)):
        take_gelu(scratch.hidden[row])
    product(scratch.hidden, weights.narrow, weights.narrow_bias, scratch.added)
    add(y, scratch.added)


@_compiled
def add(y, x):  # type: ignore[no-untyped-def]
    """Add x [B, width] to y in place."""
    for row in range(y.shape[0]):
        for unit in range(y.shape[1]):
            y[row, unit] += x[row, unit]


@_compiled
def product(x, weight, bias, out):  # type: ignore[no-untyped-def]
    """Write x Wᵀ + b of x [B, I] and W [O, I] to `out` [B, O]: four rows by two units at a time, the rest singly."""
    rows, inner = x.shape
    units = len(weight)
    fours, twos = rows // 4, units // 2
    for pair in range(twos):
        u, v = weight[2 * pair], weight[2 * pair + 1]
        for four in range(fours):
            row = 4 * four
            x0, x1, x2, x3 = x[row], x[row + 1], x[row + 2], x[row + 3]
            a0 = a1 = a2 = a3 = bias[2 * pair]
            b0 = b1 = b2 = b3 = bias[2 * pair + 1]
            for i in range(inner):
                a0 += x0[i] * u[i]
                a1 += x1[i] * u[i]
                a2 += x2[i] * u[i]
                a3 += x3[i] * u[i]
                b0 += x0[i] * v[i]
                b1 += x1[i] * v[i]
                b2 += x2[i] * v[i]
                b3 += x3[i] * v[i]
            out[row, 2 * pair], out[row + 1, 2 * pair], out[row + 2, 2 * pair], out[row + 3, 2 * pair] = a0, a1, a2, a3
            out[row, 2 * pair + 1], out[row + 1, 2 * pair + 1] = b0, b1
            out[row + 2, 2 * pair + 1], out[row + 3, 2 * pair + 1] = b2, b3
        for row in range(4 * fours, rows):
            out[row, 2 * pair] = bias[2 * pair] + inner_product(x[row], u)
            out[row, 2 * pair + 1] = bias[2 * pair + 1] + inner_product(x[row], v)
    for unit in range(2 * twos, units):
        for row in range(rows):
            out[row, unit] = bias[unit] + inner_product(x[row], weight[unit])


@_compiled
def inner_product(a, b):  # type: ignore[no-untyped-def]
    """Σ a b."""
    total = np.float32(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@_compiled
def normalise(x, weight, bias, out):  # type: ignore[no-untyped-def]
    """Write the layer norm of x [B, width] to `out`, with torch's ε of 1e-5."""
    rows, width = x.shape
    for row in range(rows):
        token, total, squares = x[row], np.float32(0.0), np.float32(0.0)
        for i in range(width):
            total += token[i]
        mean = total / np.float32(width)
        for i in range(width):
            squares += (token[i] - mean) * (token[i] - mean)
        scale = np.float32(1.0) / np.sqrt(squares / np.float32(width) + np.float32(1e-5))
        for i in range(width):
            out[row, i] = (token[i] - mean) * scale * weight[i] + bias[i]


@_compiled
def attend(heads, keys, values, position, cosine, sine, out, logits):  # type: ignore[no-untyped-def]
    """Attention of one row's token to its ring [K, context, D], in which its key and value are written first.

    `heads` [(H + 2K) D] holds queries, keys and values; `out` [H D] gets what the queries find.
    """
    kv_heads, context, size = keys.shape
    queries = len(heads) // size - 2 * kv_heads
    half, slot, there = size // 2, position % context, min(position + 1, context)
    for head in range(queries + kv_heads):
        a, b = heads[head * size : head * size + half], heads[head * size + half : (head + 1) * size]
        for i in range(half):
            turned_a = a[i] * cosine[i] - b[i] * sine[i]
            b[i] = b[i] * cosine[i] + a[i] * sine[i]
            a[i] = turned_a
    for head in range(kv_heads):
        key, value = (queries + head) * size, (queries + kv_heads + head) * size
        keys[head, slot] = heads[key : key + size]
        values[head, slot] = heads[value : value + size]
    scale = np.float32(1.0 / math.sqrt(size))
    for head in range(queries):
        ring, first, largest = head // (queries // kv_heads), head * size, np.float32(-np.inf)
        for step in range(there):
            logit = np.float32(0.0)
            for i in range(size):
                logit += heads[first + i] * keys[ring, step, i]
            logits[step] = scale * logit
            largest = max(largest, logits[step])
        total = take_exp(logits, there, largest)
        for i in range(size):
            out[first + i] = np.float32(0.0)
        for step in range(there):
            weight = logits[step] / total
            for i in range(size):
                out[first + i] += weight * values[ring, step, i]


@_compiled
def exp(x):  # type: ignore[no-untyped-def]
    """The exponential of a float32 from -87 to 80, within 1e-7 (1 + |x|) of it: 2^k times a series."""
    z = max(x, np.float32(-87.0)) * np.float32(1.0 / math.log(2.0))
    k = np.floor(z + np.float32(0.5))
    f = np.float32(math.log(2.0)) * (z - k)
    one = np.float32(1.0)
    series = one + f / np.float32(7.0)
    series = one + f * series / np.float32(6.0)
    series = one + f * series / np.float32(5.0)
    series = one + f * series / np.float32(4.0)
    series = one + f * series / np.float32(3.0)
    series = one + f * series * np.float32(0.5)
    series = one + f * series
    return series * np.int32((np.int32(k) + 127) << 23).view(np.float32)


@_compiled
def take_exp(x, count, largest):  # type: ignore[no-untyped-def]
    """Take exp(x - largest) of the first numbers in place; the sum of it."""
    total = np.float32(0.0)
    for i in range(count):
        x[i] = exp(x[i] - largest)
        total += x[i]
    return total


@_compiled
def take_gelu(x):  # type: ignore[no-untyped-def]
    """Take x/2 (1 + erf(x/√2)) in place, within 1e-6.

    erf by Abramowitz and Stegun 1964, formula 7.1.26, whose error is below 1.5e-7.
    """
    one, half = np.float32(1.0), np.float32(0.5)
    for i in range(len(x)):
        z = abs(x[i]) * np.float32(math.sqrt(0.5))
        t = one / (one + np.float32(0.3275911) * z)
        series = np.float32(-1.453152027) + t * np.float32(1.061405429)
        series = np.float32(1.421413741) + t * series
        series = np.float32(-0.284496736) + t * series
        series = np.float32(0.254829592) + t * series
        erf = math.copysign(one - t * series * exp(-z * z), x[i])
        x[i] = half * x[i] * (one + erf)
