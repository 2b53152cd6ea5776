"""Masked rows of pictures, and what MiniGrid's agent sees."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rlkit.envs.agent_view import AgentView, one_hot_cells
from rlkit.envs.make import make_single
from rlkit.envs.mask_rows import MaskRows
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import UnknownNameError, UnsupportedTaskError, UsageError


class Noise(gym.Env[Any, Any]):
    """Random pictures."""

    action_space: Any = spaces.Discrete(2)

    def __init__(self, *shape: int) -> None:
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.seen = self.np_random.integers(1, 256, self.observation_space.shape, np.uint8)
        return self.seen, {}


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 5, 1)])
def test_named_rows_are_black_and_the_others_untouched(shape: tuple[int, ...]) -> None:
    inner = Noise(*shape)
    obs, _ = MaskRows(inner, rows=((0, 2), (4, 5))).reset(seed=0)
    assert not obs[[0, 1, 4]].any()
    assert np.array_equal(obs[[2, 3, 5]], inner.seen[[2, 3, 5]])
    assert inner.seen.all(), "the environment's own picture stays as it is"


def test_the_score_of_freeway_is_all_that_its_mask_covers() -> None:
    pytest.importorskip("ale_py")
    options = {"obs_type": "grayscale"}
    plain = make_single("ALE/Freeway-v5", env_kwargs=options)
    masked = make_single("ALE/Freeway-v5", [resolve_wrapper("mask-rows:rows=freeway-score")], options)
    first, _ = plain.reset(seed=0)
    changed, rewards = np.zeros(first.shape, np.bool_), 0.0
    masked.reset(seed=0)
    for _ in range(160):
        obs, reward, *_ = plain.step(1)
        seen, *_ = masked.step(1)
        rewards += float(reward)
        changed |= obs != first
        assert not seen[:15].any()
        assert np.array_equal(seen[15:], obs[15:])
    assert rewards >= 1
    rows = np.flatnonzero(changed.any(axis=1))
    assert rows.min() >= 5, "what changes above the road is the score in rows 5 … 12"
    assert not ({13, 14, 15, 16} & set(rows.tolist()))


def test_wrong_rows_and_observations_are_explained() -> None:
    with pytest.raises(UnknownNameError, match="freeway-score"):
        MaskRows(Noise(210, 160), rows="freeway-scores")
    with pytest.raises(UnsupportedTaskError, match="210 rows, these have 84"):
        MaskRows(Noise(84, 84), rows="freeway-score")
    for wrong in ((), ((3, 3),), ((0, 85),), ((-1, 2),), ((1, 2, 3),), (0, 15)):
        with pytest.raises(UsageError, match="pairs first < stop in 0 … 84"):
            MaskRows(Noise(84, 84), rows=wrong)  # type: ignore[arg-type]
    for space in ("CartPole-v1", "FrozenLake-v1"):
        with pytest.raises(UnsupportedTaskError, match="pictures"):
            MaskRows(gym.make(space), rows=((0, 1),))
    with pytest.raises(UnsupportedTaskError, match="before frame-stack"):
        MaskRows(Noise(4, 84, 84), rows=((0, 1),))


def test_cells_are_one_hot_in_object_colour_and_state() -> None:
    pytest.importorskip("minigrid")
    cells = np.array([[[4, 3, 2], [1, 0, 0]]])  # a door (4), purple (3), locked (2); and an empty cell
    told = one_hot_cells(cells).reshape(2, 20)
    assert np.flatnonzero(told[0]).tolist() == [4, 11 + 3, 17 + 2]
    assert np.flatnonzero(told[1]).tolist() == [1, 11, 17]


def test_the_view_is_cells_or_pixels_and_never_the_mission() -> None:
    pytest.importorskip("minigrid")
    inner = make_single("BabyAI-GoToRedBall-v0")
    raw, _ = inner.reset(seed=3)
    cells, _ = AgentView(inner).reset(seed=3)
    assert (cells.shape, cells.dtype, cells.sum()) == ((980,), np.uint8, 3 * 49)
    assert np.array_equal(cells, one_hot_cells(raw["image"]))
    wrapped = make_single("BabyAI-GoToRedBall-v0", [resolve_wrapper("agent-view:show=pixels,tile_size=4")])
    pixels, _ = wrapped.reset(seed=3)
    assert (pixels.shape, pixels.dtype) == ((28, 28, 3), np.uint8)
    assert wrapped.observation_space.contains(pixels)
    with pytest.raises(UsageError, match="cells, pixels"):
        AgentView(inner, show="text")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedTaskError, match="CartPole"):
        AgentView(gym.make("CartPole-v1"))
