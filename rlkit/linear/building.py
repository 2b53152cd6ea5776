"""`Features` from options, sized by the observation space."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import comb, log10, prod
from pathlib import Path

import numpy as np

from rlkit.errors import ConfigError, UnsupportedTaskError, UsageError
from rlkit.linear.features import (
    AGGREGATION,
    BINARY,
    FOURIER,
    GIVEN,
    KINDS,
    ONE_HOT,
    POLYNOMIAL,
    RADIAL,
    RAW,
    TILES,
    Features,
)
from rlkit.linear.observations import MAX_ROWS, Observations
from rlkit.linear.options import OPTIONS_OF, FeatureConfig
from rlkit.mdp import Floats64, Integers
from rlkit.types import Bools

MAX_ACTIVE = 100_000
"""Most features that are not 0 at a time: a step costs some nanoseconds for each."""
MAX_WEIGHTS = 20_000_000
"""Most weights: 160 MB. Traces of each environment take as much, and a list of them twice as much (checked there)."""
_MAX_CELLS = 2**31
"""Most tiles or groups along a dimension: products with tilings and hashes stay below 2^63."""


def features_of(config: FeatureConfig, observations: Observations, columns: int) -> Features:
    """The features that `config` describes, for `columns` values of each observation.

    Raises:
        ConfigError: options do not fit the observation's dimensions.
        UnsupportedTaskError: the observations do not suit the kind of features, or there would be too many.
    """
    _refuse_unused(config)
    kind = RAW if config.features == "encoder" else KINDS.index(config.features)
    dimensions = len(observations.low)
    if kind in (ONE_HOT, GIVEN) and not observations.is_finite:
        raise UnsupportedTaskError(
            f"features {config.features} need at most {MAX_ROWS:,} different observations, these are {dimensions} "
            "numbers with more; use tiles, fourier, polynomial, rbf or aggregation"
        )
    given = _given(config, observations) if kind == GIVEN else np.zeros((0, 0))
    size = _count(config, kind, observations, given)
    active = {TILES: config.num_tilings, AGGREGATION: 1, ONE_HOT: 1}.get(kind, size)
    _refuse_too_many(config, size, active, columns, dimensions)
    low, span, squashes = _scaling(config, kind, observations)
    coefficients = given if kind == GIVEN else _coefficients(config, kind, dimensions)
    spacing = 1.0 / max(max(config.centres) - 1, 1)
    return Features(
        kind, size + config.bias, active + config.bias, low, span, squashes, _cells(config, kind, dimensions),
        _wraps(config, squashes), coefficients, observations.digits, config.num_tilings,
        config.hash_size if kind == TILES else 0, config.width or spacing,
        kind == POLYNOMIAL and config.polynomial_range == "symmetric", kind == RADIAL and config.normalise, config.bias,
        _greatest_norm(kind, active, coefficients, observations, config.width or spacing, config.normalise)
        + config.bias,
    )  # fmt: skip


def _refuse_unused(config: FeatureConfig) -> None:
    unused = config.unused()
    if unused:
        kinds = {name: " and ".join(kind for kind, own in OPTIONS_OF.items() if name in own) for name in unused}
        raise ConfigError(
            [f"{name} is for features {kinds[name]}; features {config.features} does not read it; leave it out"
             for name in unused]
        )  # fmt: skip


def _greatest_norm(
    kind: int, active: int, coefficients: Floats64, observations: Observations, width: float, normalise: bool
) -> float:
    """A bound of |x|². Raw numbers without bounds count as 1 each, because nothing is known of them."""
    if kind == GIVEN:
        return max(float((coefficients**2).sum(axis=1).max()), np.finfo(np.float64).tiny)
    if kind == RAW:
        largest = np.maximum(np.abs(observations.low), np.abs(observations.high))
        return max(float(np.where(np.isfinite(largest), largest**2, 1.0).sum()), np.finfo(np.float64).tiny)
    if kind != RADIAL:
        return float(active)
    return prod(_greatest_radial_norm(np.unique(line), width, normalise) for line in coefficients.T)


def _greatest_radial_norm(centres: Floats64, width: float, normalise: bool) -> float:
    """The greatest Σ x² of radial features along one dimension, in which they are products: at a centre or between."""
    squared = (np.union1d(centres, np.linspace(0.0, 1.0, 101))[:, None] - centres) ** 2
    if not normalise:
        return float(np.exp(-squared / width**2).sum(axis=1).max())
    values = np.exp(-(squared - squared.min(axis=1, keepdims=True)) / (2.0 * width**2))
    return float(((values / values.sum(axis=1, keepdims=True)) ** 2).sum(axis=1).max())


def _count(config: FeatureConfig, kind: int, observations: Observations, given: Floats64) -> int:
    """Features without the bias, before anything of that size exists."""
    dimensions = len(observations.low)
    if kind == TILES:
        tiles = _each("tiles", config.tiles, dimensions)
        whole = [count + (i not in config.wrap) for i, count in enumerate(tiles)]
        return config.hash_size or config.num_tilings * prod(whole)
    if kind == AGGREGATION:
        return prod(_each("groups", config.groups, dimensions))
    if kind == RADIAL:
        return prod(_each("centres", config.centres, dimensions))
    if kind == POLYNOMIAL and config.degree == "total":
        return comb(config.order + dimensions, dimensions)
    if kind in (FOURIER, POLYNOMIAL):
        return int((config.order + 1) ** dimensions)
    return {ONE_HOT: observations.num_rows, GIVEN: given.shape[1], RAW: dimensions}[kind]


def _refuse_too_many(config: FeatureConfig, size: int, active: int, columns: int, dimensions: int) -> None:
    if active <= MAX_ACTIVE and size * columns <= MAX_WEIGHTS:
        return
    advice = {
        "tiles": "use a smaller --agent.hash-size, such as 4096"
        if config.hash_size
        else "use fewer --agent.tiles, or scatter them over --agent.hash-size 4096 or more",
        "fourier": "use a lower --agent.order, or tiles with --agent.hash-size",
        "polynomial": "use a lower --agent.order, or tiles with --agent.hash-size",
        "rbf": "use fewer --agent.centres, or tiles with --agent.hash-size",
        "aggregation": "use fewer --agent.groups, or tiles with --agent.hash-size",
    }.get(config.features, "use tiles with --agent.hash-size")
    allowed = f"{MAX_ACTIVE:,} features" if active > MAX_ACTIVE else f"{MAX_WEIGHTS:,} weights"
    raise UnsupportedTaskError(
        f"features {config.features} in {dimensions} dimensions would be {_written(size)} features, "
        f"{_written(size * columns)} weights; allowed: {allowed}. {advice[0].upper()}{advice[1:]}"
    )


def _written(count: int) -> str:
    """A count in digits, or as a power of ten where nobody would read these."""
    return f"{count:,}" if count < 10**15 else f"about 10^{log10(count):.0f}"


def _each(name: str, numbers: Sequence[int], dimensions: int) -> tuple[int, ...]:
    """A number for each dimension. Raises ConfigError."""
    if len(numbers) not in (1, dimensions) or min(numbers) < 1 or max(numbers) > _MAX_CELLS:
        raise ConfigError(
            [f"{name}: {tuple(numbers)} is not allowed; the observation has {dimensions} dimensions, give one positive "
             f"number for all or one for each, at most {_MAX_CELLS:,}"]
        )  # fmt: skip
    return tuple(numbers) * dimensions if len(numbers) == 1 else tuple(numbers)


def _cells(config: FeatureConfig, kind: int, dimensions: int) -> Integers:
    if kind not in (TILES, AGGREGATION):
        return np.ones(dimensions, np.int64)
    name, numbers = ("tiles", config.tiles) if kind == TILES else ("groups", config.groups)
    return np.array(_each(name, numbers, dimensions), np.int64)


def _wraps(config: FeatureConfig, squashes: Bools) -> Bools:
    wraps = np.zeros(len(squashes), np.bool_)
    for i in config.wrap if config.features == "tiles" else ():
        if not 0 <= i < len(wraps) or squashes[i]:
            raise ConfigError(
                [f"wrap: dimension {i} cannot wrap around; allowed are 0 … {len(wraps) - 1}, with bounds (--agent.low "
                 "and --agent.high)"]
            )  # fmt: skip
        wraps[i] = True
    return wraps


def _scaling(config: FeatureConfig, kind: int, observations: Observations) -> tuple[Floats64, Floats64, Bools]:
    """Least value, range, and whether there are no bounds, for each dimension."""
    dimensions = len(observations.low)
    low, high = observations.low.copy(), observations.high.copy()
    for name, own, bounds in (("low", low, config.low), ("high", high, config.high)):
        if bounds is not None:
            if len(bounds) not in (1, dimensions):
                raise ConfigError([f"{name} has {len(bounds)} numbers, the observation has {dimensions} dimensions"])
            own[:] = bounds
    squashes = ~(np.isfinite(low) & np.isfinite(high))
    low, high = np.where(squashes, 0.0, low), np.where(squashes, 1.0, high)
    is_empty = (high < low) | ((high == low) & (observations.low < observations.high))
    if is_empty.any():
        i = int(is_empty.argmax())
        raise ConfigError([f"low is {low[i]:g} and high {high[i]:g} in dimension {i}; low must be below high"])
    span = high - low
    if kind in BINARY and observations.is_whole:
        span += 1.0  # n whole numbers are n parts of the range
    return low, np.where(span > 0.0, span, 1.0), squashes


def _coefficients(config: FeatureConfig, kind: int, dimensions: int) -> Floats64:
    """Frequencies, powers or centres [G, O], the constant one first."""
    if kind == RADIAL:
        numbers = _each("centres", config.centres, dimensions)
        lines = [np.linspace(0.0, 1.0, count) if count > 1 else np.array([0.5]) for count in numbers]
        return np.array(list(product(*lines)))
    if kind not in (FOURIER, POLYNOMIAL):
        return np.zeros((0, dimensions))
    if kind == POLYNOMIAL and config.degree == "total":
        return np.array(_powers_up_to(config.order, dimensions), np.float64)
    return np.array(list(product(range(config.order + 1), repeat=dimensions)), np.float64)


def _powers_up_to(total: int, dimensions: int) -> list[tuple[int, ...]]:
    """All powers whose sum is at most `total`, by their sum."""
    if dimensions == 0:
        return [()]
    found = [(first, *rest) for first in range(total + 1) for rest in _powers_up_to(total - first, dimensions - 1)]
    return sorted(found, key=sum)


def _given(config: FeatureConfig, observations: Observations) -> Floats64:
    """The features [S, F] of every state, from a file."""
    if config.feature_file is None:
        raise ConfigError(["features is given, so feature_file must name a file with a line of numbers for each state"])
    path = Path(config.feature_file)
    try:
        table = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read features from {path}: {error}") from error
    if len(table) != observations.num_rows:
        raise UsageError(f"{path} has {len(table)} lines, the environment has {observations.num_rows:,} states")
    if not np.isfinite(table).all():
        line = int(np.argmin(np.isfinite(table).all(axis=1))) + 1
        raise UsageError(f"{path}: features of state {line - 1} (row {line} of numbers) are not finite")
    return table
