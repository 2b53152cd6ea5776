"""What methods are tried on: a bright square that wanders over tiny pictures, in episodes, with actions."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rlkit import registry
from rlkit.data.clips import ClipSampler, Recording
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.objective import PretrainTask

SIDE = 16
SPACE = spaces.Box(0, 255, (1, SIDE, SIDE), np.uint8)
ACTIONS = spaces.Discrete(4)
_MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


def wandering_square(episodes: int = 8, length: int = 20, seed: int = 0) -> Recording:
    """Pictures of a 4x4 square moved by random actions, with its place as the labels `row` and `column`."""
    rng = np.random.default_rng(seed)
    pictures, actions, places = [], [], []
    for _ in range(episodes):
        place = rng.integers(0, SIDE - 3, 2)
        for step in range(length):
            picture = np.full((1, SIDE, SIDE), 20, np.uint8)
            picture[0, place[0] : place[0] + 4, place[1] : place[1] + 4] = 230
            action = int(rng.integers(4)) if step < length - 1 else 0
            pictures.append(picture)
            actions.append(action)
            places.append(place)
            place = np.clip(place + 2 * _MOVES[action], 0, SIDE - 4)
    labels = {"row": np.stack(places)[:, 0], "column": np.stack(places)[:, 1]}
    return Recording(np.stack(pictures), np.repeat(np.arange(episodes), length), np.array(actions), labels)


def task_of(recording: Recording, updates: int = 50, seed: int = 0) -> PretrainTask:
    return PretrainTask(SPACE, ACTIONS, len(recording), updates, seed)


_SHORT: dict[str, dict[str, Any]] = {
    "bert": {"clip_length": 4, "hidden": 0.3, "batch_size": 8},
    "cpc": {"sequence_length": 4, "steps": 2},
    "mae": {"backbone": "vit", "batch_size": 4},
    "spr": {"steps": 2},
}
"""Of methods whose clips are long, or whose encoder is slow."""


def small_learner(
    method: str, recording: Recording, updates: int = 50, seed: int = 0, **options: Any
) -> EncoderLearner:
    """A learner of the method with a small encoder and small batches."""
    objective = registry.method_class(method)
    config = objective.Config(
        **{"backbone": "impala", "feature_size": 16, "batch_size": 16, **_SHORT.get(method, {}), **options}
    )
    return EncoderLearner(objective, config, task_of(recording, updates, seed))


def sampler_of(learner: EncoderLearner, recording: Recording, seed: int = 0) -> ClipSampler:
    return ClipSampler(recording, learner.objective.clip_length, learner.config.batch_size, seed)
