from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit.checkpoint import CheckpointStore
from rlkit.data.prioritized import PrioritizedReplay
from rlkit.data.replay import ReplayBuffer
from rlkit.errors import CheckpointError, MemoryBudgetError, NonFiniteError, UsageError
from rlkit.types import Transition

VECTOR = spaces.Box(-1e6, 1e6, (2,), np.float32)
EPSILON = 1e-6


def step(time, num_envs):
    env = np.arange(num_envs)
    obs = np.stack([np.full(num_envs, time), env], axis=1).astype(np.float32)
    never = np.zeros(num_envs, np.bool_)
    return Transition(obs, env, np.full(num_envs, time, np.float32), obs + np.float32(0.5), never, never)


def filled(steps, capacity=100, num_envs=1, alpha=1.0, n_step=1):
    replay = PrioritizedReplay(ReplayBuffer(VECTOR, spaces.Discrete(4), capacity, num_envs, n_step=n_step), alpha=alpha)
    for time in range(steps):
        replay.add(step(time, num_envs))
    return replay


def times(batch):
    return batch.obs[:, 0].astype(int)


def counts(replay, size, batches=200, batch_size=100):
    """How often each time was drawn."""
    rng = np.random.default_rng(0)
    drawn = np.concatenate([times(replay.sample(batch_size, rng)) for _ in range(batches)])
    return np.bincount(drawn, minlength=size)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_transitions_are_drawn_as_often_as_their_priorities_say(alpha):
    replay = filled(5, alpha=alpha)
    errors = np.array([0.0, -1.0, 2.0, 4.0, 9.0])
    replay.update(np.arange(5), errors)
    expected = (np.abs(errors) + EPSILON) ** alpha
    found = counts(replay, 5) / 20_000
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.002)  # plain draws would spread ±0.007


def test_every_equal_share_of_the_total_gives_one_draw():
    replay = filled(8)
    replay.update(np.arange(8), np.ones(8) - EPSILON)
    for seed in range(20):
        assert times(replay.sample(8, np.random.default_rng(seed))).tolist() == list(range(8))


def test_weights_by_hand():
    replay = filled(3)
    replay.update(np.arange(3), np.array([1.0, 2.0, 5.0]) - EPSILON)
    # P = 1/8, 2/8, 5/8; N P = 3/8, 6/8, 15/8; (N P)^-1 = 8/3, 4/3, 8/15, divided by the largest
    for beta, by_time in ((1.0, [1, 1 / 2, 1 / 5]), (0.5, [1, 2**-0.5, 5**-0.5]), (0.0, [1, 1, 1])):
        batch = replay.sample(64, np.random.default_rng(0), beta)
        assert set(times(batch)) == {0, 1, 2}
        np.testing.assert_allclose(batch.weights, np.array(by_time)[times(batch)], rtol=1e-6)
        assert batch.weights.dtype == np.float32


def test_the_largest_weight_is_that_of_the_batch():
    replay = filled(2)
    replay.update(np.arange(2), [1e-3, 1e9])
    batch = replay.sample(4, np.random.default_rng(0))
    assert times(batch).tolist() == [1] * 4
    assert batch.weights.tolist() == [1.0] * 4


def test_new_transitions_get_the_highest_priority_so_far():
    replay = filled(10)
    replay.update(np.arange(10), np.full(10, 0.01))
    replay.update(np.array([3]), [50.0])
    replay.update(np.array([3]), [0.01])  # the highest so far stays the highest, even where it is no more
    replay.add(step(10, 1))
    found = counts(replay, 11) / 20_000
    assert found[10] == pytest.approx(50 / 50.1, abs=0.002)


def test_before_any_error_is_known_all_are_equally_likely():
    found = counts(filled(5), 5) / 20_000
    np.testing.assert_allclose(found, 0.2, atol=0.002)


def test_what_the_ring_overwrites_loses_its_priority():
    replay = filled(10, capacity=10)
    replay.update(np.arange(10), np.r_[99.0, np.zeros(9)])
    for time in range(10, 20):  # all of them replaced
        replay.add(step(time, 1))
    replay.update(np.arange(10), np.full(10, 1.0))
    found = counts(replay, 20)
    assert found[:10].sum() == 0
    np.testing.assert_allclose(found[10:] / 20_000, 0.1, atol=0.002)


def test_indices_name_the_transitions_of_all_environments():
    replay = filled(7, capacity=12, num_envs=3)
    batch = replay.sample(300, np.random.default_rng(0))
    wanted = (batch.obs[:, 0] == 5) & (batch.obs[:, 1] == 2)
    replay.update(batch.indices, np.where(wanted, 1000.0, 0.0))
    batch = replay.sample(50, np.random.default_rng(1))
    np.testing.assert_array_equal(batch.obs, np.tile(np.float32([5, 2]), (50, 1)))
    np.testing.assert_array_equal(batch.action, 2)


def test_returns_over_several_steps_grow_as_in_the_buffer():
    replay, buffer = (filled(4, n_step=3), ReplayBuffer(VECTOR, spaces.Discrete(4), 100, n_step=3))
    for time in range(4):
        buffer.add(step(time, 1))
    batch = replay.sample(40, np.random.default_rng(0))
    same = buffer.gather(batch.indices)
    np.testing.assert_array_equal(batch.reward, same.reward)
    np.testing.assert_array_equal(batch.next_obs, same.next_obs)
    newest = times(batch).tolist().index(3)
    assert batch.reward[newest] == 3.0
    replay.add(step(4, 1))
    assert replay.sample(40, np.random.default_rng(0)).reward.max() > 3.0


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 3), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 40)), min_size=1, max_size=5))
def test_a_replay_from_a_checkpoint_draws_the_same_for_ever(num_envs, pieces):
    replay = filled(1, capacity=10 * num_envs, num_envs=num_envs, alpha=0.6)
    time = 1
    with TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        for adds, seed in pieces:  # a checkpoint after each piece, while the ring wraps
            rng = np.random.default_rng(seed)
            for _ in range(adds):
                replay.add(step(time, num_envs))
                batch = replay.sample(8, rng)
                replay.update(batch.indices, rng.exponential(size=8))
                time += 1
            store.save(time, {}, {"replay": replay.stored()})
            restored = filled(0, capacity=10 * num_envs, num_envs=num_envs, alpha=0.6)
            restored.restore(CheckpointStore(store.folder).load().training["replay"])
            same_draws(replay, restored, time, num_envs)
            time += 1


def same_draws(first, second, time, num_envs):
    """Both draw the same now, and after the same update and the same next step."""
    for replay_step in (None, step(time, num_envs)):
        batches = []
        for replay in (first, second):
            if replay_step is not None:
                replay.add(replay_step)
            batches.append(replay.sample(16, np.random.default_rng(time), 0.4))
            replay.update(batches[-1].indices, np.arange(16.0))
        for field in fields(batches[0]):
            np.testing.assert_array_equal(*(getattr(batch, field.name) for batch in batches))


def test_mistakes_are_named():
    with pytest.raises(UsageError, match="no complete transition"):
        filled(0).sample(4, np.random.default_rng(0))
    with pytest.raises(UsageError, match="alpha is 0"):
        filled(0, alpha=0)
    for wrong in (np.nan, np.inf):
        with pytest.raises(NonFiniteError, match="magnitude"):
            filled(3).update(np.arange(2), [1.0, wrong])
    with pytest.raises(CheckpointError, match="no priorities"):
        filled(3).restore({"rows": ReplayBuffer(VECTOR, spaces.Discrete(4), 100)})
    with pytest.raises(CheckpointError, match="2 priorities for 3 slots"):
        filled(3).restore(filled(3).stored() | {"priorities": np.ones(2)})


def test_it_describes_itself_and_counts_the_priorities_before_they_are_allocated(monkeypatch):
    store = ReplayBuffer(spaces.Box(-1, 1, (17,)), spaces.Box(-1, 1, (6,)), 1_000_000)
    assert PrioritizedReplay(store).describe() == "replay: 1,000,000 transitions, 172 MB; priorities 8 MB"
    monkeypatch.setattr("rlkit.data.memory.available_bytes", lambda: 175_000_000)
    with pytest.raises(MemoryBudgetError, match="smaller buffer_size"):
        PrioritizedReplay(store)
