"""Masks: the dense form is the definition, intervals say the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlkit.attention.mask import AttentionMask
from rlkit.errors import UsageError


def of_intervals(low: Tensor, high: Tensor, keys: int) -> Tensor:
    index = torch.arange(keys)
    return ((index >= low[..., None]) & (index < high[..., None]))[:, None]


@st.composite
def masks(draw: st.DrawFn) -> tuple[AttentionMask, int, int]:
    """A mask with any of its parts, and numbers of queries and keys."""
    rows, steps, memory = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(0, 4))
    window = draw(st.none() | st.integers(1, 6))
    causal = draw(st.booleans())
    if draw(st.booleans()):
        first = torch.tensor(draw(st.lists(st.lists(st.booleans(), min_size=steps, max_size=steps), min_size=rows,
                                           max_size=rows)))  # fmt: skip
        length = torch.tensor(draw(st.lists(st.integers(0, memory), min_size=rows, max_size=rows)))
        mask = AttentionMask.episodes(
            first, window=window, causal=causal, memory=memory, memory_length=draw(st.sampled_from([None, length]))
        )
        return mask, steps, memory + steps
    keys = draw(st.integers(1, 9))
    lengths = torch.tensor(draw(st.lists(st.integers(0, keys), min_size=rows, max_size=rows)))
    return AttentionMask(causal, window, key_length=draw(st.sampled_from([None, lengths])), offset=memory), steps, keys


@given(masks())
@settings(max_examples=300, deadline=None)
def test_intervals_say_what_the_dense_form_says_and_never_decrease(case: tuple[AttentionMask, int, int]) -> None:
    mask, queries, keys = case
    low, high = mask.intervals(queries, keys)
    assert low.dtype == high.dtype == torch.int32
    assert low.shape == high.shape == (mask.rows or 1, queries)
    assert 0 <= int(low.min()) <= int(high.max()) <= keys
    assert bool((low <= high).all())
    assert bool((low.diff() >= 0).all())
    assert bool((high.diff() >= 0).all())
    torch.testing.assert_close(of_intervals(low, high, keys), mask.dense(queries, keys))


def test_episodes_see_themselves_only() -> None:
    first = torch.tensor([[True, False, True, False, False], [False, False, False, False, True]])
    seen = AttentionMask.episodes(first).dense(5, 5)[:, 0].int().tolist()
    assert seen[0] == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert seen[1][3:] == [[1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    both_ways = AttentionMask.episodes(first, causal=False).dense(5, 5)[:, 0].int().tolist()
    assert both_ways[0] == [[1, 1, 0, 0, 0]] * 2 + [[0, 0, 1, 1, 1]] * 3


def test_memory_belongs_to_the_episode_that_goes_on() -> None:
    first = torch.tensor([[False, True], [True, False], [False, False]])
    length = torch.tensor([2, 2, 1])
    seen = AttentionMask.episodes(first, memory=2, memory_length=length).dense(2, 4)[:, 0].int().tolist()
    assert seen[0] == [[1, 1, 1, 0], [0, 0, 0, 1]]
    assert seen[1] == [[0, 0, 1, 0], [0, 0, 1, 1]]
    assert seen[2] == [[0, 1, 1, 0], [0, 1, 1, 1]]


def test_a_mask_knows_when_it_hides_nothing() -> None:
    assert AttentionMask().hides_nothing
    assert not AttentionMask(causal=True).hides_nothing
    assert not AttentionMask(key_length=torch.tensor([3])).hides_nothing


@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 0}, "window .* is 0, it must be at least 1"), ({"offset": -1}, "offset .* is -1")],
)
def test_impossible_masks_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AttentionMask(**options)
