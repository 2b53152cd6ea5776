"""What `agents_learning.py` trains: environments, budgets and hyperparameters, given to every library alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).parent.parent / "configs"


@dataclass(frozen=True)
class LearningTask:
    """One environment, one budget and one set of hyperparameters, given to every library alike."""

    agent: str
    env: str
    total_steps: int
    eval_episodes: int
    settings: dict[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()  # what else the environment is made of
    num_envs: int = 1
    wrap: tuple[str, ...] = ()
    beside: tuple[str, str] | None = None  # task and library of the peer's runs, where it is not this task's


# The tuned settings of rl-baselines3-zoo (hyperparams/dqn.yml at 22e3ff2) under the names of rlkit's DQN. Acrobot and
# LunarLander share theirs; the zoo's `gradient_steps: -1`, as many updates as env steps, is spelt out.
DQN_COMMON = {"hidden": (256, 256), "loss": "huber", "max_grad_norm": 10.0, "epsilon": 1.0}
DQN_CARTPOLE = {
    **DQN_COMMON, "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1_000,
    "gamma": 0.99, "target_update_every": 10, "train_every": 256, "gradient_steps": 128, "epsilon_fraction": 0.16,
    "final_epsilon": 0.04,
}  # fmt: skip
DQN_MOUNTAINCAR = {
    **DQN_COMMON, "learning_rate": 4e-3, "batch_size": 128, "buffer_size": 10_000, "learning_starts": 1_000,
    "gamma": 0.98, "target_update_every": 600, "train_every": 16, "gradient_steps": 8, "epsilon_fraction": 0.2,
    "final_epsilon": 0.07,
}  # fmt: skip
DQN_ACROBOT = {
    **DQN_COMMON, "learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 0,
    "gamma": 0.99, "target_update_every": 250, "train_every": 4, "gradient_steps": 4, "epsilon_fraction": 0.12,
    "final_epsilon": 0.1,
}  # fmt: skip

# Hyperparameters under rlkit's names; `SB3_MODELS` translates them. Networks are 256x256, except in presets.
TASKS = {
    "ddpg_pendulum": LearningTask(
        "ddpg", "Pendulum-v1", 20_000, 50,
        {"learning_rate": 1e-3, "gamma": 0.98, "batch_size": 256, "tau": 0.005, "buffer_size": 200_000,
         "learning_starts": 1_000, "noise": "gaussian", "noise_sigma": 0.1},
    ),
    "ddpg_mountaincarcontinuous": LearningTask(
        "ddpg", "MountainCarContinuous-v0", 50_000, 50,
        {"learning_rate": 1e-3, "gamma": 0.99, "batch_size": 256, "tau": 0.005, "buffer_size": 200_000,
         "learning_starts": 1_000, "noise": "ornstein-uhlenbeck", "noise_sigma": 2.4, "noise_theta": 3.0},
    ),
    "ddpg_halfcheetah": LearningTask(
        "ddpg", "HalfCheetah-v5", 30_000, 10,
        {"learning_rate": 1e-3, "gamma": 0.99, "batch_size": 256, "tau": 0.005, "buffer_size": 200_000,
         "learning_starts": 10_000, "noise": "gaussian", "noise_sigma": 0.1},
    ),
    "dqn_cartpole": LearningTask("dqn", "CartPole-v1", 50_000, 50, DQN_CARTPOLE),
    "dqn_mountaincar": LearningTask("dqn", "MountainCar-v0", 120_000, 50, DQN_MOUNTAINCAR),
    "dqn_acrobot": LearningTask("dqn", "Acrobot-v1", 100_000, 50, DQN_ACROBOT),
    "dqn_lunarlander": LearningTask("dqn", "LunarLander-v3", 100_000, 50, DQN_ACROBOT, ("box2d",)),
}  # fmt: skip


PACKAGES = {"LunarLander-v3": ("box2d",), "BipedalWalker-v3": ("box2d",), "HalfCheetah-v5": ("mujoco",),
            "Hopper-v5": ("mujoco",)}  # fmt: skip


def of_preset(
    name: str, beside: tuple[str, str] | None = None, *, total_steps: int | None = None, eval_episodes: int = 50
) -> LearningTask:
    """What rlkit's preset of this name says, for every library, or compared with the runs of another task."""
    preset = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    settings = {key: value for key, value in preset["agent"].items() if key != "name"}
    env = preset["envs"][0]
    return LearningTask(
        preset["agent"]["name"], env, total_steps or preset["total_steps"], eval_episodes, settings,
        PACKAGES.get(env, ()), preset.get("num_envs", 1), tuple(preset.get("wrap", ())), beside,
    )  # fmt: skip


DQN_ENVS = ("cartpole", "mountaincar", "acrobot", "lunarlander")
TASKS |= {f"dqn_{env}_preset": of_preset(f"dqn_{env}", (f"dqn_{env}", "sb3")) for env in DQN_ENVS}
TASKS |= {f"rainbow_{env}": of_preset(f"rainbow_{env}", (f"dqn_{env}_preset", "rlkit")) for env in DQN_ENVS}

# The actor-critic family with the settings of its presets, which are rl-baselines3-zoo's where it has them.
TASKS |= {
    "ppo_cartpole": of_preset("ppo_cartpole"),
    "ppo_acrobot": of_preset("ppo_acrobot"),
    "ppo_lunarlander": of_preset("ppo_lunarlander"),
    "ppo_pendulum": of_preset("ppo_pendulum"),
    "a2c_cartpole": of_preset("a2c_cartpole"),
    "td3_pendulum": of_preset("td3_pendulum"),
    "sac_pendulum": of_preset("sac_pendulum"),
    "tqc_pendulum": of_preset("tqc_pendulum"),
    "crossq_pendulum": of_preset("crossq_pendulum"),
    "td3_mountaincarcontinuous": of_preset("td3_mountaincarcontinuous"),
    "sac_mountaincarcontinuous": of_preset("sac_mountaincarcontinuous"),
    "td3_halfcheetah": of_preset("td3_halfcheetah", total_steps=50_000, eval_episodes=10),
    "sac_hopper": of_preset("sac_hopper", total_steps=30_000, eval_episodes=10),
    "td3_bipedalwalker": of_preset("td3_bipedalwalker", total_steps=300_000, eval_episodes=20),
}

# Policies that remember, beside ones that do not. Peers: sb3-contrib's recurrent PPO where the task has one.
MEMORY_PPO: dict[str, Any] = {
    "learning_rate": 1e-3, "learning_rate_schedule": "linear", "n_steps": 104, "batch_size": 416, "epochs": 10,
    "entropy_coefficient": 0.01,
}  # fmt: skip
CORES: dict[str, dict[str, Any]] = {
    "none": {},
    "gru": {"core": "gru", "share_core": True},
    "transformer": {"core": "transformer", "core_context": 64, "share_core": True},
}
# rl-baselines3-zoo's settings of its recurrent PPO (hyperparams/ppo_lstm.yml); what it does not name is sb3-contrib's.
NO_VELOCITY_PPO: dict[str, Any] = {
    "learning_rate": 1e-3, "learning_rate_schedule": "linear", "n_steps": 32, "batch_size": 256, "epochs": 20,
    "gamma": 0.98, "gae_lambda": 0.8, "clip_range_schedule": "linear",
}  # fmt: skip
for _core, _options in CORES.items():
    TASKS |= {
        f"memory_tmaze_{_core}": LearningTask(
            "ppo", "rlkit/TMaze-v0", 150_000, 100, {**MEMORY_PPO, **_options}, num_envs=16,
            beside=("memory_tmaze_none", "rlkit") if _core != "none" else None,
        ),
        # a gated unit takes longer over the four steps between, and a larger step size
        f"memory_repeat_{_core}": LearningTask(
            "ppo", "rlkit/RepeatPrevious-v0", 150_000 if _core == "transformer" else 300_000, 100,
            {**MEMORY_PPO, **_options, **({"learning_rate": 3e-3} if _core == "gru" else {})}, num_envs=16,
            beside=("memory_repeat_none", "rlkit") if _core != "none" else None,
        ),
    }  # fmt: skip
NO_VELOCITY_LSTM = {**NO_VELOCITY_PPO, "core": "lstm", "core_width": 256}
TASKS |= {
    "memory_cartpole_lstm": LearningTask(
        "ppo", "rlkit/CartPoleNoVelocity-v0", 100_000, 50, NO_VELOCITY_LSTM, num_envs=8
    ),
    "memory_cartpole_lstm_normalized": LearningTask(
        "ppo", "rlkit/CartPoleNoVelocity-v0", 100_000, 50, NO_VELOCITY_LSTM, num_envs=8,
        wrap=("normalize-observation",),
    ),
    # Settings found on seeds above 100. A transformer's norms take small numbers for none, so they are brought to size.
    "memory_cartpole_transformer": LearningTask(
        "ppo", "rlkit/CartPoleNoVelocity-v0", 100_000, 50,
        {"core": "transformer", "core_context": 16, "learning_rate": 1e-3, "learning_rate_schedule": "linear",
         "n_steps": 128, "batch_size": 256, "epochs": 10, "hidden": (64,), "activation": "relu"},
        num_envs=8, wrap=("normalize-observation",), beside=("memory_cartpole_lstm", "sb3"),
    ),
}  # fmt: skip
TASKS |= {
    "ddpg_pendulumnovelocity": of_preset("ddpg_pendulumnovelocity"),
    "dqn_repeatprevious": of_preset("dqn_repeatprevious", eval_episodes=100),
    "reinforce_repeatprevious": of_preset("reinforce_repeatprevious", eval_episodes=100),
}
ENTITY_PPO: dict[str, Any] = {
    "learning_rate": 1e-3, "learning_rate_schedule": "linear", "n_steps": 128, "batch_size": 256, "epochs": 4,
    "entropy_coefficient": 0.01,
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "attention": {"encoder": "attention", "encoder_width": 32, "encoder_heads": 2, "share_core": True},
}
for _encoder, _options in ENCODERS.items():
    TASKS[f"entities_{_encoder}"] = LearningTask(
        "ppo", "rlkit/NearestMatch-v0", 200_000, 200, {**ENTITY_PPO, **_options}, num_envs=16,
        beside=("entities_mlp", "rlkit") if _encoder != "mlp" else None,
    )  # fmt: skip

# The protocol of published MuJoCo tables: a million steps. Warm-ups as in CleanRL (DDPG, TD3) and the zoo (SAC).
FULL_ENVS = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5", "walker2d": "Walker2d-v5", "ant": "Ant-v5"}
FULL_SETTINGS: dict[str, dict[str, Any]] = {
    "ddpg": {"learning_rate": 3e-4, "noise": "gaussian", "noise_sigma": 0.1, "learning_starts": 25_000},
    "td3": {"learning_rate": 3e-4, "learning_starts": 25_000},
    "sac": {"learning_starts": 10_000},
}
TASKS |= {
    f"{agent}_{name}_1m": LearningTask(agent, env, 1_000_000, 10, settings, ("mujoco",))
    for agent, settings in FULL_SETTINGS.items()
    for name, env in FULL_ENVS.items()
}

_1M = {
    "ddpg": (
        "Tianshou 11719 ± 466, CleanRL 10374 ± 157", "Tianshou 2197 ± 972, CleanRL 1577 ± 819",
        "Tianshou 1401 ± 905, CleanRL 1240 ± 390", "Tianshou 990 ± 4",
    ),
    "td3": (
        "paper 9637 ± 859, Tianshou 10201 ± 773, CleanRL 9583 ± 126", "paper 3564 ± 115, Tianshou 3472 ± 117",
        "paper 4683 ± 540, Tianshou 3982 ± 275", "paper 4372 ± 1000, Tianshou 5116 ± 800",
    ),
    "sac": (
        "Tianshou 12139 ± 1049, CleanRL 9635 ± 1424, zoo 9536", "Tianshou 3542 ± 52, CleanRL 2311 ± 343, zoo 2326",
        "Tianshou 5007 ± 252, CleanRL 3592 ± 911, zoo 3863", "Tianshou 5850 ± 476, zoo 4616",
    ),
}  # fmt: skip
# By the beginning of a task's name. Mean ± standard deviation over seeds, on other versions of the environments (v3,
# v4); rl-baselines3-zoo's are single runs ("not a quantitative benchmark", it says).
PUBLISHED = {
    "ddpg_pendulum": "zoo -152.1 (20k)",
    "ddpg_mountaincarcontinuous": "zoo 93.5 (300k)",
    "dqn_cartpole": "zoo 500 (50k), CleanRL 489 ± 16 (500k)",
    "dqn_mountaincar": "zoo -100.8 (120k), CleanRL -195 ± 8 (500k)",
    "dqn_acrobot": "zoo -76.6 (100k), CleanRL -91.5 ± 7.2 (500k)",
    "dqn_lunarlander": "zoo 154.4 (100k, v2)",
    "rainbow_cartpole": "C51: CleanRL 481 ± 21 (500k); QR-DQN: zoo 500",
    "rainbow_mountaincar": "C51: CleanRL -166 ± 28 (500k); QR-DQN: zoo -106.0",
    "rainbow_acrobot": "C51: CleanRL -87.7 ± 5.5 (500k); QR-DQN: zoo -69.1",
    "rainbow_lunarlander": "QR-DQN: zoo 70.2 (v2)",
    "ppo_cartpole": "zoo 500 (100k), CleanRL 490 ± 6 (500k)",
    "ppo_acrobot": "zoo -73.5 (1M), CleanRL -86.4 ± 1.3 (500k)",
    "ppo_lunarlander": "zoo 242.1 (1M, v2)",
    "ppo_pendulum": "zoo -172.2 (100k)",
    "a2c_cartpole": "zoo 500 (500k)",
    "td3_pendulum": "zoo -151.9 (20k)",
    "sac_pendulum": "zoo -157.0 (20k)",
    "td3_bipedalwalker": "zoo 306.0 (1M)",
    "memory_cartpole_lstm": "recurrent PPO: zoo 500",
    "ddpg_pendulumnovelocity": "recurrent PPO: zoo -217.9",
}
PUBLISHED |= {
    f"{agent}_{name}": f"1M: {said}" for agent, each in _1M.items() for name, said in zip(FULL_ENVS, each, strict=True)
}


def published(task: str) -> str:
    """What others report of a task, with their steps; empty where nothing is known."""
    found = [name for name in PUBLISHED if task.startswith(name)]
    return PUBLISHED[max(found, key=len)] if found else ""
