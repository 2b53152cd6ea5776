"""The actor of PPO, A2C and REINFORCE with a core: it acts with what it remembers, and learns from whole sequences.

Acting carries the core's memory; every rollout keeps the memory that it began with, so that the first update of a
rollout sees exactly the features that acting saw. A transformer's keys and values are made anew after each update, from
the inputs of its context; a recurrent state that older weights made is kept until its episode ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rlkit import seeding
from rlkit.agents.core_options import attention_of, core_of
from rlkit.agents.on_policy import LOG_PROB, RAW_ACTION, PolicyActor
from rlkit.agents.picture_networks import policy_backbone
from rlkit.agents.policy_config import PolicyConfig
from rlkit.agents.policy_network import RolloutTensors
from rlkit.data.sequences import Beginning, SequenceBatch, SequenceRollout
from rlkit.errors import UsageError
from rlkit.nn.backbones import Backbone
from rlkit.nn.cores import Core, Encoder, EncoderCore, Memory
from rlkit.nn.paired_core import PairedCore
from rlkit.nn.picture_encoder import PictureEncoder
from rlkit.nn.precision import Precision
from rlkit.nn.recurrent_actor_critic import RecurrentActorCritic, Sequences
from rlkit.ops.advantages import gae
from rlkit.perception.ssl.auxiliary import Auxiliary, AuxiliaryDesign
from rlkit.types import Array, Bools, Carry, Floats, Metrics, Obs, State, Task, Transition


class Recollection(NamedTuple):
    """The carry: what the core remembers, and how many updates its weights had when they made it.

    Without a core it is `()`.
    """

    memory: Memory
    updates: int


class SequenceActor(PolicyActor[SequenceRollout, SequenceBatch]):
    """Networks on a core."""

    network: RecurrentActorCritic

    def __init__(self, config: PolicyConfig, task: Task) -> None:
        super().__init__(config, task)
        weights = seeding.torch_generator(task.seed, "weights")
        backbone = policy_backbone(task, self._prepare, weights)
        encoder = None if backbone is None else PictureEncoder(backbone)
        core = policy_core(config, task.observation_space, self.obs_size, weights, encoder)
        if not config.share_core and encoder is None:
            core = PairedCore(core, policy_core(config, task.observation_space, self.obs_size, weights))
        self.network = RecurrentActorCritic(
            core, config.hidden, self.head, activation=config.activation, log_std=config.initial_log_std,
            generator=weights, precision=Precision(config.precision, self.device), device=self.device,
        )  # fmt: skip
        self.remembers = config.core != "none"
        self.updates = 0
        self._newest: Memory | None = None  # what acting goes on with
        self._weights, self.auxiliary = self.network.flat, None
        if backbone is not None and isinstance(task.auxiliary, AuxiliaryDesign):
            self._weights, self.auxiliary = _with_heads(self.network, task.auxiliary, backbone, task)

    def initial_carry(self, num_envs: int) -> Carry:
        """Nothing remembered."""
        return Recollection(self.network.core.empty(num_envs), self.updates) if self.remembers else ()

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Rows whose episode ended remember nothing."""
        if not self.remembers:
            return ()
        memory, updates = carry
        return Recollection(self.network.core.reset(memory, torch.from_numpy(ended).to(self.device)), updates)

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """See `PolicyActor`; the carry remembers one step more."""
        mask = None if self._is_box else action_mask
        memory, updates = carry if self.remembers else ((), self.updates)
        if updates != self.updates:
            with torch.inference_mode():
                memory = self.network.core.refreshed(memory)
        features = self.rows(obs)
        action, raw, log_prob, memory = self.network.act(features, memory, rng if explore else None, mask)
        extras = {} if log_prob is None else {RAW_ACTION: raw, LOG_PROB: log_prob}
        return action, Recollection(memory, self.updates) if self.remembers else (), extras

    def rollout(self, length: int, task: Task) -> SequenceRollout:
        """See `PolicyActor`."""
        steps, head = (length if task.total_steps else 1), self.head
        kind = np.float32 if self._prepare.image is None else np.uint8
        return SequenceRollout(steps, task.num_envs, self.obs_size, head.raw_size, head.raw_dtype, head.size, kind)

    def store(self, rollout: SequenceRollout, step: Transition, carry: Carry) -> None:
        """Append one step, and note the memory after it."""
        super().store(rollout, step, carry)
        self._newest = carry[0] if self.remembers else ()

    def begin_rollout(self, rollout: SequenceRollout) -> None:
        """After an update: the next rollout goes on from what is remembered now."""
        assert self._newest is not None
        rollout.begin_with(self.network.core.beginning(self._newest))

    @property
    def weights(self) -> Tensor:
        """The network's parameters, then those of an objective besides."""
        return self._weights

    def with_objective(self, gradient: Tensor, batch: SequenceBatch, longest: float | None) -> tuple[Tensor, Metrics]:
        """See `PolicyActor`. Each gradient is cut by itself, so that neither drowns the other."""
        if self.auxiliary is None:
            return gradient, {}
        whole = torch.cat((gradient, gradient.new_zeros(len(self._weights) - len(gradient))))
        if len(batch) < 2:  # nothing to tell a picture from, and no batch statistics
            return whole, {}
        action = self.head.to_environment(batch.action.reshape(len(batch), -1))
        next_obs = None if batch.next_obs is None else self._pictures(batch.next_obs)
        told = (self._pictures(batch.obs), self._on_device(action), next_obs)
        return whole, self.auxiliary.add_gradient_(whole, *told, longest)

    def _pictures(self, rows: Array) -> Tensor:
        """Rows [B, T, O] as pictures [B · T, *O] on the device."""
        return self._on_device(rows.reshape(-1, *self._prepare.shape))

    def unscale_(self, gradient: Tensor) -> bool:
        """See `PolicyActor`."""
        return self.network.precision.unscale_(gradient)

    def learned(self) -> None:
        """Keys and values made so far are of older weights; targets of an objective besides follow."""
        self.updates += 1
        if self.auxiliary is not None:
            self.auxiliary.after_update()

    def batch(
        self, rollout: SequenceRollout, gamma: float, gae_lambda: float, *, valued: bool = True, first: int = 0
    ) -> SequenceBatch:
        """See `PolicyActor`."""
        found = rollout.evaluate_sequences(self._values if valued else _no_values, first)
        ends = (found.terminated, found.truncated)
        advantage = gae(found.reward, found.value, found.next_value, *ends, gamma=gamma, lambda_=gae_lambda)
        wants_next = self.auxiliary is not None and self.auxiliary.objective.clip_length > 1
        batch = rollout.sequences(found.value, advantage, with_next=wants_next)
        return batch if self.remembers else batch.apart()

    def _values(self, obs: Array, is_first: Bools, beginning: Beginning | None) -> Floats:
        return self.network.values(Sequences(self._on_device(obs), self._on_device(is_first), beginning))

    def minibatches(self, batch: SequenceBatch, size: int, rng: np.random.Generator) -> Iterator[SequenceBatch]:
        """Whole rows, about `size` steps at a time: without memory a row is a step."""
        return batch.minibatches(size, rng)

    def tensors(self, batch: SequenceBatch) -> RolloutTensors:
        """The batch on the device, all but the sequences one row after the other."""

        def flat(array: Array) -> Tensor:
            return self._on_device(np.ascontiguousarray(array)).flatten(0, 1)

        sequences = Sequences(
            self._on_device(np.ascontiguousarray(batch.obs)),
            self._on_device(np.ascontiguousarray(batch.is_first)),
            batch.beginning,
        )
        return RolloutTensors(
            sequences, flat(batch.action), flat(batch.log_prob), flat(batch.advantage), flat(batch.target),
            flat(batch.value), None if batch.action_mask is None else flat(batch.action_mask),
        )  # fmt: skip

    @torch.inference_mode()
    def attention_maps(self, episode: Sequence[Obs]) -> Mapping[str, Array]:
        """Of the core."""
        x = self._on_device(np.concatenate([self.rows(obs) for obs in episode]))
        return {name: weights.cpu().numpy() for name, weights in self.network.core.attention_maps(x).items()}

    def encoder(self) -> EncoderCore:
        """See `PolicyActor`; the policy's, where the value has one of its own."""
        core: object = self.network.core
        if isinstance(core, PairedCore):
            core = core.policy
        if not isinstance(core, EncoderCore):
            raise UsageError(
                "features of a policy with a core depend on what came before: take a run that sees pictures, or one "
                "with --agent.encoder attention, and --agent.core none"
            )
        return core

    def policy_state(self) -> State:
        """Weights of core and policy, log stds."""
        return {"policy": self.network.flat[: self.network.policy_size]}

    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""
        with torch.no_grad():
            self.network.flat[: self.network.policy_size].copy_(state["policy"])

    def training_state(self) -> State:
        """Weights of the value, how many updates there were, the scale of gradients, and an objective besides."""
        return {
            "value": self.network.flat[self.network.policy_size :],
            "updates": self.updates,
            "precision": self.network.precision.state(),
            "auxiliary": None if self.auxiliary is None else self.auxiliary.state(),
        }

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        with torch.no_grad():
            self.network.flat[self.network.policy_size :].copy_(state["value"])
        self.updates = state["updates"]
        self.network.precision.load_state(state["precision"])
        if self.auxiliary is not None:
            self.auxiliary.load_state(state["auxiliary"])


def policy_core(
    config: PolicyConfig,
    space: gymnasium.Space[Any],
    inputs: int,
    weights: torch.Generator,
    encoder: Encoder | None = None,
) -> Core:
    """Core that the options name, for flat observations of this space, on this encoder or the one that they name."""
    if encoder is None and config.encoder == "attention":
        encoder = attention_of(config, space).encoder(weights)
    if config.core == "none":
        assert encoder is not None
        return EncoderCore(encoder)
    return core_of(config, inputs, weights, encoder)


def _with_heads(
    network: RecurrentActorCritic, design: AuxiliaryDesign, backbone: Backbone, task: Task
) -> tuple[Tensor, Auxiliary]:
    """The objective, and one vector of the network's parameters and the objective's."""
    objective = design.objective(backbone, task, actions=task.action_space, pictures=max(task.total_steps, 1))
    encoder = set(backbone.parameters())
    heads = [each for each in objective.parameters() if each.requires_grad and each not in encoder]
    weights = network.joined_with(heads)
    return weights, Auxiliary(design, objective, weights, task.total_steps)


def _no_values(obs: Array, is_first: Bools, beginning: Beginning | None) -> Floats:
    return np.zeros(obs.shape[:2], np.float32)
