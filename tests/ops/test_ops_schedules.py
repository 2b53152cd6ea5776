"""Schedules between two values: end points, middles, and a plain loop over all steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit.ops import schedules

VALUES = st.floats(-10, 10, allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(initial=VALUES, final=VALUES, horizon=st.integers(1, 1000))
def test_both_ends_are_exact_and_hold_beyond_them(initial: float, final: float, horizon: int) -> None:
    for schedule in (schedules.linear_between, schedules.cosine_between):
        assert schedule(initial, final, horizon, 0) == initial
        assert schedule(initial, final, horizon, -3) == initial
        assert schedule(initial, final, horizon, horizon) == final
        assert schedule(initial, final, horizon, horizon + 7) == final
        assert schedule(initial, final, horizon, horizon / 2) == pytest.approx((initial + final) / 2)


def test_a_horizon_of_nothing_gives_the_final_value() -> None:
    assert schedules.linear_between(0.04, 0.07, 0, 0) == 0.07
    assert schedules.cosine_between(0.996, 1.0, 0, 0) == 1.0


def test_a_line_goes_by_equal_steps() -> None:
    found = [schedules.linear_between(0.04, 0.07, 3, step) for step in range(6)]
    np.testing.assert_allclose(found, [0.04, 0.05, 0.06, 0.07, 0.07, 0.07], atol=1e-15)


def test_a_third_of_half_a_cosine_is_a_quarter_of_the_way() -> None:
    """cos(π/3) = 1/2, so (1 - 1/2) / 2 of the way is gone; after two thirds it is three quarters."""
    assert schedules.cosine_between(0.0, 1.0, 3, 1) == pytest.approx(0.25, abs=1e-15)
    assert schedules.cosine_between(0.0, 1.0, 3, 2) == pytest.approx(0.75, abs=1e-15)


def test_the_schedule_with_warm_up_is_a_line_then_a_cosine_and_peaks_once() -> None:
    start, peak, end, warm_up, horizon = 0.1, 2.0, 0.3, 10, 110
    wanted = [start + (peak - start) * step / warm_up for step in range(warm_up)]
    wanted += [end + (peak - end) * (1 + math.cos(math.pi * done / 100)) / 2 for done in range(101)]
    found = [schedules.warmed_up_cosine(start, peak, end, warm_up, horizon, step) for step in range(horizon + 1)]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14)
    assert found.count(peak) == 1
    assert found[0] == start
    assert found[-1] == end


def test_without_warm_up_the_peak_comes_first() -> None:
    assert schedules.warmed_up_cosine(0.0, 1.0, 0.0, 0, 10, 0) == 1.0
