"""The verbs of a learner, and the loop around them in machine code.

    perceive → choose → step the environment → perceive → store → learn

A family of methods is a named tuple with implementations of `choose`, `store` and `learn`, bound to its type by
`family`. What it calls a state is a number: the row of its tables, or where its memory holds a feature vector; its
`Memory` makes numbers of observations. Stepped through Python (`*_rows`) or inside `run`, the same compiled functions
are called with the same generators, so both ways give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rlkit.mdp import Dynamics, Floats64, Integers
from rlkit.tabular.compiled import by_type, compiled, is_ours, keep_nothing
from rlkit.tabular.handles import Handle, content_of
from rlkit.tabular.stepping import EnvState, begin_in, reset, step
from rlkit.tabular.streams import Stream, Streams, generator_of
from rlkit.tabular.tables import count_step, value_error
from rlkit.types import Array, Bools, Floats

Learner: TypeAlias = Any
"""A named tuple of a family; numba knows its type."""
OK, TOO_LONG, WRONG_START, OUTSIDE = 0, 1, 2, 3
"""What `learn` answers. TOO_LONG: an episode does not fit into the learner's memory. WRONG_START: an episode did not
begin in the state that `next_start` asked for. OUTSIDE, of the `…_rows`: an observation is not in its space."""


class Memory(NamedTuple):
    """How learners hold what they learn: compiled functions, which stand in for the stubs of the same names below."""

    perceive: Callable[..., Any]
    look_up: Callable[..., Any]
    count: Callable[..., Any]
    error: Callable[..., Any]


class _Family(NamedTuple):
    choose: Callable[..., Any]
    store: Callable[..., Any]
    learn: Callable[..., Any]
    next_start: Callable[..., Any]
    memory: Memory


_FAMILIES: dict[type[Any], _Family] = {}


def _of(learner: Any) -> _Family:
    """The family of a learner, given its numba type."""
    return _FAMILIES[learner.instance_class]


@compiled
def _row_of_env(learner: Learner, dynamics: Dynamics, env: EnvState, row: int, kept: int) -> int:
    return env.position[1]


@compiled
def _row_given(learner: Learner, observations: Integers, row: int, kept: int) -> int:
    state = observations[row]
    return state if 0 <= state < learner.tables.values.shape[1] else -1


@compiled
def _count_in_tables(learner: Learner, ended: bool) -> None:
    count_step(learner.tables, ended)


@compiled
def _error_of_tables(learner: Learner, reference: Floats64) -> float:
    return value_error(learner.tables, reference)


TABLES = Memory(_row_of_env, _row_given, _count_in_tables, _error_of_tables)
"""For learners with a `tables` field: a state is a row of the table."""


def family(
    kind: type[Any],
    *,
    choose: Callable[..., Any],
    store: Callable[..., Any],
    learn: Callable[..., Any],
    next_start: Callable[..., Any],
    memory: Memory = TABLES,
) -> None:
    """Bind compiled implementations to the named tuple of a family. Code for one of your own is not kept on disk."""
    if not is_ours(kind):
        keep_nothing()
    _FAMILIES[kind] = _Family(choose, store, learn, next_start, memory)


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


def perceive(learner: Learner, dynamics: Dynamics, env: EnvState, row: int, kept: int) -> int:
    """The state that environment `row` is in; the number `kept` (-1: none) stays good."""
    raise NotImplementedError("only compiled code calls this")


def look_up(learner: Learner, observations: Array, row: int, kept: int) -> int:
    """The state that `observations[row]` shows, -1 if it lies outside its space; `kept` as in `perceive`."""
    raise NotImplementedError("only compiled code calls this")


def count(learner: Learner, ended: bool) -> None:
    """Advance the clocks by one env step."""
    raise NotImplementedError("only compiled code calls this")


def error(learner: Learner, reference: Floats64) -> float:
    """Root mean square of V(s), or max_a Q(s, a), minus `reference` [S], over states where that is not NaN."""
    raise NotImplementedError("only compiled code calls this")


by_type(choose, lambda learner, state, is_first, rng: _forward_choose(_of(learner).choose))
by_type(
    store,
    lambda learner, row, state, action, reward, next_state, terminated, ended: _forward_store(_of(learner).store),
)
by_type(learn, lambda learner, row, rng: _forward_learn(_of(learner).learn))
by_type(next_start, lambda learner, rng: _forward_start(_of(learner).next_start))
by_type(perceive, lambda learner, dynamics, env, row, kept: _forward_perceive(_of(learner).memory.perceive))
by_type(look_up, lambda learner, observations, row, kept: _forward_look_up(_of(learner).memory.look_up))
by_type(count, lambda learner, ended: _forward_count(_of(learner).memory.count))
by_type(error, lambda learner, reference: _forward_error(_of(learner).memory.error))


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


def _forward_perceive(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda learner, dynamics, env, row, kept: implementation(learner, dynamics, env, row, kept)


def _forward_look_up(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda learner, observations, row, kept: implementation(learner, observations, row, kept)


def _forward_count(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda learner, ended: implementation(learner, ended)


def _forward_error(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda learner, reference: implementation(learner, reference)


@compiled
def choose_rows(
    handle: Handle, observations: Array, is_first: Bools, stream: Stream, actions: Integers, starts: Integers
) -> int:
    """Choose for every row: `actions` [N] and the `starts` [N] of the episodes to come; OK or OUTSIDE.

    `observations` are rows of the table, int64 [N], or vectors, float64 [N, O].
    """
    learner, rng = content_of(handle), generator_of(stream)
    for row in range(len(observations)):
        state = look_up(learner, observations, row, -1)
        if state < 0:
            return OUTSIDE
        actions[row] = choose(learner, state, is_first[row], rng)
        starts[row] = next_start(learner, rng)
    return OK


@compiled
def learn_rows(
    handle: Handle,
    observations: Array,
    actions: Integers,
    rewards: Floats,
    next_observations: Array,
    terminated: Bools,
    ended: Bools,
    stream: Stream,
) -> int:
    """Store one transition of every row, then learn from them; a status as `learn` answers, or OUTSIDE."""
    learner, rng = content_of(handle), generator_of(stream)
    for row in range(len(observations)):
        state = look_up(learner, observations, row, -1)
        if state < 0 or look_up(learner, next_observations, row, state) < 0:
            return OUTSIDE
    for row in range(len(observations)):
        state = look_up(learner, observations, row, -1)
        next_state = look_up(learner, next_observations, row, state)
        store(learner, row, state, actions[row], float(rewards[row]), next_state, terminated[row], ended[row])
    for row in range(len(observations)):
        status = learn(learner, row, rng)
        if status != OK:
            return status
        count(learner, ended[row])
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
    handle: Handle,
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
    learner = content_of(handle)
    env_rng, act_rng, learn_rng = generator_of(streams.env), generator_of(streams.act), generator_of(streams.learn)
    steps, finished = 0, 0
    state = -1
    while steps < max_steps and finished < max_episodes:
        if state < 0:
            state = perceive(learner, dynamics, env, 0, -1)
        action = choose(learner, state, env.position[0] == 0, act_rng)
        start = next_start(learner, act_rng)
        reward, terminated = step(dynamics, env, action, env_rng)
        env.position[0] += 1
        env.numbers[0] += reward
        steps += 1
        ended = terminated or env.position[0] == dynamics.max_steps
        next_state = perceive(learner, dynamics, env, 0, state)
        # through the loop, rewards reach agents as float32 (rlkit.types.Transition)
        store(learner, 0, state, action, float(np.float32(reward)), next_state, terminated, ended)
        status = learn(learner, 0, learn_rng)
        if status != OK:
            return steps, finished, status
        count(learner, ended)
        state = next_state
        if ended:
            episodes[finished, 0], episodes[finished, 1] = env.numbers[0], env.position[0]
            if len(reference) > 0:
                episodes[finished, 2] = error(learner, reference)
            finished += 1
            reset(dynamics, env, env_rng)
            if start >= 0:
                begin_in(dynamics, env, start)
            env.position[0] = 0
            env.numbers[0] = 0.0
            state = -1
    return steps, finished, OK
