"""Training DDPG, TD3 and SAC: networks 256x256, one update per env step (TD3: of the actor every second one)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from speed_measures import cleanrl
from speed_measures.job import WARM_UP, Job, clocked_seconds, register_clocked_env

SETTINGS = {"gamma": 0.99, "tau": 0.005, "batch_size": 256, "buffer_size": 1_000_000}
LEARNING_RATE = {"ddpg": 1e-3, "td3": 1e-3, "sac": 3e-4}
NOISE_SIGMA = 0.1
HIDDEN = (256, 256)
NOISE: Mapping[str, Any] = {"noise": "gaussian", "noise_sigma": NOISE_SIGMA}
OWN: Mapping[str, Mapping[str, Any]] = {
    "ddpg": NOISE, "td3": {**NOISE, "policy_delay": 2, "target_noise": 0.2}, "sac": {},
}  # fmt: skip


def by_rlkit(job: Job, folder: Path) -> float:
    """Train rlkit's agent as `rlkit train` does."""
    import rlkit

    own = {"hidden": HIDDEN, "learning_starts": WARM_UP, "update_to_data_ratio": 1.0, "n_step": 1, **OWN[job.work]}
    rlkit.train(
        job.work, register_clocked_env(job), total_steps=job.total_steps, run_dir=folder / "run", preset="none",
        seed=job.seed, agent_config={**SETTINGS, "learning_rate": LEARNING_RATE[job.work], **own}, eval_every=0,
        checkpoint_every=job.total_steps, device="cpu",
    )  # fmt: skip
    return clocked_seconds(job)


def by_sb3(job: Job, folder: Path) -> float:
    """Train stable-baselines3's algorithm."""
    import stable_baselines3

    return _as_sb3(stable_baselines3, {}, job, folder)


def by_sbx(job: Job, folder: Path) -> float:
    """Train sbx's algorithm, in an interpreter that has it; one step size for actor and critic."""
    import sbx

    return _as_sb3(sbx, {"qf_learning_rate": LEARNING_RATE[job.work]}, job, folder)


def _as_sb3(library: Any, more: Mapping[str, Any], job: Job, folder: Path) -> float:
    import numpy as np
    from stable_baselines3.common.noise import NormalActionNoise

    env = gym.make(register_clocked_env(job))
    size = env.action_space.shape
    noise = NormalActionNoise(np.zeros(size), NOISE_SIGMA * np.ones(size)) if job.work != "sac" else None
    model = getattr(library, job.work.upper())(
        "MlpPolicy", env, **SETTINGS, **more, learning_rate=LEARNING_RATE[job.work], learning_starts=WARM_UP,
        train_freq=1, gradient_steps=1, action_noise=noise, policy_kwargs={"net_arch": list(HIDDEN)},
        tensorboard_log=str(folder), verbose=0, seed=job.seed, device="cpu",
    )  # fmt: skip
    model.learn(job.total_steps)
    return clocked_seconds(job)


def ddpg_cleanrl(job: Job, folder: Path) -> float:
    """Run CleanRL's DDPG script; its networks are 256x256."""
    # its counter starts from 0 and it learns after `learning_starts`, so this is the first update after step 1,001
    options = {**SETTINGS, "learning_rate": LEARNING_RATE["ddpg"], "exploration_noise": NOISE_SIGMA}
    options |= {"learning_starts": WARM_UP - 1, "policy_frequency": 1}
    return cleanrl.run_cleanrl(cleanrl.DDPG, job, folder, options)
