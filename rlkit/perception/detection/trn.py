"""TRN, the temporal recurrent network: what is told of the frames to come helps to tell what the present one shows.

Xu et al. 2019 (https://arxiv.org/abs/1811.07391), section 3: beside a frame's features f_t the encoder, a long
short-term memory, is given x̃_t-1, the mean of ReLU(W h̃_i) over the states that a decoder went through when it told
the H frames after t - 1. The decoder, another one, starts from the encoder's state and is fed what it told last. Both
tell classes by the same layer, and the loss is the sum of their cross-entropies over all frames of a window.

Deviations
- Layers of 128 and Adam as of all detectors here; 4,096 (THUMOS14) with step size 5e-4 and weight decay 5e-4 there.
- Features are normalised after their layer, as of all detectors here, and dropout is of them alone.
- The decoder's first step tells frame t + 1, as in the paper. The published code's targets begin at frame t
  (https://github.com/xumingze0308/TRN.pytorch, lib/datasets/thumos_data_layer.py).
- In use the state goes on from the first frame of a stream; windows that are learned from begin with state zero.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit.perception.detection.detector import Detections, DetectionTask, Detector, DetectorConfig, Memory
from rlkit.perception.detection.heads import Embedding, drawn_linear


class TRNConfig(DetectorConfig):
    """Options of TRN, whose defaults are Xu et al. 2019's where a field says so."""

    window: int = Field(64, ge=1)
    """frames in a window that is learned from (theirs on THUMOS14)"""
    horizon: int = Field(8, ge=1)
    """frames whose classes are told before they come, on which the present's depend (theirs on THUMOS14)"""
    loss_on: Literal["last", "all"] = "all"
    """frames of a window whose classes are learned (theirs: all)"""
    future_weight: float = Field(1.0, ge=0)
    """weight of the decoder's loss (theirs)"""


class TRNDetector(Detector):
    """An encoder that is told what a decoder expects.

    What is remembered: the encoder's hidden and cell state, and x̃, [B, width] each.
    """

    Config = TRNConfig

    def __init__(self, config: TRNConfig, task: DetectionTask) -> None:
        super().__init__(config, task)
        width = config.width
        self.embed = Embedding(task.feature_size, width, config.dropout, self.generator)
        self.encoder = drawn_cell(2 * width, width, self.generator)
        self.decoder = drawn_cell(width, width, self.generator)
        self.first_hidden = drawn_linear(width, width, self.generator)
        self.first_cell = drawn_linear(width, width, self.generator)
        self.classify = drawn_linear(width, self.classes, self.generator)
        self.feed = drawn_linear(self.classes, width, self.generator)
        self.gather = drawn_linear(width, width, self.generator)

    def empty(self, streams: int) -> Memory:
        """States zero, and nothing expected."""
        return tuple(self.mean.new_zeros(streams, self.config.width) for _ in range(3))

    def _step(self, x: Tensor, memory: Memory) -> tuple[Detections, Memory]:
        return self._advance(self.embed(x), memory)

    def _unroll(self, x: Tensor, is_first: Tensor) -> Detections:
        features, memory, found = self.embed(x), self.empty(len(x)), []
        for frame in range(x.shape[1]):
            memory = self.reset(memory, is_first[:, frame])
            detections, memory = self._advance(features[:, frame], memory)
            found.append(detections)
        now, future = zip(*found, strict=True)
        return Detections(torch.stack(now, 1), torch.stack(future, 1))

    def _advance(self, features: Tensor, memory: Memory) -> tuple[Detections, Memory]:
        """One frame's logits of embedded features [B, width], and what is remembered."""
        hidden, cell, expected = memory
        hidden, cell = self.encoder(torch.cat((features, expected), 1), (hidden, cell))
        future, expected = self._look_ahead(hidden, cell)
        return Detections(self.classify(hidden), future), (hidden, cell, expected)

    def _look_ahead(self, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, H, K] of the frames that follow, and x̃ [B, width]."""
        hidden, cell = torch.relu(self.first_hidden(hidden)), torch.relu(self.first_cell(cell))
        given = torch.zeros_like(hidden)
        states, told = [], []
        for _ in range(self.horizon):
            hidden, cell = self.decoder(given, (hidden, cell))
            states.append(hidden)
            told.append(self.classify(hidden))
            given = torch.relu(self.feed(told[-1]))
        expected = torch.relu(self.gather(torch.stack(states, 1))).mean(1)
        return torch.stack(told, 1), expected


def drawn_cell(inputs: int, width: int, generator: torch.Generator) -> nn.LSTMCell:
    """A cell with orthogonal weights and biases zero, as of `RecurrentCore`."""
    cell = nn.LSTMCell(inputs, width)
    for parameter in cell.parameters():
        if parameter.dim() == 2:
            nn.init.orthogonal_(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)
    return cell
