"""Training PPO on 8 environments: 128 steps each, 4 epochs, minibatches of 256, two networks 64-64 with tanh.

The settings are CleanRL's, without its falling step size and its clipped value loss, which the others lack by default.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from speed_measures import cleanrl
from speed_measures.job import Job, StepClock, clocked_seconds, register_clocked_env

NUM_ENVS, N_STEPS, EPOCHS, BATCH_SIZE = 8, 128, 4, 256
SETTINGS = {"learning_rate": 2.5e-4, "gamma": 0.99, "gae_lambda": 0.95, "max_grad_norm": 0.5}
HIDDEN = (64, 64)
CLIP_RANGE, ENTROPY, VALUE = 0.2, 0.01, 0.5


def each_env(job: Job) -> Job:
    """The job as one of the environments counts it; whole rollouts, so that each timed one has its update."""
    return replace(job, steps=job.steps // NUM_ENVS // N_STEPS * N_STEPS)


def all_steps(job: Job) -> int:
    """Env steps of training; the rollout after the last timed one is finished."""
    own = each_env(job)
    return (own.untimed_steps + own.steps + N_STEPS) * NUM_ENVS


def ppo_rlkit(job: Job, folder: Path) -> float:
    """Train rlkit's PPO as `rlkit train` does, on gymnasium's environments."""
    _train_rlkit(job, folder, register_clocked_env(each_env(job)), "serial")
    return clocked_seconds(each_env(job))


def ppo_rlkit_compiled(job: Job, folder: Path) -> float:
    """The same on rlkit's compiled vector environment, which notes the times itself."""
    from rlkit.envs import classic_vector

    own = each_env(job)
    plain, steps = classic_vector.ClassicVectorEnv.step, [0]

    def clocked(self: Any, *arguments: Any) -> Any:
        steps[0] += 1
        if steps[0] in (own.untimed_steps + 1, own.total_steps):
            StepClock.marks[steps[0]] = time.perf_counter()
        return plain(self, *arguments)

    classic_vector.ClassicVectorEnv.step = clocked  # type: ignore[method-assign]
    _train_rlkit(job, folder, job.env, "compiled")
    return clocked_seconds(own)


def _train_rlkit(job: Job, folder: Path, env: str, vector: str) -> None:
    import rlkit

    own = {
        "n_steps": N_STEPS, "epochs": EPOCHS, "batch_size": BATCH_SIZE, "hidden": HIDDEN, "activation": "tanh",
        "clip_range": CLIP_RANGE, "entropy_coefficient": ENTROPY, "value_coefficient": VALUE,
        "normalize_advantage": True,
    }  # fmt: skip
    rlkit.train(
        "ppo", env, total_steps=all_steps(job), run_dir=folder / "run", preset="none", seed=job.seed,
        num_envs=NUM_ENVS, vector=vector, agent_config={**SETTINGS, **own}, eval_every=0,
        checkpoint_every=all_steps(job), device="cpu",
    )  # fmt: skip


def ppo_sb3(job: Job, folder: Path) -> float:
    """Train stable-baselines3's PPO."""
    from stable_baselines3 import PPO
    from torch import nn

    return train_as_sb3(PPO, job, folder, nn.Tanh)


def ppo_sbx(job: Job, folder: Path) -> float:
    """Train sbx's PPO, in an interpreter that has it."""
    import sbx
    from flax import linen

    return train_as_sb3(sbx.PPO, job, folder, linen.tanh)


def train_as_sb3(algorithm: Any, job: Job, folder: Path, tanh: Any) -> float:
    """Train what has the constructor of stable-baselines3's PPO."""
    from stable_baselines3.common.env_util import make_vec_env

    model = algorithm(
        "MlpPolicy", make_vec_env(register_clocked_env(each_env(job)), n_envs=NUM_ENVS, seed=job.seed), **SETTINGS,
        n_steps=N_STEPS, n_epochs=EPOCHS, batch_size=BATCH_SIZE, clip_range=CLIP_RANGE, ent_coef=ENTROPY,
        vf_coef=VALUE, policy_kwargs={"net_arch": list(HIDDEN), "activation_fn": tanh}, tensorboard_log=str(folder),
        verbose=0, seed=job.seed, device="cpu",
    )  # fmt: skip
    model.learn(all_steps(job))
    return clocked_seconds(each_env(job))


def ppo_cleanrl(job: Job, folder: Path) -> float:
    """Run CleanRL's PPO script; its networks are 64-64 with tanh."""
    options = {
        **SETTINGS, "num_envs": NUM_ENVS, "num_steps": N_STEPS, "update_epochs": EPOCHS,
        "num_minibatches": NUM_ENVS * N_STEPS // BATCH_SIZE, "clip_coef": CLIP_RANGE, "ent_coef": ENTROPY,
        "vf_coef": VALUE,
    }  # fmt: skip
    flags = ("--no-anneal-lr", "--no-clip-vloss")
    return cleanrl.run_cleanrl(cleanrl.PPO, each_env(job), folder, options, flags, total_steps=all_steps(job))
