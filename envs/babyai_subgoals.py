"""BabyAI's events: which subgoal the bot of BabyAI has at present, read from the stack of its plan.

| class | the bot |
|---|---|
| `goto-door`, `goto-key`, `goto-ball`, `goto-box` | goes to such an object |
| `explore` | looks for something that it has not seen: an exploration is anywhere on the stack |
| `manipulate` | opens, closes, picks up or drops, or goes to an empty cell in order to |
| `background` | has no plan: the mission is done, or failed |

The class is that of the plan in the observation that a step led to, made before the next action is chosen. Where labels
could be argued about: a step towards a cell counts for what stands in it, and for an empty cell for the subgoal
below it on the stack (a step aside to undo a strange action is part of what it interrupts; a way to the place where a
key is put down is `manipulate`). Doors that are opened for the sake of exploring are `goto-door`, because the bot has
replaced the exploration by the door. On 120 episodes of the bot alone on `BabyAI-BossLevel-v0` frequencies are, in the
table's order without background, .444, .066, .042, .041, .334 and .074.

The bot follows whatever the agent does and plans anew. It cannot go on where a box was opened, which destroys what was
in it; the episode is then truncated, because nothing could be labelled.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from rlkit.envs.contract import Env
from rlkit.envs.events import BACKGROUND, told
from rlkit.envs.simulators import is_of_class
from rlkit.errors import UnsupportedTaskError

_KINDS = ("door", "key", "ball", "box")


class BabyAISubgoals(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Tells in `info` which subgoal BabyAI's bot has, and in `suggested_action` what it would do.

    Args:
        env: a level of BabyAI (extra `minigrid`) that its bot can solve.

    Attributes:
        suggested_action: what the bot would do now, from `reset` on.

    Raises:
        UnsupportedTaskError: another environment.

    >>> env = BabyAISubgoals(gym.make("BabyAI-BossLevel-v0"))
    >>> env.reset(seed=0); [key for key, value in env.step(env.suggested_action)[4].items() if value]
    ['events/goto-door']
    """

    event_classes: tuple[str, ...] = (BACKGROUND, *(f"goto-{kind}" for kind in _KINDS), "explore", "manipulate")

    def __init__(self, env: Env) -> None:
        RecordConstructorArgs.__init__(self)  # so that gymnasium can build it again from its spec
        gym.Wrapper.__init__(self, env)
        if not is_of_class(env.unwrapped, "minigrid.envs.babyai.core.roomgrid_level", "RoomGridLevel"):
            found = type(env.unwrapped).__name__
            raise UnsupportedTaskError(f"babyai-subgoals is for levels of BabyAI (BabyAI-BossLevel-v0), not {found}")
        self._bot: Any = None
        self.suggested_action = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The environment's own reset, with a new bot."""
        from minigrid.utils.baby_ai_bot import BabyAIBot

        with contextlib.redirect_stdout(io.StringIO()):  # BabyAI prints each mission that it threw away
            obs, info = self.env.reset(seed=seed, options=options)
        self._bot = BabyAIBot(self.env)  # type: ignore[no-untyped-call]
        self._replan(None)
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """The environment's own step, with the bot's subgoal in the observation that it led to."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        present = BACKGROUND
        if not terminated:
            if self._replan(int(action)):
                present = subgoal_class(self._bot)
            else:
                truncated = True
        return obs, reward, terminated, truncated, {**info, **told(self.event_classes, present)}

    def _replan(self, action: int | None) -> bool:
        """Whether the bot has a plan after `action`."""
        from minigrid.utils.baby_ai_bot import DisappearedBoxError

        try:
            self.suggested_action = int(self._bot.replan(action))
        except (AssertionError, DisappearedBoxError):  # how the bot says that it cannot go on
            return False
        return bool(self._bot.stack)


def subgoal_class(bot: Any) -> str:
    """The class of the subgoal that a BabyAIBot pursues; it must have a plan."""
    from minigrid.utils.baby_ai_bot import ExploreSubgoal, GoNextToSubgoal

    if any(isinstance(subgoal, ExploreSubgoal) for subgoal in bot.stack):
        return "explore"
    for subgoal in reversed(bot.stack):
        if not isinstance(subgoal, GoNextToSubgoal):
            break
        kind = _destination(bot, subgoal.datum)
        if kind in _KINDS:
            return f"goto-{kind}"
    return "manipulate"


def _destination(bot: Any, datum: Any) -> str | None:
    """What the bot goes to: a type of object, or None for an empty cell."""
    from minigrid.core.world_object import WorldObj
    from minigrid.envs.babyai.core.verifier import ObjDesc

    if isinstance(datum, ObjDesc) and datum.type is None:  # "a red object": the one that it has chosen
        datum = bot._find_obj_pos(datum)[0]
    elif not isinstance(datum, (ObjDesc, WorldObj)):
        datum = bot.mission.unwrapped.grid.get(*datum)
    return None if datum is None else str(datum.type)
