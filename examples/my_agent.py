"""A linear policy found by the cross-entropy method (Szita and Lorincz 2006): an agent of one's own in 60 lines."""

import numpy as np
from gymnasium import spaces
from pydantic import Field

from rlkit.config import AgentConfig
from rlkit.seeding import generator


class MyAgentConfig(AgentConfig):
    population: int = Field(16, ge=2)
    """episodes between two updates"""
    elite: int = Field(4, ge=1)
    """best episodes that the next generation is drawn around"""
    extra_noise: float = Field(0.2, ge=0)
    """standard deviation that is never gone below"""


class MyAgent:
    Config = MyAgentConfig

    @classmethod
    def supports(cls, task):
        fits = isinstance(task.action_space, spaces.Discrete) and isinstance(task.observation_space, spaces.Box)
        return None if fits else "it needs Discrete actions and Box observations"

    def __init__(self, config, task):
        self.config, self.first_action = config, task.action_space.start
        self.rng = generator(task.seed, "my-agent")
        self.mean = np.zeros((int(np.prod(task.observation_space.shape)), int(task.action_space.n)))
        self.std = np.ones_like(self.mean)
        self.weights = self.rng.normal(self.mean, self.std, (task.num_envs, *self.mean.shape))  # one draw per env
        self.returns = np.zeros(task.num_envs)
        self.episodes = []  # (return, weights) since the last update

    def initial_carry(self, num_envs):
        return ()  # nothing to remember between steps

    def reset_carry(self, carry, ended):
        return carry

    def act(self, obs, carry, *, explore, rng, action_mask=None):
        weights = self.weights if explore else self.mean[None]
        scores = np.einsum(
            "no,noa->na", obs.reshape(len(obs), -1), np.broadcast_to(weights, (len(obs), *self.mean.shape))
        )
        return self.first_action + scores.argmax(axis=1), carry, {}

    def observe(self, step, carry):
        self.returns += step.reward
        for row in np.flatnonzero(step.ended):
            self.episodes.append((float(self.returns[row]), self.weights[row].copy()))
            self.returns[row] = 0.0
            self.weights[row] = self.rng.normal(self.mean, self.std)

    def update(self):
        if len(self.episodes) < self.config.population:
            return {}
        best = sorted(self.episodes, key=lambda episode: episode[0])[-self.config.elite :]
        elite = np.stack([weights for _, weights in best])
        self.mean, self.std = elite.mean(axis=0), elite.std(axis=0) + self.config.extra_noise
        self.episodes = []
        return {"train/elite_return": sum(value for value, _ in best) / len(best)}

    def policy_state(self):
        return {"mean": self.mean}

    def load_policy_state(self, state):
        self.mean = state["mean"]

    def training_state(self):
        plain = {name: getattr(self, name) for name in ("std", "weights", "returns", "episodes")}
        return plain | {"rng": self.rng.bit_generator.state}

    def load_training_state(self, state):
        self.rng.bit_generator.state = state["rng"]
        self.std, self.weights, self.returns = state["std"], state["weights"], state["returns"]
        self.episodes = state["episodes"]
