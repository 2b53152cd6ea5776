"""OadTR without reading anything twice: keys and values of the last frames stay where they are.

OadTR (Wang et al. 2021, https://arxiv.org/abs/2106.11149) encodes its whole window for each frame. Here a frame's token
sees the last `band` frames of its stream, itself among them, in every layer, and positions are rotary, so that nothing
computed for a frame changes later: a new frame costs one token. A step is the sequence under the same band exactly;
it is not OadTR of a window cut out of the stream, because deep layers have seen through their keys up to
layers · (band - 1) earlier frames. On a CPU a step of a few streams runs in compiled code where nothing is learned
(`rlkit/nn/compiled_transformer.py`). Hedegaard et al. 2023 (https://arxiv.org/abs/2201.06268) stream a transformer's
layers so too, with one or two of them and another way to add up.

Deviations from OadTR: the encoder is causal; the frame's own token takes the task token's place, and a linear layer the
decoder's (five layers of it would cost more than all the rest); every frame of a window that has enough before it is
learned, not the last alone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from rlkit.nn.compiled_transformer import CompiledSteps
from rlkit.nn.cores import TransformerCore
from rlkit.perception.detection.detector import (
    Detections,
    DetectionTask,
    Detector,
    DetectorConfig,
    Memory,
    WindowBatch,
)
from rlkit.perception.detection.heads import ClassHead
from rlkit.types import Metrics


class StreamingOadTRConfig(DetectorConfig):
    """Options of streaming OadTR."""

    layers: int = Field(3, ge=1)
    """blocks (Wang et al. 2021)"""
    heads: int = Field(4, ge=1)
    """of every attention"""
    band: int | None = Field(None, ge=1)
    """frames that a layer sees, the running one among them; null: as many as a window has"""
    loss_on: Literal["last", "all"] = "all"
    """frames of a window whose classes are learned: all after `burn_in`, or the last"""
    burn_in: int | None = Field(None, ge=0)
    """first frames of a window, whose classes are not learned because little is before them; null: half of it"""

    @model_validator(mode="after")
    def _some_frames_are_learned(self) -> StreamingOadTRConfig:
        if self.burn_in is not None and self.burn_in >= self.window:
            raise ValueError(
                f"burn_in is {self.burn_in} and the window has {self.window} frames, so that none would be learned: "
                "choose a smaller burn_in"
            )
        return self


class StreamingOadTR(Detector):
    """A causal transformer with a ring of keys and values.

    A step changes what is remembered in place, as `KVCache` does: of two steps from the same memory, only the last
    counts.
    """

    Config = StreamingOadTRConfig

    def __init__(self, config: StreamingOadTRConfig, task: DetectionTask) -> None:
        super().__init__(config, task)
        self.burn_in = config.window // 2 if config.burn_in is None else config.burn_in
        self.core = TransformerCore(
            task.feature_size, config.width, layers=config.layers, heads=config.heads,
            context=config.band or config.window, generator=self.generator,
        )  # fmt: skip
        self.compiled = CompiledSteps(self.core)
        self.dropout = nn.Dropout(config.dropout)
        self.head = ClassHead(config.width, self.classes, self.horizon, self.generator)

    def empty(self, streams: int) -> Memory:
        """No keys."""
        return self.core.empty(streams)

    def reset(self, memory: Memory, ended: Tensor) -> Memory:
        """Positions count from 0 again; what is older is not seen any more."""
        return self.core.reset(memory, ended)

    def loss(self, batch: WindowBatch) -> tuple[Tensor, Metrics]:
        """Of the frames after the first `burn_in` of each window, or of the last."""
        if self.config.loss_on == "last":
            return super().loss(batch)
        detections = self(batch.features, batch.is_first)
        return self.loss_of(Detections(*(logits[:, self.burn_in :] for logits in detections)), batch)

    def _step(self, x: Tensor, memory: Memory) -> tuple[Detections, Memory]:
        y, memory = (self.compiled if self.compiled.fits(x, memory) else self.core).step(x, memory)
        return self.head(self.dropout(y)), memory

    def _unroll(self, x: Tensor, is_first: Tensor) -> Detections:
        detections: Detections = self.head(self.dropout(self.core.unroll(x, is_first)))
        return detections
