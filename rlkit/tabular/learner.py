"""The four verbs of a tabular learner, and the loop around them in machine code.

    choose → step the environment → store → learn

A family of methods is a named tuple with a `tables` field and implementations of `choose`, `store` and `learn`, bound
to its type by `family`. Stepped through Python (`*_rows`) or inside `run`, the same compiled functions are called with
the same generators, so both ways give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from rlkit.mdp import Dynamics, Floats64, Integers
from rlkit.tabular.compiled import by_type, compiled, is_ours, keep_nothing
from rlkit.tabular.handles import Handle, content_of
from rlkit.tabular.stepping import EnvState, begin_in, reset, step
from rlkit.tabular.streams import Stream, Streams, generator_of
from rlkit.tabular.tables import count_step, value_error
from rlkit.types import Bools, Floats

Learner: TypeAlias = Any
"""A named tuple of a family; numba knows its type."""
OK, TOO_LONG, WRONG_START, OUTSIDE = 0, 1, 2, 3
"""What `learn` answers. TOO_LONG: an episode does not fit into the learner's memory. WRONG_START: an episode did not
begin in the state that `next_start` asked for. OUTSIDE, of the `…_rows`: an observation is not in its space."""

_FAMILIES: dict[type[Any], tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {}


def family(
    kind: type[Any],
    *,
    choose: Callable[..., Any],
    store: Callable[..., Any],
    learn: Callable[..., Any],
    next_start: Callable[..., Any],
) -> None:
    """Bind compiled implementations to the named tuple of a family. Code for one of your own is not kept on disk."""
    if not is_ours(kind):
        keep_nothing()
    _FAMILIES[kind] = (choose, store, learn, next_start)


@compiled
def no_start(learner: Learner, rng: np.random.Generator) -> int:
    """For families without exploring starts: the environment chooses where episodes begin."""
    return -1


def choose(learner: Learner, state: int, is_first: bool, rng: np.random.Generator) -> int:
    """An action for `state`; `is_first` in the first step of an episode. Changes nothing but the generator."""
    raise NotImplementedError("only compiled code calls this")


def next_start(learner: Learner, rng: np.random.Generator) -> int:
    """State in which the next episode is to begin, -1 for the environment's own choice."""
    raise NotImplementedError("only compiled code calls this")


def store(
    learner: Learner, row: int, state: int, action: int, reward: float, next_state: int, terminated: bool, ended: bool
) -> None:
    """Remember one transition of environment `row`; `ended` also where a time limit cut the episode."""
    raise NotImplementedError("only compiled code calls this")


def learn(learner: Learner, row: int, rng: np.random.Generator) -> int:
    """Learn what the stored transition of environment `row` makes due; a status as `learn` does."""
    raise NotImplementedError("only compiled code calls this")


by_type(choose, lambda learner, state, is_first, rng: _forward_choose(_FAMILIES[learner.instance_class][0]))
by_type(
    store,
    lambda learner, row, state, action, reward, next_state, terminated, ended: _forward_store(
        _FAMILIES[learner.instance_class][1]
    ),
)
by_type(learn, lambda learner, row, rng: _forward_learn(_FAMILIES[learner.instance_class][2]))
by_type(next_start, lambda learner, rng: _forward_start(_FAMILIES[learner.instance_class][3]))


def _forward_choose(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda learner, state, is_first, rng: implementation(learner, state, is_first, rng)


def _forward_store(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda learner, row, state, action, reward, next_state, terminated, ended: implementation(
        learner, row, state, action, reward, next_state, terminated, ended
    )


def _forward_learn(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda learner, row, rng: implementation(learner, row, rng)


def _forward_start(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda learner, rng: implementation(learner, rng)


@compiled
def choose_rows(
    handle: Handle, states: Integers, is_first: Bools, stream: Stream, actions: Integers, starts: Integers
) -> int:
    """Choose for every row: `actions` [N] and the `starts` [N] of the episodes to come; OK or OUTSIDE."""
    learner, rng = content_of(handle), generator_of(stream)
    for row in range(len(states)):
        if not 0 <= states[row] < learner.tables.values.shape[1]:
            return OUTSIDE
    for row in range(len(states)):
        actions[row] = choose(learner, states[row], is_first[row], rng)
        starts[row] = next_start(learner, rng)
    return OK


@compiled
def learn_rows(
    handle: Handle,
    states: Integers,
    actions: Integers,
    rewards: Floats,
    next_states: Integers,
    terminated: Bools,
    ended: Bools,
    stream: Stream,
) -> int:
    """Store one transition of every row, then learn from them; a status as `learn` answers, or OUTSIDE."""
    learner, rng = content_of(handle), generator_of(stream)
    count = learner.tables.values.shape[1]
    for row in range(len(states)):
        if not 0 <= min(states[row], next_states[row]) <= max(states[row], next_states[row]) < count:
            return OUTSIDE
    for row in range(len(states)):
        store(
            learner, row, states[row], actions[row], float(rewards[row]), next_states[row], terminated[row], ended[row]
        )
    for row in range(len(states)):
        status = learn(learner, row, rng)
        if status != OK:
            return status
        count_step(learner.tables, ended[row])
    return OK


@compiled
def begin(dynamics: Dynamics, env: EnvState, streams: Streams) -> None:
    """Begin the first episode."""
    reset(dynamics, env, generator_of(streams.env))
    env.position[0] = 0
    env.numbers[0] = 0.0


@compiled
def run(
    dynamics: Dynamics,
    env: EnvState,
    learner: Learner,
    streams: Streams,
    max_steps: int,
    max_episodes: int,
    episodes: Floats64,
    reference: Floats64,
) -> tuple[int, int, int]:
    """Train for `max_steps` env steps, or until `max_episodes` episodes have ended.

    Writes return and length of finished episodes, and the error against `reference` [S] (if it is not empty) after
    each, into `episodes` [max_episodes, 3]. Returns the steps taken, the episodes finished, and a status as `learn`
    does.
    """
    env_rng, act_rng, learn_rng = generator_of(streams.env), generator_of(streams.act), generator_of(streams.learn)
    steps, finished = 0, 0
    while steps < max_steps and finished < max_episodes:
        state = env.position[1]
        action = choose(learner, state, env.position[0] == 0, act_rng)
        start = next_start(learner, act_rng)
        reward, terminated = step(dynamics, env, action, env_rng)
        env.position[0] += 1
        env.numbers[0] += reward
        steps += 1
        ended = terminated or env.position[0] == dynamics.max_steps
        # through the loop, rewards reach agents as float32 (rlkit.types.Transition)
        store(learner, 0, state, action, float(np.float32(reward)), env.position[1], terminated, ended)
        status = learn(learner, 0, learn_rng)
        if status != OK:
            return steps, finished, status
        count_step(learner.tables, ended)
        if ended:
            episodes[finished, 0], episodes[finished, 1] = env.numbers[0], env.position[0]
            if len(reference) > 0:
                episodes[finished, 2] = value_error(learner.tables, reference)
            finished += 1
            reset(dynamics, env, env_rng)
            if start >= 0:
                begin_in(dynamics, env, start)
            env.position[0] = 0
            env.numbers[0] = 0.0
    return steps, finished, OK
