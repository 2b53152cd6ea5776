"""A self-supervised objective beside an agent's own loss, on the pictures of its replay or its rollouts.

The agent's optimiser moves the encoder, by the sum of both gradients, and nothing else moves it. What the objective
learns besides (heads, a critic's matrix) is moved by the agent's optimiser too where it is part of the agent's vector,
else by an optimiser of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from rlkit.errors import UsageError
from rlkit.nn.backbones import Backbone
from rlkit.nn.encoders import to_channels
from rlkit.nn.flat import flatten_parameters
from rlkit.nn.optim import Adam, clip_norm
from rlkit.perception.ssl.objective import Method, MethodConfig, Objective, PictureBatch, PretrainTask
from rlkit.types import Metrics, State, Task


@dataclass(frozen=True)
class AuxiliaryDesign:
    """Which objective, with which options, and how much its loss counts."""

    method: Method
    config: MethodConfig
    weight: float

    def objective(
        self, encoder: Backbone, task: Task, *, actions: gymnasium.Space[Any], pictures: int, n_step: int = 1
    ) -> Objective:
        """The objective around an agent's encoder, on the agent's device.

        Args:
            encoder: The agent's.
            task: The agent's.
            actions: Space of the actions that the agent will hand on.
            pictures: How many there are to learn from at a time.
            n_step: Steps from a picture to what the agent calls the next.

        Raises:
            UsageError: the objective needs successive pictures, and others lie between.
        """
        updates = max(task.total_steps, 1)
        told = PretrainTask(task.observation_space, actions, pictures, updates, task.seed, task.device)
        objective = self.method(self.config, encoder, told).to(torch.device(task.device))
        if objective.clip_length > 1 and n_step > 1:
            raise UsageError(
                f"--aux: the objective learns from successive pictures, agent.n_step is {n_step}: choose "
                "--agent.n-step 1, or an objective of single pictures such as curl"
            )
        return objective


class Auxiliary:
    """The objective of one agent, and what of it the agent's optimiser moves.

    Args:
        design: What it is.
        objective: Made of the design, around the agent's encoder, whose parameters are views of `flat`.
        flat: The vector that the agent's optimiser moves.
        updates: Of the whole run, the horizon of schedules.
    """

    def __init__(self, design: AuxiliaryDesign, objective: Objective, flat: Tensor, updates: int) -> None:
        self.objective, self._weight, self._device = objective, design.weight, flat.device
        learned = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        places = [(parameter, _place(parameter, flat)) for parameter in learned]
        self._joint = [(parameter, place) for parameter, place in places if place is not None]
        self._own = own = [parameter for parameter, place in places if place is None]
        self.optimizer = Adam(flatten_parameters(nn.ParameterList(own)), design.config.learning_rate) if own else None
        self._updates, self._horizon = 0, max(updates, 1)

    def add_gradient_(
        self, gradient: Tensor, obs: Tensor, action: Tensor, next_obs: Tensor | None, longest: float | None = None
    ) -> Metrics:
        """Add what the objective asks of the agent's vector to its `gradient`, and move what the objective has alone.

        Args:
            gradient: In the layout of `flat`.
            obs: uint8 pictures [B, *O].
            action: What was done then, [B, *A].
            next_obs: The true successors; None where the objective is of single pictures.
            longest: Length to which the objective's gradient is cut before it is weighted and added.
        """
        with torch.inference_mode(False), torch.enable_grad():
            loss, metrics = self.objective.train().loss(self._batch(obs, action, next_obs))
            parameters = [*(parameter for parameter, _ in self._joint), *self._own]
            found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        added = torch.zeros_like(gradient)
        for (parameter, place), part in zip(self._joint, found, strict=False):
            added[place : place + parameter.numel()] = part.reshape(-1)
        if longest is not None:
            clip_norm(added, longest)
        gradient.add_(added, alpha=self._weight)
        if self.optimizer is not None:
            self.optimizer.step(torch.cat([part.reshape(-1) for part in found[len(self._joint) :]]))
        return {"train/auxiliary_loss": loss.item(), **metrics}

    def _batch(self, obs: Tensor, action: Tensor, next_obs: Tensor | None) -> PictureBatch:
        """Copies, since tensors made under inference mode take no part in gradients."""
        clips = [obs] if next_obs is None or self.objective.clip_length == 1 else [obs, next_obs]
        pictures = torch.stack([to_channels(each) for each in clips], dim=1)
        index = torch.arange(len(obs), device=self._device)
        return PictureBatch(pictures, index, action[:, None].clone() if len(clips) > 1 else None)

    def after_update(self) -> None:
        """Once the agent's optimiser has moved the encoder: move targets, queues and the like."""
        self._updates += 1
        with torch.inference_mode(False), torch.no_grad():
            self.objective.after_update(min(self._updates / self._horizon, 1.0))

    def state(self) -> State:
        """All but the encoder, for a checkpoint."""
        state = self.objective.state_dict()
        return {
            "objective": {name: value for name, value in state.items() if not name.startswith("encoder.")},
            "optimizer": None if self.optimizer is None else self.optimizer.state(),
            "generator": self.objective.generator.get_state(),
            "updates": self._updates,
        }

    def load_state(self, state: State) -> None:
        """Restore `state`."""
        encoder = {f"encoder.{name}": value for name, value in self.objective.encoder.state_dict().items()}
        self.objective.load_state_dict(encoder | state["objective"])
        if self.optimizer is not None:
            self.optimizer.load_state(state["optimizer"])
        self.objective.generator.set_state(state["generator"])
        self._updates = state["updates"]


def _place(parameter: Tensor, flat: Tensor) -> int | None:
    """Where the parameter begins in the vector that it is a view of; None of another."""
    place = (parameter.data_ptr() - flat.data_ptr()) // flat.element_size()
    return place if 0 <= place < flat.numel() else None
