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
        row, index, is_there = ending_windows(is_first, self.config.window)
        parts = []
        for start in range(0, len(row), WINDOWS_AT_ONCE):
            chosen = slice(start, start + WINDOWS_AT_ONCE)
            parts.append(self.read(x[row[chosen], index[chosen]], is_there[chosen]))
        now, future = (torch.cat(logits) for logits in zip(*parts, strict=True))
        return Detections(*(logits.view(*is_first.shape, *logits.shape[1:]) for logits in (now, future)))


def ending_windows(is_first: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each frame of sequences [B, T] that begin at each first frame, the window that ends with it.

    Returns:
        Rows [B * T, 1] and frames [B * T, width] of the windows, and whether these are there, bool [B * T, width]:
        frames of another stream or before the first are not.
    """
    rows, length = is_first.shape
    frame = torch.arange(length, device=is_first.device)
    begin = torch.where(is_first, frame, 0).cummax(1).values  # of each frame's stream, [B, T]
    seen = frame[:, None] + torch.arange(1 - width, 1, device=is_first.device)  # [T, W]
    is_there = (seen >= begin[:, :, None]).flatten(0, 1)
    row = torch.arange(rows, device=is_first.device).repeat_interleave(length)[:, None]
    return row, seen.clamp(min=0).repeat(rows, 1), is_there
