"""Training DQN with CleanRL's settings: network 120-84, batch 128, one update every 4 env steps.

Where the peers' updates differ: rlkit, SB3 and sbx take Huber's loss, CleanRL the squared one; rlkit and SB3 also limit
the gradient's length. Every run's ε falls over its first half.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym

from speed_measures import cleanrl
from speed_measures.job import WARM_UP, Job, clocked_seconds, register_clocked_env

SETTINGS = {"learning_rate": 2.5e-4, "gamma": 0.99, "batch_size": 128, "buffer_size": 10_000}
TRAIN_EVERY, TARGET_EVERY = 4, 500  # env steps
FINAL_EPSILON, EPSILON_FRACTION = 0.05, 0.5
HIDDEN = (120, 84)


def dqn_rlkit(job: Job, folder: Path) -> float:
    """Train rlkit's DQN as `rlkit train` does."""
    import rlkit

    own = {
        "learning_starts": WARM_UP, "train_every": TRAIN_EVERY, "gradient_steps": 1, "hidden": HIDDEN,
        "target_update_every": TARGET_EVERY, "tau": 1.0, "loss": "huber", "max_grad_norm": 10.0,
        "epsilon": 1.0, "final_epsilon": FINAL_EPSILON, "epsilon_fraction": EPSILON_FRACTION,
    }  # fmt: skip
    rlkit.train(
        "dqn", register_clocked_env(job), total_steps=job.total_steps, run_dir=folder / "run", preset="none",
        seed=job.seed, agent_config={**SETTINGS, **own}, eval_every=0, checkpoint_every=job.total_steps, device="cpu",
    )  # fmt: skip
    return clocked_seconds(job)


def dqn_sb3(job: Job, folder: Path) -> float:
    """Train stable-baselines3's DQN."""
    from stable_baselines3 import DQN

    return train_as_sb3(DQN, job, folder, max_grad_norm=10.0)


def dqn_sbx(job: Job, folder: Path) -> float:
    """Train sbx's DQN, in an interpreter that has it; it compiles before the clock starts."""
    import sbx
    import sbx.dqn.policies

    sbx.dqn.policies.QNetwork = two_widths()  # its own has one width for both layers
    return train_as_sb3(sbx.DQN, job, folder)


def train_as_sb3(algorithm: Any, job: Job, folder: Path, **more: float) -> float:
    """Train what has the constructor of stable-baselines3's DQN."""
    model = algorithm(
        "MlpPolicy", gym.make(register_clocked_env(job)), **SETTINGS, **more, learning_starts=WARM_UP,
        train_freq=TRAIN_EVERY, gradient_steps=1, target_update_interval=TARGET_EVERY,
        exploration_initial_eps=1.0, exploration_final_eps=FINAL_EPSILON, exploration_fraction=EPSILON_FRACTION,
        policy_kwargs={"net_arch": list(HIDDEN)}, tensorboard_log=str(folder), verbose=0, seed=job.seed, device="cpu",
    )  # fmt: skip
    model.learn(job.total_steps)
    return clocked_seconds(job)


def two_widths() -> Any:
    """A network for sbx with the widths of `HIDDEN`."""
    from collections.abc import Callable

    import jax
    from flax import linen

    class QNetwork(linen.Module):
        n_actions: int
        n_units: int
        activation_fn: Callable[[jax.Array], jax.Array]

        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for width in HIDDEN:
                x = self.activation_fn(linen.Dense(width)(x))
            return linen.Dense(self.n_actions)(x)

    return QNetwork


def dqn_cleanrl(job: Job, folder: Path) -> float:
    """Run CleanRL's DQN script; its network is 120-84."""
    options = {**SETTINGS, "learning_starts": WARM_UP - 1, "train_frequency": TRAIN_EVERY, "tau": 1.0}
    options |= {"target_network_frequency": TARGET_EVERY, "start_e": 1.0, "end_e": FINAL_EPSILON}
    return cleanrl.run_cleanrl(cleanrl.DQN, job, folder, {**options, "exploration_fraction": EPSILON_FRACTION})
