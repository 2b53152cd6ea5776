"""Gated recurrent units and long short-term memory as detectors: the baselines beside which every other claim stands.

The recipe is MiniROAD's (An et al. 2023, https://arxiv.org/abs/2308.02184): features are embedded, one recurrent layer
runs over them, and the loss is on the last frame of a window alone, so that what is learned is what a long memory is
asked for. In use the state goes on from the first frame of a stream.

Deviations: what comes next is told by a second linear layer (their paper's detector tells the present only); weights
are orthogonal at the start.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlkit.nn.cores import RecurrentCore
from rlkit.perception.detection.detector import (
    Detections,
    DetectionTask,
    Detector,
    DetectorConfig,
    Memory,
)
from rlkit.perception.detection.heads import ClassHead, Embedding


class RecurrentConfig(DetectorConfig):
    """Options of the recurrent baselines."""

    window: int = 128
    """frames in a window that is learned from (An et al. 2023)"""


class GRUDetector(Detector):
    """A gated recurrent unit."""

    Config = RecurrentConfig
    kind: ClassVar[Literal["gru", "lstm"]] = "gru"

    def __init__(self, config: RecurrentConfig, task: DetectionTask) -> None:
        super().__init__(config, task)
        self.embed = Embedding(task.feature_size, config.width, config.dropout, self.generator)
        self.core = RecurrentCore(self.kind, config.width, config.width, self.generator)
        self.head = ClassHead(config.width, self.classes, self.horizon, self.generator)

    def empty(self, streams: int) -> Memory:
        """State zero."""
        return self.core.empty(streams)

    def _step(self, x: Tensor, memory: Memory) -> tuple[Detections, Memory]:
        y, memory = self.core.step(self.embed(x), memory)
        return self.head(torch.relu(y)), memory

    def _unroll(self, x: Tensor, is_first: Tensor) -> Detections:
        detections: Detections = self.head(torch.relu(self.core.unroll(self.embed(x), is_first)))
        return detections


class LSTMDetector(GRUDetector):
    """A long short-term memory."""

    kind = "lstm"
