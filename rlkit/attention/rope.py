"""Rotary position embedding (Su et al. 2021, https://arxiv.org/abs/2104.09864): queries and keys turn with their place.

The product of a rotated query and a rotated key depends on how far apart they stand, not on where. Positions are always
an argument: in an episode they count from its first step, in float32 angles (after a million steps one is off by 0.06).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rlkit.errors import UsageError


class Turn(NamedTuple):
    """Cosine and sine of a token's angles, for each head, so that layers that turn alike work them out once."""

    cosine: Tensor  # [B or 1, 1, T, D / 2]
    sine: Tensor

    @classmethod
    def of(cls, angles: Tensor) -> Turn:
        """Of angles [B or 1, T, D / 2] in radians."""
        angles = angles[:, None]
        return cls(angles.cos(), angles.sin())


Angles: TypeAlias = Tensor | Turn
"""By how much each token's queries and keys turn: [B or 1, T, D / 2] in radians, or what was made of them."""


def rotary_angles(positions: Tensor, size: int, base: float = 10_000.0) -> Tensor:
    """Angles [..., size / 2] in radians for positions [...]; pair i turns by base^(-2i / size) a step (section 3.2.2).

    >>> rotary_angles(torch.tensor([0, 1]), 4, base=100.0).tolist()
    [[0.0, 0.0], [1.0, 0.10000000149011612]]
    """
    _require_pairs(size, 2)
    speed = base ** (-torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size)
    return positions[..., None].float() * speed


def axial_angles(rows: Tensor, columns: Tensor, size: int, base: float = 100.0) -> Tensor:
    """Angles [..., size / 2] for places in a picture: half of the pairs turn with the row, half with the column."""
    _require_pairs(size, 4)
    return torch.cat((rotary_angles(rows, size // 2, base), rotary_angles(columns, size // 2, base)), -1)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Vectors [..., D] turned by angles [..., D / 2], in float32 at least; number i and number i + D / 2 are a pair.

    >>> rotated(torch.tensor([1.0, 0.0]), torch.tensor([torch.pi / 2])).round().tolist()
    [-0.0, 1.0]
    """
    return turned(x, angles.cos(), angles.sin())


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """As `rotated`, by angles with these cosines and sines."""
    a, b = x.to(torch.promote_types(x.dtype, cosine.dtype)).chunk(2, -1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), -1).to(x.dtype)


def episode_positions(is_first: Tensor, begin: Tensor | None = None) -> Tensor:
    """Steps since the episode's first, int32 [B, T].

    Args:
        is_first: Whether a step is the first of its episode, bool [B, T].
        begin: Position of step 0 where no episode starts there, integer [B]; None for 0.

    >>> episode_positions(torch.tensor([[False, False, True, False]]), torch.tensor([7])).tolist()
    [[7, 8, 0, 1]]
    """
    index = torch.arange(is_first.shape[1], device=is_first.device)
    start = torch.where(is_first, index, -1).cummax(1).values
    before = 0 if begin is None else begin[:, None]
    return torch.where(start < 0, index + before, index - start).int()


def _require_pairs(size: int, multiple: int) -> None:
    if size % multiple:
        raise UsageError(f"a head of size {size} cannot be rotated, it must be a multiple of {multiple}")
