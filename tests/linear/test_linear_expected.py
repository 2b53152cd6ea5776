"""Expected updates, fixed points and best approximations against numbers of the book and of the course."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rlkit
from rlkit.envs.make import make
from rlkit.envs.models import of_vector_env
from rlkit.linear.expected import (
    Problem,
    dynamic_programming_sweep,
    emphatic_sweep,
    on_policy_distribution,
    problem,
    tdc_sweep,
)
from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import policy_values

BAIRD_FEATURES = np.hstack([np.diag([2.0] * 6 + [1.0]), np.array([[1.0]] * 6 + [[2.0]])])
BAIRD_START = np.array([1.0] * 6 + [10.0, 1.0])


def model_of(env: str, **env_kwargs: Any) -> FiniteMDP:
    model = of_vector_env(make(env, 1, env_kwargs=env_kwargs))[0]
    assert model is not None
    return model


def baird() -> Problem:
    solid = np.tile([0.0, 1.0], (7, 1))
    return problem(model_of("rlkit/Baird-v0"), BAIRD_FEATURES, solid, 0.99, np.full(7, 1.0 / 7.0))


baird_task = baird()


def test_semi_gradient_dynamic_programming_diverges_on_bairds_counterexample() -> None:
    weights = BAIRD_START
    for _ in range(1000):
        weights = dynamic_programming_sweep(baird_task, weights, 0.01)
    assert weights[7] == pytest.approx(335.001, abs=1e-3)
    assert weights[6] == pytest.approx(6.850, abs=1e-3)
    assert weights[:6] == pytest.approx([114.434] * 6, abs=1e-3)


def test_expected_tdc_reaches_the_known_weights_on_bairds_counterexample() -> None:
    weights, second = BAIRD_START.copy(), np.zeros(8)
    for _ in range(1000):
        tdc_sweep(baird_task, weights, second, 0.005, 0.05)
    assert weights[7] == pytest.approx(-2.338, abs=1e-3)
    assert weights[6] == pytest.approx(6.628, abs=1e-3)
    assert weights[:6].mean() == pytest.approx(2.1355, abs=1e-3)  # not quite equal: states come in turns
    assert np.ptp(weights[:6]) < 1e-2
    assert baird_task.rmse(weights, np.zeros(7)) == pytest.approx(1.9355, abs=1e-4)


def test_expected_emphatic_td_solves_bairds_counterexample() -> None:
    weights, emphasis = BAIRD_START.copy(), np.zeros(7)
    for _ in range(1000):
        emphatic_sweep(baird_task, weights, emphasis, 0.03)
    assert weights == pytest.approx([1.6923] * 6 + [6.7692, -3.3846], abs=1e-4)
    assert baird_task.rmse(weights, np.zeros(7)) < 1e-12


@pytest.mark.parametrize(
    ("order", "count", "fixed", "best"), [(1, 3, 0.2228, 0.2215), (2, 6, 0.1935, 0.1919), (3, 10, 0.1251, 0.1246)]
)
def test_polynomials_on_the_course_grid_have_the_known_fixed_points(
    order: int, count: int, fixed: float, best: float
) -> None:
    agent = rlkit.make("linear-td", course, features="polynomial", order=order, gamma=0.9)
    task, values = course_problem(agent)
    assert task.features.shape == (25, count)
    assert task.rmse(task.fixed_point(), values) == pytest.approx(fixed, abs=1e-4)
    assert task.rmse(task.best(values), values) == pytest.approx(best, abs=1e-4)


def course() -> Any:
    from rlkit.envs.grid_world import CourseGrid

    return CourseGrid(observation="coordinates")


def course_problem(agent: Any) -> tuple[Problem, np.ndarray[Any, Any]]:
    model = model_of("rlkit/CourseGrid-v0")
    uniform = np.full((25, 5), 0.2)
    return problem(model, agent.feature_matrix(), uniform, 0.9), policy_values(model, 0.9, uniform)


def test_the_uniform_policy_visits_the_course_grid_evenly() -> None:
    seen = on_policy_distribution(model_of("rlkit/CourseGrid-v0"), np.full((25, 5), 0.2))
    assert seen == pytest.approx(np.full(25, 0.04))


def test_ten_groups_on_the_long_walk_have_the_known_errors() -> None:
    agent = rlkit.make(
        "linear-td", "rlkit/RandomWalk1000-v0", features="aggregation", low=(1.0,), high=(1000.0,), gamma=1.0
    )
    model = model_of("rlkit/RandomWalk1000-v0")
    walk = problem(model, agent.feature_matrix(), np.ones((1002, 1)), 1.0)
    values = policy_values(model, 1.0, np.ones((1002, 1)))
    assert values[[1, 250, 1000]] == pytest.approx([-0.92196, -0.47270, 0.92196], abs=1e-4)
    assert walk.rmse(walk.best(values), values) == pytest.approx(0.0544, abs=1e-4)
    assert walk.rmse(walk.fixed_point(), values) == pytest.approx(0.1167, abs=1e-4)
