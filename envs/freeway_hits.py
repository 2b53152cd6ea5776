"""Freeway's events: a car hits the chicken and knocks it back, or the chicken arrives and the game pauses.

The console counts both down in byte 106 of its RAM, which AtariARI does not list. The counter is 0 in normal play. It
jumps to about 92 when a car hits, to about 143 when the chicken arrives, and falls by one every second frame; a chicken
that is hit while it recovers starts again at 92. So a rise tells which it is, by its value: below 110 a hit, from 110
on a score. Checked with ale-py's cartridge in its default mode at frame skips 1, 2, 4 and 8: hits rise to 88 … 92,
scores to 139 … 143; every interval of hits moves the chicken back, none of the scores does; and where only UP is
pressed, nothing moves back outside of hits (tests/envs/test_envs_freeway_hits.py).

Where labels could be argued about: a hit lasts until the counter is 0, so its second half shows a chicken that stands
still; and a new hit before that is the same interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from rlkit.envs.contract import Env
from rlkit.envs.events import BACKGROUND, told
from rlkit.envs.simulators import is_of_class
from rlkit.errors import UnsupportedTaskError

COUNTER = 106
"""The byte of the RAM that counts down."""
SCORE_FROM = 110
"""A counter that rises to this or more is a score; between 92 (hits) and 139 (scores)."""
LONGEST_SKIP = 8
"""Frames of one step up to which values of the counter were checked."""


class FreewayHits(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Tells in `info` whether the chicken of Freeway was hit by a car (`events/hit`) or has just scored.

    It reads the counter once a step: put it inside wrappers that repeat actions, or let the game skip frames itself.

    Args:
        env: `ALE/Freeway-v5`.

    Raises:
        UnsupportedTaskError: another environment, or more than 8 frames a step.

    >>> env = FreewayHits(gym.make("ALE/Freeway-v5"))
    >>> env.reset(seed=0); env.step(1)[4]["events/hit"]
    False
    """

    event_classes: tuple[str, ...] = (BACKGROUND, "hit", "score")

    def __init__(self, env: Env) -> None:
        RecordConstructorArgs.__init__(self)  # so that gymnasium can build it again from its spec
        gym.Wrapper.__init__(self, env)
        self._ale = _freeway_console(env)
        self._counter = 0
        self._present = BACKGROUND

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The environment's own reset."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._counter, self._present = 0, BACKGROUND
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """The environment's own step, with what happens in the observation that it led to."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        before, self._counter = self._counter, int(self._ale.getRAM()[COUNTER])
        if self._counter > before:
            self._present = "score" if self._counter >= SCORE_FROM else "hit"
        elif self._counter == 0:
            self._present = BACKGROUND
        return obs, reward, terminated, truncated, self._told(info)

    def _told(self, info: Mapping[str, Any]) -> dict[str, Any]:
        return {**info, **told(self.event_classes, self._present)}


def _freeway_console(env: Env) -> Any:
    """The emulator of `env`."""
    inner: Any = env.unwrapped
    if not is_of_class(inner, "ale_py.env", "AtariEnv") or inner._game != "freeway":
        raise UnsupportedTaskError(f"freeway-hits is for ALE/Freeway-v5, this is {type(inner).__name__} ({inner.spec})")
    longest = inner._frameskip if isinstance(inner._frameskip, int) else inner._frameskip[1]
    if longest > LONGEST_SKIP:
        raise UnsupportedTaskError(
            f"freeway-hits: a step of {longest} frames may miss a hit; use frameskip=4, at most {LONGEST_SKIP}"
        )
    return inner.ale
