"""Waiting and declaring along labelled streams: rewards by hand, and the same costs as change detection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check

from rlkit.envs.change_detection import ChangeDetection
from rlkit.envs.event_streams import EventStream
from rlkit.envs.make import EnvFactory
from rlkit.envs.restore import explain_restore
from rlkit.envs.wait_or_declare import WaitOrDeclare
from rlkit.errors import UsageError

WAIT = 0


def streams() -> list[EventStream]:
    """Classes a and b: b begins at frame 2 and ends after 3; nothing; a and b at once at frame 0, a for one frame."""
    labels = ([[0, 0], [0, 0], [0, 1], [0, 1], [1, 0]], [[0, 0], [0, 0]], [[1, 1], [0, 1], [0, 0]])
    return [EventStream(np.arange(len(each))[:, None] + 0.5, np.array(each)) for each in labels]


def built(**arguments: Any) -> WaitOrDeclare:
    costs = {"false_alarm_cost": 4.0, "delay_cost": 0.5, "wrong_class_cost": 2.0, "miss_cost": 8.0}
    return WaitOrDeclare(streams(), ["a", "b"], **{**costs, "correct_reward": 1.0, **arguments})


def two_streams() -> WaitOrDeclare:
    """Without arguments, for an environment that is built anew."""
    return built()


def played(env: WaitOrDeclare, stream: int, *actions: int) -> list[tuple[Any, float, bool, bool, dict[str, Any]]]:
    env.reset(seed=0, options={"stream": stream})
    return [env.step(action) for action in actions]


@pytest.mark.filterwarnings("ignore:.*Box observation space m.* value is.*infinity")
def test_it_follows_gymnasiums_rules_and_is_restored_exactly() -> None:
    gymnasium_check(built(), skip_render_check=True)
    assert explain_restore(EnvFactory(two_streams)).tier == "exact"


@pytest.mark.parametrize(
    ("stream", "actions", "rewards", "delay"),
    [
        (0, (WAIT, WAIT, WAIT, 2), [0, 0, -0.5, 1.0], 1),
        (0, (WAIT, WAIT, 2), [0, 0, 1.0], 0),
        (0, (WAIT, WAIT, 1), [0, 0, -2.0], 0),
        (0, (WAIT, 2), [0, -4.0], 0),
        (0, (WAIT, WAIT, WAIT, WAIT, 2), [0, 0, -0.5, -0.5, 1.0], 2),  # late, but right
        (0, (WAIT,) * 5, [0, 0, -0.5, -0.5, -8.5], 2),
        (1, (WAIT, WAIT), [0, 0], 0),
        (1, (WAIT, 1), [0, -4.0], 0),
        (2, (1,), [1.0], 0),
        (2, (WAIT, 2), [-0.5, 1.0], 1),
    ],
)
def test_rewards_are_as_by_hand(stream: int, actions: tuple[int, ...], rewards: list[float], delay: int) -> None:
    steps = played(built(), stream, *actions)
    assert [step[1] for step in steps] == rewards
    assert [step[2] for step in steps] == [False] * (len(steps) - 1) + [True]
    assert not any(step[3] for step in steps)
    info = steps[-1][4]
    assert (info["delay"], info["false_alarm"], info["correct"]) == (delay, rewards[-1] == -4.0, rewards[-1] == 1.0)


def test_a_step_tells_of_the_frame_that_it_shows() -> None:
    env = built()
    obs, info = env.reset(options={"stream": 0})
    told = [(float(obs[0]), bool(info["events/a"]), bool(info["events/b"]), int(info["change_time"]))]
    for action in (WAIT, WAIT, WAIT, WAIT, 1):
        obs, _, _, _, info = env.step(action)
        told.append((float(obs[0]), bool(info["events/a"]), bool(info["events/b"]), int(info["change_time"])))
    assert told == [
        (0.5, False, False, 2), (1.5, False, False, 2), (2.5, False, True, 2), (3.5, False, True, 2),
        (4.5, True, False, 2), (4.5, True, False, 2),
    ]  # fmt: skip
    assert env.reset(options={"stream": 1})[1]["change_time"] == -1


def test_the_background_has_no_action_and_is_not_told() -> None:
    given = [EventStream(np.zeros((2, 1)), np.array([[1, 0], [0, 1]]))]
    env = WaitOrDeclare(given, ["background", "hit"])
    assert env.action_space.n == 2
    _, info = env.reset(seed=0)
    assert [key for key in info if key.startswith("events/")] == ["events/hit"]
    assert info["change_time"] == 1
    env.step(WAIT)
    assert env.step(1)[4]["correct"]


def test_streams_are_drawn_evenly() -> None:
    env = built()
    env.reset(seed=0)
    drawn = np.bincount([int(env.reset()[1]["stream"]) for _ in range(3000)])
    assert (np.abs(drawn - 1000) < 130).all()


def test_recorded_change_detection_costs_what_the_live_one_costs() -> None:
    live, recorded, costs = ChangeDetection(hazard=0.2, delay_cost=0.1), [], []
    for seed in range(30):
        obs, info = live.reset(seed=seed)
        frames, labels = [obs], [[info["events/change"]]]
        for _ in range(60):
            obs, _, _, _, info = live.step(WAIT)
            frames.append(obs)
            labels.append([info["events/change"]])
        recorded.append(EventStream(np.stack(frames), np.array(labels)))
    env = WaitOrDeclare(recorded, ["change"], delay_cost=0.1)
    for seed in range(30):
        pair = []
        for each, reset in ((live, {"seed": seed}), (env, {"options": {"stream": seed}})):
            obs, _ = each.reset(**reset)  # type: ignore[attr-defined]
            total, terminated = 0.0, False
            while not terminated:
                obs, reward, terminated, _, _ = each.step(int(obs[0] > 0.7))  # type: ignore[attr-defined]
                total += reward
            pair.append(total)
        assert pair[0] == pair[1]
        costs.append(pair[0])
    assert len(set(costs)) > 4


def test_the_picture_marks_events_and_the_frame_in_sight() -> None:
    env = built(render_mode="ansi")
    played(env, 0, WAIT, WAIT)
    assert env.render() == ". . @ T T\nstream 0, frame 2: b"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"streams": []}, "the 0 streams"),
        ({"classes": ["a"]}, "K must be 1"),
        ({"classes": ["a", "a"]}, "a name of its own"),
        ({"classes": ["background", "background"]}, "a name of its own"),
        ({"miss_cost": -1.0}, "miss_cost is -1.0"),
        ({"streams": [*streams(), EventStream(np.zeros((1, 2)), np.zeros((1, 2)))]}, "one D"),
    ],
)
def test_wrong_arguments_are_told(change: dict[str, Any], told: str) -> None:
    arguments: dict[str, Any] = {"streams": streams(), "classes": ["a", "b"], **change}
    with pytest.raises(UsageError) as raised:
        WaitOrDeclare(**arguments)
    assert told in str(raised.value)


def test_only_the_background_is_too_little() -> None:
    with pytest.raises(UsageError, match="there must be at least one"):
        WaitOrDeclare([EventStream(np.zeros((1, 1)), np.ones((1, 1)))], ["background"])


def test_a_stream_that_does_not_exist_is_told() -> None:
    with pytest.raises(UsageError, match="allowed: 0 … 2"):
        built().reset(options={"stream": 3})
