"""Training DDPG: networks 256x256, one update of critic, actor and targets per env step."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym

from speed_measures import cleanrl
from speed_measures.job import WARM_UP, Job, clocked_seconds, register_clocked_env

SETTINGS = {"learning_rate": 1e-3, "gamma": 0.99, "tau": 0.005, "batch_size": 256, "buffer_size": 1_000_000}
NOISE_SIGMA = 0.1
HIDDEN = (256, 256)


def ddpg_rlkit(job: Job, folder: Path) -> float:
    """Train rlkit's DDPG as `rlkit train` does."""
    import rlkit

    own = {"learning_starts": WARM_UP, "noise": "gaussian", "noise_sigma": NOISE_SIGMA, "hidden": HIDDEN}
    rlkit.train(
        "ddpg", register_clocked_env(job), total_steps=job.total_steps, run_dir=folder / "run", preset="none",
        seed=job.seed, agent_config={**SETTINGS, **own, "update_to_data_ratio": 1.0, "n_step": 1},
        eval_every=0, checkpoint_every=job.total_steps, device="cpu",
    )  # fmt: skip
    return clocked_seconds(job)


def ddpg_sb3(job: Job, folder: Path) -> float:
    """Train stable-baselines3's DDPG."""
    import numpy as np
    from stable_baselines3 import DDPG
    from stable_baselines3.common.noise import NormalActionNoise

    env = gym.make(register_clocked_env(job))
    size = env.action_space.shape
    model = DDPG(
        "MlpPolicy", env, **SETTINGS, learning_starts=WARM_UP, train_freq=1, gradient_steps=1,
        action_noise=NormalActionNoise(np.zeros(size), NOISE_SIGMA * np.ones(size)),
        policy_kwargs={"net_arch": list(HIDDEN)}, tensorboard_log=str(folder), verbose=0, seed=job.seed, device="cpu",
    )  # fmt: skip
    model.learn(job.total_steps)
    return clocked_seconds(job)


def ddpg_cleanrl(job: Job, folder: Path) -> float:
    """Run CleanRL's DDPG script; its networks are 256x256."""
    # its counter starts from 0 and it learns after `learning_starts`, so this is the first update after step 1,001
    options = {**SETTINGS, "exploration_noise": NOISE_SIGMA, "learning_starts": WARM_UP - 1, "policy_frequency": 1}
    return cleanrl.run_cleanrl(cleanrl.DDPG, job, folder, options)
