"""Our mountain car: the book's equations, gymnasium's up to the goal, and the same numbers in machine code."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rlkit
from rlkit.envs.make import make, make_single
from rlkit.envs.models import dynamics_of, of_vector_env
from rlkit.envs.mountain_car import MountainCar
from rlkit.envs.restore import explain_restore
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import UnsupportedTaskError
from rlkit.mdp import MountainCarDynamics
from rlkit.tabular.compiled import compiled
from rlkit.tabular.stepping import new_env_state, require_dynamics, reset, step
from rlkit.tabular.streams import generator_of, stream

STEPS = 10_000


@compiled
def _walk(dynamics: Any, env: Any, a_stream: Any, actions: Any, seen: Any) -> None:
    """Fill `seen` [T, 6]: what the agent saw, acted on and got, and the state before rounding."""
    rng = generator_of(a_stream)
    reset(dynamics, env, rng)
    for t in range(len(actions)):
        reward, terminated = step(dynamics, env, actions[t], rng)
        seen[t, 0], seen[t, 1] = env.observation[0], env.observation[1]
        seen[t, 2], seen[t, 3] = env.numbers[1], env.numbers[2]
        seen[t, 4], seen[t, 5] = reward, terminated
        if terminated:
            reset(dynamics, env, rng)


def test_compiled_code_and_the_environment_agree_bit_for_bit() -> None:
    env, rng = MountainCar(), np.random.default_rng(7)
    dynamics = require_dynamics(env.dynamics())
    drawn = np.random.default_rng(0).integers(0, 3, STEPS)
    actions = np.repeat(drawn[: STEPS // 8], 8)  # in long pushes a random car reaches wall and goal
    seen = np.zeros((STEPS, 6))
    _walk(dynamics, new_env_state(dynamics), stream(rng), actions, seen)
    env.reset(seed=1)
    env.np_random = twin = np.random.default_rng(7)
    env.reset()
    expected = np.zeros((STEPS, 6))
    for t, action in enumerate(actions):
        obs, reward, terminated, _, _ = env.step(action)
        expected[t] = *obs.tolist(), *env.state, reward, terminated
        if terminated:
            env.reset()
    np.testing.assert_array_equal(seen.view(np.int64), expected.view(np.int64))
    assert twin.bit_generator.state == rng.bit_generator.state
    assert seen[:, 5].sum() > 5
    assert (seen[:, 2] == -1.2).any()


def test_it_moves_as_gymnasiums_car_until_the_goal() -> None:
    ours, theirs = MountainCar(), gym.make("MountainCar-v0", max_episode_steps=2000).unwrapped
    first = [env.reset(seed=3)[0] for env in (ours, theirs)]
    np.testing.assert_array_equal(*first)
    velocity, steps = 0.0, 0
    while True:  # push where it rolls
        action = 2 if velocity >= 0 else 0
        (one, _, ended, _, _), (other, _, also_ended, _, _) = (env.step(action) for env in (ours, theirs))
        steps += 1
        assert ended == also_ended
        if ended:
            break
        np.testing.assert_array_equal(one, other)
        velocity = float(one[1])
    assert 80 < steps < 200
    assert (float(one[0]), float(other[0]) > 0.5) == (0.5, True)


def test_a_step_by_hand_the_wall_and_the_speed_limit() -> None:
    env = MountainCar()
    env.reset(seed=0)
    env.state = (-0.5, 0.01)
    assert env.step(2)[1:3] == (-1.0, False)
    velocity = 0.01 + 0.001 - 0.0025 * math.cos(-1.5)
    assert env.state == pytest.approx((-0.5 + velocity, velocity), abs=1e-15)
    env.state = (-1.19, -0.05)
    env.step(0)
    assert env.state == (-1.2, 0.0)
    env.state = (0.0, -0.0699)
    env.step(0)
    assert env.state[1] == -0.07
    env.state = (0.49, 0.05)
    assert env.step(2)[:3][1:] == (-1.0, True)


def test_first_positions_are_even_over_the_valley() -> None:
    env = MountainCar()
    env.reset(seed=0)
    places = np.array([env.reset()[0] for _ in range(2000)])
    assert (places[:, 1] == 0).all()
    assert (places[:, 0] >= -0.6).all()
    assert (places[:, 0] < -0.4).all()
    counts, _ = np.histogram(places[:, 0], bins=4, range=(-0.6, -0.4))
    assert (np.abs(counts - 500) < 100).all()


def test_its_dynamics_are_found_unless_something_changes_them() -> None:
    assert dynamics_of(make_single("rlkit/MountainCar-v0")) == MountainCarDynamics(3, 0)
    limit = resolve_wrapper("time-limit:max_episode_steps=77")
    assert of_vector_env(make("rlkit/MountainCar-v0", wrappers=[limit])) == (None, MountainCarDynamics(3, 77))
    assert dynamics_of(make_single("rlkit/MountainCar-v0", [resolve_wrapper("clip-reward:min_reward=0")])) is None

    class Steeper(MountainCar):
        def step(self, action: Any) -> Any:
            return super().step(action)

    assert dynamics_of(Steeper()) is None
    assert dynamics_of(make_single("MountainCar-v0")) is None


def test_tables_refuse_its_observations_and_say_what_helps() -> None:
    for engine in ("auto", "compiled"):
        with pytest.raises(UnsupportedTaskError, match="discretize"):
            rlkit.make("q-learning", "rlkit/MountainCar-v0", engine=engine)
    with pytest.raises(UnsupportedTaskError):
        rlkit.make("value-iteration", "rlkit/MountainCar-v0")


def test_tables_learn_it_behind_bins(tmp_path: Any) -> None:
    result = rlkit.train(
        "q-learning", "rlkit/MountainCar-v0", total_steps=500, run_dir=tmp_path / "run", eval_every=0,
        wrap=("discretize:bins=8", "time-limit:max_episode_steps=100"),
    )  # fmt: skip
    assert (result.steps, result.final_return) == (500, -100.0)


def test_gymnasium_finds_nothing_wrong_and_episodes_continue_exactly() -> None:
    env = make_single("rlkit/MountainCar-v0").unwrapped
    env.spec = None
    check_env(env, skip_render_check=True)
    probe = explain_restore(lambda: make_single("rlkit/MountainCar-v0"))
    assert (probe.tier, probe.reason) == ("exact", "")


def test_it_draws_itself() -> None:
    pytest.importorskip("pygame")
    env = make_single("rlkit/MountainCar-v0", env_kwargs={"render_mode": "rgb_array"})
    env.reset(seed=0)
    first = env.render()
    for _ in range(20):
        env.step(0)
    second = env.render()
    env.close()
    assert first.shape == (400, 600, 3)
    assert (first != second).any()


@pytest.mark.parametrize("action", [7, -1, 0.5])
def test_actions_outside_the_space_are_refused_as_gymnasium_does(action: float) -> None:
    for env in (MountainCar(), gym.make("MountainCar-v0").unwrapped):
        env.reset(seed=0)
        with pytest.raises(AssertionError, match="invalid"):
            env.step(action)
