"""Environments inside compiled code: the finite MDP as arrays, gymnasium's Blackjack, the k-armed testbed, a car.

Each draws the same numbers from its generator, in the same order, as the environment it stands for, so that a run
through the environment and a run through this file are one and the same, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.np.random import generator_core

from rlkit.errors import UsageError
from rlkit.mdp import (
    CAR_GOAL,
    BanditDynamics,
    BlackjackDynamics,
    Dynamics,
    Floats64,
    Integers,
    MountainCarDynamics,
    TableDynamics,
    mountain_car_motion,
)
from rlkit.tabular.compiled import by_type, compiled


class EnvState(NamedTuple):
    """Where one environment is.

    `position` int64 [8]: [0] steps of the episode, [1] the table's row that the agent sees; the rest is the dynamics'.
    `numbers` float64 [k + 1]: [0] return of the episode so far; the rest is the dynamics'.
    `observation` float64 [O]: what the agent sees where that is no row, rounded to float32 as environments round it;
    empty for tables.
    """

    position: Integers
    numbers: Floats64
    observation: Floats64


def new_env_state(dynamics: Dynamics) -> EnvState:
    """Memory for one environment."""
    more, observed = 0, 0
    if isinstance(dynamics, BanditDynamics):
        more = dynamics.num_actions
    elif isinstance(dynamics, MountainCarDynamics):
        more = observed = 2
    return EnvState(np.zeros(8, np.int64), np.zeros(1 + more), np.zeros(observed))


def reset(dynamics: Dynamics, env: EnvState, rng: np.random.Generator) -> None:
    """Begin an episode."""
    raise NotImplementedError("only compiled code calls this")


def step(dynamics: Dynamics, env: EnvState, action: int, rng: np.random.Generator) -> tuple[float, bool]:
    """Take `action` (from 0): reward and whether the episode terminated. `env` moves on."""
    raise NotImplementedError("only compiled code calls this")


def begin_in(dynamics: Dynamics, env: EnvState, state: int) -> None:
    """Put the environment, just reset, into `state` (exploring starts)."""
    raise NotImplementedError("only compiled code calls this")


@compiled
def _table_reset(dynamics: TableDynamics, env: EnvState, rng: np.random.Generator) -> None:
    drawn = rng.random()
    state = 0
    while dynamics.start[state] <= drawn:
        state += 1
        if state == len(dynamics.start):  # rounding left the last sum below 1; gymnasium's argmax gives 0 then
            state = 0
            break
    _begin_in_table(dynamics, env, state)


@compiled
def _begin_in_table(dynamics: TableDynamics, env: EnvState, state: int) -> None:
    env.position[0] = 0
    env.position[1] = dynamics.observation[state]
    env.position[2] = state


@compiled
def _table_step(dynamics: TableDynamics, env: EnvState, action: int, rng: np.random.Generator) -> tuple[float, bool]:
    pair = env.position[2] * dynamics.num_actions + action
    begin, end = dynamics.first[pair], dynamics.first[pair + 1]
    drawn = rng.random()
    outcome = begin
    while dynamics.cumulative[outcome] <= drawn:
        outcome += 1
        if outcome == end:
            outcome = begin
            break
    state = dynamics.next_state[outcome]
    env.position[1] = dynamics.observation[state]
    env.position[2] = state
    return dynamics.reward[outcome], dynamics.terminated[outcome]


# Blackjack keeps, of the player's and the dealer's hand, the sum with aces as 1, whether there is an ace, and the
# number of cards, in position[2:5] and position[5:8]; the dealer's showing card is part of position[1].
_PLAYER, _DEALER = 2, 5


_next_uint32: Any = generator_core.next_uint32


@compiled
def _integer_below(count: int, rng: Any) -> int:
    """`rng.integers(count)` as numpy draws it (Lemire 2019, algorithm 5), without the array numba would allocate."""
    span = np.uint64(count)
    product = np.uint64(_next_uint32(rng.bit_generator)) * span
    left = product & np.uint64(0xFFFFFFFF)
    if left < span:
        threshold = np.uint64(0x100000000 - count) % span
        while left < threshold:
            product = np.uint64(_next_uint32(rng.bit_generator)) * span
            left = product & np.uint64(0xFFFFFFFF)
    return int(product >> np.uint64(32))


@compiled
def _draw_card(env: EnvState, hand: int, rng: np.random.Generator) -> int:
    card = min(_integer_below(13, rng) + 1, 10)
    env.position[hand] += card
    env.position[hand + 1] |= card == 1
    env.position[hand + 2] += 1
    return card


@compiled
def _usable_ace(env: EnvState, hand: int) -> bool:
    return env.position[hand + 1] == 1 and env.position[hand] + 10 <= 21


@compiled
def _hand_sum(env: EnvState, hand: int) -> int:
    return env.position[hand] + (10 if _usable_ace(env, hand) else 0)


@compiled
def _is_natural(env: EnvState, hand: int) -> bool:
    return env.position[hand + 2] == 2 and env.position[hand] == 11 and env.position[hand + 1] == 1


@compiled
def _score(env: EnvState, hand: int) -> int:
    total = _hand_sum(env, hand)
    return 0 if total > 21 else total


@compiled
def _see_hands(env: EnvState, showing: int) -> None:
    """The row of (player's sum, dealer's card, usable ace) in Tuple(Discrete(32), Discrete(11), Discrete(2))."""
    env.position[1] = (_hand_sum(env, _PLAYER) * 11 + showing) * 2 + _usable_ace(env, _PLAYER)


@compiled
def _blackjack_reset(dynamics: BlackjackDynamics, env: EnvState, rng: np.random.Generator) -> None:
    env.position[:] = 0
    showing = _draw_card(env, _DEALER, rng)
    _draw_card(env, _DEALER, rng)
    _draw_card(env, _PLAYER, rng)
    _draw_card(env, _PLAYER, rng)
    _integer_below(4, rng)  # the suit of the dealer's card, for its picture
    if showing == 10:
        _integer_below(3, rng)  # and its face
    _see_hands(env, showing)


@compiled
def _blackjack_step(
    dynamics: BlackjackDynamics, env: EnvState, action: int, rng: np.random.Generator
) -> tuple[float, bool]:
    showing = env.position[1] // 2 % 11
    if action == 1:
        _draw_card(env, _PLAYER, rng)
        _see_hands(env, showing)
        bust = _hand_sum(env, _PLAYER) > 21
        return (-1.0 if bust else 0.0), bust
    while _hand_sum(env, _DEALER) < 17:
        _draw_card(env, _DEALER, rng)
    mine, other = _score(env, _PLAYER), _score(env, _DEALER)
    reward = 1.0 if mine > other else (-1.0 if mine < other else 0.0)
    if dynamics.sab:
        if _is_natural(env, _PLAYER) and not _is_natural(env, _DEALER):
            reward = 1.0
    elif dynamics.natural and _is_natural(env, _PLAYER) and reward == 1.0:
        reward = 1.5
    return reward, True


@compiled
def _bandit_reset(dynamics: BanditDynamics, env: EnvState, rng: np.random.Generator) -> None:
    env.position[0] = 0
    for arm in range(dynamics.num_actions):
        env.numbers[1 + arm] = dynamics.mean + rng.standard_normal()


@compiled
def _bandit_step(dynamics: BanditDynamics, env: EnvState, action: int, rng: np.random.Generator) -> tuple[float, bool]:
    return env.numbers[1 + action] + rng.standard_normal(), False


# The mountain car keeps its position and its velocity, not rounded, in numbers[1:3].
_motion = compiled(mountain_car_motion)


@compiled
def _put_car(env: EnvState, position: float, velocity: float) -> None:
    env.numbers[1], env.numbers[2] = position, velocity
    env.observation[0], env.observation[1] = np.float32(position), np.float32(velocity)


@compiled
def _car_reset(dynamics: MountainCarDynamics, env: EnvState, rng: np.random.Generator) -> None:
    env.position[0] = 0
    _put_car(env, rng.uniform(-0.6, -0.4), 0.0)


@compiled
def _car_step(
    dynamics: MountainCarDynamics, env: EnvState, action: int, rng: np.random.Generator
) -> tuple[float, bool]:
    position, velocity = _motion(env.numbers[1], env.numbers[2], action)
    _put_car(env, position, velocity)
    return -1.0, position >= CAR_GOAL


@compiled
def _begin_nowhere(dynamics: Dynamics, env: EnvState, state: int) -> None:
    """Environments that are no table begin where their own reset left them."""


_COMPILED: dict[type[Any], tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    TableDynamics: (_table_reset, _table_step, _begin_in_table),
    BlackjackDynamics: (_blackjack_reset, _blackjack_step, _begin_nowhere),
    BanditDynamics: (_bandit_reset, _bandit_step, _begin_nowhere),
    MountainCarDynamics: (_car_reset, _car_step, _begin_nowhere),
}


by_type(reset, lambda dynamics, env, rng: _forward_reset(_of(dynamics)[0]))
by_type(step, lambda dynamics, env, action, rng: _forward_step(_of(dynamics)[1]))
by_type(begin_in, lambda dynamics, env, state: _forward_begin(_of(dynamics)[2]))


def _of(dynamics: Any) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    return _COMPILED[dynamics.instance_class]


def _forward_reset(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda dynamics, env, rng: implementation(dynamics, env, rng)


def _forward_step(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda dynamics, env, action, rng: implementation(dynamics, env, action, rng)


def _forward_begin(implementation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda dynamics, env, state: implementation(dynamics, env, state)


def require_dynamics(dynamics: object) -> Dynamics:
    """`dynamics`, if the compiled engine can step it. Raises UsageError."""
    if isinstance(dynamics, Dynamics):
        return dynamics
    raise UsageError(
        "the compiled engine needs an environment whose transitions are known (a finite MDP, gymnasium's toy text, a "
        "bandit, rlkit/MountainCar-v0) without wrappers that change it; use --agent.engine step"
    )
