"""MAE: paint the hidden patches of a picture from the few that are seen (He et al. 2022, arxiv.org/abs/2111.06377).

Three quarters of the patches are hidden (section 3, "masking"). The encoder, a vision transformer, sees the others
alone. A narrow decoder gets their tokens and, in the place of hidden patches, one learned token, all with waves that
tell where they are, and paints pixels; hidden patches count, each with its pixels normalised (section 3,
"reconstruction target"). Pictures are not changed otherwise: what is hidden is drawn anew each time.

Deviations
- Pictures are not cropped or mirrored, which hides what an agent has to see; the paper crops.
- Encoder and decoder are small, and the encoder tells places by turning queries and keys (`rlkit.nn.vit`); the decoder
  has the paper's waves.
- Adam's second moment decays by 0.999 instead of 0.95. The step size falls to zero.
- Pixels are from 0 to 1, not whitened; normalising patches takes most of that away.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.attention.layers import Block
from rlkit.errors import UsageError
from rlkit.nn.backbones import Backbone, VisionBackbone
from rlkit.nn.cores import initialise_transformer
from rlkit.nn.ranks import rank_and_ranks
from rlkit.nn.vit import patch_places, sincos_positions
from rlkit.ops.masked_modelling import (
    masked_regression_loss,
    normalised_patches,
    patchify,
    random_patch_mask,
    rows_at,
    visible_patches,
)
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask
from rlkit.types import Metrics


class MAEConfig(MethodConfig):
    """Defaults: He et al. 2022, unless a field says otherwise."""

    backbone: Literal["vit"] = "vit"
    """network that turns a picture into features: only vit can leave patches out"""
    hidden: float = Field(0.75, gt=0, lt=1)
    """part of the patches that is hidden (section 4.1)"""
    normalised: bool = True
    """whether a patch's pixels are less their mean, in units of their deviation (section 4.1); then those of one
    colour, of which drawn pictures have many, are all 0"""
    decoder_width: int = Field(96, ge=4, multiple_of=4)
    """of the decoder's tokens, half the encoder's (section 4)"""
    decoder_layers: int = Field(2, ge=1)
    """its blocks, half the encoder's; 8 in the paper, of 24"""
    decoder_heads: int = Field(4, ge=1)
    """heads of each"""
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = "adamw"
    """appendix A; sgd and lars with momentum 0.9"""
    learning_rate: float = Field(3e-4, gt=0)
    """twice what the paper has for batches of 256 (appendix A), for a small network"""
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    """appendix A; falls to zero at the end of the run"""
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    """part of the run in which the step size rises from zero; 40 of 800 epochs (appendix A)"""
    weight_decay: float = Field(0.05, ge=0)
    """appendix A"""


class MAE(Objective):
    """Pixels of hidden patches from visible ones.

    Args:
        config: Its options.
        encoder: Vision transformer to learn.
        task: Pictures and seed.

    Raises:
        UsageError: the encoder is no vision transformer, or hides every patch or none.
    """

    Config = MAEConfig

    def __init__(self, config: MAEConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        if not isinstance(encoder, VisionBackbone):
            raise UsageError(
                f"mae hides patches from its encoder, which only the backbone vit can leave out; this is a "
                f"{type(encoder).__name__}: choose --method.backbone vit, or another method"
            )
        self.config, self.transformer = config, encoder
        _, rows, columns = encoder.map_shape
        self.visible = visible_patches(rows * columns, config.hidden)
        if not 0 < self.visible < rows * columns:
            raise UsageError(
                f"with hidden {config.hidden} the encoder sees {self.visible} of {rows * columns} patches; it must "
                "see one at least, and not all: choose a smaller or larger part"
            )
        channels = encoder.transformer.embed.in_channels
        self.decoder = Decoder(
            encoder.feature_size, encoder.transformer.patch**2 * channels, (rows, columns), config,
            seeding.torch_generator(task.seed, "heads"),
        )  # fmt: skip

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Mean squared error of pixels in hidden patches."""
        pictures = batch.first
        mask = random_patch_mask(self._noise(pictures), self.config.hidden)
        tokens = self.transformer.tokens(pictures, mask.shuffle[:, : self.visible])[:, -self.visible :]
        prediction = self.decoder(tokens, mask.restore)
        target = patchify(self.transformer.pixels(pictures), self.transformer.transformer.patch)
        if self.config.normalised:
            target = normalised_patches(target)
        return masked_regression_loss(prediction, target, mask.hidden), {}

    def _noise(self, pictures: Tensor) -> Tensor:
        """Uniform [B, L], drawn for the pictures of all ranks."""
        rank, ranks = rank_and_ranks()
        _, rows, columns = self.transformer.map_shape
        noise = torch.rand(ranks * len(pictures), rows * columns, generator=self.generator)
        return noise[rank * len(pictures) : (rank + 1) * len(pictures)].to(pictures.device)


class Decoder(nn.Module):
    """Pixels of all patches from the tokens of some.

    Args:
        in_features: Width of the tokens.
        outputs: Numbers of a patch.
        grid: Rows and columns of patches.
        config: Its width, blocks and heads.
        generator: Source of its weights.
    """

    places: Tensor

    def __init__(
        self, in_features: int, outputs: int, grid: tuple[int, int], config: MAEConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        width = config.decoder_width
        self.embed = nn.Linear(in_features, width)
        self.blocks = nn.ModuleList(Block(width, config.decoder_heads) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(width)
        self.paint = nn.Linear(width, outputs)
        initialise_transformer(self, config.decoder_layers, (self.embed,), generator)
        self.hidden_token = nn.Parameter(0.02 * torch.randn(width, generator=generator))
        self.register_buffer("places", sincos_positions(*patch_places(*grid), width), persistent=False)

    def forward(self, tokens: Tensor, restore: Tensor) -> Tensor:
        """Pixels [B, L, outputs] from tokens [B, V, in_features] of visible patches and `PatchMask.restore` [B, L]."""
        seen = self.embed(tokens)
        unseen = self.hidden_token.expand(len(seen), restore.shape[1] - seen.shape[1], -1)
        x = rows_at(torch.cat((seen, unseen), dim=1), restore) + self.places
        for block in self.blocks:
            x = block(x)
        pixels: Tensor = self.paint(self.norm(x))
        return pixels
