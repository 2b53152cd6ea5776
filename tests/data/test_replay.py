from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rlkit.data.append_only import AppendOnly
from rlkit.data.replay import ReplayBuffer
from rlkit.errors import CheckpointError, MemoryBudgetError, UnsupportedTaskError, UsageError
from rlkit.ops.returns import n_step_return
from rlkit.types import Transition

VECTOR = spaces.Box(-1e6, 1e6, (2,), np.float32)
ACTION = spaces.Box(-1, 1, (1,), np.float32)


def step(time, num_envs, terminated=False, truncated=False):
    """A transition that knows its time and environment: obs = (time, env), reward = a number of its own."""
    env = np.arange(num_envs)
    obs = np.stack([np.full(num_envs, time), env], axis=1).astype(np.float32)
    return Transition(
        obs=obs,
        action=(time + env / 10).astype(np.float32)[:, None],
        reward=(time + 1 + env / 4).astype(np.float32),
        next_obs=obs + np.float32([1, 0]),
        terminated=np.broadcast_to(terminated, num_envs).copy(),
        truncated=np.broadcast_to(truncated, num_envs).copy(),
    )


def filled(steps, capacity=100, num_envs=1, **options):
    buffer = ReplayBuffer(VECTOR, ACTION, capacity, num_envs, **options)
    for time in range(steps):
        buffer.add(step(time, num_envs))
    return buffer


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_samples_equal_those_of_a_list_of_transitions(data):
    num_envs, n_step = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    length = data.draw(st.integers(n_step + 1, 8))
    flags = st.lists(st.booleans(), min_size=num_envs, max_size=num_envs)
    ends = data.draw(st.lists(st.tuples(flags, flags), min_size=1, max_size=25))
    buffer = ReplayBuffer(VECTOR, ACTION, length * num_envs, num_envs, n_step=n_step, gamma=0.9)
    history = [step(time, num_envs, *both) for time, both in enumerate(ends)]
    for transition in history:
        buffer.add(transition)
    oldest = max(0, len(history) - length)
    assert (buffer.total_added, buffer.oldest_held) == (len(history), oldest)
    assert len(buffer) == (len(history) - oldest) * num_envs
    batch = buffer.sample(32, np.random.default_rng(0))
    for row in range(32):
        time, env = batch.obs[row].astype(int)
        assert oldest <= time
        steps = [history[time]]
        while len(steps) < n_step and time + len(steps) < len(history) and not steps[-1].ended[env]:
            steps.append(history[time + len(steps)])
        last = steps[-1]
        discount = 0.9 ** len(steps) * (not last.terminated[env])
        rewards = np.array([[one.reward[env] for one in steps]])
        expected = n_step_return(rewards, np.full_like(rewards, 0.9), np.zeros(1))
        np.testing.assert_allclose(batch.reward[row], expected[0], rtol=1e-5)
        np.testing.assert_allclose(batch.discount[row], discount, rtol=1e-5)
        np.testing.assert_array_equal(batch.next_obs[row], last.next_obs[env])
        np.testing.assert_array_equal(batch.action[row], history[time].action[env])
        assert batch.terminated[row] == last.terminated[env]


def test_every_transition_held_is_sampled_and_no_other():
    batch = filled(25, capacity=20, num_envs=2).sample(2000, np.random.default_rng(0))
    assert {tuple(row) for row in batch.obs.astype(int)} == {(time, env) for time in range(15, 25) for env in range(2)}


def test_truncation_keeps_the_bootstrap_and_termination_cuts_it():
    buffer = ReplayBuffer(VECTOR, ACTION, 10, n_step=3, gamma=0.5)
    buffer.add(step(0, 1, truncated=True))
    assert buffer.sample(1, np.random.default_rng(0)).discount[0] == 0.5
    buffer = ReplayBuffer(VECTOR, ACTION, 10, n_step=3, gamma=0.5)
    buffer.add(step(0, 1, terminated=True))
    assert buffer.sample(1, np.random.default_rng(0)).discount[0] == 0


def test_nested_observations_keep_their_types_and_shapes():
    space = spaces.Dict(
        image=spaces.Box(0, 255, (4, 3, 2), np.uint8),
        more=spaces.Tuple([spaces.Discrete(5), spaces.Box(-1, 1, (2, 2), np.float64), spaces.MultiBinary(3)]),
    )
    buffer = ReplayBuffer(space, spaces.Discrete(4), 10, 2)
    space.seed(0)
    first, second, third, fourth = (space.sample() for _ in range(4))

    def pair(a, b):
        if isinstance(a, dict):
            return {key: pair(a[key], b[key]) for key in a}
        return tuple(map(pair, a, b)) if isinstance(a, tuple) else np.stack([a, b])

    obs, next_obs, ended = pair(first, second), pair(third, fourth), np.zeros(2, bool)
    buffer.add(Transition(obs, np.array([3, 1]), np.zeros(2, np.float32), next_obs, ended, ended))
    batch = buffer.sample(8, np.random.default_rng(0))
    row = list(batch.action).index(1)
    np.testing.assert_array_equal(batch.obs["image"][row], second["image"])
    np.testing.assert_array_equal(batch.next_obs["image"][row], fourth["image"])
    assert batch.obs["image"].dtype == np.uint8
    assert batch.obs["more"][0].shape == (8,)
    assert batch.obs["more"][0][row] == second["more"][0]
    np.testing.assert_allclose(batch.obs["more"][1][row], second["more"][1], rtol=1e-6)
    assert batch.obs["more"][1].dtype == np.float32
    np.testing.assert_array_equal(batch.next_obs["more"][2][row], fourth["more"][2])
    assert batch.action.dtype == np.int64


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("steps", [7, 23])
def test_a_restored_buffer_gives_the_same_samples_then_and_later(n_step, steps, monkeypatch):
    buffer = filled(steps, capacity=20, num_envs=2, n_step=n_step)
    monkeypatch.setattr("rlkit.data.replay._RESTORED_AT_ONCE", 4)  # several pieces, also across the ring's end
    restored = ReplayBuffer(VECTOR, ACTION, 20, 2, n_step=n_step)
    restored.restore(buffer)
    for time in range(steps, steps + 5):
        first, second = (one.sample(16, np.random.default_rng(time)) for one in (buffer, restored))
        for field in ("obs", "action", "reward", "next_obs", "terminated", "discount"):
            np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
        buffer.add(step(time, 2))
        restored.add(step(time, 2))
    assert isinstance(buffer, AppendOnly)


def test_rows_are_copies_of_what_is_held():
    buffer = filled(12, capacity=10)
    rows = buffer.rows(5, 12)
    rows["float32"][:] = -1
    assert buffer.rows(5, 12)["float32"].min() >= 0
    with pytest.raises(UsageError, match=r"\[2, 12\) are held"):
        buffer.rows(1, 5)


def test_rows_of_another_layout_are_refused():
    narrow = ReplayBuffer(spaces.Box(0, 1, (1,)), ACTION, 10)
    narrow.add(replace(step(0, 1), obs=np.zeros((1, 1)), next_obs=np.zeros((1, 1))))
    with pytest.raises(CheckpointError, match="this buffer needs"):
        ReplayBuffer(VECTOR, ACTION, 10).restore(narrow)


def test_a_buffer_describes_itself():
    half_cheetah = spaces.Box(-1, 1, (17,), np.float64), spaces.Box(-1, 1, (6,), np.float32)
    buffer = ReplayBuffer(*half_cheetah, 1_000_000)
    assert buffer.describe() == "replay: 1,000,000 transitions, 172 MB"
    assert buffer.memory_bytes == 172_000_000


def test_a_buffer_that_cannot_fit_is_refused_before_it_is_allocated():
    frames = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    with pytest.raises(MemoryBudgetError, match="smaller buffer_size"):
        ReplayBuffer(frames, spaces.Discrete(4), 10**9)


def test_impossible_settings_are_refused():
    with pytest.raises(UsageError, match="n_step is 0"):
        ReplayBuffer(VECTOR, ACTION, 10, n_step=0)
    with pytest.raises(UsageError, match="buffer_size is 3"):
        ReplayBuffer(VECTOR, ACTION, 3, 4)
    with pytest.raises(UsageError, match="empty"):
        ReplayBuffer(VECTOR, ACTION, 10).sample(1, np.random.default_rng(0))
    with pytest.raises(UnsupportedTaskError, match="'name'"):
        ReplayBuffer(spaces.Dict(name=spaces.Text(4)), ACTION, 10)
    with pytest.raises(UnsupportedTaskError, match="one leaf"):
        ReplayBuffer(VECTOR, spaces.Tuple([ACTION, ACTION]), 10)


def test_returns_do_not_cross_from_a_lost_episode_into_the_next() -> None:
    """A run resumed where episodes cannot be restored begins new ones; nothing ended the old ones."""
    replay = ReplayBuffer(spaces.Box(-1e3, 1e3, (1,)), spaces.Discrete(2), 100, n_step=3, gamma=0.5)
    never = np.zeros(1, np.bool_)
    for position in (0, 1, 2, 3, 500, 501, 502, 503):  # the episode was lost after 3
        obs = np.full((1, 1), position, np.float32)
        replay.add(Transition(obs, np.zeros(1, np.int64), np.ones(1, np.float32), obs + 1, never, never))
    batch = replay.gather(np.array([1, 2, 3, 4]))
    assert batch.next_obs[:, 0].tolist() == [4.0, 4.0, 4.0, 503.0]
    np.testing.assert_allclose(batch.reward, [1.75, 1.5, 1.0, 1.75])
    np.testing.assert_allclose(batch.discount, [0.125, 0.25, 0.5, 0.125])
