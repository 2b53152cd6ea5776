"""Exploration noise for continuous actions, in plain numpy: pure functions of their state and a generator."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def gaussian_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Floats:
    """Independent normal noise with standard deviation `sigma`, float32 of the given shape."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise *= sigma
    return noise


def ornstein_uhlenbeck_step(
    x_tm1: Floats, rng: np.random.Generator, *, sigma: float, theta: float = 0.15, mu: float = 0.0, dt: float = 1e-2
) -> Floats:
    """The next state of an Ornstein-Uhlenbeck process, float32 of the shape of `x_tm1`.

    Euler's discretisation x + theta (mu - x) dt + sigma sqrt(dt) N(0, 1) of Uhlenbeck and Ornstein 1930, with the theta
    of Lillicrap et al. 2016 (section 7) and the dt of stable-baselines3. A fresh episode starts from zeros.
    """
    normal = rng.standard_normal(x_tm1.shape, dtype=np.float32)
    x_t: Floats = x_tm1 + np.float32(theta * dt) * (np.float32(mu) - x_tm1) + np.float32(sigma * math.sqrt(dt)) * normal
    return x_t
