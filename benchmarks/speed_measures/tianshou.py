"""Training tianshou's DDPG, TD3 and SAC as its `examples/mujoco` do, without test episodes.

Import it where tianshou is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm import DDPG, SAC, TD3
from tianshou.algorithm.modelfree.ddpg import ContinuousDeterministicPolicy
from tianshou.algorithm.modelfree.sac import AutoAlpha, SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, ReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.exploration import GaussianNoise
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils import TensorboardLogger
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorDeterministic, ContinuousActorProbabilistic, ContinuousCritic
from torch.utils.tensorboard import SummaryWriter

from speed_measures.job import WARM_UP, Job, clocked_seconds, register_clocked_env
from speed_measures.off_policy import HIDDEN, LEARNING_RATE, NOISE_SIGMA, OWN, SETTINGS


def train(job: Job, folder: Path) -> float:
    """Train by tianshou's own collector and trainer."""
    np.random.seed(job.seed)  # its noise and its replay draw from it
    torch.manual_seed(job.seed)
    name = register_clocked_env(job)
    envs = DummyVectorEnv([lambda: gym.make(name)])
    envs.seed(job.seed)
    algorithm = algorithm_of(job.work, envs.observation_space[0], envs.action_space[0])
    buffer = ReplayBuffer(SETTINGS["buffer_size"])
    collector = Collector[CollectStats](algorithm, envs, buffer, exploration_noise=True)
    collector.reset()
    collector.collect(n_step=WARM_UP, random=True)
    logger = TensorboardLogger(SummaryWriter(str(folder)))
    algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector, max_epochs=1, epoch_num_steps=job.total_steps - WARM_UP,
            collection_step_num_env_steps=1, update_step_num_gradient_steps_per_sample=1,
            batch_size=SETTINGS["batch_size"], logger=logger,
            verbose=False, show_progress=False,
        )
    )  # fmt: skip
    logger.finalize()
    return clocked_seconds(job)


def algorithm_of(work: str, observations: gym.spaces.Box, actions: gym.spaces.Box) -> DDPG | TD3 | SAC:
    """The algorithm with its networks."""
    adam = AdamOptimizerFactory(lr=LEARNING_RATE[work])
    net = Net(state_shape=observations.shape, hidden_sizes=HIDDEN)
    critics = [critic(observations, actions) for _ in range(2)]
    shared: dict[str, Any] = {"tau": SETTINGS["tau"], "gamma": SETTINGS["gamma"], "policy_optim": adam}
    shared |= {"critic": critics[0], "critic_optim": adam}
    if work == "sac":
        actor = ContinuousActorProbabilistic(
            preprocess_net=net, action_shape=actions.shape, unbounded=True, conditioned_sigma=True
        )
        policy = SACPolicy(actor=actor, action_space=actions)
        alpha = AutoAlpha(-float(np.prod(actions.shape)), 0.0, adam)
        return SAC(**shared, policy=policy, critic2=critics[1], critic2_optim=adam, alpha=alpha)
    actor = ContinuousActorDeterministic(preprocess_net=net, action_shape=actions.shape, max_action=actions.high[0])
    noise = GaussianNoise(sigma=NOISE_SIGMA)
    policy = ContinuousDeterministicPolicy(actor=actor, exploration_noise=noise, action_space=actions)
    if work == "ddpg":
        return DDPG(**shared, policy=policy)
    return TD3(
        **shared, policy=policy, critic2=critics[1], critic2_optim=adam, noise_clip=0.5,
        policy_noise=OWN["td3"]["target_noise"], update_actor_freq=OWN["td3"]["policy_delay"],
    )  # fmt: skip


def critic(observations: gym.spaces.Box, actions: gym.spaces.Box) -> ContinuousCritic:
    """Q of observation and action."""
    net = Net(state_shape=observations.shape, action_shape=actions.shape, hidden_sizes=HIDDEN, concat=True)
    return ContinuousCritic(preprocess_net=net)
