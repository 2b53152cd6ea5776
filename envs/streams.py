"""Named streams for online action detection: an environment that tells its events, and who acts in it.

They are made so that no shortcut tells the labels. Freeway's score is masked, and its actions are sticky by ALE's own
argument, so that an action does not tell what comes of it. BabyAI's mission is hidden. Each episode, or on Freeway each
stretch of one, draws a policy of its own, so that policies are in training and test alike and none belongs to a class.
Each episode has a seed of its own, so that none is played twice: ALE repeats itself where actions do. Split them by
episode, never by frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rlkit.envs.babyai_subgoals import BabyAISubgoals
from rlkit.envs.contract import Env
from rlkit.envs.events import BACKGROUND
from rlkit.envs.freeway_hits import FreewayHits
from rlkit.envs.injected_faults import FAULTS
from rlkit.envs.make import make_single
from rlkit.envs.restore import layers
from rlkit.envs.wrapper_names import env_arguments, resolve_wrapper
from rlkit.errors import UnknownNameError

Act: TypeAlias = Callable[[Any], Any]
"""From an observation to an action, through one episode."""
Behaviour: TypeAlias = Callable[[Env, np.random.Generator], Act]
"""Who acts: called after each reset, so that an episode can have a policy of its own."""


@dataclass(frozen=True)
class Stream:
    """How a stream is made. `env`, `env_args` and `wrap` are what `--env`, `--env-args` and `--wrap` take."""

    summary: str
    env: str
    classes: tuple[str, ...]
    behaviour: Behaviour
    env_args: tuple[str, ...] = ()
    wrap: tuple[str, ...] = ()
    has_pictures: bool = False

    def make(self) -> Env:
        """A new environment that tells the classes."""
        return make_single(self.env, [resolve_wrapper(text) for text in self.wrap], env_arguments(self.env_args))


def stream_named(name: str) -> Stream:
    """The stream of this name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in STREAMS:
        raise UnknownNameError("stream", name, STREAMS, hint="or path/to/file.py:ClassName, which tells its events")
    return STREAMS[name]


def cross_the_road(env: Env, rng: np.random.Generator) -> Act:
    """Freeway: stretches of some hundred steps, each with a policy of its own, so that few episodes have many.

    In one of four up but for a few no-ops, else a random mix of no-op, up and down, each held for a while. The mix and
    how long actions are held are drawn for the stretch, so that the chicken also goes back by itself. The few no-ops
    keep episodes apart: cars begin alike, and sticky actions change nothing where all are the same.
    """
    noop, up, down = range(3)
    weights, changes, held = np.zeros(3), 0.0, up  # nothing drawn yet

    def act(obs: Any) -> int:
        nonlocal weights, changes, held
        if not changes or rng.random() < 0.01:
            if rng.random() < 0.25:
                idle = rng.uniform(0.02, 0.1)
                weights, changes = np.array([idle, 1 - idle, 0.0]), 1.0
            else:
                weights = rng.dirichlet((1.0, 3.0, 1.5))
                changes = 1 / rng.integers(1, 9)  # held for 1 to 8 steps in the mean
        if rng.random() < changes:
            held = int(rng.choice((noop, up, down), p=weights))
        return held

    return act


def follow_the_bot(env: Env, rng: np.random.Generator) -> Act:
    """BabyAI: what the bot suggests; some steps, up to one in ten by the episode, turn or go forward at random."""
    bot = next(layer for layer in layers(env) if isinstance(layer, BabyAISubgoals))
    strange = rng.uniform(0, 0.1)
    return lambda obs: int(rng.integers(3)) if rng.random() < strange else bot.suggested_action


def balance_the_pole(env: Env, rng: np.random.Generator) -> Act:
    """CartPole: linear feedback, with up to one action in ten at random by the episode."""
    strange, gains = rng.uniform(0, 0.1), np.array([0.1, 0.3, 3.0, 1.0])
    return lambda obs: int(rng.integers(2)) if rng.random() < strange else int(gains @ obs > 0)


def swing_up(env: Env, rng: np.random.Generator) -> Act:
    """Pendulum: energy up to that of standing still on top, then feedback on angle and velocity; noisy torques."""
    noise = rng.uniform(0.1, 0.4)

    def act(obs: Any) -> Any:
        cosine, sine, velocity = (float(value) for value in obs)
        missing = 5 * (1 - cosine) - velocity**2 / 6  # of m = l = 1, g = 10: m·g·l/2·(1 - cos) - I·velocity²/2
        if cosine > 0.9:
            torque = -12 * math.atan2(sine, cosine) - 3 * velocity
        else:
            torque = 2 * math.copysign(1, missing * velocity)
        return np.clip([torque + noise * rng.standard_normal()], -2, 2).astype(np.float32)

    return act


def gallop(env: Env, rng: np.random.Generator) -> Act:
    """HalfCheetah: torques on sines of one frequency; frequency, phases and size are drawn for the episode; noisy."""
    size, period = rng.uniform(0.5, 0.9), rng.uniform(8, 16)  # steps of 0.05 seconds
    phases, clock = rng.uniform(0, 2 * math.pi, 6), 0

    def act(obs: Any) -> Any:
        nonlocal clock
        clock += 1
        torques = size * np.sin(2 * math.pi * clock / period + phases) + 0.1 * rng.standard_normal(6)
        return np.clip(torques, -1, 1).astype(np.float32)

    return act


_FREEWAY = ("obs_type=grayscale", "frameskip=4", "repeat_action_probability=0.25")
_FREEWAY_WRAP = ("freeway-hits", "mask-rows:rows=freeway-score")
_FAULTS = (BACKGROUND, *FAULTS)
# standard deviations of the behaviours' observations without faults, rounded
_SCALES = {
    "cartpole": "[0.4,0.3,0.02,0.2]",
    "pendulum": "[0.6,0.4,2.7]",
    "halfcheetah": "[0.07,0.15,0.3,0.3,0.2,0.3,0.4,0.3,0.5,0.8,1.7,4,3,2,4,4,4]",
}

STREAMS: dict[str, Stream] = {
    "freeway-hit": Stream(
        "Freeway, grey 84x84, score masked: a car hits the chicken, or it arrives",
        "ALE/Freeway-v5",
        FreewayHits.event_classes,
        cross_the_road,
        env_args=_FREEWAY,
        wrap=(*_FREEWAY_WRAP, "resize-observation:shape=[84,84]"),
        has_pictures=True,
    ),
    "freeway-hit-full": Stream(
        "the same with the screen's own 210x160 pixels",
        "ALE/Freeway-v5",
        FreewayHits.event_classes,
        cross_the_road,
        env_args=_FREEWAY,
        wrap=_FREEWAY_WRAP,
        has_pictures=True,
    ),
    "babyai-subgoals": Stream(
        "BabyAI's boss level, 7x7 cells before the agent as 980 ones and zeros, no mission: the bot's subgoal",
        "BabyAI-BossLevel-v0",
        BabyAISubgoals.event_classes,
        follow_the_bot,
        wrap=("babyai-subgoals", "agent-view"),
    ),
    "babyai-subgoals-pixels": Stream(
        "the same as a picture, 56x56 RGB",
        "BabyAI-BossLevel-v0",
        BabyAISubgoals.event_classes,
        follow_the_bot,
        wrap=("babyai-subgoals", "agent-view:show=pixels"),
        has_pictures=True,
    ),
    "faults-cartpole": Stream(
        "CartPole, balanced: faults of actuator and sensor",
        "CartPole-v1",
        _FAULTS,
        balance_the_pole,
        wrap=(f"injected-faults:scale={_SCALES['cartpole']}",),
    ),
    "faults-pendulum": Stream(
        "Pendulum, swung up and held: faults of actuator and sensor",
        "Pendulum-v1",
        _FAULTS,
        swing_up,
        wrap=(f"injected-faults:scale={_SCALES['pendulum']}",),
    ),
    "faults-halfcheetah": Stream(
        "HalfCheetah, moved by sines: faults of actuator and sensor",
        "HalfCheetah-v5",
        _FAULTS,
        gallop,
        wrap=(f"injected-faults:scale={_SCALES['halfcheetah']}",),
    ),
}
"""Streams by name."""
