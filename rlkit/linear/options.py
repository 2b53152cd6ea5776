"""Options of linear agents: their features, and the weights that follow from them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from rlkit.config import AgentConfig
from rlkit.errors import ConfigError
from rlkit.linear.features import BINARY, FOURIER, POLYNOMIAL, Encoder, Features, new_slots
from rlkit.linear.weights import Linear
from rlkit.mdp import Floats64
from rlkit.ops.features import fourier_rate
from rlkit.ops.schedules import STEP_SIZE_KINDS
from rlkit.tabular.arrays import aligned_zeros
from rlkit.tabular.handles import Handle
from rlkit.tabular.options import ExplorationConfig, TabularConfig, exploration_of
from rlkit.tabular.tables import StepSize
from rlkit.types import Task

_LOG = logging.getLogger(__name__)

FeatureKind: TypeAlias = Literal[
    "tiles", "fourier", "polynomial", "rbf", "aggregation", "one-hot", "given", "raw", "encoder"
]


_SHARE = 0.1
"""Part of an error that one update with the default step size corrects at most: 1/τ of Sutton and Barto (2018),
equation 9.19, α = 1 / (τ E[x · x]), with τ = 10. There the mean of |x|² stands, here its bound, so that no state is
corrected by more."""
_SCALED = ("low", "high")
OPTIONS_OF: Mapping[str, tuple[str, ...]] = {
    "tiles": (*_SCALED, "num_tilings", "tiles", "wrap", "hash_size"),
    "fourier": (*_SCALED, "order", "rate_by_frequency"),
    "polynomial": (*_SCALED, "order", "degree", "polynomial_range"),
    "rbf": (*_SCALED, "centres", "width", "normalise"),
    "aggregation": (*_SCALED, "groups"),
    "one-hot": (),
    "given": ("feature_file",),
    "raw": (),
    "encoder": ("encoder",),
}
"""Options that each kind of features reads, besides those that all read."""
_OF_SOME_KIND = frozenset(name for names in OPTIONS_OF.values() for name in names)
_STEP_SIZES = ("learning_rate", "second_learning_rate", "average_learning_rate")


class FeatureConfig(TabularConfig):
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
    learning_rate: float | None = Field(None, gt=0.0)
    """step size α; divided by the number of active features where these are all 1 (tiles, aggregation, one-hot). By
    default 0.1 for these, and for others 0.1 / the greatest |x|² (Sutton and Barto 2018, equation 9.19)"""
    learning_rate_schedule: Literal["constant", "sample-average", "robbins-monro", "linear"] = "constant"
    """constant; learning_rate/n in the n-th update; learning_rate/n^exponent; linear to zero over the run"""
    learning_rate_exponent: float = Field(1.0, gt=0.5, le=1.0)
    """exponent of robbins-monro; sums of squares are finite only above 1/2"""
    initial_value: float = 0.0
    """value of every observation before learning; needs features that are all 1, or a constant one"""
    initial_weights: tuple[float, ...] | None = None
    """weights before learning, of each column of values"""

    @classmethod
    def still_valid(cls, earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
        """Other features than a preset's need other step sizes, and have other options."""
        kind = str(later.get("features"))
        if kind not in OPTIONS_OF or kind == earlier.get("features", cls.model_fields["features"].default):
            return dict(earlier)
        unfit = (_OF_SOME_KIND - set(OPTIONS_OF[kind])) | {*_STEP_SIZES, "initial_weights"}
        return {name: value for name, value in earlier.items() if name not in unfit}

    def unused(self) -> list[str]:
        """Options that were set and that the features do not read."""
        fields = type(self).model_fields
        others = sorted(_OF_SOME_KIND - set(OPTIONS_OF[self.features]))
        return [name for name in others if vars(self)[name] != fields[name].default]


class LinearControlConfig(FeatureConfig, ExplorationConfig):
    """Options of linear control."""


class LinearPredictionConfig(FeatureConfig):
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
    horizon, rates = float(max(task.total_steps, 1)), _rates(config, features)
    size = StepSize(
        STEP_SIZE_KINDS.index(config.learning_rate_schedule), step_size(config.learning_rate, features, rates),
        config.learning_rate_exponent, horizon,
    )  # fmt: skip
    weights = aligned_zeros((columns, features.size))
    weights[:] = _first_weights(config, features)
    slots = new_slots(features, task.num_envs, num_actions)
    return Linear(
        weights, rates, np.zeros(2, np.int64), np.zeros(1, np.int64),
        none if policy is None else policy, none.copy() if target is None else target, num_actions, config.gamma,
        exploration_of(config, horizon), size, features, slots,
        Handle(Encoder(features, slots)),
    )  # fmt: skip


def step_size(given: float | None, features: Features, rates: Floats64) -> float:
    """A step size for each feature: `given` (of binary codes a share of their sum), or one that suits the features."""
    if given is not None:
        return given / features.active if features.kind in BINARY else given
    norm = float(rates.sum()) if len(rates) else features.greatest_norm
    if features.kind not in BINARY:
        _LOG.info("step size %.3g, a tenth of 1 / |x|²; --agent.learning-rate takes another", _SHARE / norm)
    return _SHARE / norm


def _rates(config: FeatureConfig, features: Features) -> Floats64:
    """Factors of each weight's step size [F], or none."""
    if features.kind != FOURIER or not config.rate_by_frequency:
        return np.zeros(0)
    rates = np.ones(features.size)
    rates[: len(features.coefficients)] = [fourier_rate(each) for each in features.coefficients]
    return rates


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
