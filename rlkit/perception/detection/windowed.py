"""Detectors that read the last frames anew for each frame, because nothing of one reading serves the next."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from rlkit.perception.detection.detector import Detections, Detector, Memory, WindowBatch
from rlkit.types import Metrics

WINDOWS_AT_ONCE = 256
"""Windows that are read together, so that a long stream fits into memory."""


class WindowedDetector(Detector):
    """Tells of a frame what a window that ends with it shows. Streams that have just begun have shorter windows."""

    @abstractmethod
    def read(self, x: Tensor, is_there: Tensor) -> Detections:
        """Logits [N, K] and [N, H, K] of the last frames of windows [N, W, C], the first of which may be missing.

        `is_there` is bool [N, W]; what is missing must not matter.
        """

    def empty(self, streams: int) -> Memory:
        """Windows [B, W, C] of nothing, and which of their frames are there, bool [B, W]."""
        window = self.mean.new_zeros(streams, self.config.window, self.task.feature_size)
        return window, torch.zeros(window.shape[:2], dtype=torch.bool, device=window.device)

    def loss(self, batch: WindowBatch) -> tuple[Tensor, Metrics]:
        """Of the last frames, whose windows the batch holds, each read once; or of all, as any detector's."""
        if self.config.loss_on == "all":
            return super().loss(batch)
        is_there = batch.is_there[:, : batch.features.shape[1]]
        last = self._without_ambiguous(self.read(self.standardized(batch.features), is_there))
        return self.loss_of(Detections(*(logits[:, None] for logits in last)), batch)

    def _step(self, x: Tensor, memory: Memory) -> tuple[Detections, Memory]:
        window, is_there = memory
        window = torch.cat((window[:, 1:], x[:, None]), 1)
        is_there = torch.cat((is_there[:, 1:], torch.ones_like(is_there[:, :1])), 1)
        return self.read(window, is_there), (window, is_there)

    def _unroll(self, x: Tensor, is_first: Tensor) -> Detections:
        rows, length, _ = x.shape
        frame = torch.arange(length, device=x.device)
        begin = torch.where(is_first, frame, 0).cummax(1).values  # of each frame's stream, [B, T]
        seen = frame[:, None] + torch.arange(1 - self.config.window, 1, device=x.device)  # [T, W]
        is_there = seen >= begin[:, :, None]  # [B, T, W]
        row = torch.arange(rows, device=x.device).repeat_interleave(length)[:, None]
        index, is_there = seen.clamp(min=0).repeat(rows, 1), is_there.flatten(0, 1)  # [B * T, W]
        parts = []
        for start in range(0, rows * length, WINDOWS_AT_ONCE):
            chosen = slice(start, start + WINDOWS_AT_ONCE)
            parts.append(self.read(x[row[chosen], index[chosen]], is_there[chosen]))
        now, future = (torch.cat(logits) for logits in zip(*parts, strict=True))
        return Detections(now.view(rows, length, -1), future.view(rows, length, *future.shape[1:]))
