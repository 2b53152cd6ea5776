import numpy as np
import pytest
from gymnasium import spaces

from rlkit.data.replays import make_replay
from rlkit.errors import UnsupportedTaskError, UsageError
from rlkit.types import Transition

VECTOR, STACKS, ACTIONS = spaces.Box(-1, 1, (3,)), spaces.Box(0, 255, (4, 8, 8), np.uint8), spaces.Discrete(3)
NEVER = np.zeros(2, np.bool_)


def step(space, mask=None, action=0):
    obs = np.zeros((2, *space.shape), space.dtype)
    return Transition(obs, np.full(2, action), np.ones(2, np.float32), obs, NEVER, NEVER, next_action_mask=mask)


@pytest.mark.parametrize(
    ("space", "frame_stack", "alpha", "expected"),
    [
        (VECTOR, 1, 0.0, "replay: 1,000 transitions, 44 kB"),
        (VECTOR, 1, 0.6, "replay: 1,000 transitions, 44 kB; priorities 8 kB"),
        (STACKS, 1, 0.0, "replay: 1,000 transitions, 532 kB"),
        (STACKS, 4, 0.0, "replay: 1,000 frames, 90 kB"),
        (STACKS, 4, 0.6, "replay: 1,000 frames, 90 kB; priorities 8 kB"),
    ],
)
def test_the_task_decides_what_is_stored_and_alpha_how_it_is_drawn(space, frame_stack, alpha, expected):
    replay = make_replay(space, ACTIONS, 1_000, 2, frame_stack=frame_stack, alpha=alpha)
    assert replay.describe() == expected
    assert set(replay.stored()) == ({"rows", "priorities", "highest_priority"} if alpha else {"rows"})


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize(("space", "frame_stack"), [(VECTOR, 1), (STACKS, 4)])
def test_masks_discrete_actions_and_indices_come_with_a_batch(space, frame_stack, alpha):
    replay = make_replay(space, ACTIONS, 0, 2, n_step=2, frame_stack=frame_stack, action_mask_size=3, alpha=alpha)
    mask = np.array([[True, False, True], [False, True, True]])
    replay.add(step(space, mask, action=2))
    replay.add(step(space, mask, action=2))
    batch = replay.sample(20, np.random.default_rng(0), beta=0.5)
    assert (batch.action == 2).all()
    assert (batch.action.dtype, batch.action.shape) == (np.int64, (20,))
    assert {tuple(row) for row in batch.next_action_mask.tolist()} == {tuple(row) for row in mask.tolist()}
    assert batch.indices.shape == (20,)
    assert (batch.weights is None) == (alpha == 0)
    replay.update(batch.indices, np.ones(20))


@pytest.mark.parametrize(("space", "frame_stack"), [(VECTOR, 1), (STACKS, 4)])
def test_a_batch_has_masks_from_the_first_one_given_on_also_when_restored(space, frame_stack):
    def replay():
        return make_replay(space, ACTIONS, 100, 2, frame_stack=frame_stack, action_mask_size=3)

    def masks(of):
        batch = of.sample(40, np.random.default_rng(0))
        return batch.action_mask, batch.next_action_mask

    first, restored = replay(), replay()
    first.add(step(space))
    first.add(step(space))
    assert masks(first) == (None, None)
    first.add(step(space, np.array([[True, False, True], [True, True, True]])))
    first.add(step(space))
    restored.restore(first.stored())
    for of in (first, restored):
        mask, next_mask = masks(of)
        assert mask.all()
        assert {tuple(row) for row in next_mask.tolist()} == {(True, False, True), (True, True, True)}


@pytest.mark.parametrize(("space", "frame_stack"), [(VECTOR, 1), (STACKS, 4)])
def test_steps_of_another_number_of_environments_are_refused(space, frame_stack):
    replay = make_replay(space, ACTIONS, 100, 3, frame_stack=frame_stack)
    with pytest.raises(UsageError, match="made for 3 environments and is given steps of 2"):
        replay.add(step(space))


def test_without_room_for_masks_a_batch_has_none():
    replay = make_replay(VECTOR, ACTIONS, 10, 2)
    replay.add(step(VECTOR))
    assert replay.sample(2, np.random.default_rng(0)).next_action_mask is None


def test_with_frames_the_first_step_can_be_sampled_after_the_second():
    replay = make_replay(STACKS, ACTIONS, 100, 2, frame_stack=4)
    replay.add(step(STACKS))
    assert len(replay) == 0
    with pytest.raises(UsageError, match="no complete transition"):
        replay.sample(1, np.random.default_rng(0))
    replay.add(step(STACKS))
    assert len(replay) == 2


def test_a_stack_that_is_not_the_first_axis_is_refused():
    with pytest.raises(UnsupportedTaskError, match="stack of 3 frames"):
        make_replay(STACKS, ACTIONS, 100, frame_stack=3)
