"""A detector around an environment: in infos, observations, rewards, and as a reason to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from event_env import Cued, Pictured
from gymnasium import spaces

import rlkit
from rlkit.detected import detect_events
from rlkit.detecting import resume_detection
from rlkit.envs.restore import capture_env, restore_env
from rlkit.errors import CheckpointError, UnsupportedTaskError, UsageError
from rlkit.perception.detect_events import TOLD, DetectEvents

ENV = f"{Path(__file__).parent / 'event_env.py'}:Cued"
SMALL: dict[str, Any] = {"width": 16, "window": 8, "horizon": 2, "dropout": 0.0, "learning_rate": 0.02}
CLASSES = ("background", "jump", "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options: dict[str, Any] = {"frames": 900, "test_frames": 60, "updates": 240, "eval_every": 0, "actions": True}
    folder = tmp_path_factory.mktemp("detector") / "run"
    return rlkit.train_detector("gru", run_dir=folder, stream=ENV, detector_config=SMALL, **options).run_dir


def told(info: dict[str, Any]) -> list[float]:
    return [float(info[TOLD + name]) for name in CLASSES]


def played(env: gym.Env[Any, Any], steps: int) -> list[list[float]]:
    return [told(env.step(step % 2)[4]) for step in range(steps)]


def test_info_tells_what_the_detector_does_of_the_same_stream(run: Path) -> None:
    env, plain, detector = detect_events(Cued(), str(run)), Cued(), rlkit.load_detector(run)
    assert TOLD + "jump" not in env.reset(seed=4)[1]
    plain.reset(seed=4)
    carry = detector.begin(1)
    right = 0
    for step in range(30):
        obs, *_, info = env.step(step % 2)
        seen, *_, truth = plain.step(step % 2)
        expected, carry = detector.watch(seen[None], np.array([step % 2]), carry)
        np.testing.assert_array_equal(obs, seen)
        np.testing.assert_allclose(told(info), expected.now[0], atol=1e-6)
        shown = 1 if truth["events/jump"] else 2 if truth["events/run"] else 0
        right += int(np.argmax(told(info)) == shown)
    assert right > 20


def test_a_new_episode_begins_with_nothing_remembered(run: Path) -> None:
    env = detect_events(Cued(), str(run))
    env.reset(seed=4)
    first = played(env, 10)
    env.reset(seed=4)
    np.testing.assert_allclose(played(env, 10), first)


def test_what_it_remembers_is_part_of_the_environments_state(run: Path) -> None:
    env = detect_events(Cued(), str(run))
    env.reset(seed=4)
    played(env, 10)
    state = capture_env(env)
    following = played(env, 5)
    other = detect_events(Cued(), str(run))
    other.reset(seed=9)
    restore_env(other, state)
    np.testing.assert_allclose(played(other, 5), following)


def test_observations_are_kept_extended_or_replaced(run: Path) -> None:
    appended, replaced = (detect_events(Cued(), str(run), observe=how) for how in ("append", "replace"))  # type: ignore[arg-type]
    assert appended.observation_space.shape == (6,)
    assert replaced.observation_space == spaces.Box(0.0, 1.0, (3,), np.float32)
    for env in (appended, replaced):
        first, _ = env.reset(seed=4)
        assert first[-3:].tolist() == [0.0, 0.0, 0.0]
        assert env.observation_space.contains(first)
        obs, *_, info = env.step(0)
        np.testing.assert_allclose(obs[-3:], told(info))
        assert env.observation_space.contains(obs)


def test_a_class_is_a_reward_and_another_a_reason_to_stop(run: Path) -> None:
    env = detect_events(Cued(), str(run), reward="jump", reward_weight=2.0, stop="run", threshold=0.6)
    env.reset(seed=4)
    for step in range(30):
        _, reward, terminated, truncated, info = env.step(step % 2)
        assert reward == pytest.approx(2.0 * told(info)[1])
        assert not terminated or "stopped_by" not in info
        if truncated:
            assert info["stopped_by"] == "run"
            assert told(info)[2] >= 0.6
            break
        assert told(info)[2] < 0.6
    else:
        pytest.fail("nothing was detected, so this says nothing")


def test_agents_train_with_it(run: Path, tmp_path: Path) -> None:
    wrap = (f"detect-events:run={run},observe=append,reward=jump",)
    result = rlkit.train("dqn", ENV, total_steps=60, run_dir=tmp_path / "agent", wrap=wrap, preset="none")
    assert result.status == "done"
    assert rlkit.load(tmp_path / "agent").observation_space.shape == (6,)


def test_a_detector_that_has_learned_on_is_noticed(tmp_path: Path) -> None:
    options: dict[str, Any] = {"frames": 200, "test_frames": 60, "updates": 2, "detector_config": SMALL}
    watcher = rlkit.train_detector("gru", run_dir=tmp_path / "detector", stream=ENV, **options).run_dir
    wrap = (f"detect-events:run={watcher},observe=append",)
    run = rlkit.train("random", ENV, total_steps=20, run_dir=tmp_path / "agent", wrap=wrap).run_dir
    rlkit.resume(run, total_steps=40)
    resume_detection(watcher, updates=4)
    with pytest.raises(CheckpointError, match="has learned on since this run began"):
        rlkit.resume(run, total_steps=60)


def test_what_does_not_fit_is_explained(run: Path) -> None:
    with pytest.raises(UnsupportedTaskError, match="here observations are Box\\(0, 255"):
        detect_events(Pictured(), str(run))
    with pytest.raises(UsageError, match=r"no class 'jmup'.*it has background, jump, run"):
        detect_events(Cued(), str(run), reward="jmup")
    wide = Cued()
    wide.observation_space = spaces.Box(-6.0, 5.0, (3,), np.float32)
    with pytest.raises(UnsupportedTaskError, match="here observations are Box\\(-6"):
        detect_events(wide, str(run))
    narrow = Cued()
    narrow.observation_space = spaces.Box(-5.0, 4.0, (3,), np.float32)
    detect_events(narrow, str(run)).reset(seed=0)
    grid = gym.make("FrozenLake-v1")
    watcher = rlkit.load_detector(run)
    assert isinstance(grid.observation_space, spaces.Discrete)
    with pytest.raises(UnsupportedTaskError, match="put this wrapper where"):
        DetectEvents(grid, watcher)
