"""A vision transformer (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929) that can see only some patches.

Deviations: positions turn queries and keys by default (axial rotary embedding) instead of being added; features are the
mean of all tokens by default instead of a class token; weights start as `rlkit.nn.flat.initialise_uniform` draws them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from rlkit.attention.layers import Block, head_size_of
from rlkit.attention.rope import axial_angles
from rlkit.errors import UnsupportedTaskError, UsageError
from rlkit.nn.flat import initialise_uniform

Positions: TypeAlias = Literal["rotary", "sincos", "learned"]
PATCHES = 7
"""Patches along the shorter side of a picture at least, where the side of a patch is not given."""
MOST_PATCHES = 1024
"""Patches of a picture at most, where their side is not given: attention takes the square of their number."""


@dataclass(frozen=True, slots=True)
class VisionOptions:
    """What a vision transformer is made of. The defaults are DeiT-Ti's width and heads, with a third of its blocks.

    Touvron et al. 2021 (https://arxiv.org/abs/2012.12877, table 1).

    Attributes:
        patch: Side of a patch in pixels; it divides both sides of the pictures. None: the largest that leaves at least
            7 patches along the shorter side.
        width: Of the tokens.
        depth: Blocks.
        heads: Of each block; `width` / `heads` must be a multiple of 4 for rotary positions.
        positions: "rotary" turns queries and keys (Heo et al. 2024, https://arxiv.org/abs/2403.13298, axial); "sincos"
            adds waves (MoCo v3, Chen et al. 2021, https://arxiv.org/abs/2104.02057); "learned" adds parameters, for
            pictures of one size.
        class_token: Whether a learned token goes with the patches, which becomes the features.
        frozen_patches: Whether the first projection of patches stays as it was drawn, which keeps learning stable
            (MoCo v3, section 4.2).
    """

    patch: int | None = None
    width: int = 192
    depth: int = 4
    heads: int = 3
    positions: Positions = "rotary"
    class_token: bool = False
    frozen_patches: bool = False


class VisionTransformer(nn.Module):
    """Tokens of pictures.

    Args:
        channels: Of the pictures.
        height: Rows of the pictures.
        width: Their columns.
        options: What it is made of.
        generator: Source of the weights.

    Raises:
        UnsupportedTaskError: patches do not divide the pictures, or would be too many.
        UsageError: an option is none of those that are allowed.
    """

    def __init__(
        self, channels: int, height: int, width: int, options: VisionOptions, generator: torch.Generator
    ) -> None:
        super().__init__()
        if options.positions not in (allowed := get_args(Positions)):
            raise UsageError(f"positions of patches are {options.positions!r}, allowed: {', '.join(allowed)}")
        self.patch = patch_side(height, width) if options.patch is None else options.patch
        self.grid = self._grid(height, width)
        self.head_size = head_size_of(options.width, options.heads, options.heads)
        self.positions: Positions = options.positions
        if self.positions == "rotary":  # a head that cannot be turned is told now, not in the first forward
            axial_angles(*patch_places(1, 1), self.head_size)
        self.embed = nn.Conv2d(channels, options.width, self.patch, stride=self.patch)
        self.blocks = nn.ModuleList(Block(options.width, options.heads) for _ in range(options.depth))
        self.norm = nn.LayerNorm(options.width)
        initialise_uniform(self, generator)

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.02 * torch.randn(*shape, generator=generator))

        self.places = drawn(math.prod(self.grid), options.width) if options.positions == "learned" else None
        self.class_token = drawn(options.width) if options.class_token else None
        if options.frozen_patches:
            self.embed.requires_grad_(False)

    def forward(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens [B, L, D] of pictures [B, C, H, W], the class token first where there is one.

        Args:
            pixels: The pictures, floats. Where positions are not learned they may be of any size that patches divide.
            keep: Patches that are seen, counted row by row, int64 [B, K]: then L is K, in that order. None for all.
        """
        grid = self._grid(*pixels.shape[2:])
        tokens = self.embed(pixels).flatten(2).transpose(1, 2)
        rows, columns = patch_places(*grid, pixels.device)
        angles = None
        if self.positions == "rotary":
            angles = axial_angles(rows, columns, self.head_size)[None]  # [1, L, head size / 2]
        elif self.positions == "sincos":
            tokens = tokens + sincos_positions(rows, columns, tokens.shape[2])
        else:
            tokens = tokens + self._learned(grid)
        if keep is not None:
            tokens = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))
            angles = None if angles is None else angles[0, keep]
        if self.class_token is not None:
            tokens = torch.cat((self.class_token.expand(len(tokens), 1, -1), tokens), dim=1)
            # it stands nowhere: it is not turned
            angles = None if angles is None else torch.cat((torch.zeros_like(angles[:, :1]), angles), dim=1)
        for block in self.blocks:
            tokens = block(tokens, angles=angles)
        normed: Tensor = self.norm(tokens)
        return normed

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches."""
        if self.patch < 1 or height % self.patch or width % self.patch:
            raise UnsupportedTaskError(
                f"patches of {self.patch} x {self.patch} pixels do not divide pictures of {height} x {width}; "
                f"choose a divisor of {math.gcd(height, width)}, or --wrap resize-observation"
            )
        return height // self.patch, width // self.patch

    def _learned(self, grid: tuple[int, int]) -> Tensor:
        if self.places is None or grid != self.grid:
            raise UsageError(
                f"positions were learned for {self.grid[0]} x {self.grid[1]} patches, here are {grid[0]} x {grid[1]}; "
                "give pictures of the first size, or take positions that are not learned"
            )
        return self.places


def patch_side(height: int, width: int) -> int:
    """Side of the largest square patches that divide a picture and leave at least 7 along the shorter side, or 1.

    Raises:
        UnsupportedTaskError: there would be more than 1,024 patches.

    >>> patch_side(84, 84), patch_side(64, 64), patch_side(210, 160), patch_side(7, 7)
    (12, 8, 10, 1)
    """
    common = math.gcd(height, width)
    fits = [side for side in range(1, common + 1) if common % side == 0 and min(height, width) // side >= PATCHES]
    side = max(fits, default=1)
    if (count := height * width // side**2) > MOST_PATCHES:
        raise UnsupportedTaskError(
            f"pictures of {height} x {width} pixels would become {count} patches of {side} x {side}, at most "
            f"{MOST_PATCHES} are taken unasked; choose the side of a patch, or --wrap resize-observation"
        )
    return side


def patch_places(height: int, width: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Row and column of each of height x width patches, int64 [L] each, row by row."""
    index = torch.arange(height * width, device=device)
    return index // width, index % width


def sincos_positions(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Waves [L, width] that tell places [L] apart: sines and cosines of a place times 10,000^(-4 i / width).

    A quarter of the numbers each: sine of the row, sine of the column, cosine of the row, cosine of the column.
    """
    angles = axial_angles(rows, columns, width, base=10_000.0)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)
