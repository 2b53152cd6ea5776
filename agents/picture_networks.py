"""Which agents' networks begin with convolutions, and which ones."""

from __future__ import annotations

import torch

from rlkit.agents.observations import EncoderName, ObservationTensors
from rlkit.errors import UnsupportedTaskError, UsageError
from rlkit.nn.backbones import Backbone, build_backbone, own_copy
from rlkit.nn.encoders import is_image
from rlkit.types import Task


def learned_backbone(task: Task, prepare: ObservationTensors, weights: torch.Generator) -> Backbone | None:
    """The encoder that networks begin with where it is given, or learns by an objective besides; else None.

    Raises:
        UnsupportedTaskError: there is an objective and no picture.
    """
    if isinstance(task.encoder, Backbone) or task.auxiliary is None:
        return task.encoder if isinstance(task.encoder, Backbone) else None
    if prepare.image is None:
        raise UnsupportedTaskError(_no_picture(task))
    return build_backbone(prepare.image, prepare.shape, weights)


def _no_picture(task: Task) -> str:
    return (
        f"--aux is for encoders of pictures, the observations are {task.observation_space}; leave it out, or give "
        "pictures, such as by --wrap add-render-observation"
    )


def network_observations(encoder: EncoderName, task: Task) -> ObservationTensors:
    """Observations as networks with this encoder take them: pictures where they begin with convolutions, else vectors.

    Raises:
        UsageError: an encoder of pictures is to learn on or by an objective, and the options name another.
        UnsupportedTaskError: pictures are needed and these are none.
    """
    if task.auxiliary is not None and not is_image(task.observation_space):
        raise UnsupportedTaskError(_no_picture(task))
    is_named = task.encoder is not None or task.auxiliary is not None
    if is_named and encoder in ("mlp", "attention"):
        raise UsageError(
            f"--encoder and --aux are for the pictures that a network begins with: leave out --agent.encoder {encoder}"
        )
    return ObservationTensors(task.observation_space, encoder, torch.device(task.device))


def policy_backbone(task: Task, prepare: ObservationTensors, weights: torch.Generator) -> Backbone | None:
    """The convolutions that a policy begins with, to learn on from; None for vectors.

    Raises:
        UnsupportedTaskError: pictures are too small.
    """
    found = learned_backbone(task, prepare, weights)
    if found is None and prepare.image is not None:
        found = build_backbone(prepare.image, prepare.shape, weights)
    return None if found is None else own_copy(found)
