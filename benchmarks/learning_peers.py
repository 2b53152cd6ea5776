"""stable-baselines3's side of `agents_learning.py`: its models with a task's settings."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from learning_tasks import LearningTask


def sb3_ddpg(task: LearningTask, env: gym.Env[Any, Any], seed: int) -> Any:
    """stable-baselines3's DDPG with the task's settings."""
    from stable_baselines3 import DDPG
    from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

    settings = task.settings
    size = env.action_space.shape
    mean, sigma = np.zeros(size), np.full(size, settings["noise_sigma"])
    if settings["noise"] == "gaussian":
        noise = NormalActionNoise(mean, sigma)
    else:
        noise = OrnsteinUhlenbeckActionNoise(mean, sigma, theta=settings["noise_theta"])
    names = ("learning_rate", "gamma", "batch_size", "tau", "buffer_size", "learning_starts")
    return DDPG(
        "MlpPolicy", env, seed=seed, device="cpu", policy_kwargs={"net_arch": [256, 256]}, action_noise=noise,
        **{name: settings[name] for name in names},
    )  # fmt: skip


def sb3_dqn(task: LearningTask, env: gym.Env[Any, Any], seed: int) -> Any:
    """stable-baselines3's DQN with the task's settings; its loss is the Huber loss, and nothing else."""
    from stable_baselines3 import DQN

    settings = task.settings
    assert settings["loss"] == "huber"
    names = ("learning_rate", "gamma", "batch_size", "buffer_size", "learning_starts", "max_grad_norm")
    return DQN(
        "MlpPolicy", env, seed=seed, device="cpu", policy_kwargs={"net_arch": list(settings["hidden"])},
        train_freq=settings["train_every"], gradient_steps=settings["gradient_steps"],
        target_update_interval=settings["target_update_every"],
        exploration_initial_eps=settings["epsilon"], exploration_final_eps=settings["final_epsilon"],
        exploration_fraction=settings["epsilon_fraction"], **{name: settings[name] for name in names},
    )  # fmt: skip


SB3_MODELS = {"ddpg": sb3_ddpg, "dqn": sb3_dqn}


def sb3_returns(task: LearningTask, seed: int, evaluation_seed: int) -> list[float]:
    """Train stable-baselines3's algorithm; return its evaluation returns."""
    import torch
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    torch.set_num_threads(1)
    model = SB3_MODELS[task.agent](task, gym.make(task.env), seed)
    model.learn(task.total_steps)
    eval_env = Monitor(gym.make(task.env))
    eval_env.reset(seed=evaluation_seed)
    returns, _ = evaluate_policy(model, eval_env, task.eval_episodes, return_episode_rewards=True)
    return [float(value) for value in returns]
