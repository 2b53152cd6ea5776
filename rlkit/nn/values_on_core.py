"""Action values on a core that remembers: `ActionValues` for steps of sequences in place of observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from rlkit.errors import UsageError
from rlkit.nn.action_values import NO_DRAWS, ComposedValues, Design, Draws, ModuleTrace, Noise, ValueTrace
from rlkit.nn.cores import Core, Memory
from rlkit.nn.flat import flatten_parameters
from rlkit.nn.on_core import Steps
from rlkit.types import Array, Floats


class ValuesOnCore(nn.Module):
    """A core, and a network of action values on its features.

    Args:
        core: Takes observations.
        design: Of the network on it; without an image encoder.
        device: Where both will be.
        generator: Source of the network's first weights.
    """

    flat: Tensor

    def __init__(self, core: Core, design: Design, device: torch.device, generator: torch.Generator) -> None:
        super().__init__()
        assert isinstance(core, nn.Module)
        self.core: Core = core.to(device)
        self.values = ComposedValues(design, (core.size,), device, generator)
        self.feature_size = self.values.feature_size
        self.flat = flatten_parameters(self)
        self.values.flat = self.flat[-self.values.flat.numel() :]  # where its parameters have moved

    @torch.no_grad()
    def step(self, obs: Floats, memory: Memory) -> tuple[Floats, Memory]:
        """Features [N, size] of observations [N, O], and what is remembered now."""
        features, memory = self.core.step(torch.from_numpy(obs).to(self.flat.device), memory)
        return cast(Floats, features.cpu().numpy()), memory

    def forward(self, steps: Steps, draws: Draws = NO_DRAWS) -> Tensor:
        """Outputs [B, A, K]."""
        features = self.core.unroll(*steps.sequences).flatten(0, 1)[steps.place]
        return cast(Tensor, self.values(features, draws))

    def outputs(self, obs: Steps, draws: Draws = NO_DRAWS) -> Tensor:
        """Outputs [B, A, K], without gradients."""
        with torch.no_grad():
            return self.forward(obs, draws)

    def trace(self, obs: Steps, draws: Draws = NO_DRAWS) -> ValueTrace:
        """The same with what gradients need."""
        with torch.enable_grad():
            return ModuleTrace(self, self.forward(obs, draws))

    def act_outputs(self, obs: Array, draws: Draws = NO_DRAWS) -> Array:
        """Outputs [N, A, K] for features that `step` gave."""
        return self.values.act_outputs(obs, draws)

    def features(self, obs: Tensor) -> Tensor:
        """Refused: they depend on what came before.

        Raises:
            UsageError: always.
        """
        raise UsageError("features of a network with a core depend on what came before: use a run with agent.core none")

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """Of the core, then of the encoder in it."""
        return self.core.attention_maps(x)

    def draw_noise(self, rng: np.random.Generator) -> Noise | None:
        """Noise for one pass, where there are noisy layers."""
        return self.values.draw_noise(rng)
