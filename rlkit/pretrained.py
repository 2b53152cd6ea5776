"""Encoders of pretraining runs, ready to turn pictures into features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from rlkit.data.space_json import space_from_json
from rlkit.errors import CheckpointError, UnsupportedTaskError
from rlkit.nn.backbones import Backbone
from rlkit.nn.encoders import to_channels
from rlkit.perception.ssl.objective import new_encoder
from rlkit.pretrain_config import stored_pretraining
from rlkit.runs import open_run
from rlkit.types import Floats, Obs

ROWS_AT_ONCE = 512
"""Pictures that go through an encoder together, so that features of a large recording fit into memory."""


class FrozenBackbone:
    """A network that turns pictures of a space into features and is not learned.

    Args:
        backbone: the network, which is put into evaluation mode.
        space: of one picture.
        device: where it computes.
    """

    def __init__(self, backbone: Backbone, space: gym.Space[Any], device: str = "cpu") -> None:
        self._space, self._device = space, torch.device(device)
        self.backbone = backbone.to(self._device).eval().requires_grad_(False)
        self.feature_size = backbone.feature_size

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Of one picture."""
        return self._space

    def require_space(self, space: gym.Space[Any]) -> None:
        """Raise UnsupportedTaskError where observations are of another space than the encoder's."""
        if space != self._space:
            raise UnsupportedTaskError(
                f"--encoder: the encoder takes pictures {self._space}, here observations are {space}; use the "
                "environment, --env-args and --wrap that it was pretrained with (a preset has its own: --preset none)"
            )

    @torch.inference_mode()
    def features(self, obs: Obs) -> Floats:
        """Features [B, D] of pictures [B, *O]."""
        pictures = to_channels(torch.as_tensor(obs))
        starts = range(0, len(pictures), ROWS_AT_ONCE)
        parts = [self._encoded(pictures[start : start + ROWS_AT_ONCE]) for start in starts]
        features: Floats = torch.cat(parts).numpy()
        return features

    def _encoded(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.backbone(pictures.to(self._device)).cpu()
        return features


class PretrainedEncoder(FrozenBackbone):
    """The encoder of a pretraining run at its latest checkpoint, frozen.

    Args:
        run: its folder, or a copy of its encoder that another run keeps.
        device: where it computes.

    Attributes:
        backbone: the network.
        step: updates that it learned.

    Raises:
        CheckpointError: the run has no checkpoint, or it fits no such network.
    """

    def __init__(self, run: str | Path, device: str = "cpu") -> None:
        folder = open_run(Path(run))
        stored = folder.checkpoints.load(policy_only=True)
        space = space_from_json(folder.meta()["observation_space"])
        backbone = new_encoder(stored_pretraining(folder).method, space, seed=0)
        try:
            backbone.load_state_dict(stored.policy["encoder"])
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"the weights in {stored.path} do not fit the encoder that config.yaml describes: {error}"
            ) from error
        super().__init__(backbone, space, device)
        self.step = stored.step


def load_encoder(run: str | Path, device: str = "cpu") -> PretrainedEncoder:
    """The encoder of a run of `rlkit.pretrain`, frozen: `.features(pictures)` gives [B, D] of uint8 [B, *O]."""
    return PretrainedEncoder(run, device)
