"""Layers on the attention operation: attention to a sequence and to others, the transformer's block, pooling.

Blocks normalise before each part (Xiong et al. 2020, https://arxiv.org/abs/2002.04745). A sequence can be unrolled
whole or taken step by step with a cache; both give the same numbers.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlkit.attention.attention import EVERYTHING, attention, attention_weights
from rlkit.attention.cache import KVCache
from rlkit.attention.mask import AttentionMask
from rlkit.attention.rope import Angles, Turn, turned
from rlkit.errors import UsageError

Gate: TypeAlias = Literal["residual", "gru"]


class SelfAttention(nn.Module):
    """Attention of a sequence to itself.

    Args:
        width: Of the tokens.
        heads: Of the queries; `width` must be a multiple of it.
        kv_heads: Of keys and values, a divisor of `heads`; fewer make caches smaller (Ainslie et al. 2023,
            https://arxiv.org/abs/2305.13245). By default as many.
        qk_norm: Whether queries and keys get root mean square 1 in each head (Henry et al. 2020,
            https://arxiv.org/abs/2010.04245), which keeps logits small.
        sink: Whether each head learns a logit that takes weight and gives nothing.
    """

    def __init__(
        self, width: int, heads: int, *, kv_heads: int | None = None, qk_norm: bool = False, sink: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads = heads, heads if kv_heads is None else kv_heads
        self.head_size = head_size_of(width, heads, self.kv_heads)
        self.project = nn.Linear(width, (heads + 2 * self.kv_heads) * self.head_size)
        self.merge = nn.Linear(width, width)
        self.query_norm, self.key_norm = (nn.RMSNorm(self.head_size) if qk_norm else None for _ in range(2))
        self.sink = nn.Parameter(torch.zeros(heads)) if sink else None

    def qkv(self, x: Tensor, angles: Angles | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, D], keys and values [B, K, T, D] of tokens [B, T, width].

        Queries and keys are rotated by angles [B or 1, T, D / 2], where given.
        """
        heads = self.project(x).view(*x.shape[:2], -1, self.head_size).transpose(1, 2)
        q, k, v = heads.split([self.heads, self.kv_heads, self.kv_heads], 1)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
            heads = torch.cat((q, k), 1)
        if angles is not None:
            turn = angles if isinstance(angles, Turn) else Turn.of(angles)
            both = turned(heads[:, : self.heads + self.kv_heads], *turn)  # in one go, which acting is quicker for
            q, k = both[:, : self.heads], both[:, self.heads :]
        return q, k, v

    def merged(self, out: Tensor) -> Tensor:
        """Tokens [B, T, width] of the heads' outputs [B, H, T, D]."""
        tokens: Tensor = self.merge(out.transpose(1, 2).flatten(2))
        return tokens

    def forward(self, x: Tensor, mask: AttentionMask = EVERYTHING, angles: Angles | None = None) -> Tensor:
        """Tokens [B, T, width] after attention among themselves."""
        return self.with_keys(x, mask, angles)[0]

    def with_keys(self, x: Tensor, mask: AttentionMask, angles: Angles | None) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, with the keys and values [B, K, T, D] that a cache would hold."""
        q, k, v = self.qkv(x, angles)
        return self.merged(attention(q, k, v, mask, sink=self.sink)), k, v

    def step(self, x: Tensor, cache: KVCache, layer: int, angles: Angles | None = None) -> Tensor:
        """One token of each row [B, 1, width] after attention to the cached ones and itself; appends to the cache."""
        q, k, v = self.qkv(x, angles)
        keys, values, mask = cache.append(layer, k, v)
        return self.merged(attention(q, keys, values, mask, sink=self.sink))

    def weights(self, x: Tensor, mask: AttentionMask = EVERYTHING, angles: Angles | None = None) -> Tensor:
        """Weights [B, H, T, T] that `forward` makes."""
        q, k, v = self.qkv(x, angles)
        return attention_weights(q, k, v, mask, sink=self.sink)[1]


class CrossAttention(nn.Module):
    """Attention of tokens to other tokens.

    Args:
        width: Of the tokens that ask.
        context_width: Of the tokens that answer.
        heads: As of `SelfAttention`.
    """

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, head_size_of(width, heads, heads)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width, 2 * width)
        self.merge = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, mask: AttentionMask = EVERYTHING) -> Tensor:
        """Tokens [B, T, width] after attention to context [B, S, context_width]."""
        q = self._split(self.query(x))
        k, v = (self._split(part) for part in self.key_value(context).chunk(2, -1))
        tokens: Tensor = self.merge(attention(q, k, v, mask).transpose(1, 2).flatten(2))
        return tokens

    def weights(self, x: Tensor, context: Tensor, mask: AttentionMask = EVERYTHING) -> Tensor:
        """Weights [B, H, T, S] that `forward` makes."""
        k, v = (self._split(part) for part in self.key_value(context).chunk(2, -1))
        return attention_weights(self._split(self.query(x)), k, v, mask)[1]

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, self.head_size).transpose(1, 2)


class GRUGate(nn.Module):
    """GTrXL's gate in place of the residual sum (Parisotto et al. 2019, https://arxiv.org/abs/1910.06764, section 3.2).

    At the start it lets the stream x pass almost unchanged, so that a policy without memory is learned first.
    """

    def __init__(self, width: int, bias: float = 2.0) -> None:
        super().__init__()
        self.of_y = nn.Linear(width, 3 * width, bias=False)
        self.of_x = nn.Linear(width, 2 * width, bias=False)
        self.of_reset = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.full((width,), bias))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The stream x after a layer's output y, both [..., width]."""
        reset_y, update_y, new_y = self.of_y(y).chunk(3, -1)
        reset_x, update_x = self.of_x(x).chunk(2, -1)
        reset, update = torch.sigmoid(reset_y + reset_x), torch.sigmoid(update_y + update_x - self.bias)
        new = torch.tanh(new_y + self.of_reset(reset * x))
        return (1 - update) * x + update * new


class Block(nn.Module):
    """A transformer's block: attention, then a perceptron of one hidden layer, each normalised before and added after.

    Args:
        width: Of the tokens.
        heads: As of `SelfAttention`, and `kv_heads`, `qk_norm`, `sink`.
        expansion: Width of the perceptron's hidden layer in units of `width`.
        gate: "residual" adds what a part gives; "gru" gates it as GTrXL does.
        modulated: Whether `forward` takes a modulation, which the norms leave their affine part to (adaLN, Peebles and
            Xie 2023, https://arxiv.org/abs/2212.09748, section 3.2).
    """

    def __init__(
        self, width: int, heads: int, *, kv_heads: int | None = None, qk_norm: bool = False, sink: bool = False,
        expansion: int = 4, gate: Gate = "residual", modulated: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if gate not in ("residual", "gru"):
            raise UsageError(f"gate of a transformer's block is {gate!r}, allowed: residual, gru")
        self.attention = SelfAttention(width, heads, kv_heads=kv_heads, qk_norm=qk_norm, sink=sink)
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.perceptron_norm = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.widen, self.narrow = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)
        self.attention_gate = GRUGate(width) if gate == "gru" else None
        self.perceptron_gate = GRUGate(width) if gate == "gru" else None

    def forward(
        self, x: Tensor, mask: AttentionMask = EVERYTHING, angles: Angles | None = None,
        modulation: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Tokens [B, T, width] after both parts.

        `modulation` [B, 1 or T, 6 · width] holds shift, scale and gate of the attention, then of the perceptron.
        """
        shift, scale, amount, *rest = (None,) * 6 if modulation is None else modulation.chunk(6, -1)
        y = self.attention(modulate(self.attention_norm(x), shift, scale), mask, angles)
        return self._perceptron(self._added(x, y, self.attention_gate, amount), *rest)

    def with_keys(self, x: Tensor, mask: AttentionMask, angles: Angles | None) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, with the keys and values [B, K, T, D] that a cache would hold."""
        y, k, v = self.attention.with_keys(self.attention_norm(x), mask, angles)
        return self._perceptron(self._added(x, y, self.attention_gate, None), None, None, None), k, v

    def weights(self, x: Tensor, mask: AttentionMask, angles: Angles | None) -> Tensor:
        """Weights [B, H, T, T] of its attention in `forward`."""
        return self.attention.weights(self.attention_norm(x), mask, angles)

    def step(self, x: Tensor, cache: KVCache, layer: int, angles: Angles | None = None) -> Tensor:
        """One token of each row, [B, 1, width], with a cache."""
        y = self.attention.step(self.attention_norm(x), cache, layer, angles)
        return self._perceptron(self._added(x, y, self.attention_gate, None), None, None, None)

    def _perceptron(self, x: Tensor, shift: Tensor | None, scale: Tensor | None, amount: Tensor | None) -> Tensor:
        y = self.narrow(functional.gelu(self.widen(modulate(self.perceptron_norm(x), shift, scale))))
        return self._added(x, y, self.perceptron_gate, amount)

    def _added(self, x: Tensor, y: Tensor, gate: GRUGate | None, amount: Tensor | None) -> Tensor:
        if gate is not None:
            y = torch.relu(y)  # GTrXL's, before the gate
            gated: Tensor = gate(x, y)
            return gated
        return x + y if amount is None else x + amount * y


class AttentionPool(nn.Module):
    """A set of tokens as one vector: learned queries attend to it (Lee et al. 2019, https://arxiv.org/abs/1810.00825).

    Args:
        width: Of the tokens.
        heads: As of `SelfAttention`.
        queries: How many vectors the set becomes, side by side.
        generator: Source of the first queries.
    """

    def __init__(self, width: int, heads: int, queries: int = 1, *, generator: torch.Generator) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, width, generator=generator) * width**-0.5)
        self.attention = CrossAttention(width, width, heads)

    def forward(self, x: Tensor, mask: AttentionMask = EVERYTHING) -> Tensor:
        """Vectors [B, queries · width] of tokens [B, S, width]."""
        asked: Tensor = self.attention(self.queries.expand(len(x), -1, -1), x, mask)
        return asked.flatten(1)

    def weights(self, x: Tensor, mask: AttentionMask = EVERYTHING) -> Tensor:
        """Weights [B, H, queries, S] that `forward` makes."""
        return self.attention.weights(self.queries.expand(len(x), -1, -1), x, mask)


def modulate(x: Tensor, shift: Tensor | None, scale: Tensor | None) -> Tensor:
    """Tokens x (1 + scale) + shift, where these are given."""
    if shift is None or scale is None:
        return x
    return x * (1 + scale) + shift


def head_size_of(width: int, heads: int, kv_heads: int) -> int:
    """Width of a head.

    Raises:
        UsageError: the heads do not divide the width, or heads of keys do not divide those of queries.
    """
    if heads < 1 or width % heads:
        raise UsageError(f"{heads} heads do not divide the width {width}: choose a divisor of {width}")
    if kv_heads < 1 or heads % kv_heads:
        raise UsageError(f"{kv_heads} heads of keys do not divide {heads} heads of queries")
    return width // heads
