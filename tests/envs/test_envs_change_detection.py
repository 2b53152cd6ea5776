"""Change detection as a decision: laws, costs and infos by hand, and the known optimum reached in the environment."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check

import rlkit.envs.registration  # noqa: F401
from rlkit.envs.change_detection import ChangeDetection
from rlkit.envs.make import EnvFactory, make_single
from rlkit.envs.restore import explain_restore
from rlkit.errors import UsageError
from rlkit.ops.change_detection import (
    Stopping,
    bernoulli_log_density,
    gaussian_cells,
    gaussian_log_density,
    optimal_stopping,
    shiryaev_posterior,
)

ENV = "rlkit/ChangeDetection-v0"
WAIT, DECLARE = 0, 1
SIZES: list[dict[str, Any]] = [
    {},
    {"observation": "sample"},
    {"observation": "window", "window": 4, "law": "bernoulli", "before": 0.2, "after": (0.7, 0.05)},
    {"after": [1.0, -1.0, 3.0], "hazard": 0.2},
]


def waited(env: Any, steps: int, **reset: Any) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Observations [steps + 1, O] and infos of an episode of waits."""
    obs, info = env.reset(**reset)
    found = [(obs, info)]
    for _ in range(steps):
        obs, _, terminated, _, info = env.step(WAIT)
        assert not terminated
        found.append((obs, info))
    return np.stack([obs for obs, _ in found]), [info for _, info in found]


@cache
def best() -> Stopping:
    """For the default arguments."""
    return optimal_stopping(gaussian_cells(np.array([0.0, 1.0]), 1.0, 401), 0.05, 1.0, 0.05, points=601)


@pytest.mark.parametrize("arguments", SIZES)
@pytest.mark.filterwarnings("ignore:.*Box observation space m.* value is.*infinity")
def test_it_follows_gymnasiums_rules_and_is_restored_exactly(arguments: dict[str, Any]) -> None:
    gymnasium_check(make_single(ENV, env_kwargs={**arguments, "render_mode": "rgb_array"}).unwrapped)
    assert explain_restore(EnvFactory(ENV, (), arguments)).tier == "exact"


@pytest.mark.parametrize("law", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("after", [(0.75,), (0.75, 0.25)])
def test_the_posterior_is_that_of_the_samples(law: Any, after: tuple[float, ...]) -> None:
    arguments: dict[str, Any] = {"law": law, "before": 0.4, "after": after, "hazard": 0.1}
    posterior, _ = waited(ChangeDetection(**arguments), 30, seed=3)
    samples, _ = waited(ChangeDetection(**arguments, observation="sample"), 30, seed=3)
    laws = np.array([0.4, *after])
    x = samples[:, 0].astype(np.float64)
    densities = gaussian_log_density(x, laws, 1.0) if law == "gaussian" else bernoulli_log_density(x, laws)
    np.testing.assert_allclose(posterior, shiryaev_posterior(densities, 0.1)[:, 1:], atol=1e-6)


def test_a_window_holds_the_last_samples_after_the_expectation_before() -> None:
    arguments: dict[str, Any] = {"before": 0.5, "after": 2.0}
    windows, _ = waited(ChangeDetection(**arguments, observation="window", window=3), 4, seed=1)
    samples, _ = waited(ChangeDetection(**arguments, observation="sample"), 4, seed=1)
    x = samples[:, 0].tolist()
    assert windows.tolist() == [[0.5, 0.5, x[0]], [0.5, x[0], x[1]], x[:3], x[1:4], x[2:5]]


def test_the_law_changes_at_the_change_time_to_the_class() -> None:
    env = ChangeDetection(before=-50.0, after=(0.0, 50.0), observation="sample")
    samples, infos = waited(env, 5, seed=0, options={"change_time": 3, "class": 2})
    assert (np.abs(samples[:, 0] - [-50, -50, -50, 50, 50, 50]) < 6).all()
    assert [bool(info["events/change_2"]) for info in infos] == [False] * 3 + [True] * 3
    assert not any(info["events/change_1"] for info in infos)


def test_change_times_are_geometric_and_classes_even() -> None:
    env = ChangeDetection(hazard=0.25, after=(1.0, 2.0))
    env.reset(seed=0)
    drawn = np.array([(env.reset()[1]["change_time"], env.new_law) for _ in range(4000)])
    for time in range(4):
        expected = 0.25 * 0.75**time
        assert abs((drawn[:, 0] == time).mean() - expected) < 5 * math.sqrt(expected / 4000)
    assert abs((drawn[:, 1] == 1).mean() - 0.5) < 0.04


@pytest.mark.parametrize(
    ("waits", "action", "rewards", "told"),
    [
        (1, 2, [0.0, -3.0], {"delay": 0, "false_alarm": True, "correct": False}),
        (2, 2, [0.0, 0.0, 0.0], {"delay": 0, "false_alarm": False, "correct": True}),
        (4, 2, [0.0, 0.0, -0.5, -0.5, 0.0], {"delay": 2, "false_alarm": False, "correct": True}),
        (3, 1, [0.0, 0.0, -0.5, -2.0], {"delay": 1, "false_alarm": False, "correct": False}),
    ],
)
def test_rewards_and_infos_are_as_by_hand(waits: int, action: int, rewards: list[float], told: dict[str, Any]) -> None:
    env = ChangeDetection(after=(1.0, -1.0), false_alarm_cost=3.0, delay_cost=0.5, wrong_class_cost=2.0)
    env.reset(seed=0, options={"change_time": 2, "class": 2})
    steps = [env.step(choice) for choice in (*[WAIT] * waits, action)]
    assert [step[1] for step in steps] == rewards
    assert [step[2] for step in steps] == [False] * waits + [True]
    info = steps[-1][4]
    assert info == {"change_time": 2, "events/change_1": False, "events/change_2": waits >= 2, **told}
    if waits:
        assert (steps[-1][0] == steps[-2][0]).all()  # a declaration draws no sample


def test_another_class_costs_a_false_alarm_by_default() -> None:
    env = ChangeDetection(after=(1.0, -1.0), false_alarm_cost=0.75)
    env.reset(seed=0, options={"change_time": 0, "class": 2})
    assert env.step(1)[1] == -0.75


def test_waiting_for_ever_is_truncated() -> None:
    env = gym.make(ENV)
    env.reset(seed=0)
    ends = [env.step(WAIT)[2:4] for _ in range(1000)]
    assert ends[-1] == (False, True)
    assert set(ends[:-1]) == {(False, False)}


def test_the_threshold_rule_has_the_least_cost_in_the_environment() -> None:
    rule, env, returns = best(), ChangeDetection(), []
    env.reset(seed=7)
    for _ in range(2000):
        obs, _ = env.reset()
        total, terminated = 0.0, False
        while not terminated:
            obs, reward, terminated, _, _ = env.step(int(obs[0] >= rule.threshold))
            total += reward
        returns.append(total)
    error = np.std(returns) / math.sqrt(len(returns))
    assert error < 0.009
    assert abs(np.mean(returns) + rule.start_cost) < 3.5 * error


def test_the_printed_optimum_is_the_computed_one() -> None:
    told = f"with the default arguments they are {best().start_cost:.4f} and {best().threshold:.4f}"
    assert told in str(ChangeDetection.__doc__)


def test_the_picture_shows_the_posterior() -> None:
    env = ChangeDetection(render_mode="ansi")
    env.reset(seed=0, options={"change_time": 0})
    env.posterior = [0.5, 0.5]
    text = str(env.render())
    assert text.splitlines()[:-1] == ["."] * 6 + ["o"] * 6
    assert "changed at 0" in text
    assert "+0.5" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"hazard": 0.0}, "hazard is 0.0"),
        ({"hazard": 1.0}, "hazard is 1.0"),
        ({"law": "poisson"}, "law is 'poisson'"),
        ({"after": ()}, "after is ()"),
        ({"after": (0.0,)}, "all different"),
        ({"after": math.nan}, "after is nan"),
        ({"law": "bernoulli", "before": 0.2}, "probabilities of 1"),
        ({"observation": "belief"}, "observation is 'belief'"),
        ({"window": 0}, "window is 0"),
        ({"delay_cost": -1.0}, "delay_cost is -1.0"),
        ({"false_alarm_cost": math.inf}, "false_alarm_cost is inf"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as raised:
        ChangeDetection(**arguments)
    assert told in str(raised.value)


@pytest.mark.parametrize("options", [{"change_time": -1}, {"class": 2}, {"class": 0}])
def test_wrong_options_are_told(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="allowed: from 0 on, and 1 … 1"):
        ChangeDetection().reset(options=options)
