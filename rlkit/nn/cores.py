"""Memory over time: recurrent cells and a transformer, alike to those who use them.

A core takes features of one step and what it remembers (acting), or features of whole sequences in which episodes begin
anywhere (learning). Both give the same numbers, whatever the order of resets: `step` over a sequence is `unroll`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from rlkit.attention.cache import KVCache
from rlkit.attention.layers import Block, Gate
from rlkit.attention.mask import AttentionMask
from rlkit.attention.rope import Turn, episode_positions, rotary_angles
from rlkit.errors import UsageError

Memory: TypeAlias = tuple[Tensor, ...]
"""What a core remembers, tensors whose first axis is the rows, so that any of them can be stored and sent."""


class Core(Protocol):
    """Features over time, and what to remember of them."""

    size: int
    """Width of the features that it gives."""

    def empty(self, rows: int) -> Memory:
        """Nothing remembered."""

    def reset(self, memory: Memory, ended: Tensor) -> Memory:
        """Rows [B] whose episode ended remember nothing."""

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Features [B, size] after features [B, D] of one more step."""

    def beginning(self, memory: Memory) -> Memory:
        """What an unroll that goes on from here needs, which no later step changes."""

    def refreshed(self, memory: Memory) -> Memory:
        """The memory as the present weights would have made it, as far as that can be told."""

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """Weights [T, ...] of what the steps [T, D] of one episode attend to, by name; empty if to nothing."""

    def unroll(self, x: Tensor, is_first: Tensor, beginning: Memory | None = None) -> Tensor:
        """Features [B, T, size] after features [B, T, D] of T steps.

        Rows go on from `beginning` (None: nothing) where `is_first` [B, T] does not begin an episode. Equal to stepping
        from the refreshed memory.
        """


class Encoder(Protocol):
    """Features of each row by itself, such as `AttentionEncoder`."""

    feature_size: int

    def __call__(self, x: Tensor) -> Tensor:
        """Features [B, feature_size] of rows [B, D]."""

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """As of a core, for rows [T, D]."""


def encoded(encoder: Encoder | None, x: Tensor) -> Tensor:
    """Features [..., feature_size] of features [..., D]; the same where there is no encoder."""
    if encoder is None:
        return x
    return encoder(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)


class EncoderCore(nn.Module):
    """An encoder alone, which remembers nothing."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.size, self.encoder = encoder.feature_size, encoder

    def empty(self, rows: int) -> Memory:
        """Nothing to remember."""
        return ()

    def reset(self, memory: Memory, ended: Tensor) -> Memory:
        """Nothing to forget."""
        return memory

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """What the encoder gives."""
        return self.encoder(x), memory

    def beginning(self, memory: Memory) -> Memory:
        """Nothing."""
        return memory

    def refreshed(self, memory: Memory) -> Memory:
        """Nothing."""
        return memory

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """The encoder's."""
        return self.encoder.attention_maps(x)

    def unroll(self, x: Tensor, is_first: Tensor, beginning: Memory | None = None) -> Tensor:
        """What the encoder gives of every step."""
        return encoded(self.encoder, x)


class RecurrentCore(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) or a long short-term memory (Hochreiter and Schmidhuber 1997).

    Args:
        kind: "gru" or "lstm".
        inputs: Width of a step's features.
        width: Of the state, and of what it gives.
        generator: Source of the first weights: orthogonal, biases zero (as stable-baselines3's recurrent PPO has them).
        encoder: Network that every step's features go through first.
    """

    def __init__(
        self, kind: Literal["gru", "lstm"], inputs: int, width: int, generator: torch.Generator,
        encoder: Encoder | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.size = width
        features = inputs if encoder is None else encoder.feature_size
        self.cell: nn.GRU | nn.LSTM = (nn.GRU if kind == "gru" else nn.LSTM)(features, width, batch_first=True)
        self._states = 1 if kind == "gru" else 2
        for parameter in self.cell.parameters():
            if parameter.dim() == 2:
                nn.init.orthogonal_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)
        self.encoder = encoder

    def empty(self, rows: int) -> Memory:
        """State zero, [B, width] (LSTM: hidden and cell state)."""
        device = next(self.parameters()).device
        return tuple(torch.zeros(rows, self.size, device=device) for _ in range(self._states))

    def reset(self, memory: Memory, ended: Tensor) -> Memory:
        """State zero where the episode ended."""
        return tuple(torch.where(ended[:, None], 0.0, state) for state in memory)

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """One step of the cell."""
        y, memory = self._run(encoded(self.encoder, x)[:, None], memory)
        return y[:, 0], memory

    def beginning(self, memory: Memory) -> Memory:
        """The state itself."""
        return memory

    def refreshed(self, memory: Memory) -> Memory:
        """The same state: what older weights made of the episode so far is kept, in acting and in learning alike."""
        return memory

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """The encoder's."""
        return {} if self.encoder is None else self.encoder.attention_maps(x)

    def unroll(self, x: Tensor, is_first: Tensor, beginning: Memory | None = None) -> Tensor:
        """All episodes of all rows side by side, as many steps as the longest has."""
        x = encoded(self.encoder, x)
        rows, steps = is_first.shape
        begins = is_first.clone()
        begins[:, 0] = True
        segment = begins.flatten().cumsum(0) - 1  # number of each step's segment, [B * T]
        begin = torch.nonzero(begins.flatten())[:, 0]  # first step of each segment
        place = torch.arange(rows * steps, device=x.device) - begin[segment]
        padded = x.new_zeros(len(begin), int(place.max()) + 1, x.shape[2])
        padded = padded.index_put((segment, place), x.flatten(0, 1))
        carried = self._carried(beginning, is_first, begin, x)
        return self._run(padded, carried)[0][segment, place].view(rows, steps, -1)

    def _carried(self, memory: Memory | None, is_first: Tensor, begin: Tensor, x: Tensor) -> Memory:
        """What each segment begins with: nothing, or the row's memory where it goes on."""
        nothing = x.new_zeros(len(begin), self.size)
        if memory is None:
            return (nothing,) * self._states
        goes_on = ~is_first.flatten()[begin]
        row = begin // is_first.shape[1]
        return tuple(torch.where(goes_on[:, None], state[row], nothing) for state in memory)

    def _run(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        states = tuple(state[None].contiguous() for state in memory)
        y, found = self.cell(x, states if self._states == 2 else states[0])
        return y, tuple(state[0] for state in (found if self._states == 2 else (found,)))


class TransformerMemory(NamedTuple):
    """Keys and values of the last steps as in a `KVCache`, rows first, and what the core was given at those steps."""

    keys: Tensor  # [B, layers, K, context, D]
    values: Tensor  # [B, layers, K, context, D]
    given: Tensor  # [B, context, inputs]; step p is in slot p % context, as everywhere here
    position: Tensor  # int32 [B], steps so far


class TransformerBeginning(NamedTuple):
    """What the core was given before a sequence."""

    given: Tensor  # [B, context, inputs], the last `length` are there
    length: Tensor  # int32 [B]


def initialise_transformer(
    module: nn.Module, layers: int, embeddings: Sequence[nn.Linear], generator: torch.Generator
) -> None:
    """Draw the first weights of everything linear in `module`, which has so many blocks.

    Normal with standard deviation 0.02, the last layer of each part smaller by sqrt(2 · layers) (Radford et al. 2019),
    biases zero; `embeddings`, which make tokens of features, give numbers of about the features' size beside biases of
    standard deviation 1. Without these the first norm would divide away how large features are.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            deviation = 0.02
            if name.endswith(("merge", "narrow")):
                deviation /= (2 * layers) ** 0.5
            nn.init.normal_(layer.weight, std=deviation, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for embedding in embeddings:
        nn.init.normal_(embedding.weight, std=embedding.in_features**-0.5, generator=generator)
        nn.init.normal_(embedding.bias, generator=generator)


class TransformerCore(nn.Module):
    """Blocks of causal attention to the last `context` steps of the episode, with rotary positions.

    What a layer gives depends on the `context` - 1 steps before it, and with n layers on n (context - 1). Keys and
    values go stale when weights change; `refreshed` makes them anew from the last `context` inputs, as if the episode
    had begun with the oldest of them. An unroll from a `beginning` does the same, with gradients, so that it equals
    stepping from a refreshed memory exactly.

    Args:
        inputs: Width of a step's features.
        width: Of the tokens, and of what it gives.
        layers: Number of blocks.
        heads: Heads of each block; `kv_heads` of keys and values.
        context: Steps that a layer sees, the running one among them, and inputs that are remembered.
        gate: "residual", or "gru" as in GTrXL.
        generator: Source of the first weights, see `initialise_transformer`.
        encoder: Network that every step's features go through first; what is remembered is what goes into it.
    """

    def __init__(
        self, inputs: int, width: int, *, layers: int, heads: int, context: int, generator: torch.Generator,
        kv_heads: int | None = None, gate: Gate = "residual", encoder: Encoder | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if layers < 1 or context < 1:
            raise UsageError(f"a transformer has {layers} layers and a context of {context}, both must be at least 1")
        self.size, self.context, self.inputs = width, context, inputs
        self.embed = nn.Linear(inputs if encoder is None else encoder.feature_size, width)
        blocks = [Block(width, heads, kv_heads=kv_heads, gate=gate) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head_size, self.kv_heads = blocks[0].attention.head_size, blocks[0].attention.kv_heads
        initialise_transformer(self, layers, (self.embed,), generator)
        self.encoder = encoder

    def empty(self, rows: int) -> TransformerMemory:
        """A cache with nothing in it."""
        weight = self.embed.weight
        keys = weight.new_zeros(rows, len(self.blocks), self.kv_heads, self.context, self.head_size)
        given = weight.new_zeros(rows, self.context, self.inputs)
        position = torch.zeros(rows, dtype=torch.int32, device=weight.device)
        return TransformerMemory(keys.detach(), torch.zeros_like(keys), given.detach(), position)

    def reset(self, memory: Memory, ended: Tensor) -> TransformerMemory:
        """Rows whose episode ended begin at position 0."""
        keys, values, given, position = memory
        return TransformerMemory(keys, values, given, torch.where(ended, 0, position))

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, TransformerMemory]:
        """One token of each row; its keys, values and input are remembered in place."""
        keys, values, given, position = memory
        cache = KVCache(keys.transpose(0, 1), values.transpose(0, 1), position, 0).placed()
        slot = (position % self.context).long()[:, None, None].expand(-1, 1, self.inputs)
        given.scatter_(1, slot, x[:, None].to(given.dtype))  # pixels are bytes
        angles = Turn.of(rotary_angles(position[:, None], self.head_size))
        y = self.embedded(x)[:, None]
        for layer, block in enumerate(self._blocks()):
            y = block.step(y, cache, layer, angles)
        return self.norm(y)[:, 0], TransformerMemory(keys, values, given, position + 1)

    def beginning(self, memory: Memory) -> TransformerBeginning:
        """The last inputs, oldest first."""
        _, _, given, position = memory
        length = position.clamp(max=self.context)
        step = position[:, None] - self.context + torch.arange(self.context, device=position.device)
        index = (step % self.context).long()[..., None].expand_as(given)
        return TransformerBeginning(given.gather(1, index), length)

    def refreshed(self, memory: Memory) -> TransformerMemory:
        """Keys and values of the remembered inputs by the present weights; positions count from the oldest."""
        given, length = self.beginning(memory)
        keys, values, _, _ = self.empty(len(given))
        is_first = self._begins(length)
        angles, mask = self._angles_and_mask(is_first)
        slot = (torch.arange(self.context, device=given.device) - self.context + length[:, None]) % self.context
        y = self.embedded(given)
        for layer, block in enumerate(self._blocks()):
            y, k, v = block.with_keys(y, mask, angles)
            index = slot.long()[:, None, :, None].expand_as(k)
            keys[:, layer] = torch.zeros_like(k).scatter(2, index, k)
            values[:, layer] = torch.zeros_like(v).scatter(2, index, v)
        ordered = torch.zeros_like(given).scatter(1, slot.long()[..., None].expand_as(given), given)
        return TransformerMemory(keys, values, ordered, length)

    def unroll(self, x: Tensor, is_first: Tensor, beginning: Memory | None = None) -> Tensor:
        """All steps at once, after those of the beginning."""
        steps = x.shape[1]
        if beginning is not None:
            given, length = beginning
            goes_on = torch.cat((is_first[:, :1] | (length == 0)[:, None], is_first[:, 1:]), 1)
            x, is_first = torch.cat((given, x), 1), torch.cat((self._begins(length), goes_on), 1)
        angles, mask = self._angles_and_mask(is_first)
        y = self.embedded(x)
        for block in self._blocks():
            y = block(y, mask, angles)
        features: Tensor = self.norm(y[:, -steps:])
        return features

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """Weights [T, T] of each layer and head, then the encoder's."""
        angles, mask = self._angles_and_mask(torch.zeros(1, len(x), dtype=torch.bool, device=x.device))
        y = self.embedded(x[None])
        maps: dict[str, Tensor] = {}
        for layer, block in enumerate(self._blocks(), 1):
            weights = block.weights(y, mask, angles)[0]
            maps |= {f"layer {layer}, head {head}": of_head for head, of_head in enumerate(weights, 1)}
            y = block(y, mask, angles)
        return maps if self.encoder is None else maps | dict(self.encoder.attention_maps(x))

    def embedded(self, x: Tensor) -> Tensor:
        """Tokens [..., width] of features [..., D]."""
        tokens: Tensor = self.embed(encoded(self.encoder, x))
        return tokens

    def _begins(self, length: Tensor) -> Tensor:
        """Whether an input of a beginning is its oldest, bool [B, context]; what stands before is no input."""
        return torch.arange(self.context, device=length.device) == self.context - length[:, None]

    def _angles_and_mask(self, is_first: Tensor) -> tuple[Turn, AttentionMask]:
        angles = Turn.of(rotary_angles(episode_positions(is_first), self.head_size))
        return angles, AttentionMask.episodes(is_first, window=self.context)

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]
