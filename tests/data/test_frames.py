"""Frame replay against plain replay, fed the same episodes: the same transitions, each frame stored once."""

from dataclasses import dataclass, fields, replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlkit.checkpoint import CheckpointStore
from rlkit.data.append_only import AppendOnly
from rlkit.data.frames import FrameReplay, smallest_capacity
from rlkit.data.prioritized import PrioritizedReplay
from rlkit.data.replay import ReplayBuffer
from rlkit.data.replays import make_replay
from rlkit.data.sum_tree import SumTree
from rlkit.envs.make import make
from rlkit.envs.wrappers import FrameStack
from rlkit.errors import CheckpointError, EnvironmentFault, MemoryBudgetError, UnsupportedTaskError, UsageError
from rlkit.types import Transition

STACK, FRAME, ACTIONS = 4, (3, 2), spaces.Discrete(5)
STACKS = spaces.Box(0, 255, (STACK, *FRAME), np.uint8)
FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "discount", "action_mask", "next_action_mask")


@dataclass
class Row:
    """One environment of random frames; its lengths of episodes are drawn from `lengths`."""

    rng: np.random.Generator
    lengths: tuple[int, ...]

    def __post_init__(self):
        self.reset()

    def frame(self):
        return self.rng.integers(0, 256, FRAME, dtype=np.uint8)

    def reset(self):
        self.stack = np.repeat(self.frame()[None], STACK, axis=0)
        self.left = int(self.rng.choice(self.lengths))

    def step(self):
        """obs, action, reward, next_obs, terminated, truncated, next mask of one step."""
        obs, self.stack, self.left = self.stack, np.concatenate((self.stack[1:], self.frame()[None])), self.left - 1
        next_obs, ended, terminated = self.stack, self.left == 0, bool(self.rng.random() < 0.5)
        action, reward, mask = self.rng.integers(5), np.float32(self.rng.normal()), self.rng.random(5) < 0.5
        if ended:
            self.reset()
        return obs, action, reward, next_obs, ended and terminated, ended and not terminated, mask


def episodes(steps, num_envs, lengths=(1, 2, 3, 9), seed=0):
    """Steps of `num_envs` environments as transitions."""
    rows = [Row(np.random.default_rng([seed, env]), lengths) for env in range(num_envs)]
    for _ in range(steps):
        obs, action, reward, next_obs, terminated, truncated, mask = map(
            np.array, zip(*(row.step() for row in rows), strict=True)
        )
        yield Transition(obs, action, reward, next_obs, terminated, truncated, action_mask=~mask, next_action_mask=mask)


def frame_replay(capacity, num_envs=1, n_step=1, masks=5):
    return FrameReplay(
        STACKS, ACTIONS, capacity, num_envs, frame_stack=STACK, n_step=n_step, gamma=0.9, action_mask_size=masks
    )


def filled(steps, capacity, num_envs=1, n_step=1, **options):
    replay = frame_replay(capacity, num_envs, n_step)
    for transition in episodes(steps, num_envs, **options):
        replay.add(transition)
    return replay


def transitions(batch):
    """Each as bytes, so that equality is that of every bit."""
    columns = [np.ascontiguousarray(getattr(batch, name)) for name in FIELDS]
    assert [column.dtype.str for column in columns] == ["|u1", "<i8", "<f4", "|u1", "|b1", "<f4", "|b1", "|b1"]
    return [b"".join(column[row].tobytes() for column in columns) for row in range(len(columns[0]))]


def complete(replay):
    """Every transition that can be sampled."""
    return transitions(replay.gather(np.flatnonzero(replay._complete)))


def expected(history, capacity, num_envs, n_step):
    """Those that a frame replay of `capacity` must hold, from a plain replay of everything, by counting frames."""
    plain = ReplayBuffer(STACKS, ACTIONS, 10_000 * num_envs, num_envs, n_step=n_step, gamma=0.9, action_mask_size=5)
    number, held, frames, begins = 0, [], {}, [[] for _ in range(num_envs)]
    for time, transition in enumerate(history):
        plain.add(transition)
        for env in range(num_envs):
            begins[env] = [*begins[env], number + env][-STACK:]  # numbers of the stack's frames
            frames[time, env] = begins[env][0]
        number += num_envs + int(transition.ended.sum())
        begins = [[] if transition.ended[env] else begins[env] for env in range(num_envs)]
    last = len(history) - 1
    for (time, env), first in frames.items():
        if first >= number - capacity and (time < last or history[last].ended[env]):
            held.append(time * num_envs + env)
    return plain, np.array(held, np.int64)


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("lengths", [(1,), (1, 2, 3, 9), (30,)], ids=str)
@pytest.mark.parametrize("steps", [2, 11, 60])
def test_it_holds_the_very_transitions_of_a_plain_replay(num_envs, n_step, lengths, steps):
    capacity = 50 * num_envs
    history = list(episodes(steps, num_envs, lengths))
    replay = filled(steps, capacity, num_envs, n_step, lengths=lengths)
    plain, held = expected(history, capacity, num_envs, n_step)
    if n_step > 1:  # the newest step of a running episode is in the plain replay's returns, but not yet in these
        plain = truncated_before_incomplete(history, num_envs, n_step)
    assert sorted(complete(replay)) == sorted(transitions(plain.gather(held)))
    assert len(replay) == len(held)
    assert len(held) > 0 or steps == 2


def truncated_before_incomplete(history, num_envs, n_step):
    """A plain replay in which returns end before the newest steps that did not end an episode."""
    *before, newest = history
    plain = ReplayBuffer(STACKS, ACTIONS, 10_000 * num_envs, num_envs, n_step=n_step, gamma=0.9, action_mask_size=5)
    if before:
        cut = before[-1].truncated | (~newest.ended & ~before[-1].ended)
        before[-1] = replace(before[-1], truncated=cut)
    for transition in [*before, newest]:
        plain.add(transition)
    return plain


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_while_the_ring_wraps_nothing_but_the_expected_is_held(num_envs, n_step):
    capacity = smallest_capacity(num_envs, STACK, n_step)
    replay, history = frame_replay(capacity, num_envs, n_step), []
    for transition in episodes(60, num_envs):
        replay.add(transition)
        history.append(transition)
        _, held = expected(history, capacity, num_envs, n_step)
        plain = truncated_before_incomplete(history, num_envs, n_step)
        assert sorted(complete(replay)) == sorted(transitions(plain.gather(held)))
        assert len(replay) == len(held)


def test_all_that_is_complete_is_sampled_equally_often():
    replay = filled(300, 40, lengths=(1, 30))
    assert (replay._forward > 0).sum() == len(replay) + 3  # the first of a long episode, whose stacks are cut
    drawn = transitions(replay.sample(50 * len(replay), np.random.default_rng(0)))
    counts = [drawn.count(one) for one in complete(replay)]
    assert sum(counts) == len(drawn)  # and nothing else
    assert min(counts) > 25
    assert max(counts) < 85  # 50 expected, deviation 7


def test_indices_gather_the_batch_again():
    replay = filled(100, 60, num_envs=2, n_step=3)
    batch = replay.sample(30, np.random.default_rng(0))
    assert transitions(replay.gather(batch.indices)) == transitions(batch)
    assert batch.indices.dtype == np.int64
    assert batch.weights is None


@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize(("num_envs", "n_step"), [(1, 1), (3, 3)])
def test_a_replay_from_checkpoints_written_while_the_ring_wraps_goes_on_alike(tmp_path, alpha, num_envs, n_step):
    def fresh():
        return make_replay(
            STACKS, ACTIONS, 50 * num_envs, num_envs, n_step=n_step, frame_stack=STACK, action_mask_size=5, alpha=alpha
        )

    replay, rng, store = fresh(), np.random.default_rng(0), CheckpointStore(tmp_path)
    source = episodes(200, num_envs)
    restored = []
    for time, transition in enumerate(source):
        if time >= 160:
            break
        for one in (replay, *restored):
            one.add(transition)
        if time == 0 and len(replay) == 0:
            continue
        seed = int(rng.integers(1000))
        batches = [one.sample(8, np.random.default_rng(seed), 0.5) for one in (replay, *restored)]
        for batch in batches[1:]:
            for field in fields(batch):
                np.testing.assert_array_equal(getattr(batch, field.name), getattr(batches[0], field.name))
        errors = rng.exponential(size=8)
        for one, batch in zip((replay, *restored), batches, strict=True):
            one.update(batch.indices, errors)
        if time % 23 == 5:
            store.save(time, {}, {"replay": replay.stored()})
            restored.append(fresh())
            restored[-1].restore(CheckpointStore(tmp_path).load().training["replay"])
            assert len(restored[-1]) == len(replay)
    assert len(restored) == 7


@pytest.mark.parametrize("steps", [3, 55, 200])
def test_everything_kept_beside_the_entries_is_found_again(steps, monkeypatch):
    monkeypatch.setattr("rlkit.data.frames._RESTORED_AT_ONCE", 7)
    replay, other = filled(steps, 60, num_envs=2), frame_replay(60, num_envs=2)
    other.restore(replay)
    for name in ("_forward", "_complete", "_running", "_count", "_total_added"):
        np.testing.assert_array_equal(getattr(other, name), getattr(replay, name), err_msg=name)
    for name, ring in replay._ring.items():
        np.testing.assert_array_equal(other._ring[name], ring, err_msg=name)
    assert isinstance(replay, AppendOnly)


def test_environments_that_start_anew_after_a_restore_lose_only_the_step_that_was_cut_off():
    before, after = list(episodes(10, 2, (30,))), list(episodes(10, 2, (30,), seed=1))
    mixed = [  # environment 0 goes on, environment 1 begins a new episode
        replace(old, **{name: np.stack((getattr(old, name)[0], getattr(new, name)[1])) for name in FIELDS[:4]})
        for old, new in zip(list(episodes(20, 2, (30,)))[10:], after, strict=True)
    ]
    replay, restored = frame_replay(200, 2), frame_replay(200, 2)
    for transition in before:
        replay.add(transition)
    restored.restore(replay)
    for transition in mixed:
        restored.add(transition)
    assert len(restored) == 2 * 20 - 2 - 1  # the newest of each, and the one that was cut off
    obs = {row.tobytes() for row in restored.gather(np.flatnonzero(restored._complete)).obs}
    assert before[-1].obs[0].tobytes() in obs
    assert before[-1].obs[1].tobytes() not in obs
    assert after[0].obs[1].tobytes() in obs
    for transition in mixed:  # the same where the agent itself goes on with other environments
        replay.add(transition)
    assert len(replay) == len(restored)


def test_transitions_of_a_wrapped_environment_come_back():
    frames = gymnasium.spaces.Box(0, 255, (6,), np.uint8)

    class Counting(gymnasium.Env):
        observation_space, action_space = frames, spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.time = 0
            return self.np_random.integers(0, 256, 6, dtype=np.uint8), {}

        def step(self, action):
            self.time += 1
            return self.np_random.integers(0, 256, 6, dtype=np.uint8), 1.0, self.time == 5, self.time == 3, {}

    envs = make(Counting, num_envs=2, wrappers=[lambda env: FrameStack(env, 3)])
    replay = FrameReplay(envs.single_observation_space, envs.single_action_space, 500, 2, frame_stack=envs.frame_stack)
    obs, _ = envs.reset(0)
    seen = set()
    for _ in range(120):
        step = envs.step(np.zeros(2, np.int64))
        replay.add(Transition(obs, np.zeros(2), np.ones(2, np.float32), step.next_obs, step.terminated, step.truncated))
        seen |= {obs[row].tobytes() + step.next_obs[row].tobytes() for row in range(2)}
        obs = step.obs
    batch = replay.gather(np.flatnonzero(replay._complete))
    found = {one.tobytes() + other.tobytes() for one, other in zip(batch.obs, batch.next_obs, strict=True)}
    assert found == seen  # step 120 ended an episode
    envs.close()


def test_priorities_are_given_when_a_transition_is_complete_and_taken_when_its_frames_go():
    replay = PrioritizedReplay(frame_replay(40), alpha=1.0)
    rng = np.random.default_rng(0)
    for transition in episodes(200, 1):
        replay.add(transition)
        priorities = replay._tree.values
        np.testing.assert_array_equal(priorities > 0, replay._store._complete)
        if not len(replay):
            continue
        batch = replay.sample(16, rng)
        assert set(transitions(batch)) <= set(complete(replay._store))
        replay.update(batch.indices, rng.exponential(size=16))
    replay.update(np.arange(40), np.ones(40))
    np.testing.assert_array_equal(replay._tree.values > 0, replay._store._complete)


def test_a_transition_without_a_mask_allows_every_action():
    replay = frame_replay(50)
    for transition in episodes(20, 1):
        replay.add(replace(transition, next_action_mask=None))
    assert replay.sample(10, np.random.default_rng(0)).next_action_mask.all()
    assert frame_replay(50, masks=0)._ring.keys() == replay._ring.keys() - {"forbidden", "next_forbidden"}


def spoilt(field, row):
    """The 11th step of three, of which one has a wrong frame in `field`."""
    *before, step = episodes(11, 3, (30,))
    array = getattr(step, field).copy()
    array[row, 1] += 1
    return before, replace(step, **{field: array})


@pytest.mark.parametrize("field", ["obs", "next_obs"])
def test_observations_that_are_no_stacks_are_refused(field):
    before, wrong = spoilt(field, 2)
    replay = frame_replay(200, 3)
    for transition in before:
        replay.add(transition)
    with pytest.raises(EnvironmentFault, match="environment 2: its observation is not the last 4 frames"):
        replay.add(wrong)
    replay, step = frame_replay(200, 3), next(episodes(1, 3))
    first = step.obs.copy()
    first[1, 0] += 1
    with pytest.raises(EnvironmentFault, match="environment 1"):
        replay.add(replace(step, obs=first))


def test_a_million_atari_frames_fit_in_seven_and_a_half_gigabytes():
    replay = FrameReplay(spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(6), 1_000, frame_stack=4)
    assert replay.memory_bytes == 1_000 * (84 * 84 + 8 + 4 + 1 + 4 + 4 + 5)
    assert 1_000 * replay.memory_bytes + SumTree.memory_bytes(1_000_000) < 7.5e9
    assert PrioritizedReplay(replay).describe() == "replay: 1,000 frames, 7 MB; priorities 8 kB"


def test_frames_that_cannot_fit_are_refused_before_they_are_allocated():
    with pytest.raises(MemoryBudgetError, match=r"1,000,000,000 frames, 7,082.0 GB"):
        FrameReplay(spaces.Box(0, 255, (4, 84, 84), np.uint8), ACTIONS, 10**9, frame_stack=4)


def test_rows_are_copies_of_what_is_held():
    replay = filled(100, 60)
    rows = replay.rows(replay.oldest_held, replay.total_added)
    rows["frame"][:] = 0
    assert replay.rows(replay.oldest_held, replay.total_added)["frame"].any()
    with pytest.raises(UsageError, match="are held"):
        replay.rows(replay.oldest_held - 1, replay.total_added)


def test_impossible_settings_are_refused():
    with pytest.raises(UsageError, match="n_step is 0"):
        frame_replay(100, n_step=0)
    with pytest.raises(UsageError, match="at least 30 to hold the frames of 5 steps of 3 environments"):
        frame_replay(29, num_envs=3)
    with pytest.raises(UsageError, match="no complete transition"):
        frame_replay(50).sample(1, np.random.default_rng(0))
    with pytest.raises(UnsupportedTaskError, match="stack of 3 frames"):
        FrameReplay(STACKS, ACTIONS, 100, frame_stack=3)
    with pytest.raises(UnsupportedTaskError, match="one leaf"):
        FrameReplay(STACKS, spaces.Tuple([ACTIONS]), 100, frame_stack=4)
    with pytest.raises(CheckpointError, match="this replay needs"):
        frame_replay(60, masks=0).restore(filled(10, 60))
    with pytest.raises(CheckpointError, match=r"holds 60 of \d+ frames, not 70"):
        frame_replay(70).restore(filled(100, 60))
