"""The T-maze of Bakker (2001): a cue at the start tells which way to turn at the end of a corridor."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit.envs.known_returns import KnownReturns
from rlkit.envs.pictures import METADATA, Picture, checked_render_mode, rendered
from rlkit.errors import UsageError

UP, RIGHT, DOWN, LEFT = range(4)
CUE_UP, CUE_DOWN, CORRIDOR, JUNCTION = range(4)
_PATIENCE = 4  # times the shortest way


class TMaze(gym.Env[Any, Any]):
    """A corridor with a junction at its end; the cue, seen in the first observation only, says which way to turn.

    Observations are 0 (cue: up), 1 (cue: down), 2 (in the corridor) and 3 (at the junction). Actions are up (0),
    right (1), down (2) and left (3), as on rlkit's grids. `length` steps to the right lead from the start to the
    junction. Up or down there ends the episode, with reward 1 if the cue said so and 0 otherwise. Every other step
    that is not one to the right in the corridor costs 1 / length. After 4 · (length + 1) steps the episode is
    truncated. The two cues are equally likely; `reset(options={"cue": 0})` or 1 chooses one.

    The best expected return is 1: to the right, then as the cue said. The best of a memoryless policy is 1/2: no
    return is above the reward of the turn, and at the junction the policy turns up with a probability p that cannot
    depend on the cue, so that it earns at most (p + (1 - p)) / 2; always right, then up, has it.

    After Bakker (2001), "Reinforcement learning with long short-term memory", NIPS 14. There the right
    turn pays 4, the wrong one -0.1, and only a step against a wall costs, 0.1; the cue is seen whenever the agent is
    at the start, and nothing cuts an episode short. Here all steps that waste time cost, as in Ni et al. (2023),
    "When do transformers shine in RL?", so that walking to the junction is learned soon and the turn is what is left.

    Args:
        length: steps from the start to the junction.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: the corridor has no length, or there is no such render mode or cue.
    """

    metadata = METADATA

    def __init__(self, *, length: int = 50, render_mode: str | None = None) -> None:
        if length < 1:
            raise UsageError(f"length is {length}, the corridor needs at least one step")
        self.render_mode = checked_render_mode(render_mode)
        self.length = length
        self.max_steps = _PATIENCE * (length + 1)
        self.observation_space = spaces.Discrete(4)
        self.action_space = spaces.Discrete(4)
        self.cue = CUE_UP
        self.position = 0  # steps from the start
        self._steps = 0

    @property
    def known_returns(self) -> KnownReturns:
        """For this length."""
        return KnownReturns(
            best=1.0,
            memoryless=0.5,
            random=_random_return(self.length, self.max_steps),
            derivation="The right turn pays 1 and nothing else pays; without memory it is right for one cue of two.",
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """The cue.

        Raises:
            UsageError: `options` names a cue other than 0 and 1.
        """
        super().reset(seed=seed)
        cue = None if options is None else options.get("cue")
        if cue not in (None, CUE_UP, CUE_DOWN):
            raise UsageError(f"the cue is {cue!r}, it must be {CUE_UP} (up) or {CUE_DOWN} (down)")
        self.cue = int(self.np_random.integers(2)) if cue is None else int(cue)
        self.position = self._steps = 0
        return self.cue, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """A step along the corridor, or the turn."""
        assert self.action_space.contains(action), f"{action!r} ({type(action)}) invalid"
        self._steps += 1
        if self.position == self.length and action in (UP, DOWN):
            return JUNCTION, float(action == (UP, DOWN)[self.cue]), True, False, {}
        reward = -1.0 / self.length
        if action == RIGHT and self.position < self.length:
            self.position, reward = self.position + 1, 0.0
        elif action == LEFT and self.position > 0:
            self.position -= 1
        seen = JUNCTION if self.position == self.length else CORRIDOR
        return seen, reward, False, self._steps >= self.max_steps, {}

    def picture(self) -> Picture:
        """The corridor, with the right turn marked while the cue is in sight; the caption tells it always."""
        is_seen = self._steps == 0
        up, down = ("T" if is_seen and self.cue == cue else "." for cue in (CUE_UP, CUE_DOWN))
        beside = "#" * self.length
        cells = (beside + up, "S" + "." * self.length, beside + down)
        caption = f"cue: {('up', 'down')[self.cue]}, {'in sight' if is_seen else 'out of sight'}"
        return Picture(cells, agent=(1, self.position), caption=caption, cell_size=16)

    def render(self) -> Any:
        """The picture, [H, W, 3] uint8, or text."""
        return rendered(self.picture, self.render_mode)


def _random_return(length: int, max_steps: int) -> float:
    """Expected return of even random actions, exactly: the chances of all positions, step by step."""
    chance = np.zeros(length + 1)
    chance[0], total = 1.0, 0.0
    for _ in range(max_steps):
        corridor, junction = chance[:-1], chance[-1]
        total += junction * (0.25 - 0.5 / length) - corridor.sum() * 0.75 / length
        moved = np.zeros_like(chance)
        moved[1:] += 0.25 * corridor  # right
        moved[:-1] += 0.25 * chance[1:]  # left
        moved[0] += 0.25 * chance[0]
        moved[:-1] += 0.5 * corridor  # up and down end at walls
        moved[-1] += 0.25 * junction  # right, against the wall
        chance = moved
    return float(total)
