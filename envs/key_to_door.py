"""Key-to-Door after Hung et al. (2019): what is done in the first room pays in the last, with apples in between."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit.envs.known_returns import KnownReturns
from rlkit.envs.pictures import METADATA, Colour, Picture, checked_render_mode, rendered
from rlkit.errors import UsageError
from rlkit.mdp import Integers

LEFT, RIGHT, USE = range(3)
KEY_ROOM, APPLE_ROOM, DOOR_ROOM = range(3)
NOTHING, APPLE, FIRST_COLOUR = range(3)
"""What a cell holds; `FIRST_COLOUR` + i is the key of colour i in the first room, its door in the last."""


class KeyToDoor(gym.Env[Any, Any]):
    """Take a key, gather apples, open the door of the key's colour.

    Three rooms follow each other, each a row of `width` cells, entered at a random cell. The first holds one key, of
    one of c colours, for `width` steps; the second an apple in each cell, for `apple_steps` steps; the third a door of
    each colour, in cells of their own, for `width` steps at most. Cells and colours are drawn evenly. Actions are
    left (0), right (1) and use (2), which takes the key or the apple of the agent's cell or tries the door there.
    An apple pays `apple_reward`; the first door that is tried ends the episode and pays `door_reward` if the agent
    has the key and it is of the door's colour. Nothing else pays. The episode also terminates if no door was tried in
    time.

    Observations are MultiDiscrete [2 + width]: the room (0 … 2), the agent's cell, and what each cell holds: 0
    nothing, 1 an apple, 2 + i the key or the door of colour i. A key taken is not seen any more.

    The best return is width · apple_reward + door_reward: key and doors are within reach, and the way over all the
    apples takes 3 · width - 2 steps at most, which `apple_steps` may not go below. The best of a memoryless policy is
    width · apple_reward + door_reward / c: taking the key, the apples and a door need no memory, but what is seen in
    the last room does not depend on the key's colour, and as only one door can be tried, the chances of all doors sum
    to at most 1, each of which is right for one colour of c. With c = 1 nothing need be remembered; what is left is
    Hung et al.'s question, credit for the key over the distraction.

    After Hung et al. (2019), "Optimizing agent behavior over long time scales by transporting value",
    https://arxiv.org/abs/1810.06721, where the rooms are seen in first person in three dimensions, there is one key
    and one door, and objects are taken by touch.

    Args:
        width: cells of a room, at least 2.
        colours: c, 1 … width.
        apple_steps: in the second room, at least 3 · width - 2.
        apple_reward: for each apple, at least 0.
        door_reward: for the right door, above 0.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: an argument is out of these ranges.
    """

    metadata = METADATA

    def __init__(
        self,
        *,
        width: int = 5,
        colours: int = 2,
        apple_steps: int = 30,
        apple_reward: float = 0.1,
        door_reward: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        if width < 2 or not 1 <= colours <= width:
            raise UsageError(f"width is {width}, colours is {colours}; width must be at least 2, colours 1 … width")
        if apple_steps < 3 * width - 2:
            raise UsageError(
                f"apple_steps is {apple_steps}; to gather {width} apples from anywhere takes up to {3 * width - 2}"
            )
        if not (apple_reward >= 0.0 and door_reward > 0.0):
            raise UsageError(
                f"apple_reward is {apple_reward}, it must be at least 0; door_reward is {door_reward}, above 0"
            )
        self.render_mode = checked_render_mode(render_mode)
        self.width, self.colours, self.apple_steps = width, colours, apple_steps
        self.apple_reward, self.door_reward = float(apple_reward), float(door_reward)
        self.observation_space = spaces.MultiDiscrete([3, width] + [FIRST_COLOUR + colours] * width)
        self.action_space = spaces.Discrete(3)
        self.room, self.position = KEY_ROOM, 0
        self.cells = [NOTHING] * width
        self.key: int | None = None  # colour of the key that was taken
        self._left = width  # steps left in this room

    @property
    def known_returns(self) -> KnownReturns:
        """For these arguments; `random` is not derived."""
        apples = self.width * self.apple_reward
        return KnownReturns(
            best=apples + self.door_reward,
            memoryless=apples + self.door_reward / self.colours,
            random=None,
            derivation="All apples and the right door; without memory the one door tried is right for one colour of c.",
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Integers, dict[str, Any]]:
        """The room with the key."""
        super().reset(seed=seed)
        self.key = None
        self._enter(KEY_ROOM)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Integers, float, bool, bool, dict[str, Any]]:
        """A step, or a use of what is there."""
        assert self.action_space.contains(action), f"{action!r} ({type(action)}) invalid"
        reward, terminated = 0.0, False
        if action == USE:
            reward, terminated = self._use()
        else:
            self.position = max(self.position - 1, 0) if action == LEFT else min(self.position + 1, self.width - 1)
        self._left -= 1
        if self._left == 0 and self.room == DOOR_ROOM:
            terminated = True
        elif self._left == 0:
            self._enter(self.room + 1)
        return self._observe(), reward, terminated, False, {}

    def picture(self) -> Picture:
        """The room; letters are keys or doors by colour, `o` is an apple."""
        names = ".o" + "".join(chr(ord("A") + colour) for colour in range(self.colours))
        colours = {"o": _APPLE} | {name: _hue(index) for index, name in enumerate(names[FIRST_COLOUR:])}
        held = "no key" if self.key is None else f"key {names[FIRST_COLOUR + self.key]}"
        caption = f"{('key', 'apple', 'door')[self.room]} room, {self._left} steps left, {held}"
        return Picture(("".join(names[cell] for cell in self.cells),), colours, (0, self.position), caption)

    def render(self) -> Any:
        """The picture, [H, W, 3] uint8, or text."""
        return rendered(self.picture, self.render_mode)

    def _use(self) -> tuple[float, bool]:
        """Reward, and whether the episode ends."""
        here = self.cells[self.position]
        if here == NOTHING:
            return 0.0, False
        if self.room == DOOR_ROOM:
            return self.door_reward * (here - FIRST_COLOUR == self.key), True
        self.cells[self.position] = NOTHING
        if self.room == APPLE_ROOM:
            return self.apple_reward, False
        self.key = here - FIRST_COLOUR
        return 0.0, False

    def _enter(self, room: int) -> None:
        # at a cell drawn anew, so that no policy can carry the key's colour over in where it stands
        self.room, self.position = room, int(self.np_random.integers(self.width))
        self._left = self.apple_steps if room == APPLE_ROOM else self.width
        self.cells = [APPLE if room == APPLE_ROOM else NOTHING] * self.width
        if room == KEY_ROOM:
            self.cells[self.np_random.integers(self.width)] = FIRST_COLOUR + int(self.np_random.integers(self.colours))
        elif room == DOOR_ROOM:
            for colour, cell in enumerate(self._places()):
                self.cells[cell] = FIRST_COLOUR + colour

    def _places(self) -> list[int]:
        """A cell for each door, no two the same."""
        free = list(range(self.width))
        return [free.pop(self.np_random.integers(len(free))) for _ in range(self.colours)]

    def _observe(self) -> Integers:
        return np.array([self.room, self.position, *self.cells], np.int64)


_APPLE: Colour = (190, 214, 120)


def _hue(index: int) -> Colour:
    hues: tuple[Colour, ...] = ((226, 150, 140), (150, 180, 226), (240, 210, 130), (190, 160, 214))
    return hues[index % len(hues)]
