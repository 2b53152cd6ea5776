"""Recorded streams: datasets of episodes whose infos tell what happens, for online action detection.

A stream is one of `rlkit.envs.streams`, with the behaviour that belongs to it, or any environment whose steps tell
events, with random actions or a trained policy. Of the infos only events are kept: others may tell the labels, or the
state that a picture hides.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count as numbers
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlkit.assembly import build_evaluation_envs
from rlkit.data.datasets import DatasetWriter, Episode, EpisodeDataset
from rlkit.data.events import BACKGROUND, EVENTS, event_labels, told_events
from rlkit.envs.contract import Env, as_flag
from rlkit.envs.events import event_classes_of
from rlkit.envs.make import make_single
from rlkit.envs.streams import STREAMS, Behaviour, stream_named
from rlkit.envs.wrapper_names import env_arguments, resolve_wrapper
from rlkit.errors import EnvironmentFault, UsageError
from rlkit.evaluation import PlayedStep, played_steps
from rlkit.frames import LONGEST_EPISODE, FrameSource, actor_of, limited, options_of
from rlkit.recording import recorded_episodes
from rlkit.seeding import generator, row_seed

_LOG = logging.getLogger(__name__)
_REPORTS = 10
"""How often progress is told."""


@dataclass(frozen=True)
class StreamSource:
    """What is recorded.

    Attributes:
        stream: a name of `rlkit.envs.streams.STREAMS`, or an environment, as `--env` takes it, that tells events.
        env_args: of the environment, after those of a named stream.
        wrap: wrappers, around those of a named stream.
        policy: a run whose policy acts, exploring; None for a named stream's own behaviour, or random actions.
    """

    stream: str
    env_args: tuple[str, ...] = ()
    wrap: tuple[str, ...] = ()
    policy: str | None = None

    def frame_source(self) -> FrameSource:
        """The environment with all of its arguments and wrappers.

        Raises:
            UnknownNameError: neither a stream nor the name of an environment.
        """
        if self.stream not in STREAMS:
            if re.fullmatch(r"[a-z-]*", self.stream):  # which is no environment
                stream_named(self.stream)  # raises, with what is near
            return FrameSource(self.stream, self.env_args, self.wrap, self.policy)
        named = STREAMS[self.stream]
        return FrameSource(named.env, (*named.env_args, *self.env_args), (*named.wrap, *self.wrap), self.policy)

    def behaviour(self) -> Behaviour | None:
        """Who acts, or None where a policy or chance does."""
        return STREAMS[self.stream].behaviour if self.stream in STREAMS and self.policy is None else None


def record_stream(
    source: StreamSource | str,
    folder: Path,
    *,
    episodes: int | None = None,
    frames: int | None = None,
    seed: int = 0,
    needs_events: bool = True,
) -> EpisodeDataset:
    """Record `episodes` episodes, or `frames` frames, the last episode cut there; the same for the same seed.

    An episode of a named stream's own behaviour has a seed of its own, made from `seed` and its number. One of more
    than 10,000 steps is cut. With `needs_events` off an environment may tell none, which is then watched without truth.

    Raises:
        UsageError: not one of `episodes` and `frames`, a wrong environment, policy or folder, or no events are told
            where they are needed.
        EnvironmentFault: steps tell different events, or something else than 0 and 1.
    """
    source = StreamSource(source) if isinstance(source, str) else source
    goal = episodes if frames is None else frames
    if (episodes is None) == (frames is None) or goal is None or goal < 1:
        raise UsageError(f"record_stream takes episodes or frames, at least 1; got {episodes=} and {frames=}")
    frame_source, behaviour = source.frame_source(), source.behaviour()
    env = _made(frame_source)
    made_by = "the stream's own behaviour" if behaviour is not None else "random actions"
    made_by = made_by if source.policy is None else f"policy of {source.policy}, exploring"
    progress = _Progress(source.stream, event_classes_of(env), goal, "episodes" if frames is None else "frames")
    with (
        closing(env),
        DatasetWriter(folder, env.observation_space, env.action_space, env=source.stream, made_by=made_by) as writer,
    ):
        recorded = (
            _of_actor(frame_source, _EventCheck(event_classes_of(env), needed=needs_events), seed, frames)
            if behaviour is None
            else _of_behaviour(env, behaviour, seed, frames)
        )
        for episode in islice(recorded, episodes):
            writer.add(episode)
            progress.add(episode)
    progress.tell_prevalence()
    return EpisodeDataset(folder)


def stream_classes(source: StreamSource | str) -> tuple[str, ...] | None:
    """Classes that the stream names, `background` first where they exclude each other; None where it names none."""
    source = StreamSource(source) if isinstance(source, str) else source
    with closing(_made(source.frame_source())) as env:
        return event_classes_of(env)


def stream_spaces(source: StreamSource) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Of an observation, and of an action."""
    with closing(_made(source.frame_source())) as env:
        return env.observation_space, env.action_space


def _made(source: FrameSource) -> Env:
    return make_single(source.env, [resolve_wrapper(text) for text in source.wrap], env_arguments(source.env_args))


def _of_behaviour(env: Env, behaviour: Behaviour, seed: int, frames: int | None) -> Iterator[Episode]:
    """Episodes of a named stream, each with a seed of its own."""
    left = frames
    for number in numbers():
        episode = _performed(env, behaviour, row_seed(seed, number), LONGEST_EPISODE if left is None else left)
        yield episode
        if left is not None:
            left -= len(episode)
            if left == 0:
                return


def _performed(env: Env, behaviour: Behaviour, seed: int, limit: int) -> Episode:
    """One episode, of at most `limit` and LONGEST_EPISODE steps."""
    obs, _ = env.reset(seed=seed)
    act = behaviour(env, generator(seed, "behaviour"))
    observations, actions, rewards, events = [np.array(obs)], [], [], []
    terminated = truncated = False
    check = _EventCheck(event_classes_of(env), needed=True)
    for _ in range(min(limit, LONGEST_EPISODE)):
        action = act(obs)
        obs, reward, terminated, truncated, info = env.step(action)
        observations.append(np.array(obs))
        actions.append(np.array(action))
        rewards.append(float(reward))
        events.append(check.events(info))
        if terminated or truncated:
            break
    infos = {key: np.array([told[key] for told in events]) for key in events[0]}
    ends = bool(terminated), bool(truncated and not terminated)
    return Episode(np.stack(observations), np.stack(actions), np.array(rewards), *ends, infos)


def _of_actor(source: FrameSource, check: _EventCheck, seed: int, frames: int | None) -> Iterator[Episode]:
    """Episodes of random actions, or of a trained policy."""
    options = options_of(source, seed)
    with closing(build_evaluation_envs(source.env, options)) as envs:
        actor, seen = actor_of(source, options, envs)
        steps = played_steps(actor, envs, seed=seed, explore=True, max_episode_steps=LONGEST_EPISODE, seen=seen)
        played = _only_events(steps if frames is None else limited(steps, frames), check)
        yield from recorded_episodes(played, envs.single_observation_space)


def _only_events(steps: Iterator[PlayedStep], check: _EventCheck) -> Iterator[PlayedStep]:
    for played in steps:
        yield played._replace(step=replace(played.step, infos=(check.events(played.step.infos[0]),)))


class _EventCheck:
    """Takes the events out of infos; every step must tell the same ones, as 0 or 1."""

    def __init__(self, classes: tuple[str, ...] | None, *, needed: bool) -> None:
        self._needed = needed
        self._keys = None if classes is None else {EVENTS + name for name in classes if name != BACKGROUND}
        self._exclude = classes is not None and BACKGROUND in classes
        self._steps = 0

    def events(self, info: Mapping[str, Any]) -> dict[str, np.bool_]:
        """What the step told.

        Raises:
            UsageError: the first step told nothing.
            EnvironmentFault: it told of other classes than it should, or something that is no truth value.
        """
        self._steps += 1
        told = {str(key): value for key, value in info.items() if str(key).startswith(EVENTS)}
        if self._keys is None:
            self._keys = set(told)
        if not self._keys and self._needed:
            raise UsageError(
                f"the environment tells no events: info of a step has the keys {sorted(map(str, info))}. It must have "
                f"{EVENTS}<class>, 0 or 1, in each step; or take one of the streams {', '.join(STREAMS)}"
            )
        if set(told) != self._keys:
            raise EnvironmentFault(
                f"step {self._steps} of the recording told {sorted(told)}, it should tell {sorted(self._keys)}: every "
                "step tells all classes of event_classes but background, or, without these, what the first step told"
            )
        try:
            events = {key: np.bool_(as_flag(value, key)) for key, value in told.items()}
        except ValueError as error:
            raise EnvironmentFault(f"step {self._steps} of the recording: {error}") from None
        if self._exclude and sum(events.values()) > 1:
            both = [key for key, is_true in events.items() if is_true]
            raise EnvironmentFault(
                f"step {self._steps} of the recording told {both} at once, "
                f"but classes with {BACKGROUND} exclude each other; leave it out of event_classes where they may meet"
            )
        return events


class _Progress:
    """Tells how far a recording is, and in the end how often each class was there."""

    def __init__(self, stream: str, classes: tuple[str, ...] | None, goal: int, unit: str) -> None:
        self._stream, self._classes, self._goal, self._unit = stream, classes, goal, unit
        self._episodes, self._frames, self._told = 0, 0, 0
        self._positives: Counter[str] = Counter()

    def add(self, episode: Episode) -> None:
        """Count an episode, and say so at each tenth of the goal."""
        classes = self._classes or told_events(episode.infos)
        if classes:
            labels = event_labels(episode.infos, classes).sum(axis=0, dtype=np.int64)
            self._positives.update(dict(zip(classes, labels.tolist(), strict=True)))
        self._episodes, self._frames = self._episodes + 1, self._frames + len(episode)
        done = self._episodes if self._unit == "episodes" else self._frames
        if done * _REPORTS // self._goal > self._told:
            self._told = done * _REPORTS // self._goal
            other = f"{self._frames} frames" if self._unit == "episodes" else f"{self._episodes} episodes"
            _LOG.info("%s: %d of %d %s, %s", self._stream, done, self._goal, self._unit, other)

    def tell_prevalence(self) -> None:
        """Say which part of the frames has each class."""
        parts = ", ".join(f"{name} {count / self._frames:.3f}" for name, count in self._positives.items())
        told = parts or "no events"
        _LOG.info("%s: %d episodes, %d frames: %s", self._stream, self._episodes, self._frames, told)
