"""BERT on what an agent saw and did: fill in hidden steps of a clip (Devlin et al. 2019, arxiv.org/abs/1810.04805).

A clip of T pictures and the T - 1 actions between them becomes a sequence of tokens, o_1 a_1 o_2 … a_{T-1} o_T: the
encoder's features of each picture and the actions, each through a linear layer. Of the tokens 15 % are chosen; of these
80 % become a learned mask, 10 % a random other token, and 10 % stay (section 3.1, "masked LM"). A transformer that sees
both ways is to tell what stood at all chosen places. Pictures next to a hidden one show most of it: with `hidden` at a
half or more, and longer clips, there is more to tell.

Deviations, by which BERT comes to vectors
- Words become vectors. A picture has no number to be predicted by cross-entropy: a linear layer predicts the features
  that a moving average of the encoder gives the true picture, by squared error, after data2vec (Baevski et al. 2022,
  arxiv.org/abs/2202.03555), which takes the mean of a transformer's last layers. Each feature is brought to mean 0 and
  deviation 1 over the batch: an encoder whose features hardly differ then pays 1, and not the least. Actions are
  predicted by cross-entropy (Discrete) or, of a Box, by squared error, standardised likewise.
- A random token is the features of any picture of the batch, any of the Discrete actions, or any Box action of the
  batch. What is random stands where the features come out of the encoder, so the encoder sees no mask.
- Every token is chosen by itself, where BERT takes that share of each sequence; there is no next sentence to tell.
- Places in the sequence turn queries and keys (Su et al. 2021), where BERT learns vectors. Two masks, one for pictures
  and one for actions, and two linear layers tell which of both a token is.
- Pictures and actions have a loss each, a mean over their own places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from gymnasium import Space, spaces
from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.attention.layers import Block, head_size_of
from rlkit.attention.rope import rotary_angles
from rlkit.errors import UsageError
from rlkit.nn.backbones import Backbone
from rlkit.nn.cores import initialise_transformer
from rlkit.nn.moving_average import MovingAverage
from rlkit.nn.ranks import gathered, mean_over_ranks, rank_and_ranks
from rlkit.ops.masked_modelling import chosen_places, corrupted_tokens, masked_cross_entropy, masked_regression_loss
from rlkit.ops.self_distillation import teacher_momentum
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask
from rlkit.types import Metrics

EPSILON = 1e-8
"""Added to variances: features that do not differ at all stay zero."""


class MaskedSequenceConfig(MethodConfig):
    """Defaults: Devlin et al. 2019, unless a field says otherwise."""

    clip_length: int = Field(8, ge=2)
    """T, pictures of a clip"""
    hidden: float = Field(0.15, gt=0, lt=1)
    """part of the tokens that is chosen (section 3.1)"""
    width: int = Field(128, ge=2)
    """of the tokens; the paper's 768 for text"""
    layers: int = Field(2, ge=1)
    """blocks of the transformer; 12 in the paper"""
    heads: int = Field(4, ge=1)
    """heads of each"""
    action_weight: float = Field(1.0, ge=0)
    """of the actions' loss beside the pictures'"""
    momentum: float = Field(0.99, ge=0, le=1)
    """of the moving average at the start, from where it rises to 1 along half a cosine (BYOL's)"""
    batch_size: int = Field(64, ge=2)
    """clips in one update; 256 sequences in the paper, of words"""
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = "adamw"
    """appendix A.2; sgd and lars with momentum 0.9"""
    learning_rate: float = Field(3e-4, gt=0)
    """three times the paper's, for a small network"""
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    """falls to zero at the end of the run; along a line in the paper"""
    warmup_fraction: float = Field(0.01, ge=0, lt=1)
    """part of the run in which the step size rises from zero (appendix A.2)"""
    weight_decay: float = Field(0.01, ge=0)
    """appendix A.2"""


class MaskedSequence(Objective):
    """Hidden pictures and actions of a clip from the others.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures, actions and seed.

    Raises:
        UsageError: nobody acted, or actions are neither Discrete nor a Box.
    """

    Config = MaskedSequenceConfig

    def __init__(self, config: MaskedSequenceConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.clip_length = config, config.clip_length
        self.actions = _ActionTokens.of(task.action_space)
        generator = seeding.torch_generator(task.seed, "heads")
        self.model = SequenceModel(encoder.feature_size, self.actions.size, config, generator)
        self._average = MovingAverage(encoder, buffers="own")
        self.teacher = self._average.module

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """The loss of chosen pictures plus that of chosen actions, and each by itself."""
        assert batch.actions is not None  # the task has an action space
        rows, steps = batch.pictures.shape[:2]
        rank, ranks = rank_and_ranks()
        own = slice(rank * rows, (rank + 1) * rows)
        pictures = batch.pictures.flatten(0, 1)
        features = gathered(self.encoder(pictures).unflatten(0, (rows, steps))).flatten(0, 1)
        vectors, done = self.actions.vectors_and_numbers(batch.actions)
        # Whatever is drawn is drawn for the rows of all ranks.
        every_place = torch.ones(ranks * rows, 2 * steps - 1, dtype=torch.bool, device=pictures.device)
        chosen = chosen_places(every_place, self.config.hidden, self.generator)
        seen = torch.arange(len(features), device=pictures.device).view(-1, steps)
        picture_numbers = self._corrupted(seen, chosen[:, 0::2], len(features))[own]
        action_numbers = self._corrupted(done, chosen[:, 1::2], len(vectors))[own]
        found = self.model(features, picture_numbers, vectors, action_numbers)
        with torch.no_grad():
            target = standardised(self.teacher(pictures).unflatten(0, (rows, steps)))
        of_pictures = _share(chosen[:, 0::2], own) * masked_regression_loss(found[0], target, chosen[own, 0::2])
        of_actions = _share(chosen[:, 1::2], own) * self.actions.loss(found[1], vectors, done[own], chosen[own, 1::2])
        metrics = {
            "train/picture_loss": mean_over_ranks(of_pictures.detach()).item(),
            "train/action_loss": mean_over_ranks(of_actions.detach()).item(),
        }
        return of_pictures + self.config.action_weight * of_actions, metrics

    def _corrupted(self, numbers: Tensor, chosen: Tensor, vocabulary: int) -> Tensor:
        """What the transformer is told stands at each place; `vocabulary` is the mask."""
        return corrupted_tokens(
            numbers, chosen, vocabulary=vocabulary, mask_token=vocabulary, generator=self.generator
        )  # fmt: skip

    def after_update(self, progress: float) -> None:
        """Move the teacher."""
        self._average.update(self.encoder, teacher_momentum(self.config.momentum, 1.0, progress))


@dataclass(frozen=True)
class _ActionTokens:
    """How actions become vectors, and what it costs to miss one.

    Attributes:
        size: Numbers of an action's vector.
        first: The first Discrete action; None for a Box.
    """

    size: int
    first: int | None

    @classmethod
    def of(cls, space: Space[Any] | None) -> _ActionTokens:
        """Of a space's actions. Raises UsageError for one that is neither Discrete nor a Box, and for None."""
        if isinstance(space, spaces.Discrete):
            return cls(int(space.n), int(space.start))
        if isinstance(space, spaces.Box):
            return cls(math.prod(space.shape), None)
        what = "pictures alone, without actions" if space is None else f"actions in {space}"
        raise UsageError(
            f"bert learns from Discrete or Box actions between pictures, here are {what}: record on an environment "
            "(--env), give a dataset of episodes (--data), or choose another method"
        )

    def vectors_and_numbers(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """A table of vectors [M, size], and where in it the actions [W B, T - 1] of all ranks are."""
        if self.first is not None:
            return torch.eye(self.size, device=actions.device), gathered(actions.long() - self.first)
        vectors = gathered(standardised(actions.reshape(*actions.shape[:2], -1).float()))
        places = torch.arange(len(vectors) * vectors.shape[1], device=actions.device)
        return vectors.flatten(0, 1), places.view(vectors.shape[:2])

    def loss(self, prediction: Tensor, vectors: Tensor, numbers: Tensor, chosen: Tensor) -> Tensor:
        """Of predictions [B, T - 1, size] at chosen places."""
        if self.first is not None:
            return masked_cross_entropy(prediction, numbers, chosen)
        return masked_regression_loss(prediction, vectors[numbers], chosen)


class SequenceModel(nn.Module):
    """What stood at each place of a sequence of pictures and actions, from all that still stands there.

    Args:
        feature_size: Numbers of a picture's features.
        action_size: Numbers of an action's vector.
        config: Width, layers and heads.
        generator: Source of the first weights, see `initialise_transformer`.
    """

    def __init__(
        self, feature_size: int, action_size: int, config: MaskedSequenceConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        width = config.width
        self.head_size = head_size_of(width, config.heads, config.heads)
        rotary_angles(torch.zeros(1), self.head_size)  # a head that cannot be turned is told now
        self.embed_picture, self.embed_action = nn.Linear(feature_size, width), nn.Linear(action_size, width)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.tell_picture, self.tell_action = nn.Linear(width, feature_size), nn.Linear(width, action_size)
        initialise_transformer(self, config.layers, (self.embed_picture, self.embed_action), generator)
        self.picture_mask, self.action_mask = (
            nn.Parameter(torch.randn(width, generator=generator)) for _ in range(2)
        )  # fmt: skip

    def forward(self, pictures: Tensor, seen: Tensor, actions: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted features [B, T, F] and actions [B, T - 1, A].

        Args:
            pictures: Features of any pictures, [N, F].
            seen: Which of them stands at each place of a picture, int64 [B, T]; N is the mask.
            actions: Vectors of any actions, [M, A].
            done: Which of them stands at each place of an action, int64 [B, T - 1]; M is the mask.
        """
        o = _tokens(self.embed_picture, self.picture_mask, pictures, seen)
        a = _tokens(self.embed_action, self.action_mask, actions, done)
        x = torch.cat((torch.stack((o[:, :-1], a), dim=2).flatten(1, 2), o[:, -1:]), dim=1)  # o_1 a_1 … o_T
        angles = rotary_angles(torch.arange(x.shape[1], device=x.device), self.head_size)[None]
        for block in self.blocks:
            x = block(x, angles=angles)
        x = self.norm(x)
        return self.tell_picture(x[:, 0::2]), self.tell_action(x[:, 1::2])


def _tokens(embed: nn.Linear, mask: Tensor, vectors: Tensor, numbers: Tensor) -> Tensor:
    """Tokens [B, T, width] of the vectors [N, D] with these numbers [B, T]; N is the mask."""
    is_mask = numbers == len(vectors)
    return torch.where(is_mask[..., None], mask, embed(vectors[numbers.masked_fill(is_mask, 0)]))


def standardised(x: Tensor) -> Tensor:
    """Vectors [B, T, D] with mean 0 and deviation 1 over those of all ranks, each number by itself.

    >>> standardised(torch.tensor([[[1.0], [3.0]]])).round().flatten().tolist()
    [-1.0, 1.0]
    """
    variance, mean = torch.var_mean(gathered(x).flatten(0, 1), dim=0, correction=0)
    return (x - mean) * (variance + EPSILON).rsqrt()


def _share(chosen: Tensor, own: slice) -> Tensor:
    """What makes the mean of all ranks' means over chosen places [W B, T] that over all places."""
    ranks = len(chosen) // (own.stop - own.start)
    share: Tensor = ranks * chosen[own].sum() / chosen.sum().clamp_min(1)
    return share
