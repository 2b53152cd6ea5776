"""What PPO, A2C and REINFORCE share: the networks that act, and advantages of a rollout."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlkit import seeding
from rlkit.agents.observations import without_mask
from rlkit.agents.picture_networks import network_observations
from rlkit.agents.policy_config import PolicyConfig, Schedule
from rlkit.agents.policy_network import Optimizer, PolicyNetwork, RolloutTensors
from rlkit.data.replay import require_rows
from rlkit.data.rollout import Rollout, RolloutBatch, minibatches
from rlkit.errors import UsageError
from rlkit.nn.action_heads import action_head, action_head_reason
from rlkit.nn.actor_critic import ActorCritic
from rlkit.nn.cores import EncoderCore
from rlkit.nn.optim import clip_norm
from rlkit.ops.advantages import gae
from rlkit.ops.schedules import STEP_SIZE_KINDS, scheduled_step_size
from rlkit.spaces import observation_reason
from rlkit.types import Array, Bools, Carry, Floats, Metrics, Obs, State, Task, Transition, TunesEncoder

_LOG = logging.getLogger(__name__)
RAW_ACTION, LOG_PROB = "raw_action", "log_prob"
"""Keys of a transition's extras."""


RolloutT = TypeVar("RolloutT", bound=Rollout)
BatchT = TypeVar("BatchT")


class PolicyActor(ABC, Generic[RolloutT, BatchT]):
    """Networks of policy and value that act on the observations of a task, and make batches of what they met."""

    network: PolicyNetwork

    def __init__(self, config: PolicyConfig, task: Task) -> None:
        self.device = torch.device(task.device)
        self._num_envs = task.num_envs
        self._prepare = network_observations(config.encoder, task)
        self.obs_size = math.prod(self._prepare.shape)
        self.head = action_head(task.action_space)
        self._is_box = isinstance(task.action_space, spaces.Box)

    @staticmethod
    def supports(task: Task) -> str | None:
        """None for actions with a distribution and observations that are pictures or flatten, else the reason."""
        reason = action_head_reason(task.action_space)
        return reason or observation_reason(without_mask(task.observation_space))

    @abstractmethod
    def initial_carry(self, num_envs: int) -> Carry:
        """Nothing remembered."""

    @abstractmethod
    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Rows whose episode ended remember nothing."""

    @abstractmethod
    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """Actions [N, *A] drawn from the policy, or its best; extras hold the raw ones and their log-probabilities."""

    @abstractmethod
    def rollout(self, length: int, task: Task) -> RolloutT:
        """An empty rollout; as small as possible for an agent that only acts."""

    def store(self, rollout: RolloutT, step: Transition, carry: Carry) -> None:
        """Append a step whose actions this actor drew, after which it goes on with `carry`.

        Raises:
            UsageError: the step is of another number of environments than the agent was made for.
        """
        require_rows(step, self._num_envs)
        prepare, extras = self.rows, step.extras
        mask = None if self._is_box else step.action_mask
        rollout.add(
            prepare(step.obs), extras[RAW_ACTION], extras[LOG_PROB], step.reward,
            prepare(step.next_obs), step.terminated, step.truncated, mask,
        )  # fmt: skip

    @property
    def weights(self) -> Tensor:
        """All that the optimiser moves, beginning with the network's parameters."""
        return self.network.flat

    def descend(self, optimizer: Optimizer, gradient: Tensor, batch: BatchT, longest: float | None) -> Metrics:
        """Move the weights once against the gradient of the agent's loss by the network's parameters.

        It is cut to length `longest`. Metrics are those of what else the weights learn from. Nothing happens where the
        gradient is not finite.
        """
        if not self.unscale_(gradient):
            return {}
        if longest is not None:
            clip_norm(gradient, longest)
        gradient, metrics = self.with_objective(gradient, batch, longest)
        optimizer.step(gradient)
        self.learned()
        return metrics

    def unscale_(self, gradient: Tensor) -> bool:
        """Bring a gradient to its size, in place; False where it is not finite and no update is to be made."""
        return True

    def with_objective(self, gradient: Tensor, batch: BatchT, longest: float | None) -> tuple[Tensor, Metrics]:
        """The gradient by `weights`, with what an objective besides asks of them, and the objective's metrics."""
        return gradient, {}

    def learned(self) -> None:
        """The weights have changed."""

    def begin_rollout(self, rollout: RolloutT) -> None:
        """Begin the next rollout after an update."""
        rollout.clear()

    @abstractmethod
    def batch(
        self, rollout: RolloutT, gamma: float, gae_lambda: float, *, valued: bool = True, first: int = 0
    ) -> BatchT:
        """A rollout from step `first` on with its advantages, and targets: advantages plus values.

        Those are the network's, or zero where not `valued`.
        """

    @abstractmethod
    def minibatches(self, batch: BatchT, size: int, rng: np.random.Generator) -> Iterator[BatchT]:
        """Every step once in random order, about `size` at a time."""

    @abstractmethod
    def tensors(self, batch: BatchT) -> RolloutTensors:
        """The batch on the device."""

    @abstractmethod
    def policy_state(self) -> State:
        """Weights that acting needs."""

    @abstractmethod
    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""

    @abstractmethod
    def training_state(self) -> State:
        """The other weights, and what belongs to them."""

    @abstractmethod
    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""

    def attention_maps(self, episode: Sequence[Obs]) -> Mapping[str, Array]:
        """See `OnPolicyAgent`."""
        return {}

    def encoder(self) -> EncoderCore:
        """What encodes an observation by itself. Raises UsageError where nothing does."""
        raise UsageError(
            "a policy without an encoder has no features: take a run that sees pictures, or one with --agent.encoder "
            "attention, and no core"
        )

    def tensor(self, obs: Obs) -> Tensor:
        """Observations [N, O] as the network takes them."""
        return self._on_device(self.rows(obs))

    def rows(self, obs: Obs) -> Array:
        """Observations as flat rows [N, O]: uint8 for convolutions, else float32."""
        found = self._prepare.array(obs)
        return found.reshape(len(found), -1)

    def _on_device(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def mean_std(self) -> dict[str, float]:
        """`train/std`, the mean standard deviation of continuous actions; nothing for discrete ones."""
        return {"train/std": float(self.network.log_std.detach().exp().mean())} if self._is_box else {}


class OnPolicyActor(PolicyActor[Rollout, RolloutBatch]):
    """Perceptrons, which remember nothing."""

    network: ActorCritic

    def __init__(self, config: PolicyConfig, task: Task) -> None:
        super().__init__(config, task)
        self.network = ActorCritic(
            self.obs_size, config.hidden, self.head,
            activation=config.activation, log_std=config.initial_log_std,
            generator=seeding.torch_generator(task.seed, "weights"), device=self.device,
        )  # fmt: skip

    def initial_carry(self, num_envs: int) -> Carry:
        """Nothing to remember."""
        return ()

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Nothing to forget."""
        return carry

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """See `PolicyActor`."""
        mask = None if self._is_box else action_mask
        action, raw, log_prob = self.network.act(self.rows(obs), rng if explore else None, mask)
        return action, carry, {} if log_prob is None else {RAW_ACTION: raw, LOG_PROB: log_prob}

    def rollout(self, length: int, task: Task) -> Rollout:
        """See `PolicyActor`."""
        steps, head = (length if task.total_steps else 1), self.head
        return Rollout(steps, task.num_envs, self.obs_size, head.raw_size, head.raw_dtype, head.size)

    def batch(
        self, rollout: Rollout, gamma: float, gae_lambda: float, *, valued: bool = True, first: int = 0
    ) -> RolloutBatch:
        """See `PolicyActor`."""
        found = rollout.evaluate(self.network.values if valued else _no_values, first)
        ends = (found.terminated, found.truncated)
        advantage = gae(found.reward, found.value, found.next_value, *ends, gamma=gamma, lambda_=gae_lambda)
        return rollout.batch(found.value, advantage)

    def minibatches(self, batch: RolloutBatch, size: int, rng: np.random.Generator) -> Iterator[RolloutBatch]:
        """Every step once in random order, `size` at a time."""
        return minibatches(batch, size, rng)

    def tensors(self, batch: RolloutBatch) -> RolloutTensors:
        """The batch on the device."""
        send = self._on_device
        mask = None if batch.action_mask is None else send(batch.action_mask)
        return RolloutTensors(
            send(batch.obs), send(batch.action), send(batch.log_prob), send(batch.advantage),
            send(batch.target), send(batch.value), mask,
        )  # fmt: skip

    def policy_state(self) -> State:
        """Weights of the policy and log stds."""
        return {"policy": self.network.policy.flat, "log_std": self.network.log_std}

    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""
        with torch.no_grad():
            self.network.policy.flat.copy_(state["policy"])
            self.network.log_std.copy_(state["log_std"])

    def training_state(self) -> State:
        """Weights of the value network."""
        return {"value": self.network.value.flat}

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        with torch.no_grad():
            self.network.value.flat.copy_(state["value"])


def policy_actor(config: PolicyConfig, task: Task) -> PolicyActor[Any, Any]:
    """The actor for these options: with a core or an encoder, or without."""
    flat = network_observations(config.encoder, task).image is None
    if flat and config.core == "none" and config.encoder != "attention":
        if config.precision != "fp32":
            raise UsageError(
                f"agent.precision is {config.precision}: perceptrons learn in fp32; it is for pictures, "
                "--agent.core and --agent.encoder attention"
            )
        return OnPolicyActor(config, task)
    from rlkit.agents.sequence_policy import SequenceActor

    return SequenceActor(config, task)


class OnPolicyAgent(TunesEncoder):
    """What PPO, A2C and REINFORCE do alike: they act by their actor, and remember what it does."""

    actor: PolicyActor[Any, Any]

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for Discrete, MultiDiscrete and float Box actions and pictures or what flattens, else the reason."""
        return PolicyActor.supports(task)

    def initial_carry(self, num_envs: int) -> Carry:
        """Nothing remembered."""
        return self.actor.initial_carry(num_envs)

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Rows whose episode ended remember nothing."""
        return self.actor.reset_carry(carry, ended)

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """Actions drawn from the policy, or its most probable ones."""
        return self.actor.act(obs, carry, explore=explore, rng=rng, action_mask=action_mask)

    def attention_maps(self, episode: Sequence[Obs]) -> Mapping[str, Array]:
        """What the policy attends to at each of T steps, from their observations [1, *O]; empty if to nothing.

        Weights [T, T] by layer and head, of a step's attention to earlier ones; [T, tokens] by head, to the parts of
        the observation.
        """
        return self.actor.attention_maps(episode)

    @property
    def feature_size(self) -> int:
        """D, the width of `features`."""
        return self.actor.encoder().size

    @torch.inference_mode()
    def features(self, obs: Obs) -> Floats:
        """What the encoder gives, float32 [N, D]: frozen features for another agent.

        Raises:
            UsageError: there is none, or a core that makes them depend on what came before.
        """
        found: Floats = self.actor.encoder().encoder(self.actor.tensor(obs)).cpu().numpy()
        return found

    def policy_state(self) -> State:
        """The policy's weights."""
        return self.actor.policy_state()

    def load_policy_state(self, state: State) -> None:
        """Restore the policy's weights."""
        self.actor.load_policy_state(state)


def _no_values(obs: Floats) -> Floats:
    return np.zeros(len(obs), np.float32)


def warn_of_short_run(n_steps: int, task: Task) -> None:
    """Say that a run ends before its first rollout is full, so that nothing is learned."""
    rollout = n_steps * task.num_envs
    if 1 < task.total_steps < rollout:
        _LOG.warning(
            "a rollout is %s env steps and the run %s: it will learn nothing; choose a smaller --agent.n-steps or a "
            "larger --total-steps",
            f"{rollout:,}", f"{task.total_steps:,}",
        )  # fmt: skip


def scheduled(schedule: Schedule, initial: float, env_steps: int, total_steps: int) -> float:
    """A learning rate or clip range after `env_steps` of `total_steps`.

    >>> scheduled("linear", 0.2, 75, 100)
    0.05
    """
    return scheduled_step_size(STEP_SIZE_KINDS.index(schedule), initial, 1.0, total_steps, 1, env_steps)
