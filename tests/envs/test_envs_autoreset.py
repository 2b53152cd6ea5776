import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from test_envs_vector import actions, assert_equals_hand_stepped

from rlkit.envs.autoreset import TrueTransitions, split_infos
from rlkit.errors import EnvironmentFault, UsageError

MODES = list(AutoresetMode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["Walk", "Flat"])
def test_sync_steps_equal_hand_stepped_environments(samples, name, mode):
    env_class = vars(samples)[name]
    env = TrueTransitions(SyncVectorEnv([env_class] * 3, autoreset_mode=mode))
    assert_equals_hand_stepped(env, env_class, 3)
    env.close()


def test_async_next_step_equals_hand_stepped_environments(samples):
    env = TrueTransitions(AsyncVectorEnv([samples.Walk] * 2, context="fork", autoreset_mode=AutoresetMode.NEXT_STEP))
    assert_equals_hand_stepped(env, samples.Walk, 2)
    env.close()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_chosen_start_states_reach_only_rows_that_ended(samples, mode):
    env = TrueTransitions(SyncVectorEnv([samples.Flat] * 2, autoreset_mode=mode))
    env.reset(0)
    for action in actions(2, 20):
        step = env.step(action, [7.0, 8.0])
        assert np.array_equal(step.obs[step.ended, 0], np.array([7.0, 8.0])[step.ended])


def test_a_next_step_environment_without_masked_reset_is_one_clear_error():
    env = TrueTransitions(CartPoleVectorEnv(num_envs=3))
    with pytest.raises(UsageError, match="reset_mask"):
        env.reset(0)


class Counters(gym.vector.VectorEnv):
    """A vector environment of one's own: episodes of 3 steps; its masked reset is right, or resets too much."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

    def __init__(self, masks=True):
        self.num_envs, self.masks = 2, masks
        self.single_observation_space = gym.spaces.Box(0, 10, (1,), np.float32)
        self.single_action_space = gym.spaces.Discrete(2)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, 2)
        self.count = np.zeros((2, 1), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        mask = options["reset_mask"] if options and self.masks else np.ones(2, bool)
        self.count[mask] = 0
        return self.count.copy(), {}

    def step(self, action):
        self.count += 1
        return self.count.copy(), np.ones(2), self.count[:, 0] >= 3, np.zeros(2, bool), {}


def test_a_foreign_environment_with_masked_reset_is_accepted():
    env = TrueTransitions(Counters())
    assert env.reset(0)[0].tolist() == [[0], [0]]
    for _ in range(3):
        step = env.step(np.zeros(2, int))
    assert step.next_obs.tolist() == [[3], [3]]
    assert step.obs.tolist() == [[0], [0]]


def test_a_foreign_environment_that_resets_too_much_is_refused():
    with pytest.raises(UsageError, match="reset_mask"):
        TrueTransitions(Counters(masks=False)).reset(0)


def test_an_environment_without_a_mode_is_an_error():
    env = Counters()
    env.metadata = {}
    with pytest.raises(UsageError, match="autoreset_mode"):
        TrueTransitions(env)


def test_a_fault_of_a_sub_environment_is_told(samples):
    env = TrueTransitions(SyncVectorEnv([samples.Raises]))
    env.reset(0)
    env.step(np.zeros((1, 1), np.float32))
    with pytest.raises(EnvironmentFault, match="motor"):
        env.step(np.zeros((1, 1), np.float32))


def test_infos_are_split_by_their_masks():
    mask = np.array([True, False])
    infos = {"a": np.array([1, 0]), "_a": mask, "b": {"c": np.array([2, 0]), "_c": mask}, "_b": mask}
    assert split_infos(infos, 2) == [{"a": 1, "b": {"c": 2}}, {}]


def test_set_state_starts_new_episodes_and_returns_them(samples):
    env = TrueTransitions(SyncVectorEnv([samples.Flat] * 2))
    start, _ = env.reset(0)
    env.step(actions(2, 1)[0])
    obs, infos = env.set_state(env.get_state())
    assert [info.keys() for info in infos] == [{"length"}] * 2
    assert not np.array_equal(obs, start)
