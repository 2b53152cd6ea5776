"""Small streams and detectors for the tests."""

from __future__ import annotations

import numpy as np
import torch

from rlkit import registry
from rlkit.data.streams import LabelledStream, StreamSet, WindowSampler
from rlkit.perception.detection.detector import DetectionTask, Detector, DetectorConfig

FEATURES, CLASSES = 6, ("background", "jump", "run")


def small_task(**changes: object) -> DetectionTask:
    return DetectionTask(FEATURES, CLASSES, **{"updates": 100, "seed": 3, **changes})  # type: ignore[arg-type]


def small_config(name: str, **changes: object) -> DetectorConfig:
    config = registry.detector_class(name).Config
    return config(**{"width": 16, "window": 8, "horizon": 2, "dropout": 0.0, "batch_size": 8, **changes})


def small_detector(name: str, **changes: object) -> Detector:
    """In evaluation mode, with weights that make its outputs differ between frames."""
    return registry.detector_class(name)(small_config(name, **changes), small_task()).eval()


def sequences(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, length, FEATURES, generator=torch.Generator().manual_seed(seed))


def delayed_streams(count: int = 6, length: int = 60, seed: int = 0) -> StreamSet:
    """What a frame shows is told by the feature two frames earlier, so that a detector needs memory."""
    rng = np.random.default_rng(seed)
    streams = []
    for number in range(count):
        features = rng.normal(size=(length, FEATURES)).astype(np.float32)
        cue = np.concatenate([np.zeros(2), features[:-2, 0]])
        shown = np.where(cue > 0.6, 1, np.where(cue < -0.6, 2, 0))
        streams.append(LabelledStream(f"stream {number}", features, np.eye(3, dtype=np.uint8)[shown]))
    return StreamSet(CLASSES, tuple(streams))


def window_sampler(streams: StreamSet, config: DetectorConfig, seed: int = 0) -> WindowSampler:
    return WindowSampler(streams, config.window, config.horizon, config.batch_size, seed)
