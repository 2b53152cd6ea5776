"""stable-baselines3's algorithms behind rlkit's interface: same numbers as SB3 alone, truncation, options."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv
from test_ddpg import OneReward

import rlkit
from rlkit.agents.sb3 import Sb3DDPG, Sb3DQN, Sb3PPO, Sb3SAC
from rlkit.envs.make import make
from rlkit.seeding import integer_seed, row_seed
from rlkit.types import Task

OPTIONS = {"hidden": (16, 16), "batch_size": 16, "buffer_size": 1000, "learning_starts": 50}


def test_training_through_rlkit_equals_stable_baselines3_alone() -> None:
    envs = make("Pendulum-v1")
    task = Task(envs.single_observation_space, envs.single_action_space, seed=3)
    ours = Sb3DDPG(Sb3DDPG.Config(**OPTIONS), task)
    ours.train_on(task, lambda: envs, 300, lambda progress: True)

    env = DummyVecEnv([lambda: gym.make("Pendulum-v1")])
    theirs = stable_baselines3.DDPG(
        "MlpPolicy", env, seed=integer_seed(3, "sb3"), policy_kwargs={"net_arch": [16, 16]}, batch_size=16,
        buffer_size=1000, learning_starts=50, action_noise=NormalActionNoise(np.zeros(1), np.full(1, 0.1)),
    )  # fmt: skip
    env._seeds = [row_seed(3, 0)]  # rlkit seeds its rows in its own way
    theirs.learn(300)
    for name, value in theirs.policy.state_dict().items():
        assert torch.equal(ours.policy_state()[name], value), name


@pytest.mark.parametrize(("terminates", "low", "high"), [(True, 3.5, 4.7), (False, 8.0, 12.0)])
def test_truncation_bootstraps_and_termination_does_not(
    terminates: bool, low: float, high: float, tmp_path: Path
) -> None:
    result = rlkit.train(
        "sb3/ddpg", lambda: OneReward(terminates), total_steps=2000, run_dir=tmp_path / "run", preset="none",
        agent_config=OPTIONS | {"learning_rate": 3e-3, "tau": 0.05, "gamma": 0.9, "batch_size": 32}, eval_every=0,
    )  # fmt: skip
    value = result.agent.model.critic(torch.zeros(1, 2), torch.zeros(1, 1))[0].item()
    assert low < value < high


def test_options_are_those_of_the_algorithm_with_its_defaults() -> None:
    fields = Sb3SAC.Config.model_fields
    assert fields["learning_rate"].default == 3e-4
    assert {"ent_coef", "tau", "buffer_size", "hidden", "noise"} <= fields.keys()
    assert not fields.keys() & {"policy", "env", "seed", "device", "verbose", "tensorboard_log"}
    assert "noise" not in Sb3PPO.Config.model_fields
    assert Sb3PPO.Config().n_steps == 2048


def test_spaces_it_cannot_serve_are_explained() -> None:
    box = spaces.Box(-1.0, 1.0, (2,))
    assert "Discrete" in (Sb3DQN.supports(Task(box, box)) or "")
    assert "Tuple" in (Sb3PPO.supports(Task(spaces.Tuple([box]), box)) or "")
    assert Sb3PPO.supports(Task(spaces.Dict(a=box), box)) is None
    unbounded = spaces.Box(-np.inf, np.inf, (2,))
    assert "finite action bounds" in (Sb3PPO.supports(Task(box, unbounded)) or "")
    assert Sb3PPO.supports(Task(unbounded, box)) is None
