"""What LSTR and TeSTra share: the last frames, in which what is told of is read beside a memory of a few tokens.

Xu et al. 2021 (https://arxiv.org/abs/2107.03377), section 3.3 and 3.4: learned queries ask the tokens that a first
stage made of the long memory, and the frames of the short, or work, memory ask what came of it.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from rlkit.perception.detection.decoder import Decoder, tokens_there
from rlkit.perception.detection.detector import Detections, DetectorConfig
from rlkit.perception.detection.heads import ClassHead

WORK_FRAMES = 32
"""Frames of the work memory by default: 8 seconds of 4 frames (Xu et al. 2021)."""


class WorkMemoryConfig(DetectorConfig):
    """Options of detectors with a work memory."""

    work: int | None = Field(None, ge=1)
    """frames of the work memory, the last of a window; null: 32, or half of a window with fewer than 64 frames"""
    heads: int = Field(4, ge=1)
    """of every attention"""
    queries: int = Field(16, ge=1)
    """tokens that a first stage makes of the long memory (Xu et al. 2021)"""
    second_queries: int = Field(32, ge=1)
    """tokens that a second stage makes of these (Xu et al. 2021)"""
    second_layers: int = Field(2, ge=1)
    """of the second stage (Xu et al. 2021)"""
    layers: int = Field(2, ge=1)
    """in which the work memory asks (Xu et al. 2021)"""

    @model_validator(mode="after")
    def _a_window_holds_more_than_the_work(self) -> WorkMemoryConfig:
        if self.work_frames >= self.window:
            raise ValueError(
                f"the work memory has {self.work_frames} frames and the window {self.window}: choose a longer window, "
                "so that something is older than the work memory"
            )
        return self

    @property
    def work_frames(self) -> int:
        """Of the work memory."""
        return min(WORK_FRAMES, max(self.window // 2, 1)) if self.work is None else self.work


class WorkMemory(nn.Module):
    """The second stage, the work memory's layers, and the classes of its last frame.

    Args:
        config: The detector's.
        classes: K.
        generator: Source of the first weights.
    """

    def __init__(self, config: WorkMemoryConfig, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.queries = nn.Parameter(torch.empty(config.second_queries, width))
        self.position = nn.Parameter(torch.empty(config.work_frames, width))
        nn.init.normal_(self.queries, std=width**-0.5, generator=generator)
        nn.init.normal_(self.position, std=0.02, generator=generator)
        self.second = Decoder(width, layers=config.second_layers, heads=heads)
        self.decoder = Decoder(width, layers=config.layers, heads=heads)
        self.dropout = nn.Dropout(config.dropout)
        self.head = ClassHead(width, classes, config.horizon, generator)

    def forward(self, tokens: Tensor, is_there: Tensor, memory: Tensor) -> Detections:
        """Logits [N, K] and [N, H, K] of the last of tokens [N, S, width], some of which may be missing in front.

        `is_there` is bool [N, S], `memory` the tokens [N, M, width] of the first stage.
        """
        queries = self.queries.expand(len(tokens), -1, -1)
        memory = self.second(queries, memory)
        tokens = tokens + self.position[-tokens.shape[1] :]
        among = tokens_there(is_there, tokens.shape[1], causal=True)
        told = self.decoder(tokens, memory, among)[:, -1]
        detections: Detections = self.head(self.dropout(told))
        return detections
