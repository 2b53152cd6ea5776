"""Frames of a stream as a detector takes them: features of an observation, and of the action that led to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlkit.data.datasets import EpisodeDataset
from rlkit.data.events import BACKGROUND, event_labels, told_events
from rlkit.data.flatten import ObservationFlattener
from rlkit.data.streams import LabelledStream, StreamSet
from rlkit.errors import UsageError
from rlkit.nn.encoders import is_image
from rlkit.perception.encode_observation import FrozenEncoder
from rlkit.types import Floats, Obs


class StreamFeatures:
    """Features [N, C] of observations: those of a frozen encoder, or the numbers themselves, and the actions' beside.

    Args:
        observation_space: Of one observation.
        action_space: Of one action, where actions are among the features.
        encoder: For pictures.

    Raises:
        UsageError: observations are pictures and there is no encoder.
        UnsupportedTaskError: the encoder takes others, or they do not flatten.
    """

    def __init__(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any] | None, encoder: FrozenEncoder | None
    ) -> None:
        if encoder is None and is_image(observation_space):
            raise UsageError(
                f"observations are pictures {observation_space}: name a run of `rlkit pretrain` whose encoder turns "
                "them into features with --encoder RUN, or take one that has learned nothing with --encoder untrained"
            )
        if encoder is None:
            flatten = ObservationFlattener(observation_space)
            self._see: Callable[[Obs], Floats] = flatten
            observed = flatten.size
        else:
            self._see, observed = encoder.features, encoder.feature_size
        self._action = None if action_space is None else ObservationFlattener(action_space)
        self.size = observed + (0 if self._action is None else self._action.size)

    def __call__(self, observations: Obs, actions: Obs) -> Floats:
        """Features [N, C] of observations [N, *O] and of the actions [N, *A] that led to them."""
        seen = self._see(observations)
        return seen if self._action is None else np.concatenate([seen, self._action(actions)], 1)


def streams_of(dataset: EpisodeDataset, features: StreamFeatures, classes: tuple[str, ...]) -> StreamSet:
    """A stream for each episode: frames are the observations after the first, labels the events that steps told."""
    streams = []
    for number, episode in enumerate(dataset):
        seen = features(after_first(episode.observations), episode.actions)
        streams.append(LabelledStream(f"episode-{number:05d}", seen, event_labels(episode.infos, classes)))
    return StreamSet(classes, tuple(streams))


def event_classes(dataset: EpisodeDataset) -> tuple[str, ...]:
    """What every episode tells of, in the order in which the first does.

    After `background`, where a frame shows nothing and none shows two: where classes meet they exclude nothing.

    Raises:
        UsageError: the dataset is empty, or its steps tell no events.
    """
    told = [told_events(episode.infos) for episode in dataset]
    if not told or not told[0] or any(set(names) != set(told[0]) for names in told):
        raise UsageError(
            f"{dataset.folder} holds no episodes that all tell of the same events: record it with a wrapper that puts "
            "`events/<class>` into info (docs/streams.md), or by `rlkit detect train DETECTOR --stream NAME`"
        )
    shown = np.concatenate([event_labels(episode.infos, told[0]).sum(1, dtype=np.int64) for episode in dataset])
    return (BACKGROUND, *told[0]) if shown.min() == 0 and shown.max() <= 1 else told[0]


def after_first(observations: Obs) -> Obs:
    """Observations [T, ...] of the T + 1 of an episode."""
    if isinstance(observations, Mapping):
        return {key: after_first(value) for key, value in observations.items()}
    if isinstance(observations, tuple):
        return tuple(after_first(value) for value in observations)
    return observations[1:]
