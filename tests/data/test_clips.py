from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlkit.data.clips import ClipSampler, Recording
from rlkit.errors import UsageError


def recording(*lengths: int) -> Recording:
    episode = np.repeat(np.arange(len(lengths)), lengths)
    count = len(episode)
    return Recording(np.arange(count)[:, None], episode, np.arange(count) * 10, {"place": np.arange(count)})


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(1, 5))
def test_a_clip_never_crosses_the_end_of_an_episode_and_none_is_forgotten(lengths: list[int], length: int) -> None:
    found = recording(*lengths)
    begins = found.begins(length)
    assert len(begins) == sum(max(each - length + 1, 0) for each in lengths)
    for begin in begins:
        assert len(set(found.episode[begin : begin + length])) == 1


def test_an_epoch_draws_every_clip_once_and_the_next_in_another_order() -> None:
    sampler = ClipSampler(recording(6, 6), 2, batch_size=5, seed=0)
    epochs = [np.concatenate([next(sampler).index for _ in range(sampler.batches_an_epoch)]) for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert list(epochs[0]) != list(epochs[1])


def test_clips_hold_successive_observations_and_the_actions_between_them() -> None:
    sampler = ClipSampler(recording(4, 4), 3, batch_size=4, seed=1)
    clips = next(sampler)
    assert np.array_equal(clips.observations[:, :, 0], clips.index[:, None] + np.arange(3))
    assert clips.actions is not None
    assert np.array_equal(clips.actions, 10 * (clips.index[:, None] + np.arange(2)))


def test_a_sampler_goes_on_where_another_stopped() -> None:
    first, second = (ClipSampler(recording(20), 2, batch_size=4, seed=3) for _ in range(2))
    for _ in range(7):
        next(first)
    second.load_state(first.state())
    assert all(np.array_equal(next(first).index, next(second).index) for _ in range(9))


def test_ranks_share_the_batch_of_one_process() -> None:
    alone = ClipSampler(recording(20), 1, batch_size=6, seed=3)
    ranks = [ClipSampler(recording(20), 1, batch_size=6, seed=3, rank=rank, ranks=3) for rank in range(3)]
    for _ in range(5):
        assert np.array_equal(next(alone).index, np.concatenate([next(rank).index for rank in ranks]))


def test_too_few_clips_and_ranks_that_do_not_divide_a_batch_are_refused() -> None:
    with pytest.raises(UsageError, match="6 observations hold 2 clips of 3 within one episode, a batch needs 4"):
        ClipSampler(recording(3, 3), 3, batch_size=4, seed=0)
    with pytest.raises(UsageError, match="batch of 4 cannot be shared by 3"):
        ClipSampler(recording(9), 1, batch_size=4, seed=0, ranks=3)


def test_chosen_episodes_keep_their_actions_and_labels() -> None:
    found = recording(2, 3)
    kept = found.chosen(found.episode == 1)
    assert kept.observations[:, 0].tolist() == kept.labels["place"].tolist() == [2, 3, 4]
    assert kept.actions is not None
    assert kept.actions.tolist() == [20, 30, 40]
