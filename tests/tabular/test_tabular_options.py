"""Wrong options and unsuitable environments stop before the first step, with the allowed range and the next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit.errors import (
    ConfigError,
    EnvironmentFault,
    ModelError,
    NonFiniteError,
    UnsupportedTaskError,
    UsageError,
)
from rlkit.mdp import FiniteMDP
from rlkit.tabular.engine import CompiledLoop


@pytest.mark.parametrize(
    ("agent", "option", "value", "told"),
    [
        ("q-learning", "epsilon", 1.5, "less than or equal to 1"),
        ("q-learning", "epsilon", -0.1, "greater than or equal to 0"),
        ("sarsa", "gamma", 1.1, "less than or equal to 1"),
        ("sarsa", "learning_rate", 0.0, "greater than 0"),
        ("sarsa", "learning_rate_exponent", 0.5, "greater than 0.5"),
        ("sarsa-lambda", "lam", 1.01, "less than or equal to 1"),
        ("n-step-td", "n", 0, "greater than or equal to 1"),
        ("q-sigma", "sigma", 2.0, "less than or equal to 1"),
        ("dyna-q", "planning_steps", -1, "greater than or equal to 0"),
        ("td-lambda", "traces", "dutchy", "accumulating"),
        ("q-learning", "epsilon_schedule", "linaer", "linear"),
        ("mc-basic", "episode_length", 0, "greater than or equal to 1"),
        ("value-iteration", "tolerance", 0.0, "greater than 0"),
    ],
)
def test_improper_options_are_told_with_what_is_allowed(agent: str, option: str, value: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=option.replace("_", "[_-]")) as raised:
        rlkit.make(agent, "FrozenLake-v1", **{option: value})
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("policy", "env", "told"),
    [
        ("unifrom", "FrozenLake-v1", "did you mean 'uniform'"),
        ("always-9", "FrozenLake-v1", "has 4 actions"),
        ("stick-20", "FrozenLake-v1", "is for Blackjack"),
        ("optimal", "Blackjack-v1", "transitions are known"),
        ("runs/nowhere", "FrozenLake-v1", "runs/nowhere"),
    ],
)
def test_unknown_policies_are_told_with_what_is_allowed(policy: str, env: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        rlkit.make("td-0", env, policy=policy)


def test_continuous_observations_and_too_large_tables_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match=r"discretize:bins=10[\s\S]*agents that can: random, .*sb3/dqn"):
        rlkit.make("q-learning", "CartPole-v1")
    with pytest.raises(UnsupportedTaskError, match="100,000,000 states and 2 actions is too large"):
        rlkit.train("sarsa", "CartPole-v1", wrap=("discretize:bins=100,low=-3,high=3",), total_steps=10)


def test_planning_without_a_model_says_what_it_needs() -> None:
    with pytest.raises(UnsupportedTaskError, match="tells its transitions"):
        rlkit.make("value-iteration", "Blackjack-v1")


class Endless(gym.Env[Any, Any]):
    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: Any) -> Any:
        return int(action), 1.0, False, False, {}


@pytest.mark.parametrize("agent", ["monte-carlo", "mc-prediction", "mc-off-policy", "tabular-reinforce"])
def test_monte_carlo_on_an_endless_environment_says_so(agent: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"has not ended within[\s\S]*time-limit"):
        rlkit.train(
            agent, Endless, total_steps=1000, run_dir=tmp_path / "run", eval_every=0,
            agent_config={"max_episode_steps": 100},
        )  # fmt: skip


def test_mc_basic_needs_to_begin_where_it_wants() -> None:
    with pytest.raises(UnsupportedTaskError, match="begins episodes in every state"):
        rlkit.make("mc-basic", "Blackjack-v1")


ONE = np.ones((1, 1, 1))


@pytest.mark.parametrize(
    ("probability", "reward", "told"),
    [
        (np.full((2, 1, 2), 0.4), np.zeros((2, 1)), "action 0 in state 0 .* sum to 0.8"),
        (np.ones((2, 3)), np.zeros((2, 3)), r"need \[S, A, S\]"),
        (ONE, np.zeros((2, 2)), "allowed: "),
        (ONE, np.full((1, 1), np.inf), "not finite"),
        (np.full((1, 1, 1), np.nan), np.zeros((1, 1)), "sum to nan"),
    ],
)
def test_arrays_that_are_no_model_are_refused(probability: Any, reward: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        FiniteMDP.from_arrays(probability, reward)


def test_a_pair_of_arrays_is_an_environment(tmp_path: Path) -> None:
    from rlkit.envs.finite import FiniteMDPEnv

    probability = np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    mdp = FiniteMDP.from_arrays(probability, np.array([[5.0, 1.0], [0.0, 0.0]]), terminal=[False, True])
    result = rlkit.train(
        "value-iteration", lambda: FiniteMDPEnv(mdp), run_dir=tmp_path / "run", agent_config={"gamma": 0.9}
    )
    assert result.agent.values == pytest.approx([10.0, 0.0])
    assert result.agent.chosen[0] == 1


def test_gamma_1_where_values_grow_for_ever_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lower --agent\.gamma|lower gamma"):
        rlkit.train(
            "policy-iteration", "rlkit/CourseGrid-v0", run_dir=tmp_path / "run", eval_every=0,
            agent_config={"gamma": 1.0, "max_sweeps": 1000},
        )  # fmt: skip


class Wandering(Endless):
    """Its observations leave their space."""

    def step(self, action: Any) -> Any:
        return 5, 0.0, False, False, {}


class Misfit(Endless):
    def transition_model(self) -> FiniteMDP:
        return FiniteMDP.from_arrays(np.ones((1, 1, 1)), np.zeros((1, 1)))


class Physics(Endless):
    """Has a method of the name, but of another meaning."""

    def dynamics(self, x: Any, u: Any) -> Any:
        raise AssertionError("nobody should call this")


def test_observations_outside_their_space_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="outside its space, which has 2 values"):
        rlkit.train("q-learning", Wandering, total_steps=10, run_dir=tmp_path / "run", eval_every=0)


def test_a_model_that_does_not_fit_the_spaces_is_refused() -> None:
    with pytest.raises(ModelError, match="1 states and 1 actions, its spaces have 2 and 2"):
        rlkit.make("q-learning", Misfit)


def test_methods_of_foreign_environments_are_left_alone() -> None:
    assert rlkit.make("q-learning", Physics).index.num_states == 2


def test_nan_falls_into_no_bin() -> None:
    from rlkit.envs.wrappers import Discretize

    with pytest.raises(NonFiniteError, match="falls into no bin"):
        Discretize(gym.make("MountainCar-v0")).observation(np.array([np.nan, 0.0]))  # type: ignore[attr-defined]


def test_an_exponential_schedule_needs_positive_ends() -> None:
    for epsilons in ({"epsilon": 0.0}, {"final_epsilon": 0.0}):
        with pytest.raises(ConfigError, match="use linear to reach 0"):
            rlkit.make("q-learning", "FrozenLake-v1", epsilon_schedule="exponential", **epsilons)


def test_double_learning_averages_each_table_by_its_own_visits() -> None:
    agent: Any = rlkit.make("double-q-learning", "FrozenLake-v1", learning_rate_schedule="sample-average")
    agent.advance(5_000, 5_000)
    assert agent.tables.visits.shape == (32, 4)
    assert agent.tables.visits.sum() == 5_000
    assert abs(int(agent.tables.visits[:16].sum()) - 2_500) < 250


@pytest.mark.parametrize("engine", ["compiled", "step"])
@pytest.mark.parametrize("agent", ["q-learning", "sarsa", "monte-carlo", "n-step-sarsa"])
def test_control_with_a_single_action_is_still_control(agent: str, engine: str, tmp_path: Path) -> None:
    result = rlkit.train(
        agent, "rlkit/RandomWalk5-v0", total_steps=400, run_dir=tmp_path / "run", eval_every=200,
        agent_config={"engine": engine},
    )  # fmt: skip
    assert result.final_return is not None
    assert result.agent.evaluated_policy() is None


def test_a_subclass_with_a_step_of_its_own_is_stepped() -> None:
    from rlkit.envs.grid_world import CourseGrid

    class Slippery(CourseGrid):
        def step(self, action: Any) -> Any:
            return super().step(0)

    assert isinstance(rlkit.make("q-learning", CourseGrid), CompiledLoop)
    assert not isinstance(rlkit.make("q-learning", Slippery), CompiledLoop)


def test_off_policy_prediction_acts_by_the_policy_it_evaluates() -> None:
    agent: Any = rlkit.make("mc-off-policy-prediction", "FrozenLake-v1", policy="always-2", behaviour="uniform")
    assert agent.greedy_actions(np.arange(16), np.random.default_rng(0)).tolist() == [2] * 16
