"""What every detector is: a network that tells of each frame what happens in it and what comes next.

There are two ways to ask it, and they give the same numbers: `step` takes one frame of each of B streams and what it
remembers of them, `forward` takes sequences whole. Neither lets what a frame gets depend on a later frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.config import Options
from rlkit.data.events import BACKGROUND
from rlkit.data.streams import Windows
from rlkit.ops.detection_losses import binary_cross_entropy, shared_cross_entropy
from rlkit.types import Floats, Metrics

Memory: TypeAlias = tuple[Tensor, ...]
"""What a detector remembers of its streams: tensors whose first axis is the streams."""
_FARTHEST = 5.0


@dataclass(frozen=True)
class DetectionTask:
    """All a detector is told when it is built."""

    feature_size: int  # C
    classes: tuple[str, ...]  # K names
    ambiguous: int | None = None  # class that is neither learned nor told
    mean: Floats | None = None  # [C] of the features that are learned from
    deviation: Floats | None = None  # [C]
    updates: int = 1  # of the whole run, the horizon of schedules
    seed: int = 0
    device: str = "cpu"


class DetectorConfig(Options):
    """Options that all detectors have; each has defaults of its own for those that its paper names."""

    width: int = Field(128, ge=1)
    """of the hidden features"""
    window: int = Field(64, ge=1)
    """frames in a window that is learned from"""
    horizon: int = Field(8, ge=0)
    """frames whose classes are told before they come"""
    outputs: Literal["auto", "softmax", "sigmoid"] = "auto"
    """softmax: a frame's classes share its probability; sigmoid: each has one of its own; auto: softmax where a class
    is called `background`, so that one of them is always there"""
    loss_on: Literal["last", "all"] = "last"
    """frames of a window whose classes are learned (An et al. 2023: the last)"""
    future_weight: float = Field(0.5, ge=0)
    """weight of the loss of what comes next (Wang et al. 2021)"""
    dropout: float = Field(0.1, ge=0, lt=1)
    """part of the hidden features that is left out while learning"""
    batch_size: int = Field(32, ge=1)
    """windows in one update"""
    learning_rate: float = Field(3e-4, gt=0)
    """step size of Adam"""
    learning_rate_schedule: Literal["constant", "cosine"] = "cosine"
    """cosine: falls to zero at the end of the run (Loshchilov and Hutter 2017)"""
    weight_decay: float = Field(0.01, ge=0)
    """shrinks weights, not biases and norms, decoupled from the gradient"""
    max_grad_norm: float | None = Field(1.0, gt=0)
    """longest gradient; null: no limit"""


class Detections(NamedTuple):
    """Logits of classes, of one frame a stream (without T) or of all."""

    now: Tensor  # [B, T, K]
    future: Tensor  # [B, T, H, K] of the H frames that follow


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows on the device."""

    features: Tensor  # [B, T, C]
    labels: Tensor  # uint8 [B, T + H, K]
    is_there: Tensor  # bool [B, T + H]
    is_first: Tensor  # bool [B, T]

    @classmethod
    def of(cls, windows: Windows, device: torch.device) -> WindowBatch:
        """The windows as they are learned from."""
        arrays = (windows.features, windows.labels, windows.is_there, windows.is_first)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))


class Detector(nn.Module, ABC):
    """Tells classes of frames. A subclass says how features become logits, in `_step` and `_unroll`, which must agree.

    Args:
        config: Its options.
        task: What it is told.

    Attributes:
        generator: Source of the first weights.
        shares: Whether a frame's classes share its probability.
    """

    Config: ClassVar[type[DetectorConfig]]
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: DetectorConfig, task: DetectionTask) -> None:
        super().__init__()
        self.config, self.task = config, task
        self.classes, self.horizon = len(task.classes), config.horizon
        self.shares = config.outputs == "softmax" or (config.outputs == "auto" and BACKGROUND in task.classes)
        self.generator = seeding.torch_generator(task.seed, "weights")
        nothing, one = np.zeros(task.feature_size, np.float32), np.ones(task.feature_size, np.float32)
        self.register_buffer("mean", torch.as_tensor(nothing if task.mean is None else task.mean))
        self.register_buffer("deviation", torch.as_tensor(one if task.deviation is None else task.deviation))

    @abstractmethod
    def empty(self, streams: int) -> Memory:
        """What is remembered of `streams` that begin, first axis B."""

    def reset(self, memory: Memory, ended: Tensor) -> Memory:
        """Streams in `ended` (bool [B]) begin anew."""
        fresh = self.empty(len(ended))
        return tuple(
            torch.where(ended.view(-1, *(1,) * (old.dim() - 1)), new, old)
            for new, old in zip(fresh, memory, strict=True)
        )  # fmt: skip

    def step(self, features: Tensor, memory: Memory) -> tuple[Detections, Memory]:
        """Logits of one frame of each stream [B, C], and what is remembered then."""
        detections, memory = self._step(self.standardized(features), memory)
        return self._without_ambiguous(detections), memory

    def forward(self, features: Tensor, is_first: Tensor) -> Detections:
        """Logits of sequences [B, T, C], which begin anew where `is_first` [B, T] says so, and at their first frame."""
        begins = is_first.clone()
        begins[:, 0] = True
        return self._without_ambiguous(self._unroll(self.standardized(features), begins))

    def loss(self, batch: WindowBatch) -> tuple[Tensor, Metrics]:
        """What an update makes smaller, and numbers to log."""
        detections = self(batch.features, batch.is_first)
        kept = 1 if self.config.loss_on == "last" else batch.features.shape[1]
        return self.loss_of(Detections(*(logits[:, -kept:] for logits in detections)), batch)

    def loss_of(self, detections: Detections, batch: WindowBatch) -> tuple[Tensor, Metrics]:
        """The loss of the last frames of each window, as many as there are detections, and of what follows them."""
        labels, weight = self._counted(batch)
        length, kept = batch.features.shape[1], detections.now.shape[1]
        frame = torch.arange(length - kept, length, device=labels.device)
        now = self.cross_entropy(detections.now, labels[:, frame], weight[:, frame])
        metrics = {"train/loss_now": now.detach().item()}
        if not self.horizon:
            return now, metrics
        following = frame[:, None] + 1 + torch.arange(self.horizon, device=labels.device)
        known = weight[:, following] * batch.is_there[:, frame, None]
        future = self.cross_entropy(detections.future, labels[:, following], known)
        return now + self.config.future_weight * future, metrics | {"train/loss_future": future.detach().item()}

    def cross_entropy(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """Of logits [..., K] beside labels [..., K], where frames count by their weight [...]."""
        return (shared_cross_entropy if self.shares else binary_cross_entropy)(
            logits, labels, weight
        )  # fmt: skip

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities [..., K]."""
        return logits.softmax(-1) if self.shares else logits.sigmoid()

    def standardized(self, features: Tensor) -> Tensor:
        """Features of about mean 0 and deviation 1, none farther than five: a rare one does not drown the others."""
        return ((features - self.mean) / self.deviation).clamp(-_FARTHEST, _FARTHEST)

    @abstractmethod
    def _step(self, x: Tensor, memory: Memory) -> tuple[Detections, Memory]:
        """Of standardised features [B, C]: logits [B, K] and [B, H, K], and what is remembered."""

    @abstractmethod
    def _unroll(self, x: Tensor, is_first: Tensor) -> Detections:
        """Of standardised features [B, T, C]; `is_first` [B, T] is true at each first frame."""

    def _counted(self, batch: WindowBatch) -> tuple[Tensor, Tensor]:
        """Labels [B, T + H, K] and weight [B, T + H] of the frames: none where nothing is, or what is ambiguous."""
        labels, weight = batch.labels, batch.is_there.to(batch.features.dtype)
        if self.task.ambiguous is None:
            return labels, weight
        is_ambiguous = labels[..., self.task.ambiguous] > 0
        kept = labels.clone()
        kept[..., self.task.ambiguous] = 0
        return kept, weight * ~is_ambiguous

    def _without_ambiguous(self, detections: Detections) -> Detections:
        """The ambiguous class gets no probability, in learning as in use."""
        if self.task.ambiguous is None:
            return detections
        hidden = torch.zeros(self.classes, dtype=torch.bool, device=detections.now.device)
        hidden[self.task.ambiguous] = True
        low = -1e9  # a probability of zero; -inf would make its own loss undefined
        return Detections(*(logits.masked_fill(hidden, low) for logits in detections))


class DetectorClass(Protocol):
    """The class of a detector, as it is registered."""

    Config: type[DetectorConfig]

    def __call__(self, config: Any, task: DetectionTask) -> Detector:
        """The detector with its first weights."""
