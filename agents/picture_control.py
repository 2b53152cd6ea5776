"""What SAC and TQC have where they see pictures: convolutions under the critics, which the actor looks through.

The encoder belongs to the critics and learns by their loss alone; the actor gets its features and sends no gradient
back; target critics have an encoder of their own, which follows slowly (SAC-AE, Yarats et al. 2021,
https://arxiv.org/abs/1910.01741; CURL, Laskin et al. 2020, https://arxiv.org/abs/2004.04136). A narrow trunk with tanh
ends it. Pictures are shifted at random to be learned from, each once (DrQ, Yarats et al. 2021,
https://arxiv.org/abs/2004.13649, with K = M = 1).

Deviations from the papers
- Actor and critics share the trunk, too (papers: convolutions alone).
- The target encoder follows as slowly as the critics on it (SAC-AE, CURL: 0.05 and 0.01).
- Actor and targets follow with every update (SAC-AE, CURL: every second), all with one step size.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rlkit.agents.observations import EncoderName
from rlkit.agents.off_policy import OffPolicyConfig, unit_box
from rlkit.agents.picture_networks import network_observations
from rlkit.data.replays import make_store
from rlkit.data.store import TransitionStore
from rlkit.errors import UsageError
from rlkit.nn.backbones import Backbone, BackboneKind, build_backbone, own_copy
from rlkit.nn.cores import EncoderCore
from rlkit.nn.encoders import image_shape, to_channels
from rlkit.nn.on_core import Steps
from rlkit.nn.pixel_actor_critic import SMALLEST_PICTURE, PixelEncoder, PixelFeatures
from rlkit.nn.recurrent_actor_critic import Sequences
from rlkit.ops.augmentation import shifted_images
from rlkit.types import Array, Task


class Pictures:
    """How pictures become what the networks of one agent take.

    Args:
        encoder: Of the options.
        trunk: Width of the features.
        shift: Pixels by which pictures are shifted at most.
        task: Of the agent.
    """

    def __init__(self, encoder: EncoderName, trunk: int, shift: int, task: Task) -> None:
        assert task.observation_space.shape is not None
        self._encoder, self._trunk, self._shift, self._task = encoder, trunk, shift, task
        self.shape = image_shape(task.observation_space.shape)
        self._device = torch.device(task.device)

    def core(self, weights: torch.Generator) -> EncoderCore:
        """A new encoder with its trunk, for rows of pixels as `rows` has them."""
        features = PixelFeatures(self.encoder(weights), self.shape, self._trunk, weights)
        return EncoderCore(features.to(self._device))

    def encoder(self, weights: torch.Generator) -> PixelEncoder | Backbone:
        """A copy of the encoder that the task brings, else a new one.

        Raises:
            UnsupportedTaskError: pictures are too small for it.
        """
        task = self._task
        if isinstance(task.encoder, Backbone):
            return own_copy(task.encoder)
        if self._encoder == "auto" and task.auxiliary is None and min(self.shape[1:]) >= SMALLEST_PICTURE:
            return PixelEncoder(self.shape, weights)
        assert task.observation_space.shape is not None
        kind: BackboneKind = "nature" if self._encoder == "nature" else "impala"
        return build_backbone(kind, task.observation_space.shape, weights)

    def replay(self, config: OffPolicyConfig, action_size: int) -> TransitionStore:
        """An empty store of single frames where the task stacks them, else of whole pictures."""
        task = self._task
        return make_store(
            task.observation_space, unit_box(action_size), config.buffer_size if task.total_steps else 0, task.num_envs,
            n_step=config.n_step, gamma=config.gamma, frame_stack=task.frame_stack,
        )  # fmt: skip

    def rows(self, pictures: Array) -> Tensor:
        """Pictures [N, *shape] on the device as rows of pixels [N, C · H · W], channels first."""
        return to_channels(torch.from_numpy(pictures).to(self._device)).flatten(1)

    def shifted(self, pictures: Tensor, rng: np.random.Generator) -> Steps:
        """Pictures [B, *shape], each shifted by its own draw, as sequences of one step each."""
        return apart(randomly_shifted(to_channels(pictures), self._shift, rng).flatten(1))

    def of(self, steps: Steps) -> Tensor:
        """The pictures [B, C, H, W] of such steps."""
        return steps.sequences.obs.reshape(-1, *self.shape)


def pictures_of(encoder: EncoderName, core: str, trunk: int, shift: int, task: Task) -> Pictures | None:
    """What an agent with these options has for pictures; None where networks take vectors.

    Raises:
        UsageError: a core is to see pictures, or an encoder is named twice.
        UnsupportedTaskError: pictures are needed and these are none.
    """
    if network_observations(encoder, task).image is None:
        return None
    if core != "none":
        raise UsageError(
            "agent.core takes observations as vectors: with pictures choose agent.core none, or --agent.encoder mlp to "
            "flatten them"
        )
    return Pictures(encoder, trunk, shift, task)


def randomly_shifted(pictures: Tensor, shift: int, rng: np.random.Generator) -> Tensor:
    """Pictures [B, C, H, W] moved by up to `shift` pixels in each direction; the frames of a stack move together."""
    if not shift:
        return pictures
    offsets = rng.integers(-shift, shift, (len(pictures), 2), endpoint=True)
    return shifted_images(pictures, torch.from_numpy(offsets).to(pictures.device))


def apart(obs: Tensor) -> Steps:
    """Observations [B, O] as sequences of one step each."""
    each = torch.arange(len(obs), device=obs.device)
    return Steps(Sequences(obs[:, None], torch.ones_like(each, dtype=torch.bool)[:, None], None), each)
