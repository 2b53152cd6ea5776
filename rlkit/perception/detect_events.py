"""What a detector tells of each step, for agents: in infos, as observations, as rewards, or as a reason to stop."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from rlkit.envs.batch import layout_of
from rlkit.envs.contract import Env
from rlkit.errors import UnsupportedTaskError, UsageError, did_you_mean
from rlkit.perception.detection.detector import Memory
from rlkit.types import Bools, Floats, Obs

TOLD = "detections/"
"""What the keys of `info` begin with: `detections/hit`."""


class FrameWatcher(Protocol):
    """A detector that nothing changes any more, which takes observations and actions."""

    classes: tuple[str, ...]

    @property
    def observation_space(self) -> gym.Space[Any] | None:
        """Of one observation."""

    @property
    def action_space(self) -> gym.Space[Any] | None:
        """Of one action; None where it sees none."""

    def begin(self, streams: int) -> Memory:
        """What is remembered of streams that begin."""

    def reset(self, carry: Memory, ended: Bools) -> Memory:
        """Some begin anew."""

    def watch(self, observations: Obs, actions: Any, carry: Memory) -> tuple[Any, Memory]:
        """One observation of each stream, and the action that led there; `.now` of what it returns is [N, K]."""


class DetectEvents(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """A detector watches the environment from the first step of each episode.

    `info` of each step has a probability for each class under `detections/<class>`; that of a reset has none, because
    the first observation is no frame (as in training).

    Args:
        env: the environment.
        detector: takes its observations; it is no part of the environment's state, what it remembers is.
        observe: `keep` leaves observations as they are; `append` puts the probabilities behind a vector; `replace` puts
            them in its place. At a reset they are zero.
        reward: class whose probability is added to the reward, times `reward_weight`.
        reward_weight: see `reward`.
        stop: class that ends the episode where its probability is at least `threshold`: a truncation, because the
            environment itself could go on; `info["stopped_by"]` names the class.
        threshold: see `stop`.

    Raises:
        UnsupportedTaskError: the detector takes other observations or actions, or observations are no vector that can
            be appended to.
        UsageError: it knows no such class.
    """

    def __init__(
        self, env: Env, detector: FrameWatcher, *, observe: Literal["keep", "append", "replace"] = "keep",
        reward: str | None = None, reward_weight: float = 1.0, stop: str | None = None, threshold: float = 0.5,
    ) -> None:  # fmt: skip
        RecordConstructorArgs.__init__(
            self, detector=detector, observe=observe, reward=reward, reward_weight=reward_weight, stop=stop,
            threshold=threshold,
        )  # fmt: skip
        gym.Wrapper.__init__(self, env)
        space = env.observation_space
        if not takes(detector.observation_space, space):
            raise UnsupportedTaskError(
                f"detect-events: the detector watches {detector.observation_space}, here observations are {space}; "
                "put this wrapper where they are those of the detector's stream"
            )
        if detector.action_space not in (None, env.action_space):
            raise UnsupportedTaskError(
                f"detect-events: the detector learned with actions in {detector.action_space}, here they are in "
                f"{env.action_space}; put this wrapper where they are those of the detector's stream"
            )
        for name in (reward, stop):
            if name is not None and name not in detector.classes:
                raise UsageError(
                    f"detect-events: the detector has no class {name!r}{did_you_mean(name, detector.classes)}; it has "
                    f"{', '.join(detector.classes)}"
                )
        self._detector, self._observe, self._layout = detector, observe, layout_of(space)
        self._reward, self._reward_weight = reward, reward_weight
        self._stop, self._threshold = stop, threshold
        self._nothing = np.zeros(len(detector.classes), np.float32)
        self._memory: list[Any] = []  # arrays, so that they can be stored with the environment's state
        if observe != "keep":
            self.observation_space = _space_with(space, len(detector.classes), observe)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The environment's own reset; the detector remembers nothing."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._memory = [part.numpy() for part in self._detector.begin(1)]
        return self._seen(obs, self._nothing), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """The environment's own step, and what the detector tells of the observation it led to."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        told = self._watched(obs, action)
        named = dict(zip(self._detector.classes, told, strict=True))
        info = {**info, **{TOLD + name: np.float32(value) for name, value in named.items()}}
        if self._reward is not None:
            reward = float(reward) + self._reward_weight * float(named[self._reward])
        if self._stop is not None and named[self._stop] >= self._threshold and not terminated:
            truncated, info["stopped_by"] = True, self._stop
        return self._seen(obs, told), reward, terminated, truncated, info

    def get_state(self) -> Any:
        """What the detector remembers."""
        return [part.copy() for part in self._memory]

    def set_state(self, state: Any) -> None:
        """Continue from `get_state`."""
        self._memory = [np.array(part) for part in state]

    def _watched(self, obs: Any, action: Any) -> Floats:
        batch = self._layout.empty(1)
        self._layout.write(batch, 0, obs)
        carry = tuple(torch.from_numpy(part) for part in self._memory)
        told, carry = self._detector.watch(batch, np.asarray(action)[None], carry)
        self._memory = [part.numpy() for part in carry]
        found: Floats = told.now[0]
        return found

    def _seen(self, obs: Any, told: Floats) -> Any:
        if self._observe == "keep":
            return obs
        return told if self._observe == "replace" else np.concatenate([np.asarray(obs, np.float32), told])


def takes(learned: gym.Space[Any] | None, space: gym.Space[Any]) -> bool:
    """Whether observations of `space` are such as were learned from; a Box may have narrower bounds."""
    if not isinstance(learned, spaces.Box) or not isinstance(space, spaces.Box) or learned.shape != space.shape:
        return space == learned
    within = (space.low >= learned.low) & (space.high <= learned.high)
    return learned.dtype == space.dtype and bool(within.all())


def _space_with(space: gym.Space[Any], classes: int, observe: str) -> gym.Space[Any]:
    """Of observations with the probabilities."""
    if observe == "replace":
        return spaces.Box(0.0, 1.0, (classes,), np.float32)
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise UnsupportedTaskError(
            f"detect-events: probabilities are appended to vectors, observations are {space}; use observe=replace, or "
            "encode-observation in front"
        )
    low, high = (np.concatenate([bound, np.full(classes, limit)]).astype(np.float32)
                 for bound, limit in ((space.low, 0.0), (space.high, 1.0)))  # fmt: skip
    return spaces.Box(low, high, dtype=np.float32)
