"""Training skrl's DDPG, TD3 and SAC as its gymnasium examples do, without checkpoints.

Import it where skrl is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from skrl.agents.torch.ddpg import DDPG, DDPG_CFG
from skrl.agents.torch.sac import SAC, SAC_CFG
from skrl.agents.torch.td3 import TD3, TD3_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.resources.noises.torch import GaussianNoise
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from torch import nn

from speed_measures.job import WARM_UP, Job, clocked_seconds, register_clocked_env
from speed_measures.off_policy import HIDDEN, LEARNING_RATE, NOISE_SIGMA, OWN, SETTINGS

AGENTS = {"ddpg": (DDPG, DDPG_CFG), "td3": (TD3, TD3_CFG), "sac": (SAC, SAC_CFG)}


def layers(inputs: int, outputs: int) -> list[nn.Module]:
    """The layers of all networks."""
    first, second = HIDDEN
    return [nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, outputs)]


class Actor(DeterministicMixin, Model):
    """Actions of DDPG and TD3."""

    def __init__(self, spaces: dict[str, Any]) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = nn.Sequential(*layers(self.num_observations, self.num_actions), nn.Tanh())

    def compute(self, inputs: dict[str, torch.Tensor], role: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Actions [B, A]."""
        return self.net(inputs["observations"]), {}


class StochasticActor(GaussianMixin, Model):
    """Distributions of SAC's actions: as in skrl's example, their means are squashed instead of what is drawn."""

    def __init__(self, spaces: dict[str, Any]) -> None:
        Model.__init__(self, **spaces)
        GaussianMixin.__init__(self)
        self.net = nn.Sequential(*layers(self.num_observations, 2 * self.num_actions))

    def compute(self, inputs: dict[str, torch.Tensor], role: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Means [B, A]; the logarithms of the deviations depend on the observation, as in the other libraries."""
        mean, log_std = self.net(inputs["observations"]).chunk(2, dim=-1)
        return mean.tanh(), {"log_std": log_std}


class Critic(DeterministicMixin, Model):
    """Q of observation and action."""

    def __init__(self, spaces: dict[str, Any]) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = nn.Sequential(*layers(self.num_observations + self.num_actions, 1))

    def compute(self, inputs: dict[str, torch.Tensor], role: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Values [B, 1]."""
        return self.net(torch.cat([inputs["observations"], inputs["taken_actions"]], dim=1)), {}


def train(job: Job, folder: Path) -> float:
    """Train by skrl's own trainer."""
    set_seed(job.seed)
    env = wrap_env(gym.make(register_clocked_env(job)), verbose=False)
    spaces = {
        "observation_space": env.observation_space, "state_space": env.state_space,
        "action_space": env.action_space, "device": "cpu",
    }  # fmt: skip
    # its default, drawing without replacement, permutes the whole replay for every batch
    memory = RandomMemory(memory_size=SETTINGS["buffer_size"], device="cpu", replacement=True)
    agent_class, config_class = AGENTS[job.work]
    cfg = config_class(**config(job, folder))
    agent = agent_class(models=models(job.work, spaces), memory=memory, cfg=cfg, **spaces)
    quiet = {"timesteps": job.total_steps, "headless": True, "disable_progressbar": True}
    SequentialTrainer(env=env, agents=agent, cfg=quiet).train()
    agent.writer.close()
    return clocked_seconds(job)


def models(work: str, spaces: dict[str, Any]) -> dict[str, Model]:
    """The agent's networks by skrl's names for them."""
    if work == "sac":
        names = ["critic_1", "critic_2", "target_critic_1", "target_critic_2"]
        return {"policy": StochasticActor(spaces), **{name: Critic(spaces) for name in names}}
    numbers = ("",) if work == "ddpg" else ("_1", "_2")
    names = [f"{kind}{number}" for kind in ("critic", "target_critic") for number in numbers]
    return {"policy": Actor(spaces), "target_policy": Actor(spaces), **{name: Critic(spaces) for name in names}}


def config(job: Job, folder: Path) -> dict[str, Any]:
    """The agent's settings; its first update follows env step 1,001."""
    result: dict[str, Any] = {
        "batch_size": SETTINGS["batch_size"], "discount_factor": SETTINGS["gamma"], "polyak": SETTINGS["tau"],
        "learning_rate": LEARNING_RATE[job.work], "random_timesteps": WARM_UP, "learning_starts": WARM_UP,
        "experiment": {"directory": str(folder), "checkpoint_interval": 0},
    }  # fmt: skip
    if job.work == "sac":
        return result
    result |= {"exploration_noise": GaussianNoise, "exploration_noise_kwargs": {"mean": 0.0, "std": NOISE_SIGMA}}
    if job.work == "td3":
        noise = {"mean": 0.0, "std": OWN["td3"]["target_noise"]}
        result |= {"smooth_regularization_noise": GaussianNoise, "smooth_regularization_noise_kwargs": noise}
        result |= {"smooth_regularization_clip": 0.5, "policy_delay": OWN["td3"]["policy_delay"]}
    return result
