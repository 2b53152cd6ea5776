"""OadTR: a transformer reads the last frames anew for each frame (Wang et al. 2021, https://arxiv.org/abs/2106.11149).

A window's frames become tokens, a learned task token stands last, positions are learned; encoder layers let all see
all. Learned queries, one for each frame to come and zero at the start, ask the encoder's tokens in a decoder. What a
frame shows is told from the task token beside the mean of the decoder's tokens, what comes next from each of these.
The loss is that of the frame and half of that of the frames to come.

Deviations: frames at the beginning of a stream, whose window is not full, are told from a shorter one (the paper never
scores them), with positions that count from the window's end; the decoder's layers are normalised before each part, as
the encoder's are, not after; dropout is on the first tokens and the decoder's last ones, not on the weights of
attention; the defaults are smaller (the paper: width 1024, 8 and 4 heads). Of the authors' code, not of the paper: a
query sees the queries of earlier frames alone; weights begin as PyTorch's own do, and positions with deviation 1, which
stands out beside the frames.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit.attention.layers import Block
from rlkit.attention.mask import AttentionMask
from rlkit.nn.flat import initialise_uniform
from rlkit.perception.detection.decoder import Decoder, tokens_there
from rlkit.perception.detection.detector import Detections, DetectionTask, DetectorConfig
from rlkit.perception.detection.windowed import WindowedDetector


class OadTRConfig(DetectorConfig):
    """Options of OadTR."""

    layers: int = Field(3, ge=1)
    """of the encoder (Wang et al. 2021)"""
    decoder_layers: int = Field(5, ge=1)
    """of the decoder of what comes next (Wang et al. 2021); none is there where the horizon is 0"""
    heads: int = Field(4, ge=1)
    """of every attention"""
    expansion: int = Field(1, ge=1)
    """hidden features of a layer's perceptron for each of its width (the authors' code: as many)"""
    learning_rate: float = Field(1e-4, gt=0)
    """step size of Adam (Wang et al. 2021)"""


class OadTR(WindowedDetector):
    """An encoder with a task token, and a decoder of what comes next."""

    Config = OadTRConfig

    def __init__(self, config: OadTRConfig, task: DetectionTask) -> None:
        super().__init__(config, task)
        width, generator = config.width, self.generator
        self.embed = nn.Linear(task.feature_size, width)
        self.task_token = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.zeros(config.window + 1, width))
        self.blocks = nn.ModuleList(
            Block(width, config.heads, expansion=config.expansion) for _ in range(config.layers)
        )
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(config.dropout)
        self.now = nn.Linear(2 * width if self.horizon else width, self.classes)
        if self.horizon:
            self.queries = nn.Parameter(torch.zeros(self.horizon, width))
            self.decoder = Decoder(width, layers=config.decoder_layers, heads=config.heads, expansion=config.expansion)
            self.future = nn.Linear(width, self.classes)
        initialise_uniform(self, generator)
        nn.init.normal_(self.position, generator=generator)

    def read(self, x: Tensor, is_there: Tensor) -> Detections:
        """Logits of the last frames of windows [N, W, C], of which the last `window` frames are read."""
        kept = min(x.shape[1], self.config.window)
        x, is_there = x[:, -kept:], is_there[:, -kept:]
        tokens = torch.cat((self.embed(x), self.task_token.expand(len(x), 1, -1)), 1)
        tokens = self.dropout(tokens + self.position[-kept - 1 :])
        mask = tokens_there(is_there, kept + 1)
        for block in self.blocks:
            tokens = block(tokens, mask)
        tokens = self.norm(tokens)
        if not self.horizon:
            return Detections(self.now(tokens[:, -1]), x.new_zeros(len(x), 0, self.classes))
        queries = self.queries.expand(len(x), -1, -1)
        asked = self.decoder(queries, tokens, AttentionMask(causal=True), tokens_there(is_there, self.horizon))
        asked = self.dropout(asked)
        together = torch.cat((tokens[:, -1], asked.mean(1)), -1)
        return Detections(self.now(together), self.future(asked))
