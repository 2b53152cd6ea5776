"""Observations become rows of a table, and what is no finite set is refused with advice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rlkit.envs.batch import layout_of
from rlkit.tabular.indexing import MAX_ENTRIES, TableIndex, count_states, table_reason
from rlkit.types import Task

SPACES = [
    spaces.Discrete(5),
    spaces.Discrete(5, start=-2),
    spaces.MultiDiscrete([3, 4, 2]),
    spaces.MultiDiscrete([[2, 3], [2, 2]], start=[[1, 0], [5, -1]]),
    spaces.MultiBinary((2, 2)),
    spaces.Tuple((spaces.Discrete(3), spaces.MultiBinary(2))),
    spaces.Dict({"where": spaces.MultiDiscrete([2, 3]), "what": spaces.Discrete(2, start=1)}),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_observation_has_a_row_of_its_own(space: Any) -> None:
    index, layout = TableIndex(space), layout_of(space)
    assert index.num_states == count_states(space)
    for row in range(index.num_states):
        observation = index.observation(row)
        assert index.rows(observation).tolist() == [row]
    space.seed(0)
    samples = [space.sample() for _ in range(20)]
    batch = layout.empty(20)
    for number, sample in enumerate(samples):
        layout.write(batch, number, sample)
    rows = index.rows(batch)
    assert rows.min() >= 0
    assert rows.max() < index.num_states
    again = layout.concatenate([index.observation(int(row)) for row in rows])
    assert np.array_equal(index.rows(again), rows)


def test_the_last_part_varies_fastest() -> None:
    assert TableIndex(spaces.MultiDiscrete([3, 4, 2])).rows(np.array([[1, 2, 1]])).tolist() == [1 * 8 + 2 * 2 + 1]


@pytest.mark.parametrize(
    ("observations", "actions", "told"),
    [
        (spaces.Box(-1, 1, (3,)), spaces.Discrete(2), "--wrap discretize:bins=10"),
        (spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(0, 1, (2,))}), spaces.Discrete(2), "no finite set"),
        (spaces.Text(5), spaces.Discrete(2), "no finite set"),
        (spaces.Discrete(3), spaces.Box(-1, 1, (1,)), "--wrap discretize-action"),
        (spaces.Discrete(3), spaces.MultiDiscrete([2, 2]), "needs Discrete actions"),
        (spaces.MultiDiscrete([100] * 6), spaces.Discrete(4), "1,000,000,000,000 states and 4 actions is too large"),
    ],
    ids=str,
)
def test_what_does_not_fit_into_a_table_is_refused_with_advice(observations: Any, actions: Any, told: str) -> None:
    reason = table_reason(Task(observations, actions))
    assert reason is not None
    assert told in reason
    if "too large" in told:
        assert f"{MAX_ENTRIES:,}" in reason
        assert "fewer bins" in reason


def test_what_fits_is_welcome() -> None:
    assert all(table_reason(Task(space, spaces.Discrete(3, start=1))) is None for space in SPACES)
