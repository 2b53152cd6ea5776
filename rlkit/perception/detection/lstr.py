"""LSTR: a long memory, made into a few tokens in two stages, and a short one that asks them.

Xu et al. 2021 (https://arxiv.org/abs/2107.03377): of the frames in a window the last are the work memory. Learned
queries ask all older ones, queries of a second stage ask what these found, and the frames of the work memory, each of
which sees those before it, ask the tokens of the second stage (`rlkit/perception/detection/work_memory.py`).

What is remembered of a stream are the frames of its window, and both stages are made anew for each frame, so that a
step is the sequence exactly; the authors keep the first stage for four frames at a time.

Deviations: positions are learned, count from the window's end, and the long memory has some too; the long memory is
sampled at every frame (theirs: every fourth of 2048) and its default is short; the loss is that of the last frame, not
of all in the work memory, and what comes next is told by a linear layer from the last frame's token; layers are
normalised before each part.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit.nn.cores import initialise_transformer
from rlkit.perception.detection.decoder import Decoder, tokens_there
from rlkit.perception.detection.detector import Detections, DetectionTask
from rlkit.perception.detection.heads import Embedding
from rlkit.perception.detection.windowed import WindowedDetector
from rlkit.perception.detection.work_memory import WorkMemory, WorkMemoryConfig


class LSTRConfig(WorkMemoryConfig):
    """Options of LSTR."""

    window: int = Field(128, ge=2)
    """frames of the long memory and of the work memory together"""
    first_layers: int = Field(1, ge=1)
    """of the first stage (Xu et al. 2021)"""


class LSTR(WindowedDetector):
    """Two stages over the long memory, and a work memory."""

    Config = LSTRConfig

    def __init__(self, config: LSTRConfig, task: DetectionTask) -> None:
        super().__init__(config, task)
        width, self.work = config.width, config.work_frames
        self.embed = Embedding(task.feature_size, width, config.dropout, self.generator)
        self.position = nn.Parameter(torch.empty(config.window - self.work, width))
        self.queries = nn.Parameter(torch.empty(config.queries, width))
        nn.init.normal_(self.position, std=0.02, generator=self.generator)
        nn.init.normal_(self.queries, std=width**-0.5, generator=self.generator)
        self.first = Decoder(width, layers=config.first_layers, heads=config.heads)
        self.work_memory = WorkMemory(config, self.classes, self.generator)
        layer = self.embed[0]
        assert isinstance(layer, nn.Linear)
        initialise_transformer(self, config.layers, (layer,), self.generator)

    def read(self, x: Tensor, is_there: Tensor) -> Detections:
        """Logits of the last frames of windows [N, W, C], of which the last `window` frames are read."""
        tokens, is_there = self.embed(x[:, -self.config.window :]), is_there[:, -self.config.window :]
        old, work = tokens[:, : -self.work], tokens[:, -self.work :]
        old_there, work_there = is_there[:, : -self.work], is_there[:, -self.work :]
        queries = self.queries.expand(len(x), -1, -1)
        old = old + self.position[len(self.position) - old.shape[1] :]
        memory = self.first(queries, old, to_context=tokens_there(old_there, queries.shape[1]))
        told: Detections = self.work_memory(work, work_there, memory)
        return told
