"""Offline detection, for comparison: intervals told by a network that sees the whole stream, its future too.

The idea is ActionFormer's (Zhang et al. 2022, https://arxiv.org/abs/2202.07925): features are embedded, blocks of local
attention and strided convolutions make a pyramid of them, and at each of its points two heads, the same on all levels,
tell the classes and how far away the start and the end are. A point learns to tell of the shortest interval around it
whose middle is near and whose farther end is in its level's reach; classes by focal loss, ends by overlap. There are no
anchors and no second stage; duplicates are suppressed at last.

Time is in frames, and frame t lasts from t to t + 1: an interval of the frames 3, 4, 5 is (3, 6). A point stands in the
middle of the frame that it is centred on.

Deviations
- Rotary positions, and attention without depthwise convolutions before it; a strided convolution stands between two
  blocks, not in one. One block a level, width 128 and no stochastic depth; 512 and droppath of 0.1 on THUMOS14 there.
- Distances are softplus, there ReLU: they cannot get stuck at zero.
- `overlap` is "generalised" by default; their paper's is with the distance of the middles. What a point tells and what
  is true share that point, where the generalised overlap is the plain one.
- Losses are divided by the points of the batch that tell of something, there by a moving average of their number.
- Intervals are not voted on after the suppression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.attention.layers import Block
from rlkit.attention.mask import AttentionMask
from rlkit.attention.rope import rotary_angles
from rlkit.config import Options
from rlkit.data.events import BACKGROUND
from rlkit.errors import UsageError
from rlkit.nn.cores import initialise_transformer
from rlkit.ops.focal_loss import focal_loss
from rlkit.ops.temporal_boxes import centre_targets, distance_overlap, generalised_overlap
from rlkit.perception.detection.detector import DetectionTask
from rlkit.types import Array, Floats, Metrics

Suppression: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]
"""Of intervals [P, 2] and their scores [P], the rows [Q] that stay and their scores [Q] then."""
OVERLAPS = {"generalised": generalised_overlap, "distance": distance_overlap}


class OfflineConfig(Options):
    """Options of the offline detector; what the paper names is as in its settings for THUMOS14."""

    width: int = Field(128, ge=1)
    """of the hidden features"""
    heads: int = Field(4, ge=1)
    """of attention"""
    levels: int = Field(6, ge=1)
    """of the pyramid, each with half the points of the one below (theirs)"""
    stem: int = Field(2, ge=0)
    """blocks before the pyramid (theirs)"""
    neighbours: int = Field(9, ge=0)
    """points of its level on either side that each attends to (theirs)"""
    reach: float = Field(4.0, gt=0)
    """farthest end in frames that the lowest level tells of; twice as far with each level (theirs)"""
    radius: float = Field(1.5, gt=0)
    """how far from an interval's middle a point may be that tells of it, in points of its level (theirs)"""
    overlap: Literal["generalised", "distance"] = "generalised"
    """what the ends are learned by; distance is theirs"""
    end_weight: float = Field(1.0, ge=0)
    """weight of the loss of the ends (theirs)"""
    prior: float = Field(0.01, gt=0, lt=1)
    """score of every class before anything is learned (Lin et al. 2017)"""
    least_score: float = Field(0.001, gt=0, lt=1)
    """score from which on a point is taken to tell of something (theirs)"""
    candidates: int = Field(2_000, ge=1)
    """points' claims, the best ones, among which duplicates are suppressed (theirs, of each level)"""
    intervals: int = Field(200, ge=1)
    """most intervals that are told of a stream (theirs)"""


class DetectedInterval(NamedTuple):
    """What happens from when to when."""

    start: float  # frames
    stop: float
    label: int  # number of the class
    score: float


@dataclass(frozen=True, slots=True)
class IntervalBatch:
    """Streams with the intervals in which something happens, on the device."""

    features: Tensor  # [B, T, C], zeros behind a stream's end
    length: Tensor  # int64 [B]
    interval: Tensor  # [B, E, 2] in frames
    label: Tensor  # int64 [B, E], -1 where there is no interval

    @classmethod
    def of(
        cls, features: Sequence[Floats], intervals: Sequence[Sequence[tuple[float, float, int]]], device: torch.device
    ) -> IntervalBatch:
        """Of streams' features [L, C] and intervals (start, stop, class).

        Raises:
            UsageError: an interval is empty or reversed, or outside its stream.
        """
        for number, (stream, rows) in enumerate(zip(features, intervals, strict=True)):
            for start, stop, _ in rows:
                if not 0 <= start < stop <= len(stream):
                    raise UsageError(
                        f"stream {number} of the batch has an interval from {start} to {stop}; one in its "
                        f"{len(stream)} frames starts at 0 or later and stops after that, at {len(stream)} at most"
                    )
        most = max(1, *map(len, intervals))  # one that is not there rather than none
        padded = [[*rows, *[(0.0, 0.0, -1)] * (most - len(rows))] for rows in intervals]
        table = torch.tensor(padded, dtype=torch.float64, device=device)
        streams = [torch.as_tensor(np.asarray(stream), device=device) for stream in features]
        return cls(
            nn.utils.rnn.pad_sequence(streams, batch_first=True),
            torch.tensor([len(stream) for stream in features], device=device),
            table[..., :2].to(streams[0].dtype),
            table[..., 2].long(),
        )


class Claims(NamedTuple):
    """What P points of all levels tell."""

    point: Tensor  # [P] in frames
    stride: Tensor  # [P] frames between the points of its level
    reach: Tensor  # [P, 2] least and greatest distance of the farther end
    is_there: Tensor  # bool [B, P], false behind a stream's end
    logits: Tensor  # [B, P, K'] of the classes that are told
    interval: Tensor  # [B, P, 2]


class OfflineDetector(nn.Module):
    """Tells intervals of whole streams.

    Args:
        config: Its options.
        task: What it is told.

    Attributes:
        told: Numbers of the classes that it tells, K' of them: neither background nor the ambiguous one.
    """

    Config = OfflineConfig
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: OfflineConfig, task: DetectionTask) -> None:
        super().__init__()
        self.config, self.task = config, task
        self.told = tuple(k for k, name in enumerate(task.classes) if name != BACKGROUND and k != task.ambiguous)
        nothing, one = np.zeros(task.feature_size, np.float32), np.ones(task.feature_size, np.float32)
        self.register_buffer("mean", torch.as_tensor(nothing if task.mean is None else task.mean))
        self.register_buffer("deviation", torch.as_tensor(one if task.deviation is None else task.deviation))
        generator, width = seeding.torch_generator(task.seed, "weights"), config.width
        self.embed = nn.ModuleList(Convolution(size, width, generator) for size in (task.feature_size, width))
        self.stem = nn.ModuleList(Block(width, config.heads) for _ in range(config.stem))
        self.halve = nn.ModuleList(Convolution(width, width, generator, 2) for _ in range(config.levels - 1))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.levels - 1))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.levels))
        self.classify = PointHead(width, len(self.told), generator, math.log(config.prior / (1 - config.prior)))
        self.measure = PointHead(width, 2, generator)
        self.scale = nn.Parameter(torch.ones(config.levels))  # a level's distances
        blocks = nn.ModuleList([*self.stem, *self.blocks])
        initialise_transformer(blocks, max(len(blocks), 1), (), generator)

    def loss(self, batch: IntervalBatch) -> tuple[Tensor, Metrics]:
        """What an update makes smaller, and numbers to log.

        Raises:
            UsageError: an interval has a class that is not told.
        """
        claims = self(batch.features, batch.length)
        columns, is_ambiguous = self._columns(batch.label)
        is_told, wanted = centre_targets(
            claims.point, claims.stride, claims.reach, batch.interval, columns >= 0, self.config.radius
        )
        is_told = is_told & claims.is_there[..., None]
        labels = is_told.to(claims.logits) @ nn.functional.one_hot(columns.clamp(min=0), len(self.told)).to(
            claims.logits
        )
        tells = is_told.any(-1)  # [B, P]
        counts = claims.is_there & (tells | ~self._within(claims.point, batch.interval, is_ambiguous))
        number = tells.sum().clamp(min=1)
        of_classes = (focal_loss(claims.logits, labels.clamp(max=1)) * counts[..., None]).sum() / number
        missing = 1 - OVERLAPS[self.config.overlap](claims.interval, wanted)
        of_ends = torch.where(tells, missing, 0.0).sum() / number
        metrics = {"train/loss_classes": of_classes.detach().item(), "train/loss_ends": of_ends.detach().item()}
        return of_classes + self.config.end_weight * of_ends, metrics

    @torch.no_grad()
    def intervals(self, features: Tensor, suppress: Suppression) -> list[DetectedInterval]:
        """What happens in one stream [L, C], best first; `suppress` is applied to each class by itself."""
        claims = self(features[None], torch.tensor([len(features)], device=features.device))
        scores = claims.logits[0].sigmoid()  # [P, K']
        best = scores.flatten().topk(min(self.config.candidates, scores.numel()))
        row, column = (part.cpu().numpy() for part in (best.indices // len(self.told), best.indices % len(self.told)))
        ends = claims.interval[0].clamp(0, len(features)).double().cpu().numpy()[row]
        score = best.values.double().cpu().numpy()
        found = []
        for number, label in enumerate(self.told):
            own = (column == number) & (score >= self.config.least_score) & (ends[:, 1] > ends[:, 0])
            rows, left = suppress(ends[own], score[own])
            for (start, stop), of_row in zip(ends[own][rows], left, strict=True):
                found.append(DetectedInterval(float(start), float(stop), label, float(of_row)))
        return sorted(found, key=lambda each: -each.score)[: self.config.intervals]

    def forward(self, features: Tensor, length: Tensor) -> Claims:
        """What the points tell of streams [B, T, C] of so many frames [B].

        Raises:
            UsageError: there are other features than it was built for.
        """
        if features.shape[-1] != self.task.feature_size:
            raise UsageError(
                f"the stream has {features.shape[-1]} features a frame; this detector was built for "
                f"{self.task.feature_size}: take the features that it was trained on"
            )
        parts = [self._claims(*level) for level in self._pyramid((features - self.mean) / self.deviation, length)]
        point, stride, reach, is_there, logits, interval = zip(*parts, strict=True)
        return Claims(
            torch.cat(point), torch.cat(stride), torch.cat(reach),
            torch.cat(is_there, 1), torch.cat(logits, 1), torch.cat(interval, 1),
        )  # fmt: skip

    def _pyramid(self, x: Tensor, length: Tensor) -> list[tuple[int, Tensor, Tensor]]:
        """Number, features [B, P, width] and whether a point is there, bool [B, P], of each level."""
        is_there = torch.arange(x.shape[1], device=x.device) < length[:, None]
        for embedding in self.embed:
            x = embedding(x, is_there)
        for block in self.stem:
            x = self._attended(block, x, is_there)
        levels = [(0, self.norms[0](x), is_there)]
        for number, (halve, block) in enumerate(zip(self.halve, self.blocks, strict=True), 1):
            x, is_there = halve(x, is_there), is_there[:, ::2]
            x = self._attended(block, x, is_there)
            levels.append((number, self.norms[number](x), is_there))
        return levels

    def _attended(self, block: nn.Module, x: Tensor, is_there: Tensor) -> Tensor:
        """Features [B, P, width] after local attention to what is there."""
        place, aside = torch.arange(x.shape[1], device=x.device), self.config.neighbours
        length = is_there.sum(1, keepdim=True)
        stop = torch.minimum(place + aside + 1, length)  # [B, P]
        mask = AttentionMask(start=(place - aside).clamp(min=0).expand_as(stop), stop=stop)
        attended: Tensor = block(x, mask, rotary_angles(place[None], self.config.width // self.config.heads))
        return attended

    def _claims(self, level: int, x: Tensor, is_there: Tensor) -> Claims:
        """What the points of a level tell."""
        stride, count = 2**level, x.shape[1]
        point = torch.arange(count, device=x.device) * stride + 0.5
        distance = nn.functional.softplus(self.scale[level] * self.measure(x, is_there)) * stride
        interval = torch.stack((point - distance[..., 0], point + distance[..., 1]), -1)
        least = 0.0 if level == 0 else self.config.reach * stride / 2
        most = math.inf if level == self.config.levels - 1 else self.config.reach * stride
        return Claims(
            point, torch.full_like(point, stride), torch.tensor([[least, most]], device=x.device).expand(count, 2),
            is_there, self.classify(x, is_there), interval,
        )  # fmt: skip

    def _columns(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Places of classes [B, E] among those told, -1 where none is, and which are ambiguous, bool [B, E]."""
        places = {number: place for place, number in enumerate(self.told)} | {-1: -1}
        if self.task.ambiguous is not None:
            places[self.task.ambiguous] = -1
        if strangers := sorted(set(label.flatten().tolist()) - set(places)):
            allowed = ", ".join(f"{number} ({self.task.classes[number]})" for number in self.told)
            raise UsageError(f"an interval has class {strangers[0]}, which is not told; allowed: {allowed}")
        column = torch.tensor([[places[each] for each in row] for row in label.tolist()], device=label.device)
        return column, (label >= 0) & (column < 0)

    def _within(self, point: Tensor, interval: Tensor, chosen: Tensor) -> Tensor:
        """Whether points [P] are within any of the chosen intervals [B, E], bool [B, P]."""
        start, stop = interval[:, None, :, 0], interval[:, None, :, 1]
        return ((point[:, None] >= start) & (point[:, None] <= stop) & chosen[:, None]).any(-1)


class Convolution(nn.Module):
    """Over three points, to which what lies behind a stream's end is zero; then normalised, and ReLU.

    Args:
        inputs: Features of a point.
        outputs: Features of a point then.
        generator: Source of the first weights.
        stride: 2 keeps every other point.
    """

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, stride: int = 1) -> None:
        super().__init__()
        self.convolve = drawn_convolution(inputs, outputs, generator, stride)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor, is_there: Tensor) -> Tensor:
        """Features [B, P, outputs] of [B, P, inputs], of which bool [B, P] are there."""
        return torch.relu(self.norm(convolved(self.convolve, x, is_there)))


class PointHead(nn.Module):
    """Two such convolutions and a plain one.

    Args:
        width: Features of a point.
        outputs: Numbers that are told of a point.
        generator: Source of the first weights.
        bias: What is told at first, about.
    """

    def __init__(self, width: int, outputs: int, generator: torch.Generator, bias: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(Convolution(width, width, generator) for _ in range(2))
        self.last = drawn_convolution(width, outputs, generator, bias=bias)

    def forward(self, x: Tensor, is_there: Tensor) -> Tensor:
        """Numbers [B, P, outputs]."""
        for layer in self.hidden:
            x = layer(x, is_there)
        return convolved(self.last, x, is_there)


def convolved(layer: nn.Conv1d, x: Tensor, is_there: Tensor) -> Tensor:
    """Features [B, P, outputs] after a convolution of [B, P, inputs]; what is not there is zero."""
    y: Tensor = layer((x * is_there[..., None]).transpose(1, 2)).transpose(1, 2)
    return y


def drawn_convolution(
    inputs: int, outputs: int, generator: torch.Generator, stride: int = 1, bias: float = 0.0
) -> nn.Conv1d:
    """A convolution over three points, weights uniform as torch draws them, all biases the same."""
    layer = nn.Conv1d(inputs, outputs, 3, stride, padding=1)
    bound = (3 * inputs) ** -0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        assert layer.bias is not None
        layer.bias.fill_(bias)
    return layer
