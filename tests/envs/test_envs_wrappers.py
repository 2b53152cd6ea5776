import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from rlkit.envs.make import make, make_single
from rlkit.envs.wrapper_names import WRAPPERS, resolve_wrapper
from rlkit.envs.wrappers import ClipAction, Discretize, FrameStack, HideComponents, RescaleAction
from rlkit.errors import UnknownNameError, UnsupportedTaskError, UsageError
from rlkit.spaces import from_unit, to_unit


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (-1.0, 3.0), (0.1, 0.7), (-1e-3, 1e6), (5.0, 6.0)])
def test_bounds_and_middle_map_exactly_and_the_rest_within_one_ulp(low, high):
    assert to_unit([low, high], low, high).tolist() == [-1.0, 1.0]
    assert from_unit([-1.0, 1.0], low, high).tolist() == [low, high]
    middle = from_unit(0.0, low, high)
    assert to_unit(middle, low, high) == 0.0
    action = np.random.default_rng(0).uniform(low, high, 10_000)
    back = from_unit(to_unit(action, low, high), low, high)
    assert np.abs(back - action).max() <= np.spacing(max(abs(low), abs(high)))
    unit = np.random.default_rng(1).uniform(-1, 1, 10_000)
    assert (np.abs(from_unit(unit, low, high)) <= max(abs(low), abs(high))).all()


def test_float32_actions_come_back_bit_identical():
    action = np.random.default_rng(0).uniform(-1, 3, 10_000).astype(np.float32)
    assert np.array_equal(from_unit(to_unit(action, -1, 3), -1, 3).astype(np.float32), action)


def test_rescaled_actions_reach_the_environment_in_its_units(samples):
    env = RescaleAction(samples.WideActions())
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert env.action(np.array([1.0], np.float32)).tolist() == [3.0]
    assert env.action(np.array([0.0], np.float32)).tolist() == [0.5]


def test_clipped_actions_keep_the_action_space(samples):
    env = ClipAction(samples.WideActions())
    assert env.action_space == gym.spaces.Box(-2.0, 3.0, (1,), np.float32)
    assert env.action(np.array([9.0], np.float32)).tolist() == [3.0]


def test_infinite_bounds_cannot_be_rescaled(samples):
    with pytest.raises(UnsupportedTaskError, match="finite"):
        RescaleAction(samples.InfiniteActions())
    with pytest.raises(UnsupportedTaskError, match="Box"):
        RescaleAction(gym.make("CartPole-v1"))


def test_a_frame_stack_announces_itself_unless_something_changes_its_observation():
    stack, flatten = resolve_wrapper("frame-stack:n=4"), resolve_wrapper("flatten-observation")
    env = make("Pendulum-v1", 2, wrappers=[stack])
    assert env.frame_stack == 4
    assert env.reset(0)[0].shape == (2, 4, 3)
    assert make("Pendulum-v1", wrappers=[stack, flatten]).frame_stack == 1
    assert make("Pendulum-v1").frame_stack == 1


def test_a_frame_stack_repeats_the_first_observation(samples):
    obs, _ = FrameStack(samples.Flat(), 3).reset(seed=0)
    assert np.array_equal(obs[0], obs[2])


def test_names_resolve_to_wrappers_with_arguments():
    env = make_single("Pendulum-v1", [resolve_wrapper("time-limit:max_episode_steps=7")])
    assert env._max_episode_steps == 7
    assert resolve_wrapper("normalize-reward:gamma=.9").arguments == {"gamma": 0.9}
    assert resolve_wrapper("normalize-reward:gamma=9e-1,clip=5").arguments == {"gamma": 0.9, "clip": 5}
    filtered = resolve_wrapper('filter-observation:filter_keys=["a","b"]')
    assert filtered.arguments == {"filter_keys": ("a", "b")}
    assert resolve_wrapper("normalize-observation").level == "vector"
    assert resolve_wrapper("rescale-action").level == "env"


def test_wrong_names_and_arguments_are_explained():
    with pytest.raises(UnknownNameError, match="did you mean 'time-limit'"):
        resolve_wrapper("timelimit")
    with pytest.raises(UsageError, match="parameters: max_episode_steps"):
        resolve_wrapper("time-limit:steps=5")
    with pytest.raises(UsageError, match="key=value"):
        resolve_wrapper("time-limit:5")
    with pytest.raises(UsageError, match="integer"):
        make("Pendulum-v1", wrappers=[resolve_wrapper("time-limit:max_episode_steps=soon")])


@pytest.mark.parametrize("name", WRAPPERS)
def test_every_wrapper_of_the_table_exists_and_has_a_summary(name):
    with pytest.raises(UsageError, match="parameters"):
        resolve_wrapper(f"{name}:no_such_parameter=1")
    assert WRAPPERS[name].summary


def test_the_table_of_names_loads_without_gymnasium():
    code = "import sys, rlkit.envs.wrapper_names; assert not {'gymnasium', 'numpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_discretize_cuts_a_box_into_equal_bins():
    env = Discretize(gym.make("MountainCar-v0"), bins=(4, 2))
    assert env.observation_space == gym.spaces.MultiDiscrete([4, 2])
    low, high = env.env.observation_space.low, env.env.observation_space.high
    assert env.observation(low).tolist() == [0, 0]
    assert env.observation(high).tolist() == [3, 1], "the upper bound belongs to the last bin"
    assert env.observation(low + 0.26 * (high - low)).tolist() == [1, 0]
    assert env.observation(2 * high - low).tolist() == [3, 1], "what lies outside falls into the nearest bin"
    assert env.observation_space.contains(env.reset(seed=0)[0])


def test_discretize_says_which_dimensions_need_bounds():
    with pytest.raises(UsageError, match=r"dimensions \[1, 3\].*discretize:bins=10,low="):
        Discretize(gym.make("CartPole-v1"))
    env = make_single("CartPole-v1", [resolve_wrapper("discretize:bins=6,low=[-2.4,-3,-0.2,-3],high=[2.4,3,0.2,3]")])
    assert env.observation_space.contains(env.reset(seed=0)[0])
    for wrong in ({"bins": 0}, {"bins": (3, 3)}, {"low": 1.0, "high": -1.0}):
        with pytest.raises(UsageError, match="discretize"):
            Discretize(gym.make("CartPole-v1"), **{"low": -1.0, "high": 1.0, **wrong})
    with pytest.raises(UnsupportedTaskError, match="Box of observations"):
        Discretize(gym.make("FrozenLake-v1"))


def test_hidden_components_are_left_out_of_observations_and_bounds():
    env = make_single("CartPole-v1", [resolve_wrapper("hide-components:indices=[1,3]")])
    full = env.env.observation_space
    assert env.observation_space == gym.spaces.Box(full.low[[0, 2]], full.high[[0, 2]], dtype=np.float32)
    obs, _ = env.reset(seed=0)
    assert obs.dtype == np.float32
    assert obs.tolist() == gym.make("CartPole-v1").reset(seed=0)[0][[0, 2]].tolist()
    assert env.step(0)[0].shape == (2,)
    assert make_single("Pendulum-v1", [resolve_wrapper("hide-components:indices=2")]).observation_space.shape == (2,)
    again = gym.make(env.spec)
    assert again.observation_space == env.observation_space


def test_only_components_that_exist_can_be_hidden():
    for wrong in (4, -1, (), (0, 4), (0, 1, 2, 3), 1.5, "velocity", True):
        with pytest.raises(UsageError, match="hide-components"):
            HideComponents(gym.make("CartPole-v1"), wrong)
    with pytest.raises(UnsupportedTaskError, match="Box of shape"):
        HideComponents(gym.make("FrozenLake-v1"), 0)
