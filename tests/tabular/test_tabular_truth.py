"""What evaluation logs where the model is known, and how planning ends."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlkit
from rlkit import api
from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import optimal_action_values
from rlkit.tabular.truth import Truth, reachable_states

CHAIN = FiniteMDP.from_outcomes(
    [[[(1.0, 1, 0.0, False)], [(1.0, 0, 0.0, True)]], [[(1.0, 1, 1.0, True)], [(1.0, 0, 0.0, False)]],
     [[(1.0, 2, 5.0, False)], [(1.0, 0, 0.0, False)]]],
    [1.0, 0.0, 0.0],
)  # fmt: skip


class Table:
    gamma = 0.5

    def __init__(self, values: list[float], actions: list[int], policy: Any = None) -> None:
        self._values, self._actions, self._policy = np.array(values), np.array(actions), policy

    def state_values(self) -> Any:
        return self._values

    def evaluated_policy(self) -> Any:
        return self._policy

    def greedy_actions(self, states: Any, rng: np.random.Generator) -> Any:
        return self._actions[states]


def test_the_error_counts_reachable_states_and_the_gap_starts_where_episodes_do() -> None:
    assert reachable_states(CHAIN).tolist() == [True, True, False]
    best = Truth(CHAIN, 0.5).metrics(Table([0.5, 1.0, 99.0], [0, 0, 0]))
    assert best == {"eval/value_rmse": 0.0, "eval/policy_gap": 0.0}
    worst = Truth(CHAIN, 0.5).metrics(Table([0.5, 0.0, 0.0], [1, 0, 0]))
    assert worst == {"eval/value_rmse": pytest.approx(np.sqrt(0.5)), "eval/policy_gap": 0.5}


def test_prediction_is_compared_with_its_own_policy() -> None:
    policy = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert Truth(CHAIN, 0.5).metrics(Table([0.0, 1.0, 0.0], [0, 0, 0], policy)) == {"eval/value_rmse": 0.0}


def test_without_a_truth_nothing_is_logged_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    endless = FiniteMDP.from_outcomes([[[(1.0, 0, 1.0, False)]]], [1.0])
    truth = Truth(endless, 1.0)
    with caplog.at_level(logging.WARNING):
        assert truth.metrics(Table([0.0], [0])) == truth.metrics(Table([0.0], [0])) == {}
    assert caplog.text.count("true values are not logged") == 1


def logged(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["value-iteration", "policy-iteration", "prioritized-sweeping"])
def test_planning_ends_when_nothing_changes_with_an_evaluation(name: str, tmp_path: Path) -> None:
    result = rlkit.train(name, "FrozenLake-v1", run_dir=tmp_path / "run", eval_episodes=200)
    assert result.status == "converged"
    assert result.exit_code == 0
    assert result.final_return is not None
    assert 0.6 < result.final_return < 0.85
    last = logged(result.run_dir)[-1]
    assert last["eval/value_rmse"] < 1e-8
    assert last["eval/policy_gap"] < 1e-8
    lines = len(logged(result.run_dir))
    again = api.resume(result.run_dir)
    assert (again.status, again.steps) == ("done", result.steps)
    assert len(logged(result.run_dir)) == lines


def test_learning_approaches_the_truth(tmp_path: Path) -> None:
    result = rlkit.train(
        "q-learning", "FrozenLake-v1", total_steps=300_000, run_dir=tmp_path / "run", preset="none",
        agent_config={"epsilon": 0.3, "learning_rate_schedule": "robbins-monro", "learning_rate_exponent": 0.7,
                      "learning_rate": 1.0},
    )  # fmt: skip
    points = [point for point in logged(result.run_dir) if "eval/value_rmse" in point]
    assert points[-1]["eval/value_rmse"] < 0.1 < points[0]["eval/value_rmse"]
    assert points[-1]["eval/policy_gap"] < 0.03


def test_prediction_evaluates_the_policy_of_a_run(tmp_path: Path) -> None:
    planned = rlkit.train("value-iteration", "FrozenLake-v1", run_dir=tmp_path / "plan", eval_every=0)
    result = rlkit.train(
        "policy-evaluation", "FrozenLake-v1", run_dir=tmp_path / "run", eval_every=0,
        agent_config={"policy": str(planned.run_dir)},
    )  # fmt: skip
    mdp = planned.agent.mdp
    best = optimal_action_values(mdp, 0.99).max(axis=1)
    assert np.abs(result.agent.values - best).max() < 1e-7


def test_a_truth_that_takes_too_long_is_given_up() -> None:
    """A big continuing task without a discount: values grow for ever, slowly."""
    states = 3_000
    everywhere = np.full((1, 1, states), 1.0 / states)
    model = FiniteMDP.from_arrays(np.broadcast_to(everywhere, (states, 1, states)), np.ones((states, 1)))
    started = time.perf_counter()
    assert Truth(model, 1.0).metrics(Table([0.0] * states, [0] * states)) == {}
    assert time.perf_counter() - started < 60.0
