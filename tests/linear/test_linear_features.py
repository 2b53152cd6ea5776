"""Features computed by hand, sized from spaces, and refused where there would be too many."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit import registry
from rlkit.errors import ConfigError, UnsupportedTaskError, UsageError
from rlkit.linear.agent import LinearAgent
from rlkit.linear.building import features_of
from rlkit.linear.features import Features, encode
from rlkit.linear.observations import Observations, linear_reason
from rlkit.linear.options import LinearControlConfig
from rlkit.ops.features import fourier_rate, mixed_hash
from rlkit.resolve import resolve
from rlkit.tabular.indexing import TableIndex
from rlkit.types import Task

UNIT_SQUARE = spaces.Box(0.0, 1.0, (2,), np.float64)


def built(space: spaces.Space[Any], columns: int = 1, **options: Any) -> Features:
    return features_of(LinearControlConfig(**options), Observations(space), columns)


def code(features: Features, *observation: float, state: int = 0) -> tuple[list[int], list[float]]:
    indices, values = np.arange(features.active), np.ones(features.active)
    if features.bias:
        indices[-1] = features.size - 1
    encode(features, np.array(observation), state, np.zeros(len(observation)), indices, values)
    return indices.tolist(), values.tolist()


def test_tilings_are_displaced_by_one_and_three_parts_of_a_tile() -> None:
    """Four tilings of 2 x 2: a part is 1/4 of a tile, 1/8 of the range; tiling t moves by t and by 3 t mod 4 parts."""
    features = built(UNIT_SQUARE, features="tiles", num_tilings=4, tiles=(2,))
    assert (features.size, features.active) == (4 * 3 * 3, 4)
    # position (3, 4) in parts: tile (0, 1); (3+1, 4+3) -> (1, 1); (3+2, 4+2) -> (1, 1); (3+3, 4+1) -> (1, 1)
    expected = [0 * 9 + 0 * 3 + 1, 1 * 9 + 1 * 3 + 1, 2 * 9 + 1 * 3 + 1, 3 * 9 + 1 * 3 + 1]
    assert code(features, 0.4, 0.55) == (expected, [1.0] * 4)
    assert code(features, 1.0, 1.0)[0][0] == 1 * 3 + 1
    assert max(code(features, 1.0, 1.0)[0]) < features.size
    assert code(features, -5.0, 9.0) == code(features, 0.0, 1.0), "beyond the range is the outermost tile"


def test_neighbouring_points_share_most_tiles_and_far_ones_none() -> None:
    features = built(UNIT_SQUARE, features="tiles", num_tilings=8, tiles=(8,))
    here = set(code(features, 0.5, 0.5)[0])
    assert len(here & set(code(features, 0.5 + 1 / 64, 0.5)[0])) == 7
    assert not here & set(code(features, 0.7, 0.5)[0])


def test_a_dimension_that_wraps_around_joins_its_ends() -> None:
    features = built(UNIT_SQUARE, features="tiles", num_tilings=4, tiles=(4, 2), wrap=(0,))
    assert features.size == 4 * 4 * 3
    assert code(features, 0.0, 0.5) == code(features, 1.0, 0.5) == code(features, 2.0, 0.5)
    assert set(code(features, 0.999, 0.5)[0]) & set(code(features, 0.001, 0.5)[0])
    assert max(max(code(features, x, 1.0)[0]) for x in np.linspace(0, 1, 50)) < features.size


def test_hashed_tiles_stay_in_their_range_and_seldom_meet() -> None:
    plain = built(UNIT_SQUARE, features="tiles", num_tilings=8, tiles=(8,))
    hashed = built(UNIT_SQUARE, features="tiles", num_tilings=8, tiles=(8,), hash_size=100_000)
    assert hashed.size == 100_000
    points = np.random.default_rng(0).random((500, 2))
    pairs = {(a, b) for point in points for a, b in zip(code(plain, *point)[0], code(hashed, *point)[0], strict=True)}
    assert len({a for a, _ in pairs}) == len(pairs), "the same tile always has the same number"
    assert len({b for _, b in pairs}) > 0.99 * len(pairs)


def test_the_hash_is_below_two_to_the_31_and_spreads() -> None:
    found = [mixed_hash(key, coordinate) for key in range(100) for coordinate in range(100)]
    assert 0 <= min(found) <= max(found) < 2**31
    assert len(set(found)) > 9_990
    assert np.bincount(np.array(found) % 8).min() > 1_100


def test_fourier_features_are_cosines_of_all_frequencies() -> None:
    features = built(UNIT_SQUARE, features="fourier", order=1)
    expected = [np.cos(np.pi * (a * 0.25 + b * 0.5)) for a in (0, 1) for b in (0, 1)]
    assert code(features, 0.25, 0.5)[1] == pytest.approx(expected, abs=1e-15)
    assert [fourier_rate(each) for each in features.coefficients] == pytest.approx([1.0, 1.0, 1.0, 2**-0.5])


def test_polynomials_are_products_of_powers() -> None:
    total = built(UNIT_SQUARE, features="polynomial", order=2, polynomial_range="unit")
    x, y = 0.25, 0.5
    assert sorted(code(total, x, y)[1]) == pytest.approx(sorted([1, x, y, x * x, y * y, x * y]))
    each = built(UNIT_SQUARE, features="polynomial", order=1, degree="each")
    assert code(each, 0.25, 1.0)[1] == pytest.approx([1.0, 1.0, -0.5, -0.5]), "symmetric: x from -1 to 1"


def test_radial_features_fall_with_the_distance_from_their_centres() -> None:
    features = built(spaces.Box(0.0, 4.0, (1,), np.float64), features="rbf", centres=(3,), width=0.5)
    expected = [np.exp(-((0.25 - c) ** 2) / 0.5) for c in (0.0, 0.5, 1.0)]
    assert code(features, 1.0)[1] == pytest.approx(expected, abs=1e-15)
    summed = built(spaces.Box(0.0, 4.0, (1,), np.float64), features="rbf", centres=(3,), width=0.5, normalise=True)
    assert code(summed, 1.0)[1] == pytest.approx(np.array(expected) / sum(expected))


@pytest.mark.parametrize("width", [0.01, 1e-6])
def test_the_nearest_centre_counts_however_small_the_width(width: float) -> None:
    """Every exp(-|s - c|² / 2σ²) is 0 there, and so is their sum."""
    line = spaces.Box(0.0, 1.0, (1,), np.float64)
    features = built(line, features="rbf", centres=(3,), width=width, normalise=True)
    assert code(features, 0.2)[1] == pytest.approx([1.0, 0.0, 0.0])
    assert code(features, 0.25)[1] == pytest.approx([0.5, 0.5, 0.0])


def test_aggregation_puts_whole_numbers_into_equal_groups() -> None:
    features = built(spaces.Discrete(1002), features="aggregation", groups=(10,), low=(1.0,), high=(1000.0,))
    groups = [code(features, float(state), state=state)[0][0] for state in range(1, 1001)]
    assert groups == [(state - 1) // 100 for state in range(1, 1001)]
    grid = built(spaces.MultiDiscrete([4, 6]), features="aggregation", groups=(2, 3))
    assert [code(grid, 1.0, 1.0)[0], code(grid, 2.0, 5.0)[0]] == [[0], [5]]


def test_one_hot_given_raw_and_bias() -> None:
    finite = spaces.MultiDiscrete([3, 2])
    assert code(built(finite, features="one-hot"), 2.0, 1.0, state=5) == ([5], [1.0])
    assert code(built(finite, features="one-hot", bias=True), 2.0, 1.0, state=5) == ([5, 6], [1.0, 1.0])
    assert code(built(UNIT_SQUARE, features="raw", bias=True), 0.3, 0.7) == ([0, 1, 2], [0.3, 0.7, 1.0])


def test_given_features_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "features.csv"
    file.write_text("1,0.5\n0,2\n3,4\n")
    features = built(spaces.Discrete(3), features="given", feature_file=str(file))
    assert code(features, 2.0, state=2)[1] == [3.0, 4.0]
    with pytest.raises(UsageError, match="3 lines, the environment has 4 states"):
        built(spaces.Discrete(4), features="given", feature_file=str(file))
    file.write_text("1,0.5\n0,nan\n3,4\n")
    with pytest.raises(UsageError, match=r"features of state 1 .* not finite"):
        built(spaces.Discrete(3), features="given", feature_file=str(file))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5, start=2),
        spaces.MultiDiscrete([3, 2], start=[1, 0]),
        spaces.MultiBinary(3),
        spaces.Tuple((spaces.Discrete(3), spaces.MultiDiscrete([2, 4]))),
    ],
)
def test_rows_of_digits_are_those_of_the_table(space: spaces.Space[Any]) -> None:
    observations, index = Observations(space), TableIndex(space)
    assert observations.num_rows == index.num_states
    for row in range(index.num_states):
        numbers = observations(index.observation(row))
        assert numbers.tolist() == observations.of_rows(np.array([row])).tolist()
        strides, first = observations.digits[:, 0], observations.digits[:, 2]
        assert (numbers[0] - first) @ strides == row


def test_dimensions_without_bounds_are_squashed() -> None:
    cart_pole = gym.make("CartPole-v1").observation_space
    features = built(cart_pole, features="polynomial", order=1, polynomial_range="unit")
    assert features.squashes.tolist() == [False, True, False, True]
    assert code(features, 0.0, 1.0, 0.0, 0.0)[1] == pytest.approx([1.0, 0.5, 0.5, 0.75, 0.5])
    bounded = built(cart_pole, low=(-2.4, -3.0, -0.2, -3.0), high=(2.4, 3.0, 0.2, 3.0))
    assert not bounded.squashes.any()


def test_wide_bounds_are_bounds_and_only_gymnasiums_none_are_none() -> None:
    wide = spaces.Box(0.0, 5e6, (1,), np.float64)
    for features in (built(wide), built(wide, low=(0.0,), high=(5e6,))):
        assert (features.squashes.tolist(), features.span.tolist()) == ([False], [5e6])
    whole = spaces.Box(-np.inf, np.inf, (1,), np.int64)  # gymnasium stores the type's last numbers
    for space in (whole, spaces.Box(-np.inf, np.inf, (1,)), spaces.Box(-3.4e38, 3.4e38, (1,), np.float32)):
        assert built(space).squashes.tolist() == [True]
        assert built(space, low=(-1e31,), high=(1e31,)).squashes.tolist() == [False]


def test_observations_beyond_counting_are_numbers_without_rows() -> None:
    for space in (spaces.MultiBinary(40), spaces.MultiDiscrete([2**40, 2**40]), spaces.MultiBinary(64)):
        observations = Observations(space)
        assert (observations.is_finite, observations.num_rows) == (False, 1)
        agent = linear_agent(space, features="polynomial", order=1)
        assert agent.state_values().shape == (0,)
        assert np.isfinite(agent.values(np.array([space.sample()]))).all()


def test_too_many_features_are_refused_with_their_count() -> None:
    space = spaces.Box(-1.0, 1.0, (8,), np.float64)
    with pytest.raises(UnsupportedTaskError, match=r"1,679,616 features[\s\S]*100,000[\s\S]*lower --agent.order"):
        built(space, features="fourier", order=5)
    with pytest.raises(UnsupportedTaskError, match=r"344,373,768 features[\s\S]*hash-size"):
        built(space, features="tiles")
    assert built(space, features="tiles", hash_size=4096).size == 4096
    with pytest.raises(UnsupportedTaskError, match="Use a smaller"):
        built(space, features="tiles", hash_size=10**12)
    with pytest.raises(UnsupportedTaskError, match="different observations"):
        built(space, features="one-hot")


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"features": "tiles"}, "6734"),
        ({"features": "rbf"}, "4932"),
        ({"features": "aggregation"}, "7056"),
        ({"features": "fourier"}, "4248"),
        ({"features": "polynomial", "degree": "each"}, "4248"),
    ],
)
def test_features_of_images_are_refused_with_a_power_of_ten(options: dict[str, Any], count: str) -> None:
    image = spaces.Box(0, 255, (84, 84, 1), np.uint8)
    with pytest.raises(UnsupportedTaskError, match=rf"7056 dimensions would be about 10\^{count} features") as refused:
        built(image, **options)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiles": (8, 8, 8)}, "2 dimensions"),
        ({"low": (1.0, 2.0, 3.0)}, "low has 3 numbers"),
        ({"low": (1.0,), "high": (0.0,)}, "low must be below high"),
        ({"low": (0.0,), "high": (0.0,)}, "low must be below high"),
        ({"tiles": (10**20,), "hash_size": 4096}, "at most 2,147,483,648"),
        ({"wrap": (4,)}, "dimension 4 cannot wrap"),
        ({"features": "given"}, "feature_file"),
        ({"order": 5}, "order is for features fourier and polynomial; features tiles does not read it"),
        ({"features": "one-hot", "low": (0.0,)}, "low is for features tiles and"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    space = spaces.MultiDiscrete([3, 3]) if "features" in options else UNIT_SQUARE
    with pytest.raises(ConfigError, match=message):
        built(space, **options)


def test_values_begin_where_initial_value_says() -> None:
    for features in ("tiles", "fourier", "aggregation"):
        agent = rlkit.make("linear-sarsa", "MountainCar-v0", features=features, initial_value=-3.0)
        assert isinstance(agent, LinearAgent)
        values = agent.values(np.array([[-0.5, 0.01]], np.float32))
        assert values == pytest.approx(np.full((1, 3), -3.0))
    with pytest.raises(ConfigError, match=r"no feature is constant[\s\S]*bias"):
        rlkit.make("linear-sarsa", "MountainCar-v0", features="rbf", initial_value=1.0)


def test_continuous_actions_are_refused_with_agents_that_take_them() -> None:
    with pytest.raises(UnsupportedTaskError, match=r"discretize-action[\s\S]*ddpg"):
        rlkit.make("linear-sarsa-lambda", "Pendulum-v1")
    several = Task(UNIT_SQUARE, spaces.MultiDiscrete([2, 3]))
    assert re.search("wrapper of your own; sb3/ppo", str(linear_reason(several)))


def test_replacing_traces_are_refused_for_features_that_are_not_all_one() -> None:
    with pytest.raises(ConfigError, match="use dutch"):
        rlkit.make("linear-sarsa-lambda", "MountainCar-v0", features="fourier", traces="replacing")


def test_default_step_sizes_correct_a_tenth_of_an_error_at_most() -> None:
    """α |x|² ≤ 0.1 for any observation, and not far below it for some; explicit ones stay what they are."""
    rng, kinds = np.random.default_rng(0), ("tiles", "fourier", "polynomial", "rbf", "aggregation", "raw")
    for kind in kinds:
        for more in ({}, {"bias": True}, *([{"normalise": True}] if kind == "rbf" else [])):
            agent = linear_agent(UNIT_SQUARE, features=kind, **more)
            features = agent.linear.features
            points = [*rng.random((200, 2)), np.zeros(2), np.ones(2), np.full(2, 0.5)]
            greatest = max(float(np.square(code(features, *point)[1]).sum()) for point in points)
            assert 0.07 < agent.linear.step_size.initial * greatest <= 0.1 + 1e-12, (kind, more)
    assert linear_agent(UNIT_SQUARE, features="fourier", learning_rate=0.7).linear.step_size.initial == 0.7
    assert linear_agent(UNIT_SQUARE, learning_rate=0.5).linear.step_size.initial == 0.5 / 8
    rated = linear_agent(UNIT_SQUARE, features="fourier", order=1, rate_by_frequency=True)
    assert rated.linear.step_size.initial == pytest.approx(0.1 / (3.0 + 2**-0.5))
    second = linear_agent(UNIT_SQUARE, "tdc", features="fourier", order=1).learner.second_rate
    assert second == pytest.approx(0.1 / 4.0)


def linear_agent(space: spaces.Space[Any], name: str = "linear-sarsa", **options: Any) -> Any:
    kind = registry.agent_class(name)
    return kind(registry.config_class(kind)(**options), Task(space, spaces.Discrete(2), total_steps=100))


def test_other_features_than_a_presets_do_not_take_its_step_size(caplog: pytest.LogCaptureFixture) -> None:
    def resolved(**options: Any) -> Any:
        return resolve("linear-sarsa-lambda", "CartPole-v1", agent_config=options).agent

    assert (resolved().features, resolved().learning_rate) == ("fourier", 0.001)
    assert (resolved(order=2).learning_rate, resolved(features="fourier").learning_rate) == (0.001, 0.001)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    other = resolved(features="tiles")
    assert (other.learning_rate, other.order, other.rate_by_frequency, other.lam) == (None, 3, False, 0.9)
    assert other.low == (-2.4, -3.0, -0.21, -3.5), "bounds are the environment's, whatever the features"
    assert "learning_rate, rate_by_frequency of the preset or file do not hold" in caplog.text
    assert resolved(features="tiles", learning_rate=0.5).learning_rate == 0.5
