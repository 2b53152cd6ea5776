"""Networks of action values: from observations to K outputs for each of A actions.

K is 1 for plain values, and more for distributions of returns. Two networks with the same interface: one multilayer
perceptron, the fast one, and a network put together of encoder, implicit quantile levels, noise and dueling streams.
Their gradients come from a `ValueTrace`, so that an update looks the same for both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from rlkit.nn import compiled_mlp
from rlkit.nn.attention_encoder import AttentionDesign, AttentionEncoder
from rlkit.nn.backbones import Backbone, own_copy
from rlkit.nn.encoders import ConvolutionEncoder, ImageEncoder
from rlkit.nn.flat import flat_gradient, flatten_parameters
from rlkit.nn.mlp import MLP, Trace
from rlkit.nn.noisy import NoisyMLP, draw_noise
from rlkit.ops.value_learning import dueling
from rlkit.types import Array

Noise: TypeAlias = Sequence[Tensor]
"""Noise of each noisy stream."""
COSINES = 64
"""Cosines that embed a quantile level (Dabney et al. 2018, IQN, section 3)."""


class Draws(NamedTuple):
    """What is drawn at random for one pass: noise of noisy layers, and levels [B, K] of implicit quantiles."""

    noise: Noise | None = None
    levels: Tensor | None = None


NO_DRAWS = Draws()


class ValueTrace(Protocol):
    """One forward pass whose gradient can be asked for."""

    @property
    def output(self) -> Tensor:
        """Outputs [B, A, K]."""

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient of a loss in the layout of `ActionValues.flat`, given its gradient [B, A, K] by the outputs."""


class ActionValues(Protocol):
    """A network of action values."""

    flat: Tensor
    """All parameters; changing them changes the network."""
    feature_size: int
    """D, the width of `features`."""

    def outputs(self, obs: Any, draws: Draws = NO_DRAWS) -> Tensor:
        """Outputs [B, A, K] of prepared observations [B, *O] (on a core `Steps`), without gradients."""

    def trace(self, obs: Any, draws: Draws = NO_DRAWS) -> ValueTrace:
        """The same with what gradients need."""

    def act_outputs(self, obs: Array, draws: Draws = NO_DRAWS) -> Array:
        """Outputs [N, A, K] of a few observations in numpy, the fastest way there is."""

    def features(self, obs: Tensor) -> Tensor:
        """What the last layer is given, [B, D]; with several streams what they share."""

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """What rows [T, O], of one episode, attend to, by name; empty if to nothing."""

    def draw_noise(self, rng: np.random.Generator) -> Noise | None:
        """Noise for one pass, where there are noisy layers."""


class PerceptronValues:
    """One multilayer perceptron: vectors in, plain values or distributions with fixed support out."""

    def __init__(self, inputs: int, hidden: Sequence[int], actions: int, outputs: int, device: torch.device,
                 generator: torch.Generator) -> None:  # fmt: skip
        self.mlp = MLP(inputs, hidden, actions * outputs, generator=generator).to(device)
        self.flat: Tensor = self.mlp.flat.detach()
        self.feature_size = self.mlp.widths[-2]
        self._shape = (-1, actions, outputs)
        self._widths = np.array(self.mlp.widths)
        self._units = sum(self.mlp.widths[1:])
        self._is_small = self.flat.is_cpu and max(self.mlp.widths) <= compiled_mlp.WIDEST

    def outputs(self, obs: Tensor, draws: Draws = NO_DRAWS) -> Tensor:
        """Outputs [B, A, K]."""
        with torch.no_grad():
            return cast(Tensor, self.mlp(obs)).view(self._shape)

    def trace(self, obs: Tensor, draws: Draws = NO_DRAWS) -> ValueTrace:
        """The same with what gradients need."""
        return _PerceptronTrace(self.mlp.trace(obs), self._shape)

    def act_outputs(self, obs: Array, draws: Draws = NO_DRAWS) -> Array:
        """Outputs [N, A, K]."""
        if not self._is_small:
            return self.mlp.numpy_forward(obs).reshape(self._shape)
        memory = np.empty(len(obs) * self._units, np.float32)
        outputs: Array = compiled_mlp.forward(self.flat.numpy(), self._widths, np.ascontiguousarray(obs), memory, False)
        return outputs.reshape(self._shape)

    def features(self, obs: Tensor) -> Tensor:
        """Output of the last hidden layer, [B, D]; without hidden layers the input."""
        return self.mlp.trace(obs).activations[-2]

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """To nothing."""
        return {}

    def draw_noise(self, rng: np.random.Generator) -> Noise | None:
        """None: no noisy layers."""
        return None


@dataclass(frozen=True, slots=True)
class _PerceptronTrace:
    trace: Trace
    shape: tuple[int, int, int]

    @property
    def output(self) -> Tensor:
        return self.trace.output.view(self.shape)

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        return self.trace.weight_gradient(gradient.reshape(len(gradient), -1))


@dataclass(frozen=True)
class Design:
    """What a composed network is made of: A actions with K outputs, and which parts there are."""

    actions: int
    outputs: int
    hidden: tuple[int, ...]
    image: ImageEncoder | None = None
    backbone: Backbone | None = None  # a pretrained encoder of pictures, of which each network has a copy
    attention: AttentionDesign | None = None
    dueling: bool = False
    noisy_sigma: float | None = None
    implicit: bool = False

    @property
    def is_perceptron(self) -> bool:
        """Whether one multilayer perceptron does."""
        has_encoder = self.image is not None or self.attention is not None or self.backbone is not None
        return not has_encoder and not self.dueling and self.noisy_sigma is None and not self.implicit


class ComposedValues(nn.Module):
    """Encoder, then one stream of values, or two that duel; `hidden[-1]` is the width inside a stream.

    With `implicit` (IQN) the features are multiplied by an embedding of each quantile level, and the streams answer one
    value for each level.
    """

    flat: Tensor

    def __init__(
        self, design: Design, obs_shape: tuple[int, ...], device: torch.device, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.design = design
        self._encoder, self.feature_size = _encoder(design, obs_shape, generator)
        self._levels = (
            MLP(COSINES, (), self.feature_size, output="relu", generator=generator) if design.implicit else None
        )
        outputs = 1 if design.implicit else design.outputs
        self._advantage = self._stream(design.actions * outputs, generator)
        self._value = self._stream(outputs, generator) if design.dueling else None
        self.to(device)
        self._device = device
        self.flat = flatten_parameters(self)

    def _stream(self, outputs: int, generator: torch.Generator) -> MLP | NoisyMLP:
        widths = (self.feature_size, *self.design.hidden[-1:], outputs)
        if self.design.noisy_sigma is None:
            return MLP(widths[0], widths[1:-1], widths[-1], generator=generator)
        return NoisyMLP(widths, sigma=self.design.noisy_sigma, generator=generator)

    def forward(self, obs: Tensor, draws: Draws = NO_DRAWS) -> Tensor:
        """Outputs [B, A, K]; for implicit quantiles K is the number of levels."""
        features = self._encoder(obs)  # [B, D]
        levels = draws.levels
        if self._levels is not None:
            assert levels is not None
            features = (features[:, None, :] * self._levels(_cosines(levels))).flatten(0, 1)  # [B K, D]
        advantage = _through(self._advantage, features, draws.noise, 0).view(len(features), self.design.actions, -1)
        if self._value is not None:
            value = _through(self._value, features, draws.noise, 1).view(len(features), 1, -1)
            advantage = dueling(value, advantage)
        if levels is None or self._levels is None:
            return advantage
        return advantage.view(len(obs), -1, self.design.actions).transpose(1, 2)  # [B, A, K]

    def outputs(self, obs: Tensor, draws: Draws = NO_DRAWS) -> Tensor:
        """Outputs [B, A, K]."""
        with torch.no_grad():
            return self(obs, draws)  # type: ignore[no-any-return]

    def trace(self, obs: Tensor, draws: Draws = NO_DRAWS) -> ValueTrace:
        """The same with what gradients need."""
        with torch.enable_grad():
            return ModuleTrace(self, self(obs, draws))

    def act_outputs(self, obs: Array, draws: Draws = NO_DRAWS) -> Array:
        """Outputs [N, A, K]."""
        outputs: Array = self.outputs(torch.from_numpy(obs).to(self._device), draws).cpu().numpy()
        return outputs

    def features(self, obs: Tensor) -> Tensor:
        """What the streams share, [B, D]."""
        with torch.no_grad():
            return cast(Tensor, self._encoder(obs))

    @property
    def backbone(self) -> Backbone | None:
        """The encoder of pictures, where it is one of pretraining."""
        found = [module for module in self.modules() if isinstance(module, Backbone)]
        return found[0] if found else None

    def attention_maps(self, x: Tensor) -> Mapping[str, Tensor]:
        """Of an encoder by attention."""
        encoders = [module for module in self.modules() if isinstance(module, AttentionEncoder)]
        return encoders[0].attention_maps(x) if encoders else {}

    def draw_noise(self, rng: np.random.Generator) -> Noise | None:
        """Noise of the advantage stream, then of the value stream."""
        streams = [stream for stream in (self._advantage, self._value) if isinstance(stream, NoisyMLP)]
        return [draw_noise(stream.widths, rng, self._device) for stream in streams] or None


@dataclass(frozen=True, slots=True)
class ModuleTrace:
    """One pass of any module; its gradient can be taken once."""

    network: nn.Module
    result: Tensor

    @property
    def output(self) -> Tensor:
        """Outputs, [B, A, K]."""
        return self.result.detach()

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient of a loss in the layout of the module's `flat`, given its gradient by the outputs."""
        return flat_gradient(self.result, self.network, gradient)


def action_values(
    design: Design, obs_shape: tuple[int, ...], device: torch.device, generator: torch.Generator
) -> ActionValues:
    """The network of a design: the fast one where it does, else the composed one."""
    if design.is_perceptron:
        size = math.prod(obs_shape)
        return PerceptronValues(size, design.hidden, design.actions, design.outputs, device, generator)
    return ComposedValues(design, obs_shape, device, generator)


def of_action(outputs: Tensor, action: Tensor) -> Tensor:
    """Outputs [B, K] of the actions [B], from outputs [B, A, K]."""
    index = action.view(-1, 1, 1).expand(-1, 1, outputs.shape[2])
    return outputs.gather(1, index).squeeze(1)


def to_action(values: Tensor, action: Tensor, *, like: Tensor) -> Tensor:
    """Values [B, K] in the rows of the actions [B] and zero elsewhere, of the shape [B, A, K] of `like`."""
    index = action.view(-1, 1, 1).expand(-1, 1, like.shape[2])
    return torch.zeros_like(like).scatter_(1, index, values.unsqueeze(1))


def _encoder(design: Design, obs_shape: tuple[int, ...], generator: torch.Generator) -> tuple[nn.Module, int]:
    if design.image is not None or design.attention is not None or design.backbone is not None:
        encoder = _first_encoder(design, obs_shape, generator)
        if len(design.hidden) <= 1:
            return encoder, encoder.feature_size
        dense = _dense(encoder.feature_size, design.hidden[:-1], generator)
        return nn.Sequential(encoder, dense), design.hidden[-2]
    if len(design.hidden) <= 1:
        return nn.Identity(), math.prod(obs_shape)
    return _dense(math.prod(obs_shape), design.hidden[:-1], generator), design.hidden[-2]


def _first_encoder(
    design: Design, obs_shape: tuple[int, ...], generator: torch.Generator
) -> ConvolutionEncoder | AttentionEncoder | Backbone:
    if design.backbone is not None:
        return own_copy(design.backbone)
    if design.attention is not None:
        return design.attention.encoder(generator)
    assert design.image is not None
    return ConvolutionEncoder(design.image, obs_shape, generator)


def _dense(inputs: int, widths: tuple[int, ...], generator: torch.Generator) -> MLP:
    return MLP(inputs, widths[:-1], widths[-1], output="relu", generator=generator)


def _through(stream: MLP | NoisyMLP, features: Tensor, noise: Noise | None, index: int) -> Tensor:
    if isinstance(stream, NoisyMLP):
        return cast(Tensor, stream(features, None if noise is None else noise[index]))
    return cast(Tensor, stream(features))


def _cosines(levels: Tensor) -> Tensor:
    """cos(π i τ) for i = 0 … 63, [B, K, 64] (Dabney et al. 2018, IQN, equation 4)."""
    return torch.cos(levels[..., None] * (math.pi * torch.arange(COSINES, device=levels.device)))
