"""Pictures from an environment for learning without rewards: episodes of random actions or of a given policy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlkit.api import load
from rlkit.assembly import build_agent, build_evaluation_envs, task_of
from rlkit.config import AgentConfig, RunConfig, RunOptions
from rlkit.data.datasets import DatasetWriter, Episode
from rlkit.errors import UsageError
from rlkit.evaluation import PlayedStep, played_steps
from rlkit.recording import recorded_episodes
from rlkit.types import Actor, Obs, VectorEnv

_LOG = logging.getLogger(__name__)
_REPORTS = 5
"""How often the progress of a recording is told."""
LONGEST_EPISODE = 10_000
"""Steps after which an episode is cut, so that one that never ends does not fill a recording."""


@dataclass(frozen=True)
class FrameSource:
    """Where pictures come from: an environment, its wrappers, and a run whose policy acts (None: random actions)."""

    env: str
    env_args: tuple[str, ...] = ()
    wrap: tuple[str, ...] = ()
    policy: str | None = None


def observation_space_of(source: FrameSource) -> gym.Space[Any]:
    """Of one picture, before any is recorded."""
    with closing(build_evaluation_envs(source.env, options_of(source, 0))) as envs:
        return envs.single_observation_space


def record_frames(source: FrameSource, folder: Path, frames: int, seed: int) -> None:
    """Write a dataset of episodes with `frames` observations, or one fewer, because each episode has at least two.

    Raises:
        UsageError: the environment or the run is wrong, or the folder holds something.
    """
    options = options_of(source, seed)
    envs = build_evaluation_envs(source.env, options)
    space = envs.single_observation_space
    made_by = "random actions" if source.policy is None else f"policy of {source.policy}, exploring"
    with (
        closing(envs),
        DatasetWriter(folder, space, envs.single_action_space, env=source.env, made_by=made_by) as writer,
    ):
        actor, seen = actor_of(source, options, envs)
        steps = played_steps(actor, envs, seed=seed, explore=True, max_episode_steps=LONGEST_EPISODE, seen=seen)
        recorded = told = 0
        for episode in first_observations(recorded_episodes(limited(steps, frames - 1), space), frames):
            writer.add(episode)
            recorded += len(episode) + 1
            if recorded * _REPORTS // frames > told:
                told = recorded * _REPORTS // frames
                _LOG.info("recorded %s of %s frames", f"{recorded:,}", f"{frames:,}")


def limited(steps: Iterator[PlayedStep], count: int) -> Iterator[PlayedStep]:
    """The first steps, the last of them the last of its episode."""
    for number, step in enumerate(islice(steps, count), 1):
        yield step if number < count else step._replace(is_last=True)


def first_observations(episodes: Iterator[Episode], count: int) -> Iterator[Episode]:
    """Episodes up to `count` observations or one fewer; the last is cut there."""
    for episode in episodes:
        if len(episode) + 1 > count:
            episode = first_steps(episode, count - 1)
        yield episode
        count -= len(episode) + 1
        if count < 2:
            return


def first_steps(episode: Episode, steps: int) -> Episode:
    """The beginning of an episode of one array an observation, which neither terminates nor is truncated there."""
    assert isinstance(episode.observations, np.ndarray)
    assert isinstance(episode.actions, np.ndarray)
    infos = {name: values[:steps] for name, values in episode.infos.items()}
    observations, actions = episode.observations[: steps + 1], episode.actions[:steps]
    return Episode(observations, actions, episode.rewards[:steps], False, False, infos)


def options_of(source: FrameSource, seed: int) -> RunOptions:
    """Options of a run on the source's environment."""
    return RunOptions.model_validate(
        {"env": source.env, "env_args": source.env_args, "wrap": source.wrap, "seed": seed}
    )


def actor_of(source: FrameSource, options: RunOptions, envs: VectorEnv) -> tuple[Actor, Callable[[Obs], Obs]]:
    """Who acts, and what it is shown of an observation."""
    if source.policy is None:
        return build_agent(RunConfig("random", AgentConfig(), options), task_of(options, envs)), lambda obs: obs
    policy = load(source.policy)
    policy.close()
    if policy.observation_space != envs.single_observation_space:
        raise UsageError(
            f"the policy of {source.policy} takes observations in {policy.observation_space}, here they are in "
            f"{envs.single_observation_space}: use the --env-args and --wrap that it was trained with"
        )
    return policy.agent, policy.normalized
