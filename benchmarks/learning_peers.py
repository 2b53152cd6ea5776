"""stable-baselines3's side of `agents_learning.py`: its models with a task's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from learning_tasks import LearningTask

from rlkit import registry

# rlkit's wrappers around all environments, as stable-baselines3's VecNormalize has them.
NORMALIZERS = ("normalize-observation", "normalize-reward")


def options_of(task: LearningTask) -> Any:
    """The whole configuration of rlkit's agent, defaults included."""
    return registry.config_class(registry.agent_class(task.agent))(**task.settings)


def action_noise(config: Any, env: Any) -> Any:
    """The exploration noise of a configuration."""
    from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

    size = env.action_space.shape
    mean, sigma = np.zeros(size), np.full(size, config.noise_sigma)
    if config.noise == "none":
        return None
    if config.noise == "gaussian":
        return NormalActionNoise(mean, sigma)
    return OrnsteinUhlenbeckActionNoise(mean, sigma, theta=config.noise_theta)


def same(config: Any, *names: str) -> dict[str, Any]:
    """Options that both libraries call by the same name."""
    return {name: getattr(config, name) for name in names}


def schedule(kind: str, initial: float) -> float | Callable[[float], float]:
    """A constant, or a line that ends at zero."""
    return initial if kind == "constant" else lambda remaining: remaining * initial


def sb3_ddpg(task: LearningTask, env: Any, seed: int) -> Any:
    """stable-baselines3's DDPG with the task's settings."""
    from stable_baselines3 import DDPG

    config = options_of(task)
    return DDPG(
        "MlpPolicy", env, seed=seed, device="cpu", policy_kwargs={"net_arch": list(config.hidden)},
        action_noise=action_noise(config, env), **same(config, *OFF_POLICY, "tau", "learning_rate"),
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


def sb3_ppo(task: LearningTask, env: Any, seed: int) -> Any:
    """stable-baselines3's PPO; networks of its own initialisation, which is rlkit's too. With a core sb3-contrib's."""
    from sb3_contrib import RecurrentPPO
    from stable_baselines3 import PPO

    config = options_of(task)
    algorithm, policy, networks = PPO, "MlpPolicy", on_policy_networks(config)
    if config.core != "none":
        assert config.core == "lstm"
        algorithm, policy = RecurrentPPO, "MlpLstmPolicy"
        networks |= {"lstm_hidden_size": config.core_width}
    return algorithm(
        policy, env, seed=seed, device="cpu", policy_kwargs=networks, n_epochs=config.epochs,
        learning_rate=schedule(config.learning_rate_schedule, config.learning_rate),
        clip_range=schedule(config.clip_range_schedule, config.clip_range), clip_range_vf=config.value_clip_range,
        ent_coef=config.entropy_coefficient, vf_coef=config.value_coefficient,
        **same(config, "n_steps", "batch_size", "gamma", "gae_lambda", "normalize_advantage", "max_grad_norm",
               "target_kl"),
    )  # fmt: skip


def sb3_a2c(task: LearningTask, env: Any, seed: int) -> Any:
    """stable-baselines3's A2C with its RMSProp."""
    from stable_baselines3 import A2C

    config = options_of(task)
    assert config.optimizer == "rmsprop"
    return A2C(
        "MlpPolicy", env, seed=seed, device="cpu", policy_kwargs=on_policy_networks(config),
        learning_rate=schedule(config.learning_rate_schedule, config.learning_rate),
        rms_prop_eps=config.optimizer_epsilon, ent_coef=config.entropy_coefficient, vf_coef=config.value_coefficient,
        **same(config, "n_steps", "gamma", "gae_lambda", "normalize_advantage", "max_grad_norm"),
    )  # fmt: skip


def on_policy_networks(config: Any) -> dict[str, Any]:
    """Separate networks for policy and value."""
    from torch import nn

    activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[config.activation]
    return {
        "net_arch": list(config.hidden), "activation_fn": activation, "log_std_init": config.initial_log_std,
    }  # fmt: skip


def sb3_td3(task: LearningTask, env: Any, seed: int) -> Any:
    """stable-baselines3's TD3, one update a step."""
    from stable_baselines3 import TD3

    config = options_of(task)
    return TD3(
        "MlpPolicy", env, seed=seed, device="cpu", policy_kwargs={"net_arch": list(config.hidden)},
        action_noise=action_noise(config, env), train_freq=1, gradient_steps=1,
        target_policy_noise=config.target_noise,
        **same(config, *OFF_POLICY, "tau", "learning_rate", "policy_delay", "target_noise_clip"),
    )  # fmt: skip


def sb3_sac(task: LearningTask, env: Any, seed: int) -> Any:
    """stable-baselines3's SAC, one update a step."""
    from stable_baselines3 import SAC

    config = options_of(task)
    learned = f"auto_{config.initial_temperature}"
    return SAC(
        "MlpPolicy", env, seed=seed, device="cpu", policy_kwargs={"net_arch": list(config.hidden)},
        action_noise=action_noise(config, env), train_freq=1, gradient_steps=1,
        ent_coef=learned if config.temperature is None else config.temperature,
        **same(config, *OFF_POLICY, "tau", "learning_rate"),
    )  # fmt: skip


def sb3_tqc(task: LearningTask, env: Any, seed: int) -> Any:
    """sb3-contrib's TQC, one update a step."""
    from sb3_contrib import TQC

    config = options_of(task)
    networks = {"net_arch": list(config.hidden), "n_critics": config.critics, "n_quantiles": config.quantiles}
    learned = f"auto_{config.initial_temperature}"
    return TQC(
        "MlpPolicy", env, seed=seed, device="cpu", policy_kwargs=networks, train_freq=1, gradient_steps=1,
        action_noise=action_noise(config, env), top_quantiles_to_drop_per_net=config.dropped_quantiles,
        ent_coef=learned if config.temperature is None else config.temperature,
        **same(config, *OFF_POLICY, "tau", "learning_rate"),
    )  # fmt: skip


def sb3_crossq(task: LearningTask, env: Any, seed: int) -> Any:
    """sb3-contrib's CrossQ, one update a step; its Adam has the paper's decay too."""
    from sb3_contrib import CrossQ

    config = options_of(task)
    networks = {
        "net_arch": {"pi": list(config.hidden), "qf": list(config.critic_hidden)},
        "batch_norm_momentum": config.renorm_momentum, "renorm_warmup_steps": config.renorm_warm_up,
        "optimizer_kwargs": {"betas": (config.adam_beta, 0.999)},
    }  # fmt: skip
    learned = f"auto_{config.initial_temperature}"
    return CrossQ(
        "MlpPolicy", env, seed=seed, device="cpu", policy_kwargs=networks, train_freq=1, gradient_steps=1,
        ent_coef=learned if config.temperature is None else config.temperature,
        **same(config, *OFF_POLICY, "learning_rate", "policy_delay"),
    )  # fmt: skip


OFF_POLICY = ("gamma", "batch_size", "buffer_size", "learning_starts")
SB3_MODELS = {
    "ddpg": sb3_ddpg, "dqn": sb3_dqn, "ppo": sb3_ppo, "a2c": sb3_a2c, "td3": sb3_td3, "sac": sb3_sac,
    "tqc": sb3_tqc, "crossq": sb3_crossq,
}  # fmt: skip


def sb3_returns(task: LearningTask, seed: int, evaluation_seed: int) -> list[float]:
    """Train stable-baselines3's algorithm; return its evaluation returns."""
    import torch
    from stable_baselines3.common.evaluation import evaluate_policy

    torch.set_num_threads(1)
    model = SB3_MODELS[task.agent](task, training_env(task, seed), seed)
    model.learn(task.total_steps)
    env = evaluation_env(task, model, evaluation_seed)
    returns, _ = evaluate_policy(model, env, task.eval_episodes, return_episode_rewards=True)
    return [float(value) for value in returns]


def training_env(task: LearningTask, seed: int) -> Any:
    """The environments of a task, normalised where it says so."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    import rlkit.envs.registration  # noqa: F401  # registers rlkit's environments

    if task.num_envs == 1 and not task.wrap:
        return gym.make(task.env)
    env = make_vec_env(task.env, n_envs=task.num_envs, seed=seed)
    if not task.wrap:
        return env
    assert set(task.wrap) <= set(NORMALIZERS), task.wrap
    obs, reward = (name in task.wrap for name in NORMALIZERS)
    return VecNormalize(env, norm_obs=obs, norm_reward=reward, gamma=options_of(task).gamma)


def evaluation_env(task: LearningTask, model: Any, seed: int) -> Any:
    """One fresh environment with the statistics of training, rewards as they are."""
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    env = DummyVecEnv([lambda: Monitor(gym.make(task.env))])
    env.seed(seed)
    trained = model.get_vec_normalize_env()
    if trained is None:
        return env
    normalised = VecNormalize(env, training=False, norm_obs=trained.norm_obs, norm_reward=False)
    normalised.obs_rms = trained.obs_rms
    return normalised
