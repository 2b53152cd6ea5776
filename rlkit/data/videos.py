"""Frames of a video file as observations of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlkit.errors import DatasetError, MissingExtraError, UsageError
from rlkit.types import Array

_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as PIL and ALE have it


def video_frames(path: Path, space: gym.Space[Any]) -> Array:
    """All frames of a video, uint8 [L, *shape] of a space of pictures: scaled to its size, grey where it is.

    Raises:
        UsageError: there is no such file, or observations are no single pictures [H, W], [H, W, 1] or [H, W, 3].
        DatasetError: it holds no frames that can be read.
        MissingExtraError: imageio is not installed.
    """
    shape = space.shape or ()
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise UsageError(f"a video's frames cannot become observations in {space}: [H, W], [H, W, 1] or [H, W, 3] can")
    if not path.is_file():
        raise UsageError(f"there is no video {path}")
    try:
        import imageio.v3 as imageio
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("video", "reading a video") from error
    try:
        pictures = [
            np.asarray(Image.fromarray(frame).convert("RGB").resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
            for frame in imageio.imiter(path)
        ]
    except (OSError, ValueError, RuntimeError) as error:
        raise DatasetError(f"{path} cannot be read as a video: {error}") from error
    if not pictures:
        raise DatasetError(f"{path} holds no frames")
    frames = np.stack(pictures)
    if len(shape) == 3 and shape[2] == 3:
        return frames
    grey: Array = (frames @ _GREY).round().astype(np.uint8).reshape(len(frames), *shape)
    return grey
