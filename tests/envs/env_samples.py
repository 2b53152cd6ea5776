"""Small environments that tests step by hand, and faulty ones. Loaded by path, as a user's file would be."""

from __future__ import annotations

import os
import signal
import time

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Walk(gym.Env):
    """Counts steps; each episode draws its length and whether it terminates or truncates from its own generator."""

    def __init__(self, shortest=2, longest=5):
        self.observation_space = spaces.Dict(
            {"place": spaces.Box(-np.inf, np.inf, (2,), np.float32), "phase": spaces.Discrete(10)}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.shortest, self.longest = shortest, longest

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.length = int(self.np_random.integers(self.shortest, self.longest + 1))
        self.terminates = bool(self.np_random.integers(2))
        self.place = self.np_random.normal(size=2)
        if options is not None and "state" in options:
            self.place = np.full(2, float(options["state"]))
        return self._obs(), {"length": self.length}

    def step(self, action):
        self.steps += 1
        self.place = self.place + float(action[0])
        ended = self.steps >= self.length
        reward = float(self.place[0])
        return self._obs(), reward, ended and self.terminates, ended and not self.terminates, {"steps": self.steps}

    def _obs(self):
        return {"place": self.place.astype(np.float32), "phase": self.steps % 10}


class Flat(Walk):
    """Walk with only its place as observation."""

    def __init__(self, shortest=2, longest=5):
        super().__init__(shortest, longest)
        self.observation_space = self.observation_space["place"]

    def _obs(self):
        return self.place.astype(np.float32)


class Aliasing(Flat):
    """Returns one array that it changes in place."""

    def _obs(self):
        if "buffer" not in vars(self):
            self.buffer = np.zeros(2, np.float32)
        self.buffer[:] = self.place
        return self.buffer


class Mutating(Flat):
    """Changes the action it is given."""

    def step(self, action):
        result = super().step(action)
        action[:] = 0.0
        return result


class Hidden(Flat):
    """Keeps what matters in an object that cannot be stored as plain data."""

    class Memory:
        value = 0.0

    def reset(self, *, seed=None, options=None):
        self.memory = Hidden.Memory()
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.memory.value += 1.0
        self.place = self.place + self.memory.value
        return super().step(action)


class Own(Hidden):
    """As Hidden, but knows its own state."""

    def get_state(self):
        return {
            "memory": self.memory.value,
            "steps": self.steps,
            "length": self.length,
            "terminates": self.terminates,
            "place": self.place,
        }

    def set_state(self, state):
        self.memory = Hidden.Memory()
        self.memory.value = state["memory"]
        self.steps, self.length, self.terminates = state["steps"], state["length"], state["terminates"]
        self.place = state["place"]


class OldStyle(Flat):
    def reset(self):
        return np.zeros(2, np.float32)

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, {}


class FourTuple(Flat):
    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, {}


class ResetWithoutInfo(Flat):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed, options=options)[0]


class NoSpaces(gym.Env):
    pass


class Raises(Flat):
    def step(self, action):
        if self.steps == 1:
            raise RuntimeError("the motor is on fire")
        return super().step(action)


class RaisesInInit(Flat):
    def __init__(self):
        raise RuntimeError("no licence")


class WrongShape(Flat):
    def _obs(self):
        return np.zeros(3, np.float32)


class WrongDtype(Flat):
    def _obs(self):
        return self.place


class Outside(Flat):
    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(-0.001, 0.001, (2,), np.float32)


class MissingKey(Walk):
    def _obs(self):
        return {"place": np.zeros(2, np.float32)}


class NotANumber(Flat):
    def _obs(self):
        return np.array([0.0, np.nan if self.steps else 0.0], np.float32)


class VectorReward(Flat):
    def step(self, action):
        obs, _, terminated, truncated, info = super().step(action)
        return obs, np.zeros(2), terminated, truncated, info


class OneElementReward(Flat):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, np.array([reward]), np.bool_(terminated), truncated, info


class TextTerminated(Flat):
    def step(self, action):
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, "no", truncated, info


class BothEnds(Flat):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or truncated, terminated or truncated, info


class Unseeded(Flat):
    def reset(self, *, seed=None, options=None):
        _, info = super().reset(seed=seed, options=options)
        self.place = np.frombuffer(os.urandom(2), np.uint8).astype(np.float64)
        return self._obs(), info


class InfiniteActions(Flat):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class WideActions(Flat):
    def __init__(self):
        super().__init__()
        self.action_space = spaces.Box(-2.0, 3.0, (1,), np.float32)


class Endless(Flat):
    def __init__(self):
        super().__init__(10**9, 10**9)

    def _obs(self):
        return np.zeros(2, np.float32)


class TruncationOnly(Flat):
    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed, options=options)
        self.terminates = False
        return result


class Dies(Flat):
    def step(self, action):
        os.kill(os.getpid(), signal.SIGKILL)


class Hangs(Flat):
    def step(self, action):
        time.sleep(1000)


class TwoArgumentError(Exception):
    def __init__(self, first, second):
        super().__init__(first, second)


class RaisesCustom(Flat):
    def step(self, action):
        raise TwoArgumentError("first", "second")


class Masked(gym.Env):
    """Forbids some actions by info or observation; taking one raises. Each place allows other ones.

    `gives` is `info`, `observation`, `sometimes` (info of every second step), `nothing` (all is forbidden from the
    second step on), `short`, or `twos`.
    """

    def __init__(self, gives="info", actions=4, length=7):
        self.gives, self.actions, self.length = gives, actions, length
        place = spaces.Box(0, 100, (2,), np.float32)
        mask = spaces.MultiBinary(actions)
        self.observation_space = spaces.Dict({"place": place, "action_mask": mask}) if gives == "observation" else place
        self.action_space = spaces.Discrete(actions, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._obs(), self._info()

    def step(self, action):
        assert self.gives == "sometimes" or self.mask[action - 1] == 1, "a forbidden action was taken"
        self.steps += 1
        obs, info = self._obs(), self._info()
        ended = self.steps >= self.length
        terminates = bool(self.mask[0])
        if ended and terminates:
            info["action_mask"] = np.zeros(self.actions, np.int8)  # nothing is left to do
        return obs, float(action), ended and terminates, ended and not terminates, info

    def _obs(self):
        self.mask = self.np_random.integers(2, size=self.actions, dtype=np.int8)
        self.mask[self.np_random.integers(self.actions)] = 1
        place = np.array([self.steps, self.mask.sum()], np.float32)
        return {"place": place, "action_mask": self.mask.copy()} if self.gives == "observation" else place

    def _info(self):
        given = {
            "nothing": self.mask * (self.steps < 2),
            "short": self.mask[:-1],
            "twos": 2 * self.mask,
            "info": self.mask,
            "sometimes": self.mask,
        }.get(self.gives)
        skipped = self.gives == "observation" or (self.gives == "sometimes" and self.steps % 2)
        return {} if skipped else {"action_mask": given.copy()}


class MaskedParts(gym.Env):
    """Two components of 2 and 3 choices; the info's mask is a tuple of two arrays, as gymnasium samples by."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return 0, self._info()

    def step(self, action):
        assert all(part[choice] for part, choice in zip(self.masks, action, strict=True)), "forbidden"
        self.steps += 1
        return self.steps % 2, 1.0, False, self.steps >= 5, self._info()

    def _info(self):
        self.masks = (
            np.eye(2, dtype=np.int8)[self.np_random.integers(2)],
            1 - np.eye(3, dtype=np.int8)[self.np_random.integers(3)],
        )
        return {"action_mask": self.masks}


class MaskedHidden(Masked):
    """As Masked, but its state cannot be captured, so that resuming begins new episodes."""

    def reset(self, *, seed=None, options=None):
        self.memory = Hidden.Memory()
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.memory.value += 1.0
        return super().step(action)
