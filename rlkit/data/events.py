"""Labels of what happens in a stream, from the infos `events/<class>` of an episode's steps.

Frame t of an episode is observation t + 1, and step t tells of it. The first observation is no frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from rlkit.errors import DatasetError
from rlkit.types import Array

EVENTS = "events/"
"""What an info of an event begins with; the same as in `rlkit.envs.events`."""
BACKGROUND = "background"


def told_events(infos: Mapping[str, Array]) -> tuple[str, ...]:
    """Classes that an episode's infos tell of, in their order, without `background`."""
    return tuple(key.removeprefix(EVENTS) for key in infos if key.startswith(EVENTS))


def event_labels(infos: Mapping[str, Array], classes: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Multi-hot labels [T, K] of the classes; `background` is where no event at all is told.

    >>> event_labels({"events/hit": np.array([0, 1])}, ("background", "hit")).tolist()
    [[1, 0], [0, 1]]

    Raises:
        DatasetError: `background` has a key, a class is not told of, or it is told as something else than 0 and 1, one
            number a step.
    """
    told = told_events(infos)
    if BACKGROUND in told:
        raise DatasetError(
            f"the episode's infos tell {EVENTS}{BACKGROUND}, which is where nothing else is told and has no key: "
            "leave it out"
        )
    missing = [name for name in classes if name not in told and name != BACKGROUND]
    if missing or not told:
        raise DatasetError(f"the episode's infos tell of {list(told)}, not of {missing or 'any event'}")
    columns = {name: _truth(name, infos[EVENTS + name]) for name in told}
    columns[BACKGROUND] = 1 - np.maximum.reduce(list(columns.values()))
    return np.stack([columns[name] for name in classes], axis=1)


def _truth(name: str, values: Array) -> npt.NDArray[np.uint8]:
    if values.ndim != 1 or values.dtype.kind not in "biu" or ((values != 0) & (values != 1)).any():
        raise DatasetError(f"info {EVENTS}{name} is {values.dtype} {list(values.shape)}, allowed: 0 or 1 a step")
    return values.astype(np.uint8)
