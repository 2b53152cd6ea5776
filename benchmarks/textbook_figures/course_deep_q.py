"""Zhao (2025), chapter 8: deep Q-learning on the course grid from a fixed set of uniformly random steps.

The network sees row and column as one-hot numbers, as rlkit flattens the grid's coordinates. Given them as two numbers,
the same network diverged with every learning rate (2e-3 to 5e-4) and target period (100 to 500 updates) tried: with so
few inputs the values of different cells pull each other up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlkit.agents.dqn import DQN
from rlkit.agents.dqn_config import DQNConfig
from rlkit.mdp import FiniteMDP
from rlkit.tabular.planning import optimal_action_values, policy_values
from rlkit.types import Floats as Float32s
from rlkit.types import Task, Transition
from textbook_figures.course_grid import GAMMA, SIDE, course_model, outcome_of, show
from textbook_figures.figure import Floats, Result, Scale, band, between, figure, near, tidy

REWARDS = {"reward_boundary": -10.0, "reward_forbidden": -10.0}
UPDATES, TARGET_EVERY, LOOKS = 10_000, 100, 50
DATASETS = (1000, 100)
SETTINGS: dict[str, Any] = {
    "hidden": (100,), "batch_size": 100, "learning_rate": 1e-3, "gamma": GAMMA, "max_grad_norm": None,
    "loss": "squared",
}  # fmt: skip


@figure("course-deep-q", "Deep Q-learning from 1,000 uniform steps finds an optimal policy, from 100 it does not")
def deep_q(scale: Scale) -> Result:
    """One episode of the uniform policy, then 10,000 updates from it and from nothing else."""
    torch.set_num_threads(1)
    model = course_model(**REWARDS)
    best = optimal_action_values(model, GAMMA)
    seeds = scale.runs(10)
    runs = {steps: [_trained(model, best, steps, seed) for seed in seeds] for steps in DATASETS}
    error = {steps: np.array([run[0] for run in found]) for steps, found in runs.items()}
    loss = {steps: np.array([run[1] for run in found]) for steps, found in runs.items()}
    policies = {steps: [run[2].argmax(axis=1) for run in found] for steps, found in runs.items()}
    optimal = {steps: np.mean([_is_optimal(model, best, policy) for policy in found])
               for steps, found in policies.items()}  # fmt: skip
    checks = [
        near("1,000 steps: share of seeds with an optimal policy", 1.0, optimal[1000], 0.1, "Zhao, figure 8.11"),
        near("100 steps: share of seeds with an optimal policy", 0.0, optimal[100], 0.1, "Zhao, figure 8.12"),
        between("1,000 steps: root mean square error of the state values at the end", 0.0, 0.5,
                error[1000][:, -1].mean(), "near zero"),
        between("100 steps: the same", 1.0, 100.0, error[100][:, -1].mean(), "stays far from zero"),
        between("100 steps: last loss over first, although it has learned nothing right", 0.0, 0.01,
                (loss[100][:, -1] / loss[100][:, 0]).mean(), "goes to zero"),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.set_size_inches(11.0, 3.2)
        left, middle, *grids = canvas.subplots(1, 4, width_ratios=(1.3, 1.3, 1, 1))
        x = np.linspace(0, UPDATES, LOOKS + 1)
        for steps in DATASETS:
            band(left, x, error[steps], f"{steps:,} steps")
            band(middle, x[1:], loss[steps], f"{steps:,} steps")
        left.set_ylim(0, None)
        middle.set_yscale("log")
        tidy(left, f"error of state values, {len(seeds)} seeds", "update", "")
        tidy(middle, "loss", "update", "", legend=False)
        for axes, steps in zip(grids, DATASETS, strict=True):
            values, policy = runs[steps][0][2].max(axis=1), np.eye(best.shape[1])[policies[steps][0]]
            show(axes, values, policy, f"{steps:,} steps (seed 0)")

    settings = {"seeds": len(seeds), "updates": UPDATES, "target copied every": TARGET_EVERY, **SETTINGS, **REWARDS}
    return Result(checks, draw, settings, {"value error": {str(k): v.mean(axis=0).tolist() for k, v in error.items()}})


def _trained(model: FiniteMDP, best: Floats, steps: int, seed: int) -> tuple[list[float], list[float], Floats]:
    """State-value errors and losses on the way, and the action values [S, A] at the end."""
    task = Task(spaces.Box(0.0, 1.0, (2 * SIDE,)), spaces.Discrete(model.num_actions), total_steps=steps, seed=seed)
    agent = DQN(DQNConfig(**SETTINGS), task)
    _collect(agent, model, steps, np.random.default_rng(seed))
    states, rng = torch.from_numpy(_coordinates(np.arange(SIDE * SIDE))), np.random.default_rng(seed)
    errors, losses = [], []
    for update in range(UPDATES + 1):
        if update % (UPDATES // LOOKS) == 0:
            values = agent.network.outputs(states)[:, :, 0].double().numpy()
            errors.append(float(np.sqrt(np.mean((values.max(axis=1) - best.max(axis=1)) ** 2))))
        if update % TARGET_EVERY == 0:
            agent.target_network.flat.copy_(agent.network.flat)
        found = agent.learn(agent.replay.sample(SETTINGS["batch_size"], rng))["train/loss"]
        if update % (UPDATES // LOOKS) == 1:
            losses.append(found)
    return errors, losses[:LOOKS], values


def _collect(agent: DQN, model: FiniteMDP, steps: int, rng: np.random.Generator) -> None:
    """One episode of the uniform policy from the top left corner, into the agent's replay."""
    next_state, rewards = outcome_of(model)
    state, never = 0, np.zeros(1, np.bool_)
    for _ in range(steps):
        action = int(rng.integers(model.num_actions))
        following = int(next_state[state, action])
        reward = np.array([rewards[state, action]], np.float32)
        obs, next_obs = _coordinates(np.array([state])), _coordinates(np.array([following]))
        agent.observe(Transition(obs, np.array([action]), reward, next_obs, never, never), ())
        state = following


def _coordinates(states: Any) -> Float32s:
    """Row and column, one-hot, float32 [S, 10]."""
    row, column = np.divmod(states, SIDE)
    return np.concatenate((np.eye(SIDE)[row], np.eye(SIDE)[column]), axis=1).astype(np.float32)


def _is_optimal(model: FiniteMDP, best: Floats, policy: Any) -> bool:
    values = policy_values(model, GAMMA, np.eye(model.num_actions)[policy])
    return bool(np.allclose(values, best.max(axis=1), atol=1e-6))
