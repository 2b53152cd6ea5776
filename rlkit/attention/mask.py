"""Which keys each query may attend to.

Everything that reinforcement learning asks for (causal order, a sliding window, episodes packed into one row, padding
at the end of the keys, memory in front of them) gives each query one contiguous range of keys [lo, hi). Two vectors
of integers then say what a T x S matrix of booleans says, and a kernel reads off them which tiles it can skip.
FlashMask (Wang et al. 2025, https://arxiv.org/abs/2410.01359) describes masks by columns in the same spirit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlkit.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMask:
    """A query at key index p = `offset` + i attends to key j if all of these hold.

    - start[b, i] <= j < stop[b, i]: same episode (or document, or set);
    - j <= p, where `causal`;
    - j > p - window, where `window` is given: the query's own step and window - 1 earlier ones;
    - j < key_length[b]: what comes after is padding.

    The first and last key of its episode, as functions of the query, must not decrease: packed episodes follow each
    other. The tensors must not be changed afterwards: what was made of them once is kept.

    Args:
        causal: Whether later keys are hidden.
        window: Number of keys up to the query's own that are seen; None for all.
        start: Index of the first key of each query's episode, integer [B, T]; None for 0.
        stop: Index after the last key of each query's episode, integer [B, T]; None for the number of keys.
        key_length: Number of keys that are there, integer [B]; None for all.
        offset: Key index of the first query: what stands before it is memory.

    >>> AttentionMask(causal=True, window=2).dense(3, 3)[0, 0].int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """

    causal: bool = False
    window: int | None = None
    start: Tensor | None = None
    stop: Tensor | None = None
    key_length: Tensor | None = None
    offset: int = 0
    _made: dict[object, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise UsageError(f"window of an attention mask is {self.window}, it must be at least 1")
        if self.offset < 0:
            raise UsageError(f"offset of an attention mask is {self.offset}, it must be at least 0")

    @classmethod
    def episodes(
        cls,
        is_first: Tensor,
        *,
        window: int | None = None,
        causal: bool = True,
        memory: int = 0,
        memory_length: Tensor | None = None,
    ) -> AttentionMask:
        """For rows of packed episodes, with the keys of `memory` earlier steps in front of them.

        Args:
            is_first: Whether a step is the first of its episode, bool [B, T].
            window: As of the mask.
            causal: As of the mask.
            memory: Number of key slots in front of the first step.
            memory_length: How many of them hold steps of the episode that goes on at step 0, the last ones, integer
            [B];
                None for all. A row whose first step begins an episode sees none.

        >>> first = torch.tensor([[False, True, False]])
        >>> AttentionMask.episodes(first, memory=1).dense(3, 4)[0, 0].int().tolist()
        [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
        """
        rows, steps = is_first.shape
        index = torch.arange(memory, memory + steps, device=is_first.device)
        if memory_length is None:
            oldest = index.new_zeros(rows, 1)
        else:
            oldest = (memory - memory_length.to(index.dtype))[:, None]
        start = torch.maximum(torch.where(is_first, index, 0).cummax(1).values, oldest)
        end = index.new_full((rows, 1), memory + steps)
        following = torch.cat((torch.where(is_first, index, memory + steps)[:, 1:], end), 1)
        stop = following.flip(1).cummin(1).values.flip(1)
        return cls(causal, window, start.int(), None if causal else stop.int(), None, memory)

    @property
    def rows(self) -> int | None:
        """Number of batch rows that the mask tells apart; None where it is the same for any."""
        for tensor in (self.start, self.stop, self.key_length):
            if tensor is not None:
                return len(tensor)
        return None

    @property
    def hides_nothing(self) -> bool:
        """Whether every query attends to every key."""
        return not self.causal and self.window is None and self.rows is None

    def intervals(self, queries: int, keys: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """First key and key after the last of each query, int32 [B or 1, T] each, neither decreasing along T.

        A query with nothing to attend to has lo == hi.
        """
        index = torch.arange(queries, device=device, dtype=torch.int32)[None] + self.offset
        low, high = torch.zeros_like(index), torch.full_like(index, keys)
        if self.start is not None:
            low = torch.maximum(low, self.start.int())
        if self.window is not None:
            low = torch.maximum(low, index - self.window + 1)
        if self.causal:
            high = torch.minimum(high, index + 1)
        if self.stop is not None:
            high = torch.minimum(high, self.stop.int())
        if self.key_length is not None:
            high = torch.minimum(high, self.key_length.int()[:, None])
        high = high.clamp(min=0)
        low = torch.minimum(low, high)
        return low, high.expand_as(low)

    def dense(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """Whether query i attends to key j, bool [B or 1, 1, T, S]: the definition that all else is tested against."""
        here = torch.arange(queries, device=device)[None, :, None] + self.offset
        key = torch.arange(keys, device=device)[None, None, :]
        seen = torch.ones(1, queries, keys, dtype=torch.bool, device=device)
        if self.causal:
            seen = seen & (key <= here)
        if self.window is not None:
            seen = seen & (key > here - self.window)
        if self.start is not None:
            seen = seen & (key >= self.start[:, :, None])
        if self.stop is not None:
            seen = seen & (key < self.stop[:, :, None])
        if self.key_length is not None:
            seen = seen & (key < self.key_length[:, None, None])
        return seen[:, None]

    def additive(self, queries: int, keys: int, like: Tensor) -> Tensor:
        """The dense form as torch's own attention adds it to the logits: 0 or -inf, kept for the next layer.

        Args:
            queries: T.
            keys: S.
            like: A tensor of the dtype and device wanted.
        """
        wanted = (queries, keys, like.dtype, like.device)
        if wanted in self._made:
            return self._made[wanted]
        hidden = ~self.dense(queries, keys, like.device)
        made = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(hidden, -torch.inf)
        if not torch.compiler.is_compiling():
            self._made[wanted] = made
        return made
