"""A self-supervised objective beside the losses of DQN and DrQ-v2: who moves what, and how often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import rlkit
from rlkit import registry
from rlkit.agents.dqn import DQN, DQNConfig
from rlkit.agents.drqv2 import DrQv2, DrQv2Config
from rlkit.codec import copy_tree
from rlkit.errors import UnknownNameError, UnsupportedTaskError, UsageError
from rlkit.types import Task, Transition

ENV = f"{Path(__file__).parent.parent / 'picture_env.py'}:Square"
PICTURES = spaces.Box(0, 255, (16, 16, 1), np.uint8)
SMALL: dict[str, Any] = {"learning_starts": 8, "batch_size": 8, "hidden": (16,), "buffer_size": 64, "n_step": 1}


def agent_with(name: str | None, kind: str = "dqn", weight: float = 1.0) -> Any:
    auxiliary = None if name is None else registry.auxiliary(name, weight)
    actions = spaces.Discrete(3) if kind == "dqn" else spaces.Box(-1, 1, (2,))
    task = Task(PICTURES, actions, total_steps=100, auxiliary=auxiliary)
    agent: Any = DQN(DQNConfig(**SMALL), task) if kind == "dqn" else DrQv2(DrQv2Config(**SMALL), task)
    rng = np.random.default_rng(0)
    obs = rng.integers(0, 255, (1, 16, 16, 1), np.uint8)
    for _ in range(20):
        action, carry, _ = agent.act(obs, (), explore=True, rng=rng)
        following = rng.integers(0, 255, (1, 16, 16, 1), np.uint8)
        ends = np.zeros(1, np.bool_)
        agent.observe(Transition(obs, action, np.ones(1, np.float32), following, ends, ends), carry)
        obs = following
    return agent


def batch_of(agent: Any) -> Any:
    return agent.replay.sample(8, np.random.default_rng(1))


@pytest.mark.parametrize("name", sorted(registry.AUXILIARIES))
@pytest.mark.parametrize("kind", ["dqn", "drqv2"])
def test_every_objective_serves_beside_either_agent(name: str, kind: str) -> None:
    agent = agent_with(name, kind)
    metrics = agent.learn(batch_of(agent))
    assert np.isfinite(metrics["train/auxiliary_loss"])
    assert "train/auxiliary_loss" not in agent_with(None, kind).learn(batch_of(agent_with(None, kind)))


def test_the_encoder_is_moved_once_an_update_by_the_agents_optimiser_alone() -> None:
    agent = agent_with("simclr")
    encoder = list(agent.network.backbone.parameters())
    own = agent.auxiliary.optimizer
    for parameter in encoder:  # all in the vector of the agent's optimiser, none in the objective's
        start = agent.optimizer.parameter.data_ptr()
        assert start <= parameter.data_ptr() < start + 4 * agent.optimizer.parameter.numel()
    moved = own.parameter.numel()
    assert moved == sum(p.numel() for p in agent.auxiliary.objective.head.parameters())
    before = int(agent.optimizer.steps), int(own.steps)
    agent.learn(batch_of(agent))
    assert (int(agent.optimizer.steps), int(own.steps)) == (before[0] + 1, before[1] + 1)


def test_the_gradient_is_the_sum_of_both_weighted() -> None:
    agents = [agent_with("simclr", weight=weight) for weight in (1.0, 3.0)]
    changes = []
    for agent in agents:
        tensors = agent.tensors(batch_of(agent))
        plain = agent.loss_and_gradient(tensors)[1]
        both = plain.clone()
        agent.auxiliary.add_gradient_(both, tensors.obs, tensors.action, tensors.next_obs)
        changes.append(both - plain)
    torch.testing.assert_close(changes[1], 3 * changes[0], rtol=1e-4, atol=1e-7)
    assert float(changes[0].abs().sum()) > 0
    outside = changes[0].clone()
    for parameter, place in agents[0].auxiliary._joint:
        outside[place : place + parameter.numel()] = 0
    assert float(outside.abs().sum()) == 0, "only the encoder is asked for anything"


@pytest.mark.parametrize("kind", ["dqn", "drqv2"])
def test_a_restored_agent_goes_on_with_the_same_bits(kind: str) -> None:
    first, second = agent_with("simclr", kind), agent_with("simclr", kind)
    first.learn(batch_of(first))
    state = {name: value for name, value in first.training_state().items() if name != "replay"}
    kept = second.training_state()["replay"]
    second.load_policy_state(copy_tree(first.policy_state()))
    second.load_training_state(copy_tree(state) | {"replay": kept})
    batch = batch_of(first)
    assert first.learn(batch) == second.learn(batch)


def test_actions_are_told_in_the_numbers_that_replay_has() -> None:
    told = registry.auxiliary("spr", 1.0)
    task = Task(PICTURES, spaces.Discrete(3, start=5), total_steps=100, auxiliary=told)
    agent = DQN(DQNConfig(**SMALL), task)
    objective: Any = agent.auxiliary.objective if agent.auxiliary else None
    assert objective.told(torch.tensor([2])).tolist() == [[0.0, 0.0, 1.0]]
    wide = Task(PICTURES, spaces.Box(-4, 4, (2,)), total_steps=100, auxiliary=told)
    objective = DrQv2(DrQv2Config(**SMALL), wide).auxiliary.objective  # type: ignore[union-attr]
    assert objective.told(torch.tensor([[1.0, -0.5]])).tolist() == [[1.0, -0.5]]


def test_objectives_of_successive_pictures_need_steps_of_one() -> None:
    task = Task(PICTURES, spaces.Discrete(3), total_steps=100, auxiliary=registry.auxiliary("spr", 1.0))
    with pytest.raises(UsageError, match=r"learns from successive pictures, agent\.n_step is 3"):
        DQN(DQNConfig(**SMALL | {"n_step": 3}), task)


def test_wrong_usage_is_named(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {"total_steps": 10, "eval_every": 0, "preset": "none"}
    with pytest.raises(UnknownNameError, match="did you mean 'simclr'"):
        rlkit.train("dqn", ENV, aux="simcrl", run_dir=tmp_path / "a", **quiet)
    with pytest.raises(UnsupportedTaskError, match="ppo has no encoder of its own"):
        rlkit.train("ppo", ENV, aux="simclr", run_dir=tmp_path / "b", **quiet)
    with pytest.raises(UnsupportedTaskError, match="--aux is for encoders of pictures"):
        rlkit.train("dqn", "CartPole-v1", aux="simclr", run_dir=tmp_path / "c", **quiet)
    config = DQNConfig(**SMALL, core="gru", encoder="mlp")
    task = replace(Task(PICTURES, spaces.Discrete(2)), encoder=agent_with("simclr").network.backbone)
    with pytest.raises(UsageError, match=r"leave out --agent.encoder attention and --agent.core"):
        DQN(config, task)


def test_a_run_with_an_objective_trains_and_resumes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"aux": "simclr", "eval_every": 0, "preset": "none", "agent_config": SMALL}
    run = rlkit.train("dqn", ENV, total_steps=30, run_dir=tmp_path / "run", **options).run_dir
    assert rlkit.resume(run, total_steps=40).steps == 40
    assert rlkit.load(run).predict(np.zeros((16, 16, 1), np.uint8)).shape == ()
