"""Figures of actor-critics and of truncation: their exact values by hand, and a small run of each."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import source_tree

from rlkit.tabular.planning import policy_values

FIGURES = (
    "truncation", "course-reinforce", "course-actor-critic", "course-off-policy-actor-critic",
    "course-deterministic-actor-critic",
)  # fmt: skip


@pytest.fixture(scope="module")
def modules() -> Iterator[SimpleNamespace]:
    """The script, found as when it is run, and modules of its figures."""
    folder = str(source_tree.ROOT / "benchmarks")
    sys.path.insert(0, folder)
    names = ("truncation", "course_grid", "course_policies", "course_actor_critic", "course_deterministic")
    figures = {name: importlib.import_module(f"textbook_figures.{name}") for name in names}
    yield SimpleNamespace(script=importlib.import_module("textbook"), **figures)
    sys.path.remove(folder)


def test_truncation_as_termination_counts_the_steps_that_are_left(modules: SimpleNamespace) -> None:
    # 1, 1.9, 2.71, 3.439 and 4.0951 with one to five steps left
    value, _ = modules.truncation.fixed_point(0.0, "as termination", 1.0)
    assert value == pytest.approx((1 + 1.9 + 2.71 + 3.439 + 4.0951) / 5)


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_true_next_observations_give_the_true_value(modules: SimpleNamespace, lambda_: float) -> None:
    for share in (0.0, 0.5):
        assert modules.truncation.fixed_point(share, "true next_obs", lambda_) == pytest.approx([10, -10])


def test_a_trace_that_runs_on_mixes_in_the_next_episode(modules: SimpleNamespace) -> None:
    # all episodes of A followed by B, λ = 1: with n steps left (1 - γⁿ) / (1 - γ) - 10 γⁿ = 10 - 20 γⁿ
    value, other = modules.truncation.fixed_point(1.0, "next episode's state", 1.0)
    assert (value, other) == pytest.approx((np.mean(10 - 20 * 0.9 ** np.arange(1, 6)), -10))


def test_values_of_many_policies_are_those_of_each(modules: SimpleNamespace) -> None:
    model = modules.course_grid.course_model()
    policies = modules.course_policies.softmax(np.random.default_rng(0).normal(size=(2, 3, 25, 5)))
    values = modules.course_policies.values_of(model, policies)
    for index in np.ndindex(2, 3):
        assert values[index] == pytest.approx(policy_values(model, 0.9, policies[index]))


def test_log_gradient_is_that_of_finite_differences(modules: SimpleNamespace) -> None:
    theta, step = np.array([[0.3, -1.0, 0.5]]), 1e-6
    found = modules.course_policies.log_gradient(modules.course_policies.softmax(theta), np.array([2]))[0]
    for i, shift in enumerate(np.eye(3) * step):
        up, down = (np.log(modules.course_policies.softmax(theta + sign * shift))[0, 2] for sign in (1, -1))
        assert found[i] == pytest.approx((up - down) / (2 * step), abs=1e-8)


def test_actions_are_drawn_as_often_as_the_policy_says(modules: SimpleNamespace) -> None:
    policy = np.tile([0.1, 0.0, 0.6, 0.3], (100_000, 1))
    drawn = modules.course_policies.drawn(policy, np.random.default_rng(0))
    assert np.bincount(drawn, minlength=4) / len(policy) == pytest.approx(policy[0], abs=0.01)


def test_riccati_gives_action_values_that_satisfy_bellmans_equation(modules: SimpleNamespace) -> None:
    figure = modules.course_deterministic
    gain, weights = figure.riccati()

    def value(s: float, u: float) -> float:
        return float(weights @ [s**2, 2 * s * u, u**2, 1.0])

    for s, u in ((0.0, 0.0), (1.0, -0.5), (-2.0, 0.7)):
        # two outcomes of the noise with its variance give a quadratic function its mean
        following = [figure.A * s + figure.B * u + sign * figure.NOISE for sign in (1, -1)]
        ahead = np.mean([value(each, -gain * each) for each in following])
        assert value(s, u) == pytest.approx(-(s**2 + 0.5 * u**2) + figure.GAMMA * ahead)
        assert value(s, -gain * s) >= value(s, u)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_a_small_run_lies_where_it_should(modules: SimpleNamespace, name: str, tmp_path: Path) -> None:
    assert modules.script.main(["--results", str(tmp_path), "run", name, "--scale", "0.2", "--threads", "1"]) == 0
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", FIGURES)
def test_committed_results_hold(name: str) -> None:
    record = json.loads((source_tree.ROOT / f"benchmarks/results/textbook/{name}.json").read_text())
    assert [check["what"] for check in record["checks"] if not check["holds"]] == []
