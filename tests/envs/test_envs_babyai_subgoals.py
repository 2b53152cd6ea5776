"""Subgoals of BabyAI's bot: the class that a plan has, and plans that go wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlkit.envs.babyai_subgoals import BabyAISubgoals, subgoal_class
from rlkit.envs.make import make_single
from rlkit.errors import UnsupportedTaskError

bots = pytest.importorskip("minigrid.utils.baby_ai_bot")
EVENTS = "events/"


def level(name: str = "BossLevel") -> BabyAISubgoals:
    return BabyAISubgoals(make_single(f"BabyAI-{name}-v0"))


def episode(env: BabyAISubgoals, seed: int, strange: float = 0.0) -> tuple[list[str], float]:
    """Class of each step, and the last reward."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    classes: list[str] = []
    while True:
        action = int(rng.integers(7)) if rng.random() < strange else env.suggested_action
        _, reward, terminated, truncated, info = env.step(action)
        told = [key for key in info if key.startswith(EVENTS)]
        assert told == [EVENTS + name for name in env.event_classes[1:]]
        present = [key.removeprefix(EVENTS) for key in told if info[key]]
        assert len(present) <= 1
        classes.append(present[0] if present else "background")
        if terminated or truncated:
            return classes, float(reward)


def test_the_bot_solves_its_missions_and_has_a_subgoal_until_it_has() -> None:
    env = level()
    found: Counter[str] = Counter()
    for seed in range(4):
        classes, reward = episode(env, seed)
        assert reward > 0
        assert classes[-1] == "background", "the mission is done"
        assert "background" not in classes[:-1]
        found.update(classes)
    assert found["explore"] > found["goto-key"], "as in 120 episodes, where a third is exploring"


def test_a_plan_s_class_is_that_of_its_top_and_of_any_exploration() -> None:
    env = level("OpenDoor")
    env.reset(seed=0)
    bot: Any = bots.BabyAIBot(env)
    door = next(thing for thing in env.unwrapped.grid.grid if thing and thing.type == "door")  # type: ignore[attr-defined]
    empty = tuple(env.unwrapped.agent_pos)  # type: ignore[attr-defined]
    goto, opened = bots.GoNextToSubgoal(bot, door), bots.OpenSubgoal(bot)
    aside = bots.GoNextToSubgoal(bot, empty)
    for stack, expected in (
        ([opened], "manipulate"),
        ([opened, goto], "goto-door"),
        ([opened, bots.GoNextToSubgoal(bot, tuple(door.cur_pos))], "goto-door"),
        ([opened, goto, aside], "goto-door"),
        ([opened, aside], "manipulate"),
        ([opened, goto, bots.ExploreSubgoal(bot)], "explore"),
        ([opened, bots.ExploreSubgoal(bot), aside], "explore"),
        ([goto, bots.PickupSubgoal(bot)], "manipulate"),
    ):
        bot.stack = stack
        assert subgoal_class(bot) == expected


@pytest.mark.parametrize("name", ["GoToRedBall", "GoToLocal", "OpenDoor"])
def test_what_the_mission_asks_for_is_what_the_bot_goes_to(name: str) -> None:
    env = level(name)
    classes, reward = episode(env, 1)
    assert reward > 0
    words = str(env.unwrapped.mission).split()  # type: ignore[attr-defined]
    (asked,) = {"door", "key", "ball", "box"}.intersection(words)
    assert f"goto-{asked}" in classes


def test_labels_follow_strange_actions_and_episodes_still_end() -> None:
    env = level()
    for seed in range(2):
        classes, _ = episode(env, seed, strange=0.2)
        assert "background" not in classes[:-1]


def test_the_episode_is_cut_where_the_bot_is_at_a_loss() -> None:
    env = level()
    env.reset(seed=0)
    env._bot.stack = []
    env._bot._check_erroneous_box_opening = raise_disappeared
    _, _, terminated, truncated, info = env.step(0)
    assert (terminated, truncated) == (False, True)
    assert not any(value for key, value in info.items() if key.startswith(EVENTS))


def raise_disappeared(action: Any) -> None:
    raise bots.DisappearedBoxError("a box was opened")


def test_the_mission_s_rejected_drafts_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    env = level()
    for seed in range(20):
        env.reset(seed=seed)
    assert capsys.readouterr().out == ""


def test_other_environments_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match=r"levels of BabyAI.*CartPoleEnv"):
        BabyAISubgoals(gym.make("CartPole-v1"))
