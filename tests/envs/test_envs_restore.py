import random
from collections import deque

import gymnasium as gym
import numpy as np
import pytest

from rlkit.envs.make import EnvFactory
from rlkit.envs.restore import capture_env, explain_restore, layers, probe_restore, restore_env
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import CheckpointError

CLASSIC = ["CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Acrobot-v1"]
TOY_TEXT = ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4", "Blackjack-v1"]


@pytest.mark.parametrize("env_id", CLASSIC + TOY_TEXT + ["HalfCheetah-v5", "Ant-v5"])
def test_an_environment_is_restored_exactly(env_id):
    probe = explain_restore(EnvFactory(env_id))
    assert (probe.tier, probe.reason) == ("exact", "")


@pytest.mark.parametrize(
    "wrap", ["frame-stack:n=3", "time-aware-observation", "sticky-action:repeat_action_probability=.5"]
)
def test_wrappers_are_restored_with_their_state(wrap):
    assert probe_restore(EnvFactory("Pendulum-v1", (resolve_wrapper(wrap),))) == "exact"


def test_a_time_limit_goes_on_counting():
    factory = EnvFactory("Pendulum-v1")
    env, fresh = factory(), factory()
    env.reset(seed=0)
    for _ in range(150):
        env.step(np.zeros(1, np.float32))
    restore_env(fresh, capture_env(env))
    ends = [fresh.step(np.zeros(1, np.float32))[3] for _ in range(50)]
    assert ends == [False] * 49 + [True]


def test_hidden_state_is_found_out(samples):
    probe = explain_restore(samples.Hidden)
    assert probe.tier == "reset"
    assert probe.reason


def test_an_environment_that_knows_its_state_is_restored_exactly(samples):
    assert probe_restore(samples.Own) == "exact"


def test_an_environment_without_determinism_is_not_exact(samples):
    assert probe_restore(samples.Unseeded) == "reset"


class Containers(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self):
        self.constant = np.arange(3)
        self.constant.flags.writeable = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.rng = self.np_random
        if seed is not None:
            self.python = random.Random(seed)
        self.table = {(0, 1): [1, 2.5], "kind": None}
        self.recent = deque([np.float32(1), 2], maxlen=5)
        self.tags = frozenset({1, "a"})
        self.big = 2**90
        return np.zeros(1), {}

    def step(self, action):
        self.recent.append(self.python.random() + self.rng.random() + self.np_random.random())
        return np.array([float(sum(self.recent))]), 0.0, False, False, {}


def test_containers_and_shared_generators_survive_with_their_types():
    assert probe_restore(Containers) == "exact"
    env, fresh = Containers(), Containers()
    env.reset(seed=1)
    state = capture_env(env)
    assert "constant" not in state["layers"][0]["attributes"]
    restore_env(fresh, state)
    assert fresh.rng is fresh.np_random
    assert fresh.table == env.table
    assert fresh.recent == env.recent
    assert fresh.recent.maxlen == 5
    assert type(fresh.recent[0]) is np.float32
    assert fresh.tags == env.tags
    assert fresh.big == 2**90


def assert_plain(tree):
    if isinstance(tree, dict):
        assert all(type(key) is str for key in tree)
    if isinstance(tree, (dict, list, tuple)):
        for element in tree.values() if isinstance(tree, dict) else tree:
            assert_plain(element)
    else:
        assert tree is None or isinstance(tree, (bool, int, float, str, np.generic, np.ndarray)), type(tree)


@pytest.mark.parametrize("env_id", ["Taxi-v4", "Pendulum-v1", "HalfCheetah-v5"])
def test_a_state_is_a_plain_tree(env_id):
    env = gym.make(env_id)
    env.reset(seed=0)
    assert_plain(capture_env(env))


def test_a_state_of_other_wrappers_is_refused():
    env, other = gym.make("Pendulum-v1"), gym.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    assert len(layers(env)) > 1
    with pytest.raises(CheckpointError, match="same wrappers"):
        restore_env(other, capture_env(env))


def test_a_probe_leaves_global_generators_alone():
    before = np.random.get_state()[1].copy(), random.getstate()
    probe_restore(EnvFactory("CartPole-v1"))
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert before[1] == random.getstate()
