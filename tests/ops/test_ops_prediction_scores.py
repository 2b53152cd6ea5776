"""F1, R² and entropy beside numbers worked out by hand and numbers of scikit-learn 1.9.1."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlkit.ops.prediction_scores import class_entropy, class_scores, r_squared


def test_f1_is_two_hits_over_support_and_claims() -> None:
    """Class 0: 2·2/(3+2); class 1: 2·1/(2+2); class 2: 2·1/(1+2)."""
    truth, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    scores = class_scores(truth, predicted)
    assert scores.f1_macro == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3, abs=1e-12)
    assert scores.f1_weighted == pytest.approx((3 * 4 / 5 + 2 * 1 / 2 + 2 / 3) / 6, abs=1e-12)
    assert scores.accuracy == pytest.approx(4 / 6, abs=1e-12)


def test_a_class_that_is_only_predicted_counts_in_the_macro_average_alone() -> None:
    scores = class_scores(np.array([0, 0, 1, 1]), np.array([0, 5, 1, 1]))
    assert scores.f1_macro == pytest.approx((2 / 3 + 1 + 0) / 3, abs=1e-12)
    assert scores.f1_weighted == pytest.approx((2 * 2 / 3 + 2 * 1) / 4, abs=1e-12)


def test_predicting_the_most_frequent_class_gives_its_own_f1_over_the_number_of_classes() -> None:
    """Half of 8 examples in one of 4 classes: its F1 is 2·4/(4+8)."""
    scores = class_scores(np.array([0, 0, 0, 0, 1, 2, 3, 3]), np.zeros(8, np.int64))
    assert scores == pytest.approx((2 / 3 / 4, 2 / 3 / 2, 0.5), abs=1e-12)


def test_scores_are_one_for_the_truth_and_zero_without_a_hit() -> None:
    truth = np.array([7, 9, 9, 250], np.uint8)
    assert class_scores(truth, truth) == (1.0, 1.0, 1.0)
    assert class_scores(truth, np.array([9, 7, 7, 7], np.uint8)) == (0.0, 0.0, 0.0)


def test_macro_and_weighted_f1_are_those_of_scikit_learn() -> None:
    """f1_score(truth, predicted, average=…, zero_division=0) on these draws."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 40, 500)
    predicted = np.where(rng.random(500) < 0.6, truth, rng.integers(20, 60, 500))
    expected = (0.46084689363284204, 0.672887827228899, 0.602)
    assert class_scores(truth, predicted) == pytest.approx(expected, abs=1e-12)
    truth = rng.integers(0, 256, 2000) ** 2 // 256
    predicted = np.where(rng.random(2000) < 0.3, truth, rng.integers(0, 256, 2000))
    expected = (0.22131102582733864, 0.3344491914605359, 0.3)
    assert class_scores(truth, predicted) == pytest.approx(expected, abs=1e-12)


def test_r_squared_is_one_less_the_residual_over_the_spread() -> None:
    """Squared residuals 0.01 + 0.01 + 0.04 + 0.09, spread 5."""
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert r_squared(truth, np.array([1.1, 1.9, 3.2, 3.7])) == pytest.approx(1 - 0.15 / 5, abs=1e-12)
    assert r_squared(truth, np.full(4, 2.5)) == 0.0
    assert r_squared(truth, -truth) == pytest.approx(1 - 4 * 30 / 5, abs=1e-12)


def test_r_squared_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=300)
    predicted = 0.8 * truth + 0.3 * rng.normal(size=300)
    assert r_squared(truth, predicted) == pytest.approx(0.8714358149945313, abs=1e-12)
    assert r_squared(truth, -predicted) == pytest.approx(-2.4883268037191355, abs=1e-12)


def test_r_squared_of_a_truth_that_never_changes_is_one_only_where_predictions_are_exact() -> None:
    assert r_squared(np.ones(3), np.ones(3)) == 1.0
    assert r_squared(np.ones(3), np.array([1.0, 1.0, 0.9])) == 0.0


def test_small_differences_of_large_numbers_are_not_lost_in_float32() -> None:
    truth = np.array([1000.0, 1000.5, 1001.0], np.float32)
    assert r_squared(truth, truth) == 1.0
    assert r_squared(truth, np.full(3, 1000.5, np.float32)) == pytest.approx(0.0, abs=1e-12)


def test_entropy_is_the_logarithm_of_as_many_even_classes() -> None:
    assert class_entropy(np.arange(8).repeat(3)) == pytest.approx(math.log(8), abs=1e-12)
    assert class_entropy(np.full(5, 3)) == 0.0
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert class_entropy(np.array([2, 2, 9, 2])) == pytest.approx(expected, abs=1e-12)
