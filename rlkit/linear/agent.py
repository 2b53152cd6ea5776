"""`LinearAgent`: an agent whose values are linear in features, stepped or compiled by the engine of `rlkit.tabular`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rlkit.errors import UsageError
from rlkit.linear.building import features_of
from rlkit.linear.observations import EncodedObservations, Observations, linear_reason
from rlkit.linear.options import LinearControlConfig, LinearPredictionConfig, new_linear
from rlkit.linear.policies import policy_rows, require_coverage
from rlkit.linear.weights import Linear, best_action, epsilon_now, slot_of_row, state_value, value
from rlkit.mdp import Floats64, Integers
from rlkit.tabular.arrays import arrays_of, load_arrays
from rlkit.tabular.compiled import compiled
from rlkit.tabular.engine import EngineAgent
from rlkit.tabular.handles import Handle, content_of
from rlkit.tabular.learner import OK, OUTSIDE, look_up
from rlkit.tabular.rules import drawn_action
from rlkit.types import Array, Metrics, Obs, State, Task


class LinearAgent(EngineAgent):
    """What all linear agents share: features, and weights of them. Values of finite observations are those of a table.

    Attributes:
        observations: how observations become numbers.
    """

    Config: ClassVar[Any] = LinearControlConfig
    observations: Observations

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for Discrete actions and observations of numbers, else the reason."""
        return linear_reason(task)

    @classmethod
    def _is_compiled(cls, config: Any, task: Task) -> bool:
        if config.features != "encoder":
            return super()._is_compiled(config, task)
        if config.engine == "compiled":
            raise UsageError("--agent.features encoder asks a network for every observation; use --agent.engine step")
        return False

    def _look_at(self, task: Task) -> None:
        config: Any = self.config
        encoded = config.features == "encoder"
        self.observations = (
            EncodedObservations(task, config.encoder) if encoded else Observations(task.observation_space)
        )

    def _linear(self, config: Any, task: Task, *, policy: Floats64 | None = None) -> Linear:
        """Action values, of the ε-greedy policy or of one that is given."""
        features = features_of(config, self.observations, self.num_actions)
        return new_linear(config, task, features, self.num_actions, self.num_actions, policy=policy)

    @property
    def linear(self) -> Linear:
        """Weights, features and policies of the learner."""
        linear: Linear = self.learner.linear
        return linear

    @property
    def weights(self) -> Floats64:
        """[A, F], or [1, F] for state values."""
        return self.linear.weights

    def perceived(self, obs: Obs) -> Floats64:
        """Numbers, float64 [N, O]."""
        return self.observations(obs)

    def best_actions(self, perceived: Array, rng: np.random.Generator) -> Integers:
        """The first of the best actions; prediction acts by the policy that it evaluates."""
        actions, drawn = np.empty(len(perceived), np.int64), np.zeros(len(perceived))
        if self._is_prediction():
            drawn = rng.random(len(perceived))
        self._require_ok(_best_rows(self._handle, perceived, drawn, actions))
        return actions

    def greedy_actions(self, states: Integers, rng: np.random.Generator) -> Integers:
        """What it would do in rows of a finite observation space, int64 [N] from 0."""
        return self.best_actions(self.observations.of_rows(states), rng)

    def state_values(self) -> Floats64:
        """V(s), or the value of the best action, of every row [S] of a finite observation space; else [0]."""
        values = np.empty(self.observations.num_rows if self.observations.is_finite else 0)
        _values_of_rows(self._handle, values)
        return values

    def values(self, obs: Obs) -> Floats64:
        """V(s) [N, 1], or Q(s, ·) [N, A], of observations."""
        perceived = self.perceived(obs)
        found = np.empty((len(perceived), len(self.weights)))
        self._require_ok(_values_of(self._handle, perceived, found))
        return found

    def feature_matrix(self) -> Floats64:
        """Features [S, F] of every row of a finite observation space."""
        matrix = np.zeros((self.observations.num_rows, self.linear.features.size))
        _fill_features(self._handle, matrix)
        return matrix

    def _is_prediction(self) -> bool:
        return len(self.weights) == 1 and len(self.linear.policy) > 0

    def evaluated_policy(self) -> Floats64 | None:
        """The policy [S, A] whose values are predicted; None for control, which aims at the best."""
        linear = self.linear
        if not self._is_prediction():
            return None
        policy = linear.target if len(linear.target) else linear.policy
        return np.broadcast_to(policy, (self.observations.num_rows, self.num_actions))

    def policy_state(self) -> State:
        """Weights, features, and what else the learner's choices depend on."""
        return arrays_of(self.linear)

    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""
        load_arrays(self.linear, state)

    def _memory(self) -> State:
        return {name: tree for name, tree in arrays_of(self.learner).items() if name != "linear"}

    def metrics(self) -> Metrics:
        """What is worth a curve; the truth about values is the evaluation's."""
        linear = self.linear
        metrics = {"train/largest_weight": float(np.abs(linear.weights).max())}
        if linear.exploration.initial > 0.0 and not len(linear.policy):
            metrics["train/epsilon"] = float(epsilon_now(linear))
        return metrics


class LinearPrediction(LinearAgent):
    """State values of a given policy, which is followed."""

    Config: ClassVar[Any] = LinearPredictionConfig

    def _predicted(self, config: Any, task: Task, *, followed: str | None = None) -> Linear:
        """State values of the policy that the options name; `followed` names another to follow."""
        features = features_of(config, self.observations, 1)
        evaluated = policy_rows(config.policy, task, self.observations, config.gamma)
        if followed is None:
            return new_linear(config, task, features, 1, self.num_actions, policy=evaluated)
        policy = policy_rows(followed, task, self.observations, config.gamma)
        require_coverage(evaluated, policy)
        return new_linear(config, task, features, 1, self.num_actions, policy=policy, target=evaluated)


@compiled
def _best_rows(handle: Handle, observations: Floats64, drawn: Floats64, actions: Integers) -> int:
    learner = content_of(handle)
    linear = learner.linear
    for row in range(len(observations)):
        slot = look_up(learner, observations, row, -1)
        if slot < 0:
            return OUTSIDE
        if linear.weights.shape[0] > 1:
            actions[row] = best_action(linear, slot)
        else:
            policy = linear.target if linear.target.shape[0] > 0 else linear.policy
            actions[row] = drawn_action(policy[linear.scratch.rows[slot] if policy.shape[0] > 1 else 0], drawn[row])
    return OK


@compiled
def _values_of_rows(handle: Handle, values: Floats64) -> None:
    linear = content_of(handle).linear
    for state in range(len(values)):
        values[state] = state_value(linear, slot_of_row(linear, state))


@compiled
def _values_of(handle: Handle, observations: Floats64, values: Floats64) -> int:
    learner = content_of(handle)
    linear = learner.linear
    for row in range(len(observations)):
        slot = look_up(learner, observations, row, -1)
        if slot < 0:
            return OUTSIDE
        for column in range(values.shape[1]):
            values[row, column] = value(linear, column, slot)
    return OK


@compiled
def _fill_features(handle: Handle, matrix: Floats64) -> None:
    linear = content_of(handle).linear
    for state in range(len(matrix)):
        slot = slot_of_row(linear, state)
        for k in range(linear.scratch.indices.shape[1]):
            matrix[state, linear.scratch.indices[slot, k]] += linear.scratch.values[slot, k]
