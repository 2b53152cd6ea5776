"""Observations as networks take them: pictures as they are, anything else as one float32 vector."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlkit.data.flatten import ObservationFlattener
from rlkit.data.tree import Path
from rlkit.errors import UnsupportedTaskError
from rlkit.nn.attention_encoder import Part
from rlkit.nn.encoders import SMALLEST_NATURE, ImageEncoder, image_shape, is_image
from rlkit.types import Array, Obs

EncoderName: TypeAlias = Literal["auto", "mlp", "nature", "impala", "attention"]
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


def token_parts(space: gymnasium.Space[Any]) -> tuple[Part, ...]:
    """What the columns of flat observations mean to an encoder that attends to them.

    A Box [n, F] is n entities, a picture is one part, anything else is one token. A MultiBinary [n] beside entities
    called `mask`, or as they are with `_mask` behind, tells which of them are there.

    Raises:
        UnsupportedTaskError: there is but one token, so that nothing can be attended to.
    """
    columns = ObservationFlattener(without_mask(space)).columns
    starts = {path: start for path, child, start, _ in columns if isinstance(child, spaces.MultiBinary)}
    sizes = {path: child.shape or () for path, child, _, _ in columns}
    masks: dict[Path, int] = {}  # first column, by the entities that it is about
    for path, child, _, _ in columns:
        if path and _is_set(child):
            beside = [(*path[:-1], name) for name in (f"{path[-1]}_mask", "mask")]
            fitting = [place for place in beside if place in starts and sizes[place] == sizes[path][:1]]
            if fitting and starts[fitting[0]] not in masks.values():
                masks[path] = starts[fitting[0]]
    parts = [_part(child, start, stop, masks.get(path)) for path, child, start, stop in columns]
    parts = [part for part in parts if part.start not in masks.values()]
    if len(parts) == 1 and parts[0].count == 1 and parts[0].picture is None:
        raise UnsupportedTaskError(
            "the encoder attention needs several parts (a Dict or Tuple, entities [n, F], a picture), the observations "
            f"are {space}; use --agent.encoder mlp, or --agent.core transformer to attend to what was seen before"
        )
    return tuple(parts)


def _is_set(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 2 and not is_image(space)


def _part(space: gymnasium.Space[Any], start: int, stop: int, mask_start: int | None) -> Part:
    shape = space.shape or ()
    if is_image(space):
        return Part(start, 1, stop - start, picture=shape)
    if _is_set(space):
        return Part(start, shape[0], shape[1], mask_start)
    return Part(start, 1, stop - start)


def without_mask(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """The space without the action mask of a Dict observation."""
    if isinstance(space, spaces.Dict) and ACTION_MASK in space.spaces:
        return spaces.Dict({key: child for key, child in space.spaces.items() if key != ACTION_MASK})
    return space


def _image_encoder(space: gymnasium.Space[Any], encoder: EncoderName) -> ImageEncoder | None:
    if encoder == "mlp" or encoder == "attention":  # which both take vectors
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
