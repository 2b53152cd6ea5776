"""What happens in a stream, told in `info`: the key `events/<class>` of each step, for online action detection.

A class is true in the steps whose observations show it: what a step tells is of the observation that it led to, as in
`rlkit.envs.simulator_state`, so that datasets of episodes keep labels beside frames. Where classes exclude each other,
the first is called `background`: nothing else is happening, and it has no key of its own. Every step tells the same
keys. An episode's first observation, which no step led to, has no label.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from rlkit.envs.contract import Env
from rlkit.envs.restore import layers

BACKGROUND = "background"
EVENTS = "events/"
"""What the keys of `info` begin with: `events/hit`."""


@runtime_checkable
class TellsEvents(Protocol):
    """An environment or wrapper that names its classes of events, `background` first where they exclude each other."""

    event_classes: tuple[str, ...]


def event_classes_of(env: Env) -> tuple[str, ...] | None:
    """Classes of the outermost layer that names them, or None where none does.

    >>> event_classes_of(InjectedFaults(gym.make("Pendulum-v1"), faults=("delay",)))
    ('background', 'delay')
    """
    return next((layer.event_classes for layer in layers(env) if isinstance(layer, TellsEvents)), None)


def told(classes: tuple[str, ...], present: str) -> dict[str, np.bool_]:
    """What a step tells of classes that exclude each other: true for the one that is present, false for the others."""
    return {EVENTS + name: np.bool_(name == present) for name in classes if name != BACKGROUND}
