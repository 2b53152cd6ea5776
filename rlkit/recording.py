"""Episodes for a dataset, from the steps that a policy plays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rlkit.data.datasets import Episode
from rlkit.data.tree import leaf, leaf_spaces, nest
from rlkit.evaluation import PlayedStep
from rlkit.types import Array, Obs


def recorded_episodes(steps: Iterator[PlayedStep], space: gymnasium.Space[Any]) -> Iterator[Episode]:
    """One episode after another from the steps of one environment with observations in `space`.

    Of the infos it keeps what every step of the episode told, as numbers, truth values or text of one shape.
    """
    paths = [path for path, _ in leaf_spaces(space)]
    observed: list[list[Array]] = []  # the leaves of each observation
    actions: list[Array] = []
    rewards: list[float] = []
    infos: list[dict[str, Array]] = []

    def leaves(obs: Obs) -> list[Array]:
        return [np.array(leaf(obs, path)[0]) for path in paths]  # copied: an environment may use its arrays again

    for played in steps:
        step = played.step
        observed.append(leaves(played.obs))
        actions.append(np.array(played.action[0]))
        rewards.append(float(step.env_reward[0]))
        infos.append({str(key): array for key, told in step.infos[0].items() if (array := _plain(told)) is not None})
        if played.is_last:
            observed.append(leaves(step.next_obs))
            columns = (np.stack(column) for column in zip(*observed, strict=True))
            ends = (bool(step.terminated[0]), bool(step.truncated[0]))
            yield Episode(nest(space, columns), np.stack(actions), np.array(rewards), *ends, _told(infos))
            observed, actions, rewards, infos = [], [], [], []


def _told(infos: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Infos [T, ...] that can be put side by side."""
    found = {}
    for key in infos[0]:
        values = [info[key] for info in infos if key in info]
        layouts = {(value.dtype.kind, value.shape) for value in values}
        if len(values) == len(infos) and len(layouts) == 1:
            found[key] = np.stack(values)
    return found


def _plain(value: Any) -> Array | None:
    """A copy of something that can be kept, because an environment may use its arrays again."""
    if not isinstance(value, (bool, int, float, str, np.generic, np.ndarray)):
        return None
    array = np.array(value)
    return array if array.dtype.kind in "biufSU" else None
