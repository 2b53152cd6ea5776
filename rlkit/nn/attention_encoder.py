"""An encoder that attends to the parts of one observation: entities of which some may be missing, vectors, patches.

Every part becomes a token, tokens attend to each other, and one learned query sums them up. The order of entities does
not matter (Lee et al. 2019, https://arxiv.org/abs/1810.00825; Zambaldi et al. 2019, https://arxiv.org/abs/1806.01830).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlkit.attention.attention import EVERYTHING
from rlkit.attention.layers import AttentionPool, Block
from rlkit.attention.mask import AttentionMask
from rlkit.nn.encoders import image_shape, to_channels
from rlkit.nn.flat import initialise_uniform

PATCHES = 8
"""Patches of a picture along its shorter side, or as many pixels as there are."""


@dataclass(frozen=True, slots=True)
class Part:
    """Columns of a flat observation that belong together.

    Attributes:
        start: First column.
        count: Number of tokens: entities, or 1.
        width: Columns of each.
        mask_start: First of `count` columns that tell which are there; None where all are.
        picture: Shape of a picture, which becomes patches; then `count` is 1 and `width` all its pixels.
    """

    start: int
    count: int
    width: int
    mask_start: int | None = None
    picture: tuple[int, ...] | None = None


class AttentionEncoder(nn.Module):
    """Features [B, width] of flat observations [B, O].

    Args:
        parts: What the columns mean; those of masks are no parts themselves.
        width: Of the tokens, and of the features.
        layers: Blocks of attention among the tokens.
        heads: Of each block, a divisor of `width`.
        generator: Source of the first weights.
    """

    def __init__(
        self, parts: Sequence[Part], width: int, *, layers: int, heads: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.parts, self.feature_size = tuple(parts), width
        self.embed = nn.ModuleList(_embedding(part, width) for part in parts)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.pool = AttentionPool(width, heads, generator=generator)
        initialise_uniform(self, generator)
        tokens = [_patches(part) if part.picture else 1 for part in parts]
        # tells parts apart, and the places of patches; entities of one part are alike
        self.kinds = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(count, width, generator=generator)) for count in tokens
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, obs: Tensor) -> Tensor:
        """Features of each row."""
        tokens, mask, _ = self._attended(obs)
        features: Tensor = self.norm(self.pool(tokens, mask))
        return features

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """How much each head of the last query takes of each token, [B, tokens], in the order of the columns."""
        tokens, mask, order = self._attended(x)
        found = self.pool.weights(tokens, mask)[:, :, 0]
        found = torch.zeros_like(found).scatter(2, order[:, None].expand_as(found), found)
        return {f"parts, head {head}": of_head for head, of_head in enumerate(found.unbind(1), 1)}

    def _attended(self, obs: Tensor) -> tuple[Tensor, AttentionMask, Tensor]:
        """Tokens after all blocks, those that are there first, which are there, and which is which."""
        tokens = torch.cat(
            [
                _tokens(part, embed, obs) + kind
                for part, embed, kind in zip(self.parts, self.embed, self.kinds, strict=True)
            ],
            1,
        )
        mask, order = EVERYTHING, torch.arange(tokens.shape[1], device=obs.device).expand(len(obs), -1)
        if any(part.mask_start is not None for part in self.parts):
            present = torch.cat([_present(part, obs) for part in self.parts], 1)
            order = (~present).to(torch.uint8).argsort(dim=1, stable=True)
            tokens = tokens.gather(1, order[..., None].expand_as(tokens))
            mask = AttentionMask(key_length=present.sum(1))
        for block in self.blocks:
            tokens = block(tokens, mask)
        return tokens, mask, order


class AttentionDesign(NamedTuple):
    """What an `AttentionEncoder` is made of."""

    parts: tuple[Part, ...]
    width: int
    layers: int
    heads: int

    def encoder(self, generator: torch.Generator) -> AttentionEncoder:
        """A new one."""
        return AttentionEncoder(self.parts, self.width, layers=self.layers, heads=self.heads, generator=generator)


def _embedding(part: Part, width: int) -> nn.Module:
    if part.picture is None:
        return nn.Linear(part.width, width)
    channels, height, across = image_shape(part.picture)
    side = _patch_side(height, across)
    return nn.Conv2d(channels, width, side, stride=side)


def _tokens(part: Part, embed: nn.Module, obs: Tensor) -> Tensor:
    """Tokens [B, count, width] of the part's columns."""
    columns = obs[:, part.start : part.start + part.count * part.width]
    if part.picture is None:
        tokens: Tensor = embed(columns.reshape(len(obs), part.count, part.width))
        return tokens
    patches: Tensor = embed(to_channels(columns.reshape(len(obs), *part.picture)))
    return patches.flatten(2).transpose(1, 2)


def _present(part: Part, obs: Tensor) -> Tensor:
    count = _patches(part) if part.picture else part.count
    if part.mask_start is None:
        return torch.ones(len(obs), count, dtype=torch.bool, device=obs.device)
    return obs[:, part.mask_start : part.mask_start + count] > 0.5


def _patch_side(height: int, width: int) -> int:
    return max(min(height, width) // PATCHES, 1)


def _patches(part: Part) -> int:
    assert part.picture is not None
    _, height, width = image_shape(part.picture)
    side = _patch_side(height, width)
    return (height // side) * (width // side)
