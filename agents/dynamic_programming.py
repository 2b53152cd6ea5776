"""Dynamic programming with a known model (Sutton and Barto 2018, chapter 4; Zhao 2025, chapter 4).

These agents own their loop and touch no environment. A step is a sweep over all states, or an iteration of policy
iteration, and what runs in it is `rlkit.tabular.planning`. Training ends when nothing changes any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pydantic import Field

from rlkit import seeding
from rlkit.config import AgentConfig
from rlkit.errors import ModelError
from rlkit.mdp import FiniteMDP, Floats64, Integers
from rlkit.tabular.given import policy_table
from rlkit.tabular.indexing import TableIndex
from rlkit.tabular.planning import (
    Sweeping,
    improve,
    model_of,
    new_sweeping,
    optimality_sweep,
    policy_sweep,
    prioritized_updates,
    random_updates,
)
from rlkit.tabular.streams import stream
from rlkit.types import Array, Bools, Carry, Obs, Progress, State, Task, VectorEnv


class PlanningConfig(AgentConfig):
    """What all of dynamic programming has."""

    gamma: float = Field(0.99, ge=0.0, le=1.0)
    """discount of the next value"""
    tolerance: float = Field(1e-10, gt=0.0)
    """greatest change of a value in a sweep at which it has converged"""


class _Planner:
    """Values [S] and a greedy policy, improved by `_improve` until it says that nothing changes."""

    Config: ClassVar[type[PlanningConfig]] = PlanningConfig

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None where the environment tells its transitions, else the reason."""
        if task.model is None:
            return "planning needs an environment that tells its transitions (transition_model(), or toy text's P)"
        return None

    def __init__(self, config: Any, task: Task) -> None:
        assert task.model is not None
        assert isinstance(task.action_space, spaces.Discrete)
        self.config = config
        self.mdp: FiniteMDP = task.model
        self._model = model_of(task.model, config.gamma)
        self._index = TableIndex(task.observation_space)
        self._first_action, self._action_type = int(task.action_space.start), task.action_space.dtype
        self.values: Floats64 = np.zeros(task.model.num_states)
        self.chosen: Integers = np.zeros(task.model.num_states, np.int64)
        self._step = 0
        self._has_converged = False
        self._prepare(config, task)

    def _prepare(self, config: Any, task: Task) -> None:
        """What a method needs besides."""

    def _improve(self) -> tuple[Mapping[str, float], bool]:
        """One step: its metrics, and whether it has converged."""
        raise NotImplementedError

    def initial_carry(self, num_envs: int) -> Carry:
        """Nothing to remember."""
        return ()

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Nothing to forget."""
        return carry

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """Greedy actions [N]; planning has no need to explore."""
        actions = self.greedy_actions(self._index.rows(obs), rng)
        return (actions + self._first_action).astype(self._action_type), carry, {}

    def greedy_actions(self, states: Integers, rng: np.random.Generator) -> Integers:
        """The policy's actions, int64 [N]."""
        chosen: Integers = self.chosen[states]
        return chosen

    def train_on(
        self, task: Task, make_env: Callable[[], VectorEnv], until_step: int, hook: Callable[[Progress], bool]
    ) -> None:
        """Improve until nothing changes, or until `until_step` steps."""
        while self._step < until_step and not self._has_converged:
            metrics, self._has_converged = self._improve()
            self._step += 1
            if not hook(Progress(self._step, (), metrics, self._has_converged)):
                return

    def _make_greedy(self) -> int:
        """Let the policy be greedy; how many states changed their action."""
        return improve(self._model, self.values, self.chosen)

    @property
    def gamma(self) -> float:
        """Discount γ of the values."""
        gamma: float = self.config.gamma
        return gamma

    def state_values(self) -> Floats64:
        """V(s), [S]."""
        return self.values

    def evaluated_policy(self) -> Floats64 | None:
        """None: planning aims at the best policy."""
        return None

    def policy_state(self) -> State:
        """Values and greedy actions."""
        return {"values": self.values, "chosen": self.chosen}

    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""
        self.values[:], self.chosen[:] = state["values"], state["chosen"]

    def training_state(self) -> State:
        """Where the method is."""
        return {"step": self._step, "has_converged": self._has_converged}

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        self._step, self._has_converged = state["step"], state["has_converged"]


class ValueIteration(_Planner):
    """Every state's value becomes that of its best action, all at once (equation 4.10)."""

    def _prepare(self, config: PlanningConfig, task: Task) -> None:
        self._new = np.empty_like(self.values)

    def _improve(self) -> tuple[Mapping[str, float], bool]:
        change = optimality_sweep(self._model, self.values, self._new)
        self.values[:] = self._new
        changed = self._make_greedy()
        return {"train/value_change": change, "train/policy_changes": float(changed)}, change < self.config.tolerance


class AsynchronousValueIterationConfig(PlanningConfig):
    """Options of asynchronous value iteration."""

    in_order: bool = False
    """sweep the states in order, in place, instead of drawing them at random"""


class AsynchronousValueIteration(_Planner):
    """One state at a time, in place, in random order (section 4.5); a step is as many updates as there are states."""

    Config = AsynchronousValueIterationConfig

    def _prepare(self, config: AsynchronousValueIterationConfig, task: Task) -> None:
        self._rng = seeding.generator(task.seed, "planner")
        self._stream = stream(self._rng)

    def _improve(self) -> tuple[Mapping[str, float], bool]:
        if self.config.in_order:
            change = optimality_sweep(self._model, self.values, self.values)
        else:
            random_updates(self._model, self.values, self._stream, len(self.values))
            change = optimality_sweep(self._model, self.values, np.empty_like(self.values))  # only measures
        changed = self._make_greedy()
        return {"train/value_change": change, "train/policy_changes": float(changed)}, change < self.config.tolerance

    def training_state(self) -> State:
        """Also the order to come."""
        return super().training_state() | {"rng": self._rng.bit_generator.state}

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        super().load_training_state(state)
        self._rng.bit_generator.state = state["rng"]


class PrioritizedSweeping(_Planner):
    """Always the state whose value would change most (Moore and Atkeson 1993); a step is as many updates as states."""

    def _prepare(self, config: PlanningConfig, task: Task) -> None:
        self._sweeping: Sweeping = new_sweeping(self.mdp, self._model, self.values)

    def _improve(self) -> tuple[Mapping[str, float], bool]:
        change = prioritized_updates(self._model, self._sweeping, self.values, len(self.values), self.config.tolerance)
        changed = self._make_greedy()
        return {"train/value_change": change, "train/policy_changes": float(changed)}, change < self.config.tolerance

    def training_state(self) -> State:
        """Also the priorities."""
        return super().training_state() | {"priority": self._sweeping.priority}

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        super().load_training_state(state)
        self._sweeping.priority[:] = state["priority"]


class PolicyEvaluationConfig(PlanningConfig):
    """Options of policy evaluation."""

    policy: str = "uniform"
    """uniform, always-K (action K), stick-K (Blackjack: hit below K), optimal, or a run's folder"""


class PolicyEvaluation(_Planner):
    """The state values of a given policy, sweep by sweep (equation 4.5)."""

    Config = PolicyEvaluationConfig

    def _prepare(self, config: PolicyEvaluationConfig, task: Task) -> None:
        self.policy = policy_table(config.policy, task, config.gamma)
        self._new = np.empty_like(self.values)

    def _improve(self) -> tuple[Mapping[str, float], bool]:
        change = policy_sweep(self._model, self.values, self.policy, self._new)
        self.values[:] = self._new
        return {"train/value_change": change}, change < self.config.tolerance

    def greedy_actions(self, states: Integers, rng: np.random.Generator) -> Integers:
        """Actions drawn from the policy that is evaluated, int64 [N]."""
        drawn = rng.random((len(states), 1))
        sampled: Integers = (self.policy[states].cumsum(axis=1) > drawn).argmax(axis=1)
        return sampled

    def evaluated_policy(self) -> Floats64 | None:
        """The policy [S, A]."""
        return self.policy


class TruncatedPolicyIterationConfig(PlanningConfig):
    """Options of truncated policy iteration."""

    sweeps: int = Field(5, ge=1)
    """evaluation sweeps before each improvement; 1 is value iteration, many are policy iteration"""


class TruncatedPolicyIteration(_Planner):
    """Policy iteration with a few evaluation sweeps (generalised policy iteration, section 4.6; Zhao 2025, 4.3)."""

    Config = TruncatedPolicyIterationConfig

    def _prepare(self, config: TruncatedPolicyIterationConfig, task: Task) -> None:
        self._new = np.empty_like(self.values)

    def _improve(self) -> tuple[Mapping[str, float], bool]:
        changed = self._make_greedy()
        policy = np.eye(self.mdp.num_actions)[self.chosen]
        change = 0.0
        for sweep in range(self.config.sweeps):
            moved = policy_sweep(self._model, self.values, policy, self._new)
            self.values[:] = self._new
            change = moved if sweep == 0 else change
        # the first sweep under a freshly greedy policy is one of value iteration: it measures the distance
        return {"train/value_change": change, "train/policy_changes": float(changed)}, change < self.config.tolerance


class PolicyIterationConfig(PlanningConfig):
    """Options of policy iteration."""

    max_sweeps: int = Field(1_000_000, ge=1)
    """sweeps of one evaluation; more are an error, because the policy's values do not settle"""


class PolicyIteration(_Planner):
    """Evaluate the policy fully, then let it be greedy, until it stays the same (section 4.3). Begins uniform."""

    Config = PolicyIterationConfig

    def _prepare(self, config: PolicyIterationConfig, task: Task) -> None:
        self._is_uniform = True

    def _improve(self) -> tuple[Mapping[str, float], bool]:
        count = self.mdp.num_actions
        policy = np.full((len(self.values), count), 1.0 / count) if self._is_uniform else np.eye(count)[self.chosen]
        change = self._evaluate(policy)
        changed = self._make_greedy()
        stable = changed == 0 and not self._is_uniform
        self._is_uniform = False
        return {"train/value_change": change, "train/policy_changes": float(changed)}, stable

    def _evaluate(self, policy: Floats64) -> float:
        """Sweeps in place until no value moves; how far this policy's values are from the last one's."""
        before = self.values.copy()
        for _ in range(self.config.max_sweeps):
            if policy_sweep(self._model, self.values, policy, self.values) < self.config.tolerance:
                return float(np.abs(self.values - before).max())
        raise ModelError(
            f"the values of a policy do not settle in {self.config.max_sweeps:,} sweeps: with gamma "
            f"{self.config.gamma:g} it may never end an episode; lower --agent.gamma"
        )

    def training_state(self) -> State:
        """Also whether the first policy is still the uniform one."""
        return super().training_state() | {"is_uniform": self._is_uniform}

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        super().load_training_state(state)
        self._is_uniform = state["is_uniform"]
