"""One encoder, one objective, one optimiser: what `loop.fit` drives when an encoder is pretrained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rlkit.data.clips import Clips
from rlkit.nn.flat import flatten_parameters
from rlkit.nn.lars import LARS, Slice, lars_slices
from rlkit.nn.optim import Adam, Momentum, clip_norm
from rlkit.nn.ranks import mean_over_ranks, rank_and_ranks
from rlkit.nn.synced_batch_norm import sync_norms_
from rlkit.ops.schedules import linear_between, warmed_up_cosine
from rlkit.perception.ssl.objective import Method, MethodConfig, Objective, PictureBatch, PretrainTask, new_encoder
from rlkit.types import Metrics, State


class Optimizer(Protocol):
    """Moves one vector."""

    learning_rate: float

    def step(self, gradient: Tensor) -> None:
        """Once against a gradient."""

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state`."""


class EncoderLearner:
    """Learns an encoder by an objective.

    With several ranks (see `rlkit.nn.ranks`) each learns from its part of every batch, and all make the same update.

    Args:
        method: Class of the objective.
        config: Its options.
        task: What it is told.
    """

    def __init__(self, method: Method, config: MethodConfig, task: PretrainTask) -> None:
        self.config, self.task = config, task
        self.device = torch.device(task.device)
        encoder = new_encoder(config, task.observation_space, task.seed)
        self.objective = method(config, encoder, task).to(self.device)
        if rank_and_ranks()[1] > 1:
            sync_norms_(self.objective)
        learned = _learned(self.objective)
        self.learned = [each.parameter for each in learned]
        self.flat = flatten_parameters(nn.ParameterList(self.learned))
        self.parts = _parts(self.flat, learned, config)
        self.updates = 0

    def learn(self, batch: Clips) -> Metrics:
        """Exactly one update."""
        self.objective.train()
        loss, metrics = self.objective.loss(PictureBatch.of(batch, self.device))
        found = torch.autograd.grad(loss, self.learned, allow_unused=True, materialize_grads=True)
        gradient = mean_over_ranks(torch.cat([part.reshape(-1) for part in found]))
        if self.config.max_grad_norm is not None:
            clip_norm(gradient, self.config.max_grad_norm)
        rate = self.learning_rate()
        for part in self.parts:
            part.step(gradient, self.config.learning_rate if part.is_steady else rate)
        self.updates += 1
        self.objective.after_update(min(self.updates / self.task.updates, 1.0))
        return {"train/loss": mean_over_ranks(loss.detach()).item(), "train/learning_rate": rate, **metrics}

    def learning_rate(self) -> float:
        """Step size of the next update."""
        config, horizon = self.config, self.task.updates
        warm_up = config.warmup_fraction * horizon
        if config.learning_rate_schedule == "cosine":
            return warmed_up_cosine(0.0, config.learning_rate, 0.0, warm_up, horizon, self.updates)
        return linear_between(0.0, config.learning_rate, warm_up, self.updates)

    @torch.inference_mode()
    def features(self, pictures: Tensor) -> Tensor:
        """Features [B, D] of uint8 pictures [B, C, H, W]."""
        self.objective.eval()
        features: Tensor = self.objective.encoder(pictures.to(self.device))
        return features

    def policy_state(self) -> State:
        """The encoder's weights."""
        return {"encoder": dict(self.objective.encoder.state_dict())}

    def load_policy_state(self, state: State) -> None:
        """Restore what `policy_state` returned."""
        self.objective.encoder.load_state_dict(state["encoder"])

    def training_state(self) -> State:
        """Everything beside the encoder: heads, targets, banks, the optimiser, the generator and the updates made."""
        state = self.objective.state_dict()
        return {
            "objective": {name: value for name, value in state.items() if not name.startswith("encoder.")},
            "optimizers": [part.optimizer.state() for part in self.parts],
            "generator": self.objective.generator.get_state(),
            "updates": self.updates,
        }

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        encoder = {f"encoder.{name}": value for name, value in self.objective.encoder.state_dict().items()}
        self.objective.load_state_dict(encoder | state["objective"])
        for part, of_part in zip(self.parts, state["optimizers"], strict=True):
            part.optimizer.load_state(of_part)
        self.objective.generator.set_state(state["generator"])
        self.updates = state["updates"]


class _Part:
    """A stretch of the learned parameters, and what moves it.

    Args:
        place: Of the stretch in the vector of all.
        flat: The vector.
        slices: What the stretch consists of.
        config: Optimiser and weight decay.
        is_steady: Whether its step size has no schedule.
    """

    def __init__(
        self, place: slice, flat: Tensor, slices: Sequence[Slice], config: MethodConfig, *, is_steady: bool
    ) -> None:
        self.place, self.flat, self.config, self.is_steady = place, flat[place], config, is_steady
        self.optimizer = build_optimizer(config, self.flat, slices)
        self._decayed = torch.cat([torch.full((size,), float(decays)) for size, decays in slices]).to(flat.device)

    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Once against the gradient of all."""
        gradient, self.optimizer.learning_rate = gradient[self.place], learning_rate
        self._decay(gradient)
        self.optimizer.step(gradient)

    @torch.no_grad()
    def _decay(self, gradient: Tensor) -> None:
        """Shrink the weights, or let the gradient do it; LARS does it by itself."""
        decay = self.config.weight_decay
        if not decay or self.config.optimizer == "lars":
            return
        if self.config.optimizer == "adamw":
            self.flat.addcmul_(self.flat, self._decayed, value=-decay * self.optimizer.learning_rate)
        else:
            gradient.addcmul_(self.flat, self._decayed, value=decay)


class _Learned(NamedTuple):
    """A parameter that an optimiser moves."""

    is_steady: bool
    parameter: nn.Parameter
    part: Slice


def _learned(objective: Objective) -> list[_Learned]:
    """What requires a gradient, in the order of the objective's parameters, steady ones last."""
    slices = lars_slices(objective)
    found = [
        _Learned(name.partition(".")[0] in objective.steady, parameter, part)
        for (name, parameter), part in zip(objective.named_parameters(), slices, strict=True)
        if parameter.requires_grad
    ]
    return sorted(found, key=lambda learned: learned.is_steady)


def _parts(flat: Tensor, learned: list[_Learned], config: MethodConfig) -> list[_Part]:
    """A part of those that follow the schedule, and one of those that do not, where there are any."""
    parts, start = [], 0
    for is_steady, group in groupby(learned, key=lambda each: each.is_steady):
        slices = [each.part for each in group]
        stop = start + sum(part.size for part in slices)
        parts.append(_Part(slice(start, stop), flat, slices, config, is_steady=is_steady))
        start = stop
    return parts


def build_optimizer(config: MethodConfig, flat: Tensor, slices: Sequence[Slice]) -> Optimizer:
    """What moves the learned parameters, without their decay, except for LARS."""
    if config.optimizer in ("adam", "adamw"):
        return Adam(flat, config.learning_rate)
    if config.optimizer == "sgd":
        return Momentum(flat, config.learning_rate)
    return LARS(flat, slices, config.learning_rate, weight_decay=config.weight_decay)
