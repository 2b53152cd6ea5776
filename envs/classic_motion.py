"""Gymnasium's classic control in machine code: five equations of motion, and one step of N rows of them.

Each motion moves a row's `state` on in place and answers reward and whether the episode terminated. Rounding follows
gymnasium operation by operation, so that both give the same bits where numpy and the C library round sine and cosine
alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rlkit import machine_code
from rlkit.types import Array

CART_POLE, MOUNTAIN_CAR, MOUNTAIN_CAR_CONTINUOUS, PENDULUM, ACROBOT = range(5)
"""Kinds of motion, in compiled code."""

Outcome: TypeAlias = tuple[float, bool]
"""Reward, and whether the episode terminated."""
Four: TypeAlias = tuple[float, float, float, float]

_GRAVITY = 9.8  # m/s², of cart-pole and acrobot
_CART_POLE_MASS = 0.1 + 1.0  # kg: pole and cart
_POLE_MASS, _HALF_POLE = 0.1, 0.5  # kg, m
_PUSH, _CART_POLE_SECONDS = 10.0, 0.02  # N; one step
_FAR, _TILTED = 2.4, 12 * 2 * math.pi / 360  # m, radians: where the pole is lost
_CAR_LEFT, _CAR_RIGHT, _CAR_SPEED = -1.2, 0.6, 0.07
_CAR_GOAL, _CONTINUOUS_CAR_GOAL = 0.5, 0.45  # the continuous car's goal is gymnasium's own
_FASTEST_SWING, _STRONGEST_TORQUE, _SWING_SECONDS = 8.0, 2.0, 0.05  # rad/s, N·m
_LINK_MASS, _LINK_LENGTH, _LINK_CENTRE, _LINK_INERTIA = 1.0, 1.0, 0.5, 1.0  # both links are alike
_ACROBOT_SECONDS = 0.2
_FASTEST_FIRST, _FASTEST_SECOND = 4 * math.pi, 9 * math.pi  # rad/s, of acrobot's links


def compiled(function: Callable[..., Any]) -> Any:
    """The function in machine code."""
    return machine_code.kept(function, _CACHE, nogil=True, error_model="numpy")


_CACHE = machine_code.cache_folder("envs", [Path(__file__).read_bytes()])


@compiled
def cart_pole(state: Array, action: float) -> Outcome:
    """Balance a pole on a cart (Barto, Sutton and Anderson 1983): 1 a step, by Euler's method.

    State: position, velocity, angle from upright, angular velocity. Accelerations by Florian (2007), equations 23 and
    24, without friction. Action 0 pushes to the left, 1 to the right.
    """
    position, velocity, angle, turning = state
    cosine, sine = math.cos(angle), math.sin(angle)
    push = _PUSH if action == 1 else -_PUSH
    moment = _POLE_MASS * _HALF_POLE
    shared = (push + moment * (turning * turning) * sine) / _CART_POLE_MASS
    leverage = _HALF_POLE * (4.0 / 3.0 - _POLE_MASS * (cosine * cosine) / _CART_POLE_MASS)
    angular = (_GRAVITY * sine - cosine * shared) / leverage
    linear = shared - moment * angular * cosine / _CART_POLE_MASS
    state[0] = position + _CART_POLE_SECONDS * velocity
    state[1] = velocity + _CART_POLE_SECONDS * linear
    state[2] = angle + _CART_POLE_SECONDS * turning
    state[3] = turning + _CART_POLE_SECONDS * angular
    return 1.0, abs(state[0]) > _FAR or abs(state[2]) > _TILTED


@compiled
def mountain_car(state: Array, action: float) -> Outcome:
    """Drive a weak car out of a valley (Moore 1990; Sutton and Barto 2018, example 10.1): -1 a step.

    State: position, velocity. Action 0 pushes to the left, 2 to the right. As in gymnasium, and unlike the book, the
    car may pass the goal, up to 0.6.
    """
    position, velocity = state
    velocity += (action - 1) * 0.001 + math.cos(3.0 * position) * -0.0025
    velocity = min(max(velocity, -_CAR_SPEED), _CAR_SPEED)
    position = min(max(position + velocity, _CAR_LEFT), _CAR_RIGHT)
    if position == _CAR_LEFT and velocity < 0.0:
        velocity = 0.0
    state[0], state[1] = position, velocity
    return -1.0, position >= _CAR_GOAL and velocity >= 0.0


@compiled
def mountain_car_continuous(state: Array, action: float) -> Outcome:
    """The mountain car with a force in [-1, 1]: 100 at the goal, minus a tenth of the squared action (gymnasium).

    Larger actions push no harder but cost more. Gymnasium keeps this state in single precision, and so do we; only a
    start state has more digits, so `3 * position` is rounded in all steps but the first.
    """
    position, velocity = state
    angle = 3.0 * position if position != np.float32(position) else np.float64(np.float32(3.0 * position))
    slope = 0.0025 * math.cos(angle)
    if -1.0 <= action <= 1.0:
        push = np.float32(action) * np.float32(0.0015) - np.float32(slope)
    else:
        push = np.float32(math.copysign(0.0015, action) - slope)
    top_speed, left = np.float32(_CAR_SPEED), np.float32(_CAR_LEFT)
    new_velocity = min(max(np.float32(velocity) + push, -top_speed), top_speed)
    new_position = min(max(np.float32(position + new_velocity), left), np.float32(_CAR_RIGHT))
    if new_position == left and new_velocity < 0.0:
        new_velocity = np.float32(0.0)
    state[0], state[1] = new_position, new_velocity
    terminated = bool(new_position >= np.float32(_CONTINUOUS_CAR_GOAL) and new_velocity >= 0.0)
    effort = np.float64(action)  # of a float32 machine code would make a float32
    return (100.0 if terminated else 0.0) - effort * effort * 0.1, terminated


@compiled
def pendulum(state: Array, action: float) -> Outcome:
    """Swing up a rod with too little torque (Doya 2000, section 5.1, with gymnasium's rod and costs); it never ends.

    State: angle from upright, angular velocity. A uniform rod of 1 kg and 1 m (moment of inertia m·l²/3), g = 10.
    The torque, in N·m, is clipped to [-2, 2]; the costs are those of state and torque before the step.
    """
    angle, turning = state
    torque = min(max(np.float32(action), np.float32(-_STRONGEST_TORQUE)), np.float32(_STRONGEST_TORQUE))
    from_upright = (angle + math.pi) % (2.0 * math.pi) - math.pi
    effort = np.float32(0.001) * (torque * torque)
    reward = -(from_upright * from_upright + 0.1 * (turning * turning) + effort)
    turning += (15.0 * math.sin(angle) + np.float32(3.0) * torque) * _SWING_SECONDS
    turning = min(max(turning, -_FASTEST_SWING), _FASTEST_SWING)
    state[0], state[1] = angle + turning * _SWING_SECONDS, turning
    return reward, False


@compiled
def acrobot(state: Array, action: float) -> Outcome:
    """Swing the tip of two links one link above the bar (Sutton 1996): -1 a step, 0 for the last.

    State: angle of the first link from hanging, angle of the second to the first, both angular velocities. Actions are
    torques of -1, 0 and 1 N·m between the links, for 0.2 s by the Runge-Kutta method of order 4.
    """
    torque = action - 1.0
    now = (state[0], state[1], state[2], state[3])
    slope_1 = acrobot_slope(now, torque)
    slope_2 = acrobot_slope(_moved(now, _ACROBOT_SECONDS / 2.0, slope_1), torque)
    slope_3 = acrobot_slope(_moved(now, _ACROBOT_SECONDS / 2.0, slope_2), torque)
    slope_4 = acrobot_slope(_moved(now, _ACROBOT_SECONDS, slope_3), torque)
    for i in range(4):
        mixed = slope_1[i] + 2.0 * slope_2[i] + 2.0 * slope_3[i] + slope_4[i]
        state[i] = now[i] + _ACROBOT_SECONDS / 6.0 * mixed
    state[0], state[1] = _wrapped(state[0]), _wrapped(state[1])
    state[2] = min(max(state[2], -_FASTEST_FIRST), _FASTEST_FIRST)
    state[3] = min(max(state[3], -_FASTEST_SECOND), _FASTEST_SECOND)
    is_high = -math.cos(state[0]) - math.cos(state[1] + state[0]) > 1.0
    return 0.0 if is_high else -1.0, is_high


@compiled
def acrobot_slope(now: Four, torque: float) -> Four:
    """Time derivative of acrobot's state (Sutton and Barto 1998, section 11.3; its letters)."""
    theta_1, theta_2, velocity_1, velocity_2 = now
    m, l, lc, inertia = _LINK_MASS, _LINK_LENGTH, _LINK_CENTRE, _LINK_INERTIA  # noqa: E741  # as in the book
    cosine, sine = math.cos(theta_2), math.sin(theta_2)
    d_1 = m * lc**2 + m * (l**2 + lc**2 + 2.0 * l * lc * cosine) + inertia + inertia
    d_2 = m * (lc**2 + l * lc * cosine) + inertia
    phi_2 = m * lc * _GRAVITY * math.cos(theta_1 + theta_2 - math.pi / 2.0)
    phi_1 = (
        -m * l * lc * velocity_2**2 * sine
        - 2.0 * m * l * lc * velocity_2 * velocity_1 * sine
        + (m * lc + m * l) * _GRAVITY * math.cos(theta_1 - math.pi / 2.0)
        + phi_2
    )
    force = torque + d_2 / d_1 * phi_1 - m * l * lc * velocity_1**2 * sine - phi_2
    acceleration_2 = force / (m * lc**2 + inertia - d_2**2 / d_1)
    return velocity_1, velocity_2, -(d_2 * acceleration_2 + phi_1) / d_1, acceleration_2


@compiled
def _moved(now: Four, seconds: float, slope: Four) -> Four:
    first, second = now[0] + seconds * slope[0], now[1] + seconds * slope[1]
    return first, second, now[2] + seconds * slope[2], now[3] + seconds * slope[3]


@compiled
def _wrapped(angle: float) -> float:
    while angle > math.pi:
        angle -= 2.0 * math.pi
    while angle < -math.pi:
        angle += 2.0 * math.pi
    return angle


@compiled
def moved(kind: int, state: Array, action: float) -> Outcome:
    """Outcome of one step of that kind; `state` becomes the next."""
    if kind == CART_POLE:
        return cart_pole(state, action)  # type: ignore[no-any-return]
    if kind == MOUNTAIN_CAR:
        return mountain_car(state, action)  # type: ignore[no-any-return]
    if kind == MOUNTAIN_CAR_CONTINUOUS:
        return mountain_car_continuous(state, action)  # type: ignore[no-any-return]
    if kind == PENDULUM:
        return pendulum(state, action)  # type: ignore[no-any-return]
    return acrobot(state, action)  # type: ignore[no-any-return]


@compiled
def observe(kind: int, state: Array, obs: Array) -> None:
    """Write the observation of `state` (float64) into `obs` (float32); both of one row."""
    if kind == PENDULUM:
        obs[0], obs[1], obs[2] = math.cos(state[0]), math.sin(state[0]), state[1]
    elif kind == ACROBOT:
        obs[0], obs[1] = math.cos(state[0]), math.sin(state[0])
        obs[2], obs[3] = math.cos(state[1]), math.sin(state[1])
        obs[4], obs[5] = state[2], state[3]
    else:
        for i in range(len(obs)):
            obs[i] = state[i]


@compiled
def begin_rows(kind: int, state: Array, elapsed: Array, starts: Array, used: Array, obs: Array) -> None:
    """Begin an episode in every row, each with the first of its start states."""
    for row in range(len(state)):
        used[row] = 0
        begin_row(kind, row, state, elapsed, starts, used, obs)


@compiled
def begin_row(kind: int, row: int, state: Array, elapsed: Array, starts: Array, used: Array, obs: Array) -> None:
    """Begin an episode in one row; what `starts` does not draw is 0."""
    state[row] = 0.0
    for i in range(starts.shape[2]):
        state[row, i] = starts[row, used[row], i]
    elapsed[row] = 0
    used[row] += 1
    observe(kind, state[row], obs[row])


@compiled
def wrong_row(action: Array, choices: int) -> int:
    """The first row whose action is none of 0 … choices-1 (for 0 choices: is not finite); -1 where all are right."""
    for row in range(len(action)):
        if choices > 0:
            if action[row] < 0 or action[row] >= choices:
                return row
        elif not math.isfinite(action[row]):
            return row
    return -1


@compiled
def step_rows(
    kind: int, choices: int, limit: int, action: Array, state: Array, elapsed: Array, starts: Array, used: Array,
    next_obs: Array, obs: Array, reward: Array, terminated: Array, truncated: Array, ended: Array,
) -> tuple[int, bool]:  # fmt: skip
    """Step every row and begin anew those that ended; how many did, and whether a row has used up its start states.

    Nothing is allocated and, where an action is wrong, nothing changed: the answer is then -1 - its row.

    Args:
        kind: The motion.
        choices: How many actions there are; 0 for a continuous one.
        limit: Steps after which an episode is truncated.
        action: [N], or [N, 1] where it is continuous; its rows lie one after the other.
        state: float64 [N, S], changed.
        elapsed: int64 [N], steps of the running episodes, changed.
        starts: float64 [N, K, D], the next start states of each row.
        used: int64 [N], how many of them are used, changed.
        next_obs: float32 [N, O], written: the true successors.
        obs: float32 [N, O], written only where an episode ended: what to act on next, of all rows.
        reward: float64 [N], written.
        terminated: bool [N], written.
        truncated: bool [N], written.
        ended: int64 [N], written: first the rows whose episode ended.
    """
    flat = action.reshape(action.size)
    wrong = wrong_row(flat, choices)
    if wrong >= 0:
        return -1 - wrong, False
    count = 0
    for row in range(len(state)):
        reward[row], terminated[row] = moved(kind, state[row], flat[row])
        observe(kind, state[row], next_obs[row])
        elapsed[row] += 1
        truncated[row] = elapsed[row] >= limit and not terminated[row]
        if terminated[row] or truncated[row]:
            ended[count] = row
            count += 1
    is_used_up = False
    if count > 0:
        obs[:] = next_obs
        for row in ended[:count]:
            begin_row(kind, row, state, elapsed, starts, used, obs)
            is_used_up |= used[row] == starts.shape[1]
    return count, is_used_up
