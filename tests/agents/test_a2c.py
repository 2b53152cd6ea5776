"""A2C's own promises: one update a rollout, its optimisers, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit.agents.a2c import A2C, A2CConfig
from rlkit.nn.optim import Adam
from rlkit.nn.rmsprop import RMSProp
from rlkit.types import Task

TASK = Task(spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3), total_steps=400)


@pytest.mark.parametrize(("name", "kind", "state"), [("rmsprop", RMSProp, "square"), ("adam", Adam, "exp_avg")])
def test_either_optimiser_is_saved_with_its_state(name: Any, kind: type, state: str) -> None:
    agent = A2C(A2CConfig(optimizer=name), TASK)
    assert isinstance(agent.optimizer, kind)
    assert agent.optimizer.eps == 1e-5
    assert state in agent.training_state()["optimizer"]


def test_its_learning_rate_falls_where_told_to(tmp_path: Path) -> None:
    options = {"learning_rate_schedule": "linear", "learning_rate": 1e-3, "n_steps": 10}
    result = rlkit.train(
        "a2c", "CartPole-v1", total_steps=80, num_envs=2, run_dir=tmp_path / "run", agent_config=options,
        preset="none", eval_every=0,
    )  # fmt: skip
    assert result.agent.optimizer.learning_rate == 0.0


def test_it_learns_to_keep_the_pole_up(tmp_path: Path) -> None:
    result = rlkit.train("a2c", "CartPole-v1", total_steps=60_000, run_dir=tmp_path / "run", seed=0, eval_every=0)
    assert rlkit.evaluate(result.run_dir, episodes=20, seed=1).mean > 150
