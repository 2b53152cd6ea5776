"""Faults of actuators and sensors, put into an environment at random times for a while, with exact labels.

| class | while it lasts | of severity 1 |
|---|---|---|
| `gain` | the actuator is weaker: actions are multiplied, of Discrete actions the force behind them | by 0.7 |
| `delay` | the action that was chosen some steps ago is taken | 2 steps |
| `bias` | one component of the observations, drawn each time, is off by a constant, up or down | 1 scale |
| `noise` | all components have Gaussian noise | 0.5 scale |
| `freeze` | the observation stays what it was before | |

A fault that lasts from step s to step e takes the actions of the steps s … e, or changes the observations that these
led to: those have the label. Where labels could be argued about: the label is of the cause, so it ends with the fault,
though a body that was pushed off its course comes back later; and it is there at once, though a weaker actuator shows
only in what follows, and a late action nowhere while the same one is repeated. One fault at a time, after a pause.

Rewards and ends are the environment's own; so are the infos, which tell the truth about some environments' states: a
detector must not see them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from rlkit.envs.contract import Env
from rlkit.envs.events import BACKGROUND, told
from rlkit.errors import UnknownNameError, UnsupportedTaskError, UsageError
from rlkit.seeding import generator
from rlkit.types import Array

FAULTS = ("gain", "delay", "bias", "noise", "freeze")
LOST_GAIN = 0.3
"""Part of the actuator's strength that is lost."""
DELAY = 2
"""Steps."""
NOISE = 0.5
"""Standard deviation, in scales."""

_CONTROL = "gymnasium.envs.classic_control"
_FORCES = (
    (f"{_CONTROL}.cartpole", "CartPoleEnv", "force_mag"),
    (f"{_CONTROL}.mountain_car", "MountainCarEnv", "force"),
    (f"{_CONTROL}.acrobot", "AcrobotEnv", "AVAIL_TORQUE"),
)
"""Environments with Discrete actions: module, class, and the attribute that holds the force behind an action."""


class InjectedFaults(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Injects faults and tells in `info` which one is present: `events/delay`.

    Pauses, faults and lengths are drawn uniformly from a generator of its own, seeded with the environment.

    Args:
        env: classic control or MuJoCo: a Box of floats as observations, Box or Discrete actions.
        faults: which ones, of the module's table.
        pause: fewest and most steps before each fault.
        length: fewest and most steps of a fault.
        severity: how strong they are (the loss of strength, the delay rounded, the bias and the noise), 1 as in the
            table.
        scale: what is usual for an observation to differ by, one number or one for each component.

    Raises:
        UnsupportedTaskError: a fault does not suit the environment's spaces.
        UsageError: unknown faults, or numbers out of range.

    >>> env = InjectedFaults(gym.make("Pendulum-v1"), faults=("delay", "freeze"))
    >>> env.reset(seed=0); env.step([0.0])[4]
    {'events/delay': False, 'events/freeze': False}
    """

    def __init__(
        self, env: Env, faults: Sequence[str] = FAULTS, pause: tuple[int, int] = (20, 80),
        length: tuple[int, int] = (15, 40), severity: float = 1.0, scale: float | tuple[float, ...] = 1.0,
    ) -> None:  # fmt: skip
        RecordConstructorArgs.__init__(
            self, faults=faults, pause=pause, length=length, severity=severity, scale=scale
        )  # so that gymnasium can build it again from its spec
        gym.Wrapper.__init__(self, env)
        self._faults = _known(faults)
        self.event_classes: tuple[str, ...] = (BACKGROUND, *self._faults)
        self._pause, self._length = _span("pause", pause), _span("length", length)
        if not 0 < severity <= 1 / LOST_GAIN:
            raise UsageError(f"injected-faults: severity is {severity}, it must be above 0 and at most {1 / LOST_GAIN}")
        self._severity = severity
        self._force = _require_support(env, self._faults)
        self._scale = _scales(env.observation_space, scale)
        if {"bias", "noise"} & set(self._faults):  # which know no bounds
            shape, kind = env.observation_space.shape, env.observation_space.dtype
            self.observation_space = spaces.Box(-np.inf, np.inf, shape, kind)  # type: ignore[arg-type]
        self._rng = np.random.default_rng()  # until reset is given a seed
        self._chosen: deque[Any] = deque(maxlen=1 + max(1, round(DELAY * severity)))
        self._step, self._first, self._stop = 0, 0, 0
        self._fault = self._faults[0]  # the next one, or the present one
        self._bias: Array = np.zeros(0)
        self._seen: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The environment's own reset; the first fault comes after a pause."""
        obs, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._rng = generator(seed, "injected-faults")
        self._step, self._stop = 0, 0
        self._chosen.clear()
        self._seen = np.array(obs)
        self._draw()
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """The environment's step with the fault, which `info` names, if there is one."""
        if self._step == self._stop:
            self._draw()
        present = self._fault if self._step >= self._first else BACKGROUND
        self._step += 1
        obs, reward, terminated, truncated, info = self._acted(action, present)
        self._seen = self._sensed(obs, present)
        told_now = told(self.event_classes, present)
        return self._seen.copy(), reward, terminated, truncated, {**info, **told_now}

    def _draw(self) -> None:
        """The next fault, after a pause from now on."""
        self._first = self._step + int(self._rng.integers(*self._pause, endpoint=True))
        self._stop = self._first + int(self._rng.integers(*self._length, endpoint=True))
        self._fault = self._faults[self._rng.integers(len(self._faults))]
        self._bias = np.zeros_like(self._scale)
        place = np.unravel_index(self._rng.integers(self._bias.size), self._bias.shape)
        self._bias[place] = self._rng.choice([-1.0, 1.0]) * self._severity * self._scale[place]

    def _acted(self, action: Any, present: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """The environment's step with what the actuator makes of the action."""
        self._chosen.append(np.array(action))
        if present == "delay":
            return self.env.step(self._as_action(self._chosen[0]))  # the first one, where there are fewer
        if present != "gain":
            return self.env.step(action)
        left = 1 - LOST_GAIN * self._severity
        if self._force is None:
            return self.env.step((left * np.asarray(action)).astype(self.env.action_space.dtype))
        whole = getattr(self.env.unwrapped, self._force)
        setattr(self.env.unwrapped, self._force, _weaker(whole, left))
        try:
            return self.env.step(action)
        finally:
            setattr(self.env.unwrapped, self._force, whole)

    def _as_action(self, chosen: Array) -> Any:
        return int(chosen) if isinstance(self.env.action_space, spaces.Discrete) else chosen.copy()

    def _sensed(self, obs: Any, present: str) -> Any:
        """What the sensor tells of the observation."""
        if present == "freeze":
            return self._seen
        if present == "bias":
            return (obs + self._bias).astype(obs.dtype)
        if present == "noise":
            deviation = NOISE * self._severity * self._scale
            return (obs + deviation * self._rng.standard_normal(self._scale.shape)).astype(obs.dtype)
        return np.array(obs)


def _weaker(force: Any, left: float) -> Any:
    """A force, or Acrobot's list of torques, multiplied."""
    return [left * each for each in force] if isinstance(force, list) else left * force


def _known(faults: Sequence[str]) -> tuple[str, ...]:
    named = (faults,) if isinstance(faults, str) else tuple(faults)
    for name in named:
        if name not in FAULTS:
            raise UnknownNameError("fault", name, FAULTS)
    if not named or len(set(named)) < len(named):
        raise UsageError(f"injected-faults: faults is {named}; name one or more of {', '.join(FAULTS)}, each once")
    return named


def _span(name: str, span: tuple[int, int]) -> tuple[int, int]:
    """Fewest and most steps."""
    given = tuple(span) if isinstance(span, (tuple, list)) else (span,)
    if len(given) != 2 or not all(type(steps) is int for steps in given) or not 1 <= given[0] <= given[1]:
        raise UsageError(f"injected-faults: {name} is {span}, it must be two whole numbers 1 <= fewest <= most")
    return given


def _scales(space: gym.Space[Any], scale: float | tuple[float, ...]) -> npt.NDArray[np.float64]:
    """A positive number for each component of the observations."""
    given, shape = np.asarray(scale, np.float64), space.shape or ()
    if given.shape not in ((), shape) or not (np.isfinite(given) & (given > 0)).all():
        raise UsageError(
            f"injected-faults: scale is {scale}, it must be a positive number, or one for each component {list(shape)}"
        )
    return np.broadcast_to(given, shape).copy()


def _require_support(env: Env, faults: tuple[str, ...]) -> str | None:
    """The attribute that holds the force behind Discrete actions, where a weaker actuator needs it."""
    observations, actions = env.observation_space, env.action_space
    if not isinstance(observations, spaces.Box) or not np.issubdtype(observations.dtype, np.floating):
        raise UnsupportedTaskError(f"injected-faults needs a Box of floats as observations, got {observations}")
    if not isinstance(actions, (spaces.Box, spaces.Discrete)):
        raise UnsupportedTaskError(f"injected-faults needs Box or Discrete actions, got {actions}")
    if "gain" not in faults:
        return None
    if isinstance(actions, spaces.Box):
        if ((actions.low <= 0) & (actions.high >= 0)).all():
            return None
        raise UnsupportedTaskError(f"injected-faults: the fault gain needs a Box around 0 as actions, got {actions}")
    found = type(env.unwrapped)  # not a class derived from it, which may compute without the attribute
    for module, name, force in _FORCES:
        if (found.__module__, found.__name__) == (module, name):
            return force
    others = [name for name in faults if name != "gain"]
    raise UnsupportedTaskError(
        f"injected-faults: gain weakens the force behind an action, which is not known of {found.__name__} (known: "
        f"{', '.join(name for _, name, _ in _FORCES)}); leave it out: faults={others}"
    )
