"""Classic control in machine code against gymnasium's own, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlkit
from rlkit.assembly import build_envs, build_evaluation_envs
from rlkit.checkpoint import load_checkpoint
from rlkit.codec import Encoder
from rlkit.config import RunOptions
from rlkit.envs.classic_vector import CLASSICS, ClassicVectorEnv
from rlkit.envs.make import make
from rlkit.envs.normalize import NormalizeObservation
from rlkit.envs.restore import same
from rlkit.envs.vector import SerialVectorEnv
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import CheckpointError, EnvironmentFault, UsageError
from rlkit.types import Array, VectorEnv, VectorStep

LIMITS = {
    "Acrobot-v1": 500,
    "CartPole-v1": 500,
    "MountainCar-v0": 200,
    "MountainCarContinuous-v0": 999,
    "Pendulum-v1": 200,
}
every_classic = pytest.mark.parametrize("env_id", CLASSICS)


def actions(env: VectorEnv, steps: int, seed: int = 0) -> Array:
    """Random actions [T, N, *A]; a sixth of the continuous ones lie beyond the bounds."""
    rng = np.random.default_rng(seed)
    space = env.single_action_space
    if isinstance(space, gym.spaces.Discrete):
        return rng.integers(int(space.n), size=(steps, env.num_envs))
    assert isinstance(space, gym.spaces.Box)
    size = (steps, env.num_envs, *space.shape)
    return rng.uniform(1.2 * space.low, 1.2 * space.high, size).astype(np.float32)


def started(env_id: str, num_envs: int = 3, seed: int = 7) -> ClassicVectorEnv:
    env = ClassicVectorEnv(env_id, num_envs)
    env.reset(seed)
    return env


def assert_same_step(found: VectorStep, expected: VectorStep) -> None:
    for name in ("obs", "next_obs", "reward", "terminated", "truncated"):
        own, other = getattr(found, name), getattr(expected, name)
        assert own.dtype == other.dtype
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-6)
    assert found.infos == expected.infos
    assert found.reset_infos == expected.reset_infos


@every_classic
def test_from_any_state_a_step_is_gymnasiums(env_id: str) -> None:
    """States all over the space, also fast ones, those at the walls and those beyond the ends."""
    number = 3_000
    env = ClassicVectorEnv(env_id, number)
    env.reset(0)
    state = env.get_state()
    rng = np.random.default_rng(1)
    largest = {
        "Acrobot-v1": [np.pi, np.pi, 4 * np.pi, 9 * np.pi],
        "CartPole-v1": [2.5, 3.0, 0.22, 3.0],
        "MountainCar-v0": [1.25, 0.07],
        "MountainCarContinuous-v0": [1.25, 0.07],
        "Pendulum-v1": [20.0, 8.0],
    }[env_id]
    states = rng.uniform(-1.0, 1.0, state["state"].shape) * largest
    if env_id.startswith("MountainCar"):
        states[:, 0] = states[:, 0].clip(-1.2, 0.6).astype(np.float32)
        states[:, 1] = states[:, 1].astype(np.float32)
    env.set_state({**state, "state": states})
    action = actions(env, 1)[0]
    step = env.step(action)
    single: Any = gym.make(env_id).unwrapped
    single.reset(seed=0)
    both = set()
    for row in range(number):
        single.state = states[row].astype(np.float32) if env_id == "MountainCarContinuous-v0" else states[row].copy()
        single.steps_beyond_terminated = None
        obs, reward, terminated, _, _ = single.step(action[row])
        np.testing.assert_allclose(step.next_obs[row], obs, rtol=0, atol=1e-6)  # type: ignore[call-overload, index]
        assert (step.reward[row], step.terminated[row]) == (pytest.approx(reward, abs=1e-6), terminated)
        if env_id != "Pendulum-v1":  # whose reward numpy takes in another order
            assert step.reward[row] == reward
        both.add(bool(terminated))
    assert both == ({False} if env_id == "Pendulum-v1" else {False, True})


@every_classic
def test_a_whole_run_is_that_of_the_serial_environments(env_id: str) -> None:
    """The same seed, hence the same start states, over more episodes than are drawn ahead at once for cart-pole."""
    found, expected = make(env_id, 3, vector="compiled"), make(env_id, 3)
    assert found.single_observation_space == expected.single_observation_space
    assert found.single_action_space == expected.single_action_space
    np.testing.assert_allclose(found.reset(11)[0], expected.reset(11)[0], rtol=0, atol=1e-6)  # type: ignore[arg-type]
    ends = 0
    for action in actions(found, 1_100):
        step = found.step(action)
        assert_same_step(step, expected.step(action))
        ends += int(step.ended.sum())
    assert ends >= (60 if env_id == "CartPole-v1" else 3)


@every_classic
def test_start_states_lie_within_gymnasiums_bounds_and_fill_them(env_id: str) -> None:
    classic = CLASSICS[env_id]
    states = started(env_id, 2_000).get_state()["state"]
    drawn, rest = states[:, : len(classic.low)], states[:, len(classic.low) :]
    low, high = np.array(classic.low), np.array(classic.high)
    assert (drawn >= low - 1e-8).all()
    assert (drawn <= high + 1e-8).all()
    np.testing.assert_allclose(drawn.mean(axis=0), (low + high) / 2, atol=0.03 * (high - low).max())
    np.testing.assert_allclose(drawn.std(axis=0), (high - low) / np.sqrt(12), rtol=0.05)
    assert not rest.any()


@pytest.mark.parametrize("env_id", ["MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Acrobot-v1"])
def test_the_time_limit_truncates_with_the_true_successor(env_id: str) -> None:
    env = started(env_id)
    idle = np.ones(3, np.int64) if env_id in ("MountainCar-v0", "Acrobot-v1") else np.zeros((3, 1), np.float32)
    for _ in range(LIMITS[env_id] - 1):
        step = env.step(idle)
        assert not step.ended.any()
    before = env.get_state()
    step = env.step(idle)
    assert step.truncated.all()
    assert not step.terminated.any()
    env.set_state({**before, "elapsed": np.zeros(3, np.int64)})
    assert same(env.step(idle).next_obs, step.next_obs)
    assert step.reset_infos == ({}, {}, {})
    assert not same(step.obs, step.next_obs)


def test_a_pole_that_falls_in_the_last_step_has_terminated_only() -> None:
    env = started("CartPole-v1", 2)
    state = env.get_state()
    states = state["state"] * 0.0
    states[0, 2] = 1.0
    env.set_state({**state, "state": states, "elapsed": np.array([499, 499])})
    step = env.step(np.array([0, 1]))
    assert step.terminated.tolist() == [True, False]
    assert step.truncated.tolist() == [False, True]


@every_classic
def test_the_same_seed_gives_the_same_run_and_another_seed_another(env_id: str) -> None:
    def run(seed: int) -> list[Any]:
        env = ClassicVectorEnv(env_id, 2)
        seen: list[Any] = [env.reset(seed)[0]]
        return seen + [env.step(action).obs for action in actions(env, 60)]

    assert same(run(3), run(3))
    assert not same(run(3), run(4))


@every_classic
def test_rows_differ_and_none_depends_on_how_many_there_are(env_id: str) -> None:
    two, five = ClassicVectorEnv(env_id, 2), ClassicVectorEnv(env_id, 5)
    first, more = np.asarray(two.reset(3)[0]), np.asarray(five.reset(3)[0])
    assert len(np.unique(more, axis=0)) == 5
    assert same(first, more[:2])
    for action in actions(five, 300):
        assert same(np.asarray(two.step(action[:2]).obs), np.asarray(five.step(action).obs)[:2])


@every_classic
def test_what_a_step_returned_is_never_written_again(env_id: str) -> None:
    env = started(env_id)
    parts = ("obs", "next_obs", "reward", "terminated", "truncated")
    kept, copies = [], []
    for action in actions(env, 40):
        step = env.step(action)
        assert (step.obs is step.next_obs) == (not step.ended.any())
        kept += [getattr(step, part) for part in parts]
        copies += [getattr(step, part).copy() for part in parts]
    assert same(kept, copies)


@every_classic
def test_a_restored_environment_goes_on_bit_by_bit(env_id: str) -> None:
    env, fresh = started(env_id), ClassicVectorEnv(env_id, 3)
    for action in actions(env, 250):
        env.step(action)
    state = env.get_state()
    rows = actions(env, 1_000, seed=1)
    expected = [env.step(action) for action in rows]
    assert fresh.set_state(state) is None
    for action, step in zip(rows, expected, strict=True):
        again = fresh.step(action)
        assert same([again.obs, again.next_obs, again.reward], [step.obs, step.next_obs, step.reward])
    assert env.restore_tier == "exact"


def test_a_state_of_another_environment_or_number_or_a_damaged_one_is_refused() -> None:
    env = started("CartPole-v1", 2)
    before = env.get_state()
    for other in (
        started("CartPole-v1", 3).get_state(),
        started("Acrobot-v1", 2).get_state(),
        make("CartPole-v1", 2).get_state(),
        {**before, "used": np.array([0, 16])},
    ):
        with pytest.raises(CheckpointError, match=r"CartPole-v1|damaged"):
            env.set_state(other)
    assert same(env.get_state()["starts"], before["starts"])


@pytest.mark.parametrize(
    ("env_id", "action", "told"),
    [
        ("CartPole-v1", np.array([0, 2, 1]), r"environment 1 failed in step 1.*0 to 1\n  action: np.int64\(2\)"),
        ("MountainCar-v0", np.array([0, 2, -1]), "environment 2 .*0 to 2"),
        ("Pendulum-v1", np.array([[0.0], [np.nan], [np.inf]], np.float32), "environment 1 .*finite"),
        ("CartPole-v1", np.array([0, 1]), r"shape \(2,\) and dtype int64, expected \(3,\)"),
        ("CartPole-v1", np.array([0.0, 1.0, 1.0]), "dtype float64"),
        ("Pendulum-v1", np.zeros(3, np.float32), r"expected \(3, 1\)"),
        ("Pendulum-v1", np.array([["left"], ["right"], ["up"]]), "dtype <U5"),
    ],
)
def test_a_wrong_action_is_told_and_nothing_was_stepped(env_id: str, action: Array, told: str) -> None:
    env = started(env_id)
    before = env.get_state()
    with pytest.raises(EnvironmentFault, match=told):
        env.step(action)
    assert same(env.get_state()["state"], before["state"])
    assert same(env.get_state()["elapsed"], before["elapsed"])


def test_actions_of_other_dtypes_and_layouts_give_the_same_step() -> None:
    for env_id, action in (("Acrobot-v1", np.array([0, 1, 2])), ("Pendulum-v1", np.float32([[0.5], [1], [-3]]))):
        wide = np.repeat(action, 2, axis=0)[::2]
        other = action.astype(np.int8 if action.dtype.kind == "i" else np.float64)
        steps = [started(env_id).step(given) for given in (action, wide, other, action.tolist())]
        assert all(same([step.next_obs, step.reward], [steps[0].next_obs, steps[0].reward]) for step in steps)


def test_a_step_before_the_first_reset_and_start_states_are_refused() -> None:
    env = ClassicVectorEnv("CartPole-v1", 2)
    with pytest.raises(EnvironmentFault, match="before reset"):
        env.step(np.zeros(2, np.int64))
    env.reset(0)
    with pytest.raises(UsageError, match="takes no start states"):
        env.step(np.zeros(2, np.int64), [None, 3])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"env": "LunarLander-v3"}, "not LunarLander-v3"),
        ({"wrap": ("frame-stack:n=2",)}, r"without wrappers of single environments \(got frame-stack\)"),
        ({"env_args": ("render_mode=rgb_array",)}, "without arguments of their constructors .got .*render_mode"),
    ],
)
def test_what_machine_code_cannot_step_is_wrong_usage(changes: dict[str, Any], told: str) -> None:
    options = RunOptions(**{"env": "CartPole-v1", "vector": "compiled", **changes})
    with pytest.raises(UsageError, match=told) as caught:
        build_envs(options.env, options)
    assert all(name in str(caught.value) for name in [*CLASSICS, "--vector serial"])


def test_wrappers_of_all_environments_work_and_evaluation_stays_gymnasiums() -> None:
    options = RunOptions(
        env="Pendulum-v1", num_envs=2, vector="compiled", wrap=("normalize-observation", "normalize-reward")
    )
    found = build_envs(options.env, options)
    expected = build_envs(options.env, options.model_copy(update={"vector": "serial"}))
    found.reset(0), expected.reset(0)
    for action in actions(found, 250):
        step = found.step(action)
        assert_same_step(step, expected.step(action))
        assert step.raw_reward is not None
    evaluation = build_evaluation_envs(options.env, options)
    assert isinstance(evaluation, NormalizeObservation)
    assert isinstance(evaluation.env, SerialVectorEnv)


def test_the_wrappers_of_the_message_are_those_of_level_vector() -> None:
    env = make("CartPole-v1", 2, vector="compiled", wrappers=[resolve_wrapper("normalize-observation")])
    assert isinstance(env, NormalizeObservation)


def final_state(run: Path) -> Any:
    """What the last checkpoint holds, without wall-clock values and the tail of the curves."""
    checkpoint = load_checkpoint(sorted((run / "checkpoints").glob("step-*"))[-1])
    assert checkpoint.training is not None
    session = {k: v for k, v in checkpoint.training["session"].items() if k not in ("seconds", "hooks")}
    encoder = Encoder()
    document = encoder.encode({"policy": checkpoint.policy, "training": checkpoint.training | {"session": session}})
    return [checkpoint.step, document], {name: array.tobytes() for name, array in encoder.arrays.items()}


@pytest.mark.parametrize(
    ("agent", "env_id", "config"),
    [
        ("random", "CartPole-v1", {}),
        ("ddpg", "Pendulum-v1", {"hidden": (16, 16), "learning_starts": 100, "batch_size": 16}),
    ],
)
def test_a_resumed_run_continues_to_the_same_bits(
    agent: str, env_id: str, config: dict[str, Any], tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "num_envs": 3, "vector": "compiled", "log_every": 30, "eval_every": 0, "preset": "none", "agent_config": config,
        "checkpoint_every": 150,
    }  # fmt: skip
    rlkit.train(agent, env_id, total_steps=900, run_dir=tmp_path / "whole", **options)
    rlkit.train(agent, env_id, total_steps=450, run_dir=tmp_path / "parts", **options)
    rlkit.resume(tmp_path / "parts", total_steps=900)
    assert final_state(tmp_path / "parts") == final_state(tmp_path / "whole")
