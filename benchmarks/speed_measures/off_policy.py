"""Training TD3 and SAC: networks 256x256, one update per env step (TD3: the actor's every second one)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from speed_measures.job import WARM_UP, Job, clocked_seconds, register_clocked_env

SETTINGS = {"gamma": 0.99, "tau": 0.005, "batch_size": 256, "buffer_size": 1_000_000, "learning_starts": WARM_UP}
LEARNING_RATE = {"td3": 1e-3, "sac": 3e-4}
NOISE_SIGMA = 0.1
HIDDEN = (256, 256)


def td3_rlkit(job: Job, folder: Path) -> float:
    """Train rlkit's TD3 as `rlkit train` does."""
    own = {"noise": "gaussian", "noise_sigma": NOISE_SIGMA, "policy_delay": 2, "target_noise": 0.2}
    return _by_rlkit("td3", own, job, folder)


def sac_rlkit(job: Job, folder: Path) -> float:
    """Train rlkit's SAC as `rlkit train` does."""
    return _by_rlkit("sac", {}, job, folder)


def _by_rlkit(agent: str, own: Mapping[str, Any], job: Job, folder: Path) -> float:
    import rlkit

    shared = {"learning_rate": LEARNING_RATE[agent], "hidden": HIDDEN, "update_to_data_ratio": 1.0, "n_step": 1}
    rlkit.train(
        agent, register_clocked_env(job), total_steps=job.total_steps, run_dir=folder / "run", preset="none",
        seed=job.seed, agent_config={**SETTINGS, **shared, **own}, eval_every=0, checkpoint_every=job.total_steps,
        device="cpu",
    )  # fmt: skip
    return clocked_seconds(job)


def td3_sb3(job: Job, folder: Path) -> float:
    """Train stable-baselines3's TD3."""
    import numpy as np
    from stable_baselines3 import TD3
    from stable_baselines3.common.noise import NormalActionNoise

    env = gym.make(register_clocked_env(job))
    size = env.action_space.shape
    noise = NormalActionNoise(np.zeros(size), NOISE_SIGMA * np.ones(size))
    model = TD3("MlpPolicy", env, action_noise=noise, **_for_sb3("td3", job, folder))
    model.learn(job.total_steps)
    return clocked_seconds(job)


def sac_sb3(job: Job, folder: Path) -> float:
    """Train stable-baselines3's SAC."""
    from stable_baselines3 import SAC

    model = SAC("MlpPolicy", gym.make(register_clocked_env(job)), **_for_sb3("sac", job, folder))
    model.learn(job.total_steps)
    return clocked_seconds(job)


def _for_sb3(agent: str, job: Job, folder: Path) -> dict[str, Any]:
    return {
        **SETTINGS, "learning_rate": LEARNING_RATE[agent], "train_freq": 1, "gradient_steps": 1,
        "policy_kwargs": {"net_arch": list(HIDDEN)}, "tensorboard_log": str(folder), "verbose": 0, "seed": job.seed,
        "device": "cpu",
    }  # fmt: skip
