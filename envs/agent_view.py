"""What the agent of MiniGrid and BabyAI sees, without the text of its mission: cells as one-hot numbers, or pixels."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from rlkit.envs.contract import Env
from rlkit.envs.simulators import is_of_class
from rlkit.errors import UnsupportedTaskError, UsageError
from rlkit.types import Array


class AgentView(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """The cells before the agent, and neither mission nor compass.

    Args:
        env: an environment of MiniGrid or BabyAI.
        show: `cells`: object, colour and state of each cell as ones among zeros, uint8 [rows · columns · 20], which is
            980 numbers for 7x7 cells; `pixels`: a picture, uint8 [rows · tile_size, columns · tile_size, 3].
        tile_size: pixels of a cell's side.

    Raises:
        UnsupportedTaskError: another environment.
        UsageError: `show` is something else.

    >>> AgentView(gym.make("BabyAI-BossLevel-v0"), show="pixels").observation_space.shape
    (56, 56, 3)
    """

    def __init__(self, env: Env, show: Literal["cells", "pixels"] = "cells", tile_size: int = 8) -> None:
        RecordConstructorArgs.__init__(self, show=show, tile_size=tile_size)
        gym.ObservationWrapper.__init__(self, env)
        inner: Any = env.unwrapped
        if not is_of_class(inner, "minigrid.minigrid_env", "MiniGridEnv"):
            raise UnsupportedTaskError(f"agent-view is for MiniGrid and BabyAI, this is {type(inner).__name__}")
        if show not in ("cells", "pixels") or tile_size < 1:
            raise UsageError(f"agent-view: show is {show!r}, allowed: cells, pixels; tile_size is {tile_size}, min. 1")
        self._shows_cells, self._tile_size, self._inner = show == "cells", tile_size, inner
        side = inner.agent_view_size
        if self._shows_cells:
            self.observation_space = spaces.Box(0, 1, (side * side * sum(_sizes()),), np.uint8)
        else:
            self.observation_space = spaces.Box(0, 255, (side * tile_size, side * tile_size, 3), np.uint8)

    def observation(self, observation: Any) -> Any:
        """The cells, or their picture."""
        if self._shows_cells:
            return one_hot_cells(observation["image"])
        return self._inner.get_frame(tile_size=self._tile_size, agent_pov=True)


def one_hot_cells(cells: Array) -> Array:
    """Cells [columns, rows, 3] of MiniGrid as ones among zeros, uint8 [columns · rows · 20]."""
    parts = [np.eye(size, dtype=np.uint8)[cells[..., place]] for place, size in enumerate(_sizes())]
    return np.concatenate(parts, axis=-1).reshape(-1)


def _sizes() -> tuple[int, int, int]:
    """How many objects, colours and states there are: 11, 6 and 3."""
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX

    return len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX)
