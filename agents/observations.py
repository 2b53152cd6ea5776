"""Observations as networks take them: pictures as they are, anything else as one float32 vector."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlkit.data.flatten import ObservationFlattener
from rlkit.errors import UnsupportedTaskError
from rlkit.nn.encoders import SMALLEST_NATURE, ImageEncoder, image_shape, is_image
from rlkit.types import Array, Obs

EncoderName: TypeAlias = Literal["auto", "mlp", "nature", "impala"]
ACTION_MASK = "action_mask"
"""Key of a Dict observation that holds no feature but the actions allowed."""


class ObservationTensors:
    """Prepares batches of observations for an encoder.

    Attributes:
        image: the convolutional encoder to use; None for vectors.
        shape: shape of one prepared observation.

    Raises:
        UnsupportedTaskError: pictures are needed and these are none, or a leaf cannot be flattened.
    """

    def __init__(self, space: gymnasium.Space[Any], encoder: EncoderName, device: torch.device) -> None:
        self.image = _image_encoder(space, encoder)
        self._device = device
        if self.image is not None:
            assert space.shape is not None
            self.shape: tuple[int, ...] = space.shape
        else:
            self._flatten = ObservationFlattener(without_mask(space))
            self.shape = (self._flatten.size,)

    def array(self, obs: Obs) -> Array:
        """Prepared observations, uint8 [N, *shape] for pictures, else float32 [N, size]."""
        return self._flatten(obs) if self.image is None else np.asarray(obs)

    def tensor(self, obs: Obs) -> Tensor:
        """The same on the device."""
        return torch.from_numpy(self.array(obs)).to(self._device)


def without_mask(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """The space without the action mask of a Dict observation."""
    if isinstance(space, spaces.Dict) and ACTION_MASK in space.spaces:
        return spaces.Dict({key: child for key, child in space.spaces.items() if key != ACTION_MASK})
    return space


def _image_encoder(space: gymnasium.Space[Any], encoder: EncoderName) -> ImageEncoder | None:
    if encoder == "mlp":
        return None
    if not is_image(space):
        if encoder == "auto":
            return None
        raise UnsupportedTaskError(
            f"the encoder {encoder} takes uint8 pictures [H, W], [C, H, W] or [H, W, C], the observations are {space}; "
            "use --agent.encoder mlp, or a wrapper that gives pictures"
        )
    if encoder == "auto":
        assert space.shape is not None
        return "nature" if min(image_shape(space.shape)[1:]) >= SMALLEST_NATURE else "impala"
    return encoder
