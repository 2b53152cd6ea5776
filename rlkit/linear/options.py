"""Options of linear agents: their features, and the weights that follow from them."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from rlkit.config import AgentConfig
from rlkit.errors import ConfigError
from rlkit.linear.features import BINARY, FOURIER, POLYNOMIAL, Encoder, Features, new_slots
from rlkit.linear.weights import Linear
from rlkit.mdp import Floats64
from rlkit.ops.features import fourier_rate
from rlkit.tabular.arrays import aligned_zeros
from rlkit.tabular.handles import Handle
from rlkit.tabular.options import ControlConfig, PredictionConfig, TabularConfig, exploration_of, step_size_of
from rlkit.types import Task

FeatureKind: TypeAlias = Literal[
    "tiles", "fourier", "polynomial", "rbf", "aggregation", "one-hot", "given", "raw", "encoder"
]


class FeatureConfig(AgentConfig):
    """How observations become features, by `rlkit.linear.building`; numbers for each dimension may be given as one."""

    features: FeatureKind = "tiles"
    """tiles, fourier, polynomial, rbf, aggregation, one-hot, given (a file), raw, or encoder (of a trained run)"""
    low: tuple[float, ...] | None = None
    """least value of each dimension; by default the space's"""
    high: tuple[float, ...] | None = None
    """greatest value; by default the space's. A dimension without bounds is squashed by 1/2 + arctan(x) / π"""
    num_tilings: int = Field(8, ge=1, le=1024)
    """tiles: tilings, each displaced"""
    tiles: tuple[int, ...] = (8,)
    """tiles: along each dimension"""
    wrap: tuple[int, ...] = ()
    """tiles: numbers (from 0) of the dimensions that wrap around, such as angles"""
    hash_size: int = Field(0, ge=0)
    """tiles: scatter them over so many features, for many dimensions; 0: one feature for each"""
    order: int = Field(3, ge=0, le=1000)
    """fourier, polynomial: highest frequency or power"""
    rate_by_frequency: bool = False
    """fourier: divide each feature's step size by |c| (Konidaris et al. 2011)"""
    degree: Literal["total", "each"] = "total"
    """polynomial: order limits the sum of the powers, or each of them (Sutton and Barto 2018, equation 9.17)"""
    polynomial_range: Literal["symmetric", "unit"] = "symmetric"
    """polynomial: coordinates in [-1, 1] or in [0, 1]"""
    centres: tuple[int, ...] = (5,)
    """rbf: along each dimension"""
    width: float | None = Field(None, ge=1e-6)
    """rbf: standard deviation in coordinates from 0 to 1; by default the distance of two centres"""
    normalise: bool = False
    """rbf: divide by the sum of all features"""
    groups: tuple[int, ...] = (10,)
    """aggregation: along each dimension"""
    feature_file: str | None = None
    """given: text file with a line of numbers for each state, separated by commas"""
    encoder: str | None = None
    """encoder: folder of a run whose agent offers features"""
    bias: bool = False
    """one feature more, always 1"""
    learning_rate: float = Field(0.1, gt=0.0)
    """step size α; divided by the number of active features where these are all 1 (tiles, aggregation, one-hot)"""
    learning_rate_schedule: Literal["constant", "sample-average", "robbins-monro", "linear"] = "constant"
    """constant; learning_rate/n in the n-th update; learning_rate/n^exponent; linear to zero over the run"""
    initial_value: float = 0.0
    """value of every observation before learning; needs features that are all 1, or a constant one"""
    initial_weights: tuple[float, ...] | None = None
    """weights before learning, of each column of values"""


class LinearControlConfig(FeatureConfig, ControlConfig):
    """Options of linear control."""


class LinearPredictionConfig(FeatureConfig, PredictionConfig):
    """Options of linear prediction."""

    policy: str = "uniform"
    """uniform, always-K, probabilities such as 0.25,0.75; for finite observations also optimal or a run's folder"""


class TracesConfig(AgentConfig):
    """Options of eligibility traces."""

    lam: float = Field(0.9, ge=0.0, le=1.0)
    """trace decay λ"""
    traces: Literal["accumulating", "replacing", "dutch"] = "dutch"
    """kind of eligibility trace; dutch: true online; replacing needs features that are all 1"""

    @model_validator(mode="after")
    def _replacing_needs_binary_features(self) -> Self:
        kind = str(vars(self).get("features"))
        if self.traces == "replacing" and kind not in ("tiles", "aggregation", "one-hot"):
            raise ValueError(
                f"traces is replacing, which is for features that are all 1 (tiles, aggregation, one-hot), not {kind}; "
                "use dutch (true online) or accumulating"
            )
        return self


def new_linear(
    config: TabularConfig,
    task: Task,
    features: Features,
    columns: int,
    num_actions: int,
    *,
    policy: Floats64 | None = None,
    target: Floats64 | None = None,
) -> Linear:
    """Weights [C, F]; `policy` [P, A] is followed instead of the ε-greedy one, `target` learned about.

    Raises:
        ConfigError: initial weights do not fit the features.
    """
    assert isinstance(config, FeatureConfig)
    none = np.zeros((0, num_actions))
    horizon = float(max(task.total_steps, 1))
    size = step_size_of(config, horizon)
    if features.kind in BINARY:
        size = size._replace(initial=size.initial / features.active)
    rates = np.zeros(0)
    if features.kind == FOURIER and config.rate_by_frequency:
        rates = np.ones(features.size)
        rates[: len(features.coefficients)] = [fourier_rate(each) for each in features.coefficients]
    weights = aligned_zeros((columns, features.size))
    weights[:] = _first_weights(config, features)
    slots = new_slots(features, task.num_envs, num_actions)
    return Linear(
        weights, rates, np.zeros(2, np.int64), np.zeros(1, np.int64),
        none if policy is None else policy, none.copy() if target is None else target, num_actions, config.gamma,
        exploration_of(config, horizon), size, features, slots,
        Handle(Encoder(features, slots)),
    )  # fmt: skip


def _first_weights(config: FeatureConfig, features: Features) -> Floats64:
    if config.initial_weights is not None:
        if len(config.initial_weights) != features.size:
            raise ConfigError(
                [f"initial_weights has {len(config.initial_weights)} numbers; there are {features.size:,} features"]
            )
        return np.array(config.initial_weights, np.float64)
    weights = np.zeros(features.size)
    if config.initial_value == 0.0:
        return weights
    if features.kind in BINARY:
        return weights + config.initial_value / features.active
    constant = features.size - 1 if features.bias else _constant_feature(features)
    if constant is None:
        raise ConfigError(
            [f"initial_value is {config.initial_value:g}, but no feature is constant; add --agent.bias, or leave it 0"]
        )
    weights[constant] = config.initial_value
    return weights


def _constant_feature(features: Features) -> int | None:
    """The feature of frequency or power 0, which is 1 everywhere."""
    if features.kind not in (FOURIER, POLYNOMIAL):
        return None
    return int(np.flatnonzero(~features.coefficients.any(axis=1))[0])
