"""Hiding parts of the input and predicting them: MAE on patches of pictures, BERT on tokens, and steps of sequences.

MAE (He et al. 2022, https://arxiv.org/abs/2111.06377) and BERT (Devlin et al. 2019,
https://arxiv.org/abs/1810.04805). B rows of L patches, tokens or steps; P numbers a patch, D a step, K words in the
vocabulary. No gradient flows into targets. Every loss is a mean over what was hidden, over the whole batch, and 0
where nothing was.

What differs from the papers: tokens are chosen each by itself with probability 15 %, where BERT's code takes exactly
that share of each sequence.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlkit.errors import UsageError

AS_MASK, AS_RANDOM = 0.8, 0.1
"""Of BERT's chosen tokens, how many become the mask and how many a random word; the rest stays (section 3.1)."""


class PatchMask(NamedTuple):
    """Which patches are hidden, and how to take the others out and put all back."""

    shuffle: Tensor  # int64 [B, L]: patches in random order; the first L - hidden are those that stay visible
    restore: Tensor  # int64 [B, L]: its inverse
    hidden: Tensor  # bool [B, L], in the order of the picture


def patchify(images: Tensor, patch: int) -> Tensor:
    """Pictures [B, C, H, W] as patches [B, L, P] of `patch` × `patch` pixels, row by row; P = patch² C.

    Within a patch the pixels go row by row, and the channels of a pixel stand together.

    Raises:
        UsageError: sides that are no multiples of `patch`.

    >>> patchify(torch.arange(8).view(1, 1, 2, 4), 2).tolist()
    [[[0, 1, 4, 5], [2, 3, 6, 7]]]
    """
    count, channels, height, width = images.shape
    _check_sides(height, width, patch)
    tiles = images.reshape(count, channels, height // patch, patch, width // patch, patch)
    return tiles.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, patch * patch * channels)


def unpatchify(patches: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The pictures [B, C, height, width] of which `patchify` made the patches [B, L, P]."""
    _check_sides(height, width, patch)
    tiles = patches.reshape(len(patches), height // patch, width // patch, patch, patch, -1)
    return tiles.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, height, width)


def visible_patches(patches: int, ratio: float) -> int:
    """How many of L patches stay visible: the whole part of (1 - ratio) L.

    >>> visible_patches(196, 0.75), visible_patches(10, 0.9)
    (49, 1)
    """
    return int(round((1.0 - ratio) * patches, 9))  # (1 - 0.9) * 10 is 0.9999999999999998


def random_patch_mask(noise: Tensor, ratio: float = 0.75) -> PatchMask:
    """Hide all patches of a row but the `visible_patches` with the least uniform noise [B, L].

    He et al. 2022, section 3, "masking". The encoder sees `rows_at(x, mask.shuffle[:, :visible])`; the tokens for the
    decoder, visible patches first, come back into the order of the picture with `rows_at(x, mask.restore)`.

    >>> random_patch_mask(torch.tensor([[0.3, 0.1, 0.9, 0.5]]), 0.5).hidden.tolist()
    [[False, False, True, True]]
    """
    shuffle = torch.argsort(noise, dim=1, stable=True)
    restore = shuffle.argsort(dim=1)
    return PatchMask(shuffle, restore, restore >= visible_patches(noise.shape[1], ratio))


def rows_at(x: Tensor, places: Tensor) -> Tensor:
    """Rows of `x` [B, L, D] at `places` [B, M], [B, M, D]."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def normalised_patches(patches: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Each patch [..., P] less its mean, divided by its standard deviation: targets that gave better features.

    He et al. 2022, sections 3 and 4.1. The variance is the unbiased one, divided by P - 1, as in the authors' code.
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) * (variance + epsilon).rsqrt()


def masked_regression_loss(prediction: Tensor, target: Tensor, chosen: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean squared error of the chosen patches or steps, a scalar; what is predicted elsewhere counts for nothing.

    Of `patchify`'s patches, or `normalised_patches` of them, with `PatchMask.hidden`, it is MAE's loss (section 3); of
    observations or actions in a sequence it is the continuous counterpart of BERT's.

    Args:
        prediction: [B, L, D].
        target: [B, L, D].
        chosen: bool [B, L], what was hidden.
        valid: bool [B, L], False where a sequence is padded; None where none is.
    """
    counts = chosen if valid is None else chosen & valid
    # Cleared before the square, so that padding has no gradient, not even where it is NaN.
    error = (prediction - target.detach()).masked_fill(~counts.unsqueeze(-1), 0.0)
    return error.square().sum() / (counts.sum() * prediction.shape[-1]).clamp_min(1)


def chosen_places(eligible: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Each eligible place, bool [B, L], with probability `ratio`, bool [B, L]; the same on every device.

    Eligible is what may be hidden: neither padding nor special tokens.
    """
    return eligible & (_uniform(eligible, generator) < ratio)


def corrupted_tokens(
    tokens: Tensor, chosen: Tensor, *, vocabulary: int, mask_token: int, generator: torch.Generator
) -> Tensor:
    """Tokens [B, L] of which 80 % of the chosen are the mask, 10 % a random word and 10 % as they were.

    Devlin et al. 2019, section 3.1. All chosen tokens are to be predicted, also those that stay as they were.

    Args:
        tokens: int64 [B, L].
        chosen: bool [B, L], as `chosen_places` gives it.
        vocabulary: Random words are 0 … `vocabulary` - 1, all alike; the right one may be among them.
        mask_token: Often `vocabulary` itself.
        generator: Source of both draws.
    """
    draw = _uniform(tokens, generator)
    words = torch.randint(vocabulary, tokens.shape, generator=generator, device=generator.device).to(tokens)
    corrupted = torch.where(chosen & (draw < AS_MASK + AS_RANDOM), words, tokens)
    return corrupted.masked_fill(chosen & (draw < AS_MASK), mask_token)


def masked_cross_entropy(logits: Tensor, tokens: Tensor, chosen: Tensor) -> Tensor:
    """Mean of -log p(token) over the chosen places, a scalar; ln K where nothing is known yet.

    Args:
        logits: [B, L, K].
        tokens: What stood there, int64 [B, L]; where nothing was chosen, anything.
        chosen: bool [B, L].
    """
    log_p = torch.log_softmax(logits, dim=-1)
    right = log_p.gather(-1, tokens.where(chosen, 0).unsqueeze(-1)).squeeze(-1)
    return -right.masked_fill(~chosen, 0.0).sum() / chosen.sum().clamp_min(1)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Drawn where the generator is, so that one on the CPU gives the same numbers for every device."""
    return torch.rand(like.shape, generator=generator, device=generator.device).to(like.device)


def _check_sides(height: int, width: int, patch: int) -> None:
    if height % patch or width % patch:
        raise UsageError(
            f"pictures of {height} x {width} pixels cannot be cut into patches of {patch} x {patch}; "
            f"choose a patch that divides both sides, or resize the pictures"
        )
