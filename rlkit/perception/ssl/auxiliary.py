"""A self-supervised objective beside an agent's own loss, on the pictures of its replay.

The agent's optimiser moves the encoder, by the sum of both gradients, and nothing else moves it; what the objective
learns besides (heads, a critic's matrix) has an optimiser of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlkit.errors import UsageError
from rlkit.nn.backbones import Backbone
from rlkit.nn.encoders import to_channels
from rlkit.nn.flat import flatten_parameters
from rlkit.nn.optim import Adam
from rlkit.perception.ssl.objective import Method, MethodConfig, PictureBatch, PretrainTask
from rlkit.types import Metrics, State, Task


@dataclass(frozen=True)
class AuxiliaryDesign:
    """Which objective, with which options, and how much its loss counts."""

    method: Method
    config: MethodConfig
    weight: float


class Auxiliary:
    """The objective of one agent.

    Args:
        design: What it is.
        encoder: The agent's, whose parameters are views of `flat`.
        flat: The vector that the agent's optimiser moves.
        task: The agent's.
        replayed: Transitions that its replay holds.
        n_step: Steps from an observation to what the replay calls the next.

    Raises:
        UsageError: the objective needs successive pictures, and others lie between.
    """

    def __init__(
        self, design: AuxiliaryDesign, encoder: Backbone, flat: Tensor, task: Task, *, replayed: int, n_step: int
    ) -> None:
        self._weight, self._device = design.weight, flat.device
        told = PretrainTask(
            task.observation_space, task.action_space, replayed, max(task.total_steps, 1), task.seed, task.device
        )
        self.objective = design.method(design.config, encoder, told).to(self._device)
        if self.objective.clip_length > 1 and n_step > 1:
            raise UsageError(
                f"--aux: the objective learns from successive pictures, agent.n_step is {n_step}: choose "
                "--agent.n-step 1, or an objective of single pictures such as curl"
            )
        learned = list(encoder.parameters())
        self._of_encoder = [(parameter, _place(parameter, flat)) for parameter in learned]
        others = set(self.objective.parameters()) - set(learned)
        self._own = own = [each for each in self.objective.parameters() if each in others and each.requires_grad]
        self.optimizer = Adam(flatten_parameters(nn.ParameterList(own)), design.config.learning_rate) if own else None
        self._updates, self._horizon = 0, told.updates

    def add_gradient_(self, gradient: Tensor, obs: Tensor, action: Tensor, next_obs: Tensor) -> Metrics:
        """Add what the objective asks of the encoder to the agent's `gradient`, and move what the objective has alone.

        Args:
            gradient: In the layout of `flat`.
            obs: uint8 pictures [B, *O].
            action: What was done then, [B, *A].
            next_obs: The true successors.
        """
        clips = [obs, next_obs][: self.objective.clip_length]
        pictures = torch.stack([to_channels(each) for each in clips], dim=1)
        index = torch.arange(len(obs), device=self._device)
        batch = PictureBatch(pictures, index, action[:, None] if len(clips) > 1 else None)
        self.objective.train()
        with torch.inference_mode(False), torch.enable_grad():
            loss, metrics = self.objective.loss(batch)
            parameters = [*(parameter for parameter, _ in self._of_encoder), *self._own]
            found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        for (parameter, place), part in zip(self._of_encoder, found, strict=False):
            gradient[place : place + parameter.numel()].add_(part.reshape(-1), alpha=self._weight)
        if self.optimizer is not None:
            self.optimizer.step(torch.cat([part.reshape(-1) for part in found[len(self._of_encoder) :]]))
        return {"train/auxiliary_loss": loss.item(), **metrics}

    def after_update(self) -> None:
        """Once the agent's optimiser has moved the encoder: move targets, queues and the like."""
        self._updates += 1
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


def _place(parameter: Tensor, flat: Tensor) -> int:
    """Where the parameter begins in the vector that it is a view of."""
    place = (parameter.data_ptr() - flat.data_ptr()) // flat.element_size()
    assert 0 <= place < flat.numel()
    return place
