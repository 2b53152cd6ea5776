"""Freeway's hits and scores: the label against what the chicken does, and against rewards."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest

from rlkit.envs.events import event_classes_of
from rlkit.envs.freeway_hits import FreewayHits
from rlkit.envs.make import make_single
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import UnsupportedTaskError

pytest.importorskip("ale_py")
NOOP, UP, DOWN = range(3)


class Step(NamedTuple):
    present: str
    moved: int  # upwards, in rows of the console
    reward: float


def played(seed: int, steps: int, actions: tuple[int, ...], **options: Any) -> list[Step]:
    env = make_single("ALE/Freeway-v5", [resolve_wrapper("freeway-hits")], {"obs_type": "grayscale", **options})
    ale: Any = env.unwrapped.ale  # type: ignore[attr-defined]
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    found, before = [], int(ale.getRAM()[14])
    for _ in range(steps):
        _, reward, _, _, info = env.step(int(rng.choice(actions)))
        assert [key for key in info if key.startswith("events/")] == ["events/hit", "events/score"]
        height = int(ale.getRAM()[14])
        present = "hit" if info["events/hit"] else "score" if info["events/score"] else "background"
        assert not (info["events/hit"] and info["events/score"])
        found.append(Step(present, height - before, float(reward)))
        before = height
    return found


def intervals(steps: list[Step]) -> list[tuple[str, list[Step]]]:
    """Runs of one class that have ended, in order."""
    return [(present, list(run)) for present, run in groupby(steps, key=lambda step: step.present)][:-1]


@pytest.mark.parametrize(("seeds", "steps"), [((0,), 600), pytest.param((1, 2, 3, 4), 2040, marks=pytest.mark.slow)])
def test_with_random_presses_every_hit_knocks_the_chicken_back_and_no_score_does(
    seeds: tuple[int, ...], steps: int
) -> None:
    found = [run for seed in seeds for run in intervals(played(seed, steps, (UP,) * 6 + (NOOP, DOWN)))]
    hits = [steps for present, steps in found if present == "hit"]
    scores = [steps for present, steps in found if present == "score"]
    assert len(hits) > 8 * len(seeds)
    assert len(scores) > 2 * len(seeds)
    assert all(any(step.moved < 0 for step in steps) for steps in hits)
    # the step of the score itself puts the chicken back to the start
    assert not any(step.moved < 0 for steps in scores for step in steps[1:])
    assert {len(steps) for steps in scores} <= {7, 8}
    assert min(map(len, hits)) >= 13


@pytest.mark.parametrize("frameskip", [2, 4, 8])
def test_where_only_up_is_pressed_nothing_moves_back_outside_of_events(frameskip: int) -> None:
    steps = played(3, 1600 // frameskip, (UP,), frameskip=frameskip)
    assert sum(step.present == "hit" for step in steps) > 30
    assert all(step.moved >= 0 for step in steps if step.present == "background")


def test_down_moves_the_chicken_back_without_a_hit() -> None:
    steps = played(0, 250, (UP, UP, DOWN))
    walked = sum(step.moved < 0 and step.present == "background" for step in steps)
    assert walked > 25, "so that motion is not the label"


def test_rewards_come_exactly_with_the_beginning_of_scores() -> None:
    steps = played(1, 400, (UP,))
    begins = [before.present != "score" and after.present == "score" for before, after in pairwise(steps)]
    assert sum(begins) > 2
    assert begins == [step.reward == 1 for step in steps[1:]]


def test_a_new_episode_begins_in_the_background() -> None:
    env = FreewayHits(gym.make("ALE/Freeway-v5", disable_env_checker=True))
    env.reset(seed=0)
    while not env.step(UP)[4]["events/hit"]:
        pass
    env.reset(seed=1)
    assert not env.step(UP)[4]["events/hit"]
    assert event_classes_of(env) == ("background", "hit", "score")


def test_other_games_and_long_steps_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match=r"ALE/Freeway-v5.*CartPole"):
        FreewayHits(gym.make("CartPole-v1"))
    with pytest.raises(UnsupportedTaskError, match=r"16 frames.*at most 8"):
        FreewayHits(gym.make("ALE/Freeway-v5", frameskip=16, disable_env_checker=True))
    with pytest.raises(UnsupportedTaskError, match="Pong"):
        FreewayHits(gym.make("ALE/Pong-v5", disable_env_checker=True))
