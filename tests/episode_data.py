"""Datasets of episodes for tests."""

from __future__ import annotations

import tempfile
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import rlkit
from rlkit.data.datasets import DatasetWriter
from rlkit.envs.make import make
from rlkit.evaluation import played_steps
from rlkit.recording import recorded_episodes


def random_episodes(folder: Path, env: Any, count: int, seed: int = 0) -> Path:
    """A dataset of a policy that acts at random."""
    envs = make(env)
    spaces = envs.single_observation_space, envs.single_action_space
    steps = played_steps(rlkit.make("random", env, seed=seed), envs, seed=seed)
    with DatasetWriter(folder, *spaces, env=str(env), made_by="random") as writer:
        for episode in islice(recorded_episodes(steps, spaces[0]), count):
            writer.add(episode)
    return folder


@cache
def random_pendulum() -> str:
    """The folder of three random episodes on Pendulum, made once."""
    _FOLDERS.append(tempfile.TemporaryDirectory())
    return str(random_episodes(Path(_FOLDERS[-1].name) / "pendulum", "Pendulum-v1", 3))


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # removed with the process
