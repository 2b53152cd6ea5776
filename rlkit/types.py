"""The words every floor shares: transitions, tasks, and the protocols agents and learners follow.

Axis letters: N parallel environments, B batch, T time, A actions, O one observation. Every array has a leading
axis N (or B), also for one environment. Observations may be arrays, dicts or tuples of observations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from rlkit.mdp import Dynamics, FiniteMDP

if TYPE_CHECKING:
    import gymnasium

Array: TypeAlias = npt.NDArray[Any]
Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float32]
Obs: TypeAlias = "Array | dict[str, Obs] | tuple[Obs, ...]"
Metrics: TypeAlias = Mapping[str, float]
"""Numbers by `group/name`, e.g. `train/critic_loss`; hooks write them, agents only return them."""
State: TypeAlias = dict[str, Any]
"""A tree of dicts, lists, tuples, plain values, numpy arrays and torch tensors: what `rlkit.checkpoint` can store."""
Carry: TypeAlias = Any
"""What an agent remembers between two calls of `act`; `()` for agents without memory."""


GoalReward: TypeAlias = Callable[[Array, Array, Sequence[Mapping[str, Any]]], Any]
"""Rewards [B] for achieved goals [B, *G], desired goals [B, *G] and infos: an environment's `compute_reward`."""


@dataclass(frozen=True)
class Task:
    """All an agent is told when it is built; the API fills it from the environments.

    `total_steps` is the horizon of schedules in env steps; 0 where the agent will only act (`rlkit.load`), so that it
    need not claim memory for replay. `model` is there where the environment tells its transitions, `dynamics` where the
    compiled engine can step it; `load_actor` loads the policy of a run folder, for agents that follow or evaluate it;
    `compute_reward` is there where observations hold goals; `encoder`, a `rlkit.nn.backbones.Backbone`, where an agent
    that is marked by `TunesEncoder` is to learn on from it; `auxiliary`, a `rlkit.perception.ssl.auxiliary` design,
    where the encoder of such an agent learns by an objective besides.
    """

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    num_envs: int = 1
    total_steps: int = 1
    seed: int = 0
    device: str = "cpu"
    model: FiniteMDP | None = None
    dynamics: Dynamics | None = None
    load_actor: Callable[[str], Actor] | None = None
    frame_stack: int = 1
    encoder: object | None = None
    auxiliary: object | None = None
    compute_reward: GoalReward | None = None


@dataclass(frozen=True, slots=True)
class VectorStep:
    """One step of N environments. Rows whose episode ended are already reset."""

    obs: Obs  # [N, *O] what to act on next: the reset observation in rows whose episode ended
    next_obs: Obs  # [N, *O] the true successor; the very same object as obs when no row ended
    reward: npt.NDArray[np.float64]  # [N]
    terminated: Bools  # [N]
    truncated: Bools  # [N], False where terminated
    infos: tuple[dict[str, Any], ...]  # the step's own info per row
    reset_infos: tuple[dict[str, Any] | None, ...]  # the reset's info, None in rows that did not end
    raw_reward: npt.NDArray[np.float64] | None = None  # [N] the environment's own, where a wrapper changed `reward`
    action_mask: Bools | None = None  # [N, A], or [N, sum(nvec)]: what is allowed in `obs`; None without masks
    next_action_mask: Bools | None = None  # the same for `next_obs`

    @property
    def env_reward(self) -> npt.NDArray[np.float64]:
        """The environment's own rewards [N], what an episode's return is counted in."""
        return self.reward if self.raw_reward is None else self.raw_reward

    @property
    def ended(self) -> Bools:
        """Rows whose episode ended in this step, bool [N]."""
        return self.terminated | self.truncated


class VectorEnv(Protocol):
    """N environments with reset in the same step; `rlkit.envs.make` builds them."""

    @property
    def num_envs(self) -> int:
        """N."""

    @property
    def single_observation_space(self) -> gymnasium.Space[Any]:
        """Observation space of one environment."""

    @property
    def single_action_space(self) -> gymnasium.Space[Any]:
        """Action space of one environment."""

    @property
    def frame_stack(self) -> int:
        """Frames in one observation's first axis, where a frame-stack wrapper announces itself; otherwise 1."""

    @property
    def restore_tier(self) -> str:
        """`exact` or `reset`, see `rlkit.envs.restore`; probed on first use."""

    def reset(self, seed: int) -> tuple[Obs, tuple[dict[str, Any], ...]]:
        """Observations [N, *O] of new episodes. Later episodes continue each environment's own generator."""

    def step(self, action: Any, reset_states: Sequence[object | None] | None = None) -> VectorStep:
        """One step. `reset_states[i]`, where given, becomes `options={"state": …}` if row i's episode ends."""

    def get_state(self) -> State:
        """Plain tree from which `set_state` continues."""

    def set_state(self, state: State) -> tuple[Obs, tuple[dict[str, Any], ...]] | None:
        """Continue from `get_state`'s tree in environments built the same way.

        Returns None where the next step continues exactly. In the tier `reset`, new episodes begin: returns what
        `reset` would, which replaces what the caller kept.
        """

    def close(self) -> None:
        """Release everything; safe to call twice."""


Episode: TypeAlias = tuple[float, int]
"""Undiscounted return and length in env steps of one finished training episode."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a self-driven agent reports: total env steps so far, and what happened since the last report.

    `has_converged`: there is nothing left to learn, so this report is the last.
    """

    step: int
    episodes: Sequence[Episode] = ()
    metrics: Metrics = field(default_factory=dict)
    has_converged: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of N environments.

    `next_obs` is the TRUE successor, also in rows whose episode ended. `terminated` cuts the bootstrap; `truncated`
    only ends the trace. `extras` holds what `act` returned besides the action, each with leading axis N.
    """

    obs: Obs  # [N, *O]
    action: Array  # [N, *A]
    reward: Floats  # [N]
    next_obs: Obs  # [N, *O]
    terminated: Bools  # [N]
    truncated: Bools  # [N]
    action_mask: Bools | None = None  # [N, A], or [N, sum(nvec)] for MultiDiscrete
    next_action_mask: Bools | None = None
    extras: Mapping[str, Array] = field(default_factory=dict)

    @property
    def ended(self) -> Bools:
        """Rows whose episode ended in this step, bool [N]."""
        return self.terminated | self.truncated


class Actor(Protocol):
    """What evaluation, checkpoints and the command line need of an agent."""

    def initial_carry(self, num_envs: int) -> Carry:
        """Carry of `num_envs` fresh episodes."""

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Carry with the rows in `ended` (bool [N]) as in a fresh episode."""

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """Actions [N, *A] in the environment's units, the next carry, and extras for the transition.

        Changes nothing but the carry it returns: same inputs and generator state, same action.
        """

    def policy_state(self) -> State:
        """Weights: enough to act."""

    def load_policy_state(self, state: State) -> None:
        """Restore what `policy_state` returned."""


@runtime_checkable
class RewardAware(Protocol):
    """An actor that acts by the rewards it gets, such as a policy that is told what return is still to be reached."""

    def rewarded(self, carry: Carry, reward: npt.NDArray[np.float64]) -> Carry:
        """The carry once the environment's own rewards [N] of the last actions are known.

        Called between `act` and `reset_carry`, in training, evaluation and `predict`.
        """


class TunesEncoder:
    """Marks agents whose networks begin with `Task.encoder`, where there is one, and take `Task.auxiliary`."""


@runtime_checkable
class Agent(Actor, Protocol):
    """What the loop drives: act, observe, update."""

    def observe(self, step: Transition, carry: Carry) -> None:
        """Store one step of N environments. `carry` is what the next `act` receives, read-only."""

    def update(self) -> Metrics:
        """Learn if learning is due; `{}` when nothing was due."""

    def training_state(self) -> State:
        """Optimisers, replay, counters, generators: all that training needs besides `policy_state`."""

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""


@runtime_checkable
class SelfDriven(Actor, Protocol):
    """An agent that owns its loop: the compiled tabular engine, a stable-baselines3 algorithm."""

    def train_on(
        self, task: Task, make_env: Callable[[], VectorEnv], until_step: int, hook: Callable[[Progress], bool]
    ) -> None:
        """Train until `until_step` env steps in total; call again to go on.

        Calls `hook` whenever its state is complete, and returns at once where the hook answers False.
        """

    def training_state(self) -> State:
        """Complete whenever the hook fires."""

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""


class Learner(Protocol):
    """What `loop.fit` drives: self-supervised objectives and detectors."""

    def learn(self, batch: Any) -> Metrics:
        """Exactly one update from given data."""

    def policy_state(self) -> State:
        """Weights: enough to use the encoder or detector."""

    def load_policy_state(self, state: State) -> None:
        """Restore what `policy_state` returned."""

    def training_state(self) -> State:
        """All the rest."""

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
