"""IDN, the information discrimination network: what is kept of the past depends on what the present frame shows.

Eun et al. 2020 (https://arxiv.org/abs/1912.04461), section 3. A window ends with the frame x_0 that is told of; before
it are x_-T … x_-1. Each is embedded early, xᵉ = ReLU(W x), and a gated recurrent unit runs over them whose gates see
x_0 too:

    r = σ(W_hr h + W_0r x_0ᵉ)    z = σ(W_xz xᵉ + W_0z x_0ᵉ)    h̃ = tanh(W_xh xᵉ + r ⊙ W_hh h)    h ← (1 - z) h̃ + z h

Two more losses, weighted by α, make the early embeddings tell: the cross-entropies of classes told from x_tᵉ and x_0ᵉ,
and of pairs (x_tᵉ, x_0ᵉ) the contrastive loss with a margin, which draws together what has the same classes.

Because all gates depend on x_0, no state can be carried on: the unit runs over the whole window for each frame.

Deviations
- The pairs of a frame with itself, whose loss is zero, do not count; nor do ambiguous frames. A pair is alike if all
  its classes are. How the authors averaged is not published; here each loss is a mean, over frames or over pairs.
- What comes next is told by a second linear layer (theirs tells the present only). Before the layers that tell stands
  one with ReLU, as in the published test code (https://github.com/hjeun/idu), with dropout after it alone.
- Widths and Adam are those of all detectors here; the window of 16 is theirs.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from rlkit.ops.contrastive import margin_pair_loss
from rlkit.perception.detection.detector import Detections, DetectionTask, DetectorConfig, WindowBatch
from rlkit.perception.detection.heads import ClassHead, drawn_linear
from rlkit.perception.detection.windowed import WindowedDetector
from rlkit.types import Metrics


class IDNConfig(DetectorConfig):
    """Options of IDN, whose defaults are Eun et al. 2020's where a field says so."""

    window: int = Field(16, ge=1)
    """frames that are read for each (theirs)"""
    early_weight: float = Field(0.3, ge=0)
    """α, weight of the two losses of the early embedding (theirs)"""
    margin: float = Field(1.0, gt=0)
    """distance beyond which embeddings of different classes need not be driven"""


class DiscriminationUnit(nn.Module):
    """A gated recurrent unit whose gates see the last frame of the window.

    Args:
        width: Of the embedded frames, and of the state.
        generator: Source of the first weights.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.of_frame = drawn_linear(width, 2 * width, generator)  # W_xz, W_xh
        self.of_current = drawn_linear(width, 2 * width, generator)  # W_0r, W_0z
        self.of_state = drawn_linear(width, 2 * width, generator)  # W_hr, W_hh

    def forward(self, early: Tensor, is_there: Tensor) -> Tensor:
        """States [N, W, width] after each frame of embedded windows [N, W, width]: zero before the first that is."""
        update, new = self.of_frame(early).chunk(2, -1)
        reset_current, update_current = self.of_current(early[:, -1]).chunk(2, -1)
        z = torch.sigmoid(update + update_current[:, None])
        h, states = torch.zeros_like(early[:, 0]), []
        for frame in range(early.shape[1]):
            reset, kept = self.of_state(h).chunk(2, -1)
            candidate = torch.tanh(new[:, frame] + torch.sigmoid(reset + reset_current) * kept)
            h = torch.where(is_there[:, frame, None], torch.lerp(candidate, h, z[:, frame]), 0.0)
            states.append(h)
        return torch.stack(states, 1)


class IDNDetector(WindowedDetector):
    """Frames of a window weighed by how much they have to do with its last."""

    Config = IDNConfig
    config: IDNConfig

    def __init__(self, config: IDNConfig, task: DetectionTask) -> None:
        super().__init__(config, task)
        width = config.width
        self.early = drawn_linear(task.feature_size, width, self.generator)
        self.tell_early = drawn_linear(width, self.classes, self.generator)
        self.unit = DiscriminationUnit(width, self.generator)
        self.hidden = nn.Sequential(drawn_linear(width, width, self.generator), nn.ReLU(), nn.Dropout(config.dropout))
        self.head = ClassHead(width, self.classes, self.horizon, self.generator)

    def read(self, x: Tensor, is_there: Tensor) -> Detections:
        """Logits of the last frames, of the state after them."""
        states: Tensor = self.unit(self.embedded(x), is_there)
        detections: Detections = self.head(self.hidden(states[:, -1]))
        return detections

    def embedded(self, x: Tensor) -> Tensor:
        """Early embeddings [..., width] of standardised features [..., C]."""
        return torch.relu(self.early(x))

    def loss(self, batch: WindowBatch) -> tuple[Tensor, Metrics]:
        """Of what is told, and of the early embeddings of the windows in the batch."""
        told, metrics = super().loss(batch)
        length = batch.features.shape[1]
        labels, weight = (of_frames[:, :length] for of_frames in self._counted(batch))
        early = self.embedded(self.standardized(batch.features))
        classes = self._class_loss(early, labels, weight)
        pairs = self._pair_loss(early, labels, weight > 0)
        more = {"train/loss_early": classes.detach().item(), "train/loss_pairs": pairs.detach().item()}
        return told + self.config.early_weight * (classes + pairs), {**metrics, **more}

    def _class_loss(self, early: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """Cross-entropy of all frames' classes, and of the last one's once more."""
        logits = self.tell_early(early)
        logits = self._without_ambiguous(Detections(logits, logits)).now
        of_all = self.cross_entropy(logits, labels, weight)
        return of_all + self.cross_entropy(logits[:, -1], labels[:, -1], weight[:, -1])

    def _pair_loss(self, early: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        """Contrastive loss of each frame beside the last of its window; zero where there are no two that count."""
        is_pair = counts[:, :-1] & counts[:, -1:]
        if not is_pair.any():
            return early.new_zeros(())
        current, similar = early[:, -1:].expand_as(early[:, :-1]), (labels[:, :-1] == labels[:, -1:]).all(-1)
        return margin_pair_loss(early[:, :-1][is_pair], current[is_pair], similar[is_pair], self.config.margin)
