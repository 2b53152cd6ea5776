"""Named streams: their table, who acts, and that episodes differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlkit.envs.contract import Env
from rlkit.envs.events import EVENTS, event_classes_of
from rlkit.envs.streams import STREAMS, cross_the_road, stream_named
from rlkit.errors import UnknownNameError
from rlkit.seeding import generator

NEEDS = {"freeway": "ale_py", "babyai": "minigrid", "halfcheetah": "mujoco"}


def made(name: str) -> Env:
    for part, module in NEEDS.items():
        if part in name:
            pytest.importorskip(module)
    if name == "freeway-hit":
        pytest.importorskip("cv2")
    return STREAMS[name].make()


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_what_its_line_of_the_table_says(name: str) -> None:
    stream, env = stream_named(name), made(name)
    assert event_classes_of(env) == stream.classes
    assert stream.classes[0] == "background"
    space: Any = env.observation_space
    assert (space.dtype == np.uint8 and len(space.shape) > 1) == stream.has_pictures
    obs, _ = env.reset(seed=0)
    act = stream.behaviour(env, generator(0, "behaviour"))
    for _ in range(8):
        action = act(obs)
        assert env.action_space.contains(action)
        obs, _, terminated, truncated, info = env.step(action)
        assert space.contains(obs)
        told = {key: value for key, value in info.items() if key.startswith(EVENTS)}
        assert list(told) == [EVENTS + each for each in stream.classes[1:]]
        assert {value.dtype for value in told.values()} == {np.dtype(np.bool_)}
        if terminated or truncated:
            break


def test_freeway_is_sticky_by_the_games_own_argument_and_its_score_is_black() -> None:
    env = made("freeway-hit-full")
    inner: Any = env.unwrapped
    assert inner._frameskip == 4
    assert inner.ale.getFloat("repeat_action_probability") == 0.25
    obs, _ = env.reset(seed=0)
    assert not obs[:15].any()
    assert obs[15:].any()


def test_the_mission_of_babyai_is_not_in_the_observation() -> None:
    obs, _ = made("babyai-subgoals").reset(seed=0)
    assert (obs.shape, obs.dtype) == ((980,), np.uint8)


def test_crossing_the_road_is_mostly_up_in_a_quarter_of_the_stretches_and_a_mix_in_the_others() -> None:
    env: Any = None  # which it does not look at
    shares = []
    for seed in range(200):
        act = cross_the_road(env, np.random.default_rng(seed))
        actions = [act(None) for _ in range(40)]  # two in three have one policy in so few steps
        shares.append(np.bincount(actions, minlength=3) / 40)
    mostly_up = np.mean([share[2] == 0 and share[1] > 0.8 for share in shares])
    assert 0.2 < mostly_up < 0.5  # some mixes hold up for as long
    down = np.array([share[2] for share in shares])
    assert 0.1 < down.mean() < 0.3


def test_crossing_the_road_changes_its_policy_within_an_episode() -> None:
    env: Any = None
    act = cross_the_road(env, np.random.default_rng(0))
    parts = [np.bincount([act(None) for _ in range(200)], minlength=3) / 200 for _ in range(10)]
    assert np.std([part[2] for part in parts]) > 0.1


@pytest.mark.parametrize("name", ["faults-cartpole", "faults-pendulum"])
def test_the_known_controllers_do_their_task(name: str) -> None:
    """Without faults, the pole stands and the pendulum gets up."""
    stream, env = STREAMS[name], STREAMS[name].make()
    inner = env.env  # type: ignore[attr-defined]
    rewards = []
    for seed in range(3):
        (obs, _), total = inner.reset(seed=seed), 0.0
        act = stream.behaviour(inner, np.random.default_rng(seed))
        ended = False
        while not ended:
            obs, reward, terminated, truncated, _ = inner.step(act(obs))
            total, ended = total + float(reward), terminated or truncated
        rewards.append(total)
    assert min(rewards) > (490 if name == "faults-cartpole" else -650)


def test_an_unknown_stream_is_named_with_what_is_near() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'freeway-hit'.*\n.*faults-pendulum.*\n.*ClassName"):
        stream_named("freeway-hits")
