"""TeSTra: queries that never change ask the whole past of a stream, whose weights fall with each frame.

Zhao and Krähenbühl 2022 (https://arxiv.org/abs/2209.09236): because the queries of LSTR's first stage are learned, not
made of frames, their attention can go on from frame to frame (`rlkit/ops/exponential_attention.py`). A frame of any age
counts, by α to the power of its age, and a step costs the same however long the stream is. The tokens that these
queries gather are asked by those of a second stage, and these by the work memory, the last frames of the stream,
which is read anew for each frame (`rlkit/perception/detection/work_memory.py`). As in the authors' configurations, the
past holds the work memory's frames too, and its tokens have no positions.

Deviations: the state is safe against logits that drift, where theirs overflows; the loss is that of the last frame, not
of all in the work memory, and what comes next is told by a linear layer from the last frame's token, where the paper
adds tokens to the work memory; positions are learned; the past is sampled at every frame (theirs: every fourth);
layers are normalised before each part.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from rlkit.attention.layers import head_size_of
from rlkit.nn.cores import initialise_transformer
from rlkit.ops.exponential_attention import ExponentialMemory, exponential_attention, exponential_step
from rlkit.perception.detection.detector import Detections, DetectionTask, Detector, Memory, WindowBatch
from rlkit.perception.detection.heads import Embedding
from rlkit.perception.detection.windowed import WINDOWS_AT_ONCE, ending_windows
from rlkit.perception.detection.work_memory import WorkMemory, WorkMemoryConfig
from rlkit.types import Metrics


class TeSTraConfig(WorkMemoryConfig):
    """Options of TeSTra."""

    decay: float = Field(0.97, gt=0, le=1)
    """α, what is left of a frame's weight one frame later (the authors' configuration for THUMOS14)"""


class PastAttention(nn.Module):
    """Learned queries that ask all frames so far, then a perceptron.

    Args:
        width: Of the tokens.
        heads: Of the attention.
        queries: M.
        generator: Source of the first queries.
    """

    def __init__(self, width: int, heads: int, queries: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads, self.head_size = heads, head_size_of(width, heads, heads)
        self.queries = nn.Parameter(torch.empty(queries, width))
        nn.init.normal_(self.queries, std=width**-0.5, generator=generator)
        self.query_norm, self.token_norm, self.perceptron_norm = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.merge = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def logits_and_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Of tokens [..., width] for every query and head: [..., heads, M], [..., heads, D]."""
        k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.key_value(self.token_norm(tokens)).chunk(2, -1))
        q = self.query(self.query_norm(self.queries)).unflatten(-1, (self.heads, -1))  # [M, heads, D]
        return torch.einsum("...hd,mhd->...hm", k, q) * self.head_size**-0.5, v

    def gathered(self, output: Tensor) -> Tensor:
        """Tokens [..., M, width] of what the heads found, [..., heads, M, D]."""
        x = self.queries + self.merge(output.transpose(-3, -2).flatten(-2))
        told: Tensor = x + self.narrow(functional.gelu(self.widen(self.perceptron_norm(x))))
        return told


class TeSTra(Detector):
    """A memory of the whole past for each learned query, and a work memory."""

    Config = TeSTraConfig

    def __init__(self, config: TeSTraConfig, task: DetectionTask) -> None:
        super().__init__(config, task)
        self.work, self.log_decay = config.work_frames, math.log(config.decay)
        self.embed = Embedding(task.feature_size, config.width, config.dropout, self.generator)
        self.past = PastAttention(config.width, config.heads, config.queries, self.generator)
        self.work_memory = WorkMemory(config, self.classes, self.generator)
        first = self.embed[0]
        assert isinstance(first, nn.Linear)
        initialise_transformer(self, config.layers, (first,), self.generator)

    def empty(self, streams: int) -> Memory:
        """No frames in the work memory (tokens, and which are there), nothing of the past."""
        queries = self.past.queries.detach()
        tokens = queries.new_zeros(streams, self.work, queries.shape[1])
        past = ExponentialMemory.empty(streams, self.past.heads, len(queries), size=self.past.head_size, like=queries)
        return tokens, torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device), *past

    def loss(self, batch: WindowBatch) -> tuple[Tensor, Metrics]:
        """Of the last frame of each window, for which alone the work memory is read, or of all."""
        if self.config.loss_on == "all":
            return super().loss(batch)
        last = self._told(self.standardized(batch.features), batch.is_first, 1)
        return self.loss_of(self._without_ambiguous(last), batch)

    def _step(self, x: Tensor, memory: Memory) -> tuple[Detections, Memory]:
        tokens, is_there, *rest = memory
        token = self.embed(x)
        past = exponential_step(*self.past.logits_and_values(token), ExponentialMemory(*rest), self.log_decay)
        tokens = torch.cat((tokens[:, 1:], token[:, None]), 1)
        is_there = torch.cat((is_there[:, 1:], torch.ones_like(is_there[:, :1])), 1)
        return self.work_memory(tokens, is_there, self.past.gathered(past.output)), (tokens, is_there, *past)

    def _unroll(self, x: Tensor, is_first: Tensor) -> Detections:
        return self._told(x, is_first, x.shape[1])

    def _told(self, x: Tensor, is_first: Tensor, kept: int) -> Detections:
        """Logits of the last `kept` frames [B, kept, K] and [B, kept, H, K]."""
        tokens = self.embed(x)
        past = exponential_attention(*self.past.logits_and_values(tokens), is_first, self.log_decay)
        memory = past[:, -kept:].flatten(0, 1)
        row, index, is_there = (
            each.view(*is_first.shape, -1)[:, -kept:].flatten(0, 1) for each in ending_windows(is_first, self.work)
        )
        parts = []
        for start in range(0, len(row), WINDOWS_AT_ONCE):
            chosen = slice(start, start + WINDOWS_AT_ONCE)
            seen = tokens[row[chosen], index[chosen]]
            parts.append(self.work_memory(seen, is_there[chosen], self.past.gathered(memory[chosen])))
        now, future = (torch.cat(logits) for logits in zip(*parts, strict=True))
        return Detections(*(logits.view(len(x), kept, *logits.shape[1:]) for logits in (now, future)))
