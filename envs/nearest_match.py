"""Objects of several colours on a plane, in no order and of varying number: which way to the nearest of one colour?"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit.envs.known_returns import KnownReturns
from rlkit.envs.pictures import METADATA, Colour, Picture, checked_render_mode, rendered
from rlkit.errors import UsageError
from rlkit.types import Array

Observation: TypeAlias = dict[str, Array]

DIRECTIONS = 8
_FINE = 2**20  # places are multiples of 1 / this, so that float32 observations are exact and ties all but impossible
_GRID = 15  # cells a side of the picture


class NearestMatch(gym.Env[Any, Any]):
    """Point at the nearest object that has the agent's colour, then at the next.

    An episode begins with max_objects // 2 to max_objects objects, a number drawn evenly, at even places of the square
    [-1, 1]², with even colours of c, and the agent at an even place. At every step the agent has the colour of one of
    the objects, drawn evenly among them. Action a, 0 … 7, points into the eighth of the plane around the angle
    a · 45°, counter-clockwise from the right. The right direction is that of the nearest object of the agent's colour;
    it pays 1 / (max_objects // 2), any other nothing. Whatever was said, the agent then goes to that object, which
    vanishes. The episode terminates after max_objects // 2 steps; the last observation is that of the step before.

    Observations are a Dict:

    - `entities` float32 [max_objects, 2 + c]: to the right and up from the agent in halves of the square's side,
      -1 … 1 each, and the colour as one of c; zeros in empty rows
    - `mask` int8 [max_objects] (MultiBinary): 1 where a row holds an object. Objects fill the first rows, and at least
      one is always there
    - `own` float32 [2 + c]: the agent's place, -1 … 1 each, and its colour as one of c

    The order of the rows means nothing: any permutation of rows and mask has the same right direction. It is a
    question of relations, of the objects to the agent (which have its colour) and to each other (which is nearest).

    The best return is 1. Everything is seen, so that a memoryless policy has it too: this is a test of attention over
    entities, not of memory. Random actions expect 1/8, always pointing at the nearest object of any colour has 0.50
    (measured, 20,000 episodes of the default arguments). The task is rlkit's own.

    Args:
        max_objects: rows, at least 2.
        colours: c, at least 1.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: an argument is out of these ranges, or there is no such render mode.
    """

    metadata = METADATA

    def __init__(self, *, max_objects: int = 12, colours: int = 4, render_mode: str | None = None) -> None:
        if max_objects < 2 or colours < 1:
            raise UsageError(f"max_objects is {max_objects}, at least 2; colours is {colours}, at least 1")
        self.render_mode = checked_render_mode(render_mode)
        self.max_objects, self.colours, self.steps = max_objects, colours, max_objects // 2
        features = 2 + colours
        self.observation_space = spaces.Dict(
            entities=spaces.Box(-1.0, 1.0, (max_objects, features), np.float32),
            mask=spaces.MultiBinary(max_objects),
            own=spaces.Box(-1.0, 1.0, (features,), np.float32),
        )
        self.action_space = spaces.Discrete(DIRECTIONS)
        self._places: list[tuple[float, float]] = []
        self._colours: list[int] = []
        self._own_place, self._own_colour = (0.0, 0.0), 0
        self._target = self._said = 0

    @property
    def known_returns(self) -> KnownReturns:
        """For any arguments."""
        return KnownReturns(
            best=1.0,
            memoryless=1.0,
            random=1.0 / DIRECTIONS,
            derivation="All directions right pay 1 in all, and each can be read from what is seen; chance is 1/8.",
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """The first objects."""
        super().reset(seed=seed)
        count = int(self.np_random.integers(self.steps, self.max_objects + 1))
        places = (self.np_random.integers(-_FINE, _FINE + 1, (count + 1, 2)) / _FINE).tolist()
        self._own_place, *self._places = [(x, y) for x, y in places]
        self._colours = self.np_random.integers(self.colours, size=count).tolist()
        self._said = 0
        self._ask()
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """A direction; the agent moves on to the object it was asked for."""
        assert self.action_space.contains(action), f"{action!r} ({type(action)}) invalid"
        reward = 1.0 / self.steps if action == self._direction() else 0.0
        self._said += 1
        terminated = self._said == self.steps
        if not terminated:
            self._own_place = self._places.pop(self._target)
            del self._colours[self._target]
            self._ask()
        return self._observe(), reward, terminated, False, {}

    def picture(self) -> Picture:
        """The square in cells; letters are colours, and a line below it has the agent's."""
        cells = [["."] * _GRID for _ in range(_GRID)]
        names = [chr(ord("A") + colour) for colour in range(self.colours)]
        for place, colour in zip(self._places, self._colours, strict=True):
            row, column = _cell(place)
            cells[row][column] = names[colour]
        colours: dict[str, Colour] = {name: _HUES[index % len(_HUES)] for index, name in enumerate(names)}
        cells.append([names[self._own_colour]] * _GRID)
        caption = f"nearest {names[self._own_colour]}: direction {self._direction()}"
        return Picture(tuple("".join(row) for row in cells), colours, _cell(self._own_place), caption, cell_size=16)

    def render(self) -> Any:
        """The picture, [H, W, 3] uint8, or text."""
        return rendered(self.picture, self.render_mode)

    def _ask(self) -> None:
        """Draw the agent's colour, and find the nearest object that has it."""
        own = self._own_colour = self._colours[self.np_random.integers(len(self._colours))]
        x, y = self._own_place
        best = math.inf
        for index, ((other_x, other_y), colour) in enumerate(zip(self._places, self._colours, strict=True)):
            distance = (other_x - x) ** 2 + (other_y - y) ** 2
            if colour == own and distance < best:
                best, self._target = distance, index

    def _direction(self) -> int:
        """The right action."""
        (x, y), (other_x, other_y) = self._own_place, self._places[self._target]
        turns = math.atan2(other_y - y, other_x - x) / math.tau
        return math.floor(turns * DIRECTIONS + 0.5) % DIRECTIONS

    def _observe(self) -> Observation:
        count = len(self._places)
        entities = np.zeros((self.max_objects, 2 + self.colours), np.float32)
        rows = np.arange(count)
        entities[rows, :2] = (np.array(self._places) - self._own_place) / 2.0
        entities[rows, 2 + np.array(self._colours)] = 1.0
        own = np.zeros(2 + self.colours, np.float32)
        own[:2], own[2 + self._own_colour] = self._own_place, 1.0
        mask = np.zeros(self.max_objects, np.int8)
        mask[:count] = 1
        return {"entities": entities, "mask": mask, "own": own}


_HUES: tuple[Colour, ...] = ((226, 150, 140), (150, 180, 226), (240, 210, 130), (190, 160, 214))


def _cell(place: tuple[float, float]) -> tuple[int, int]:
    """Row and column of a place; up is the first row."""
    column, row = (min(int((value + 1.0) / 2.0 * _GRID), _GRID - 1) for value in (place[0], -place[1]))
    return row, column
