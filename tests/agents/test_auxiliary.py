"""A self-supervised objective beside the losses of DQN, DrQ-v2, SAC and PPO: who moves what, and how often."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_resume import final_state, metrics

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
    chosen = registry.agent_class(kind)
    agent: Any = chosen(registry.config_class(chosen)(**SMALL), task)
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
@pytest.mark.parametrize("kind", ["dqn", "drqv2", "sac", "tqc"])
def test_every_objective_serves_beside_every_agent(name: str, kind: str) -> None:
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


@pytest.mark.parametrize("kind", ["dqn", "drqv2", "sac"])
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
    with pytest.raises(UnsupportedTaskError, match="random has no encoder of its own"):
        rlkit.train("random", ENV, aux="simclr", run_dir=tmp_path / "b", **quiet)
    for agent in ("dqn", "ppo"):
        with pytest.raises(UnsupportedTaskError, match="--aux is for encoders of pictures"):
            rlkit.train(agent, "CartPole-v1", aux="simclr", run_dir=tmp_path / "c", **quiet)
    with pytest.raises(UsageError, match=r"leave out --agent\.encoder mlp"):
        rlkit.train("ppo", ENV, aux="simclr", run_dir=tmp_path / "d", agent_config={"encoder": "mlp"}, **quiet)
    config = DQNConfig(**SMALL, core="gru", encoder="mlp")
    task = replace(Task(PICTURES, spaces.Discrete(2)), encoder=agent_with("simclr").network.backbone)
    with pytest.raises(UsageError, match=r"leave out --agent.encoder attention and --agent.core"):
        DQN(config, task)


def test_a_run_with_an_objective_trains_and_resumes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"aux": "simclr", "eval_every": 0, "preset": "none", "agent_config": SMALL}
    run = rlkit.train("dqn", ENV, total_steps=30, run_dir=tmp_path / "run", **options).run_dir
    assert rlkit.resume(run, total_steps=40).steps == 40
    assert rlkit.load(run).predict(np.zeros((16, 16, 1), np.uint8)).shape == ()


ON_POLICY: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 16, "batch_size": 8, "epochs": 1, "hidden": (8,)},
    "a2c": {"n_steps": 16, "hidden": (8,)},
    "reinforce": {"episodes": 1, "hidden": (8,)},
}


def policy_with(name: str | None, kind: str = "ppo", weight: float = 1.0, **options: Any) -> Any:
    """The agent after eleven steps of two environments."""
    auxiliary = None if name is None else registry.auxiliary(name, weight)
    task = Task(PICTURES, spaces.Discrete(3, start=5), num_envs=2, total_steps=100, auxiliary=auxiliary)
    chosen = registry.agent_class(kind)
    agent = chosen(chosen.Config(**ON_POLICY[kind] | options), task)
    rng, carry = np.random.default_rng(0), agent.initial_carry(2)
    obs = rng.integers(0, 255, (2, 16, 16, 1), np.uint8)
    for _ in range(11):
        action, carry, extras = agent.act(obs, carry, explore=True, rng=rng)
        following, ends = rng.integers(0, 255, (2, 16, 16, 1), np.uint8), np.zeros(2, np.bool_)
        reward = rng.standard_normal(2).astype(np.float32)
        agent.observe(Transition(obs, action, reward, following, ends, ends, extras=extras), carry)
        obs = following
    return agent


def steps_of(agent: Any) -> Any:
    return agent.actor.batch(agent.rollout, 0.99, 0.95)


@pytest.mark.parametrize("name", sorted(registry.AUXILIARIES))
@pytest.mark.parametrize(("kind", "core"), [("ppo", "none"), ("ppo", "gru"), ("a2c", "none"), ("reinforce", "none")])
def test_every_objective_serves_beside_a_policy(name: str, kind: str, core: str) -> None:
    agent = policy_with(name, kind, core=core, core_width=8)
    assert np.isfinite(agent.learn(steps_of(agent))["train/auxiliary_loss"])
    plain = policy_with(None, kind)
    assert "train/auxiliary_loss" not in plain.learn(steps_of(plain))


@pytest.mark.parametrize("kind", ON_POLICY)
def test_one_optimiser_moves_policy_encoder_and_heads_once_an_update(kind: str) -> None:
    agent = policy_with("simclr", kind)
    auxiliary, optimizer = agent.actor.auxiliary, agent.optimizer
    assert auxiliary.optimizer is None
    learned = {id(parameter) for parameter in auxiliary.objective.parameters() if parameter.requires_grad}
    learned |= {id(parameter) for parameter in agent.actor.network.parameters()}
    parameters = [
        parameter
        for module in (agent.actor.network, auxiliary.objective.head)
        for parameter in module.parameters()
    ]  # fmt: skip
    assert {id(parameter) for parameter in parameters} == learned
    assert sum(parameter.numel() for parameter in parameters) == optimizer.parameter.numel()
    start, stop = optimizer.parameter.data_ptr(), optimizer.parameter.data_ptr() + 4 * optimizer.parameter.numel()
    assert all(start <= parameter.data_ptr() < stop for parameter in parameters if parameter.numel())
    assert agent.actor.network.flat.data_ptr() == start

    moves = count_moves(optimizer)
    followed = count_calls(auxiliary, "after_update")
    before = [parameter.detach().clone() for parameter in parameters]
    agent.learn(steps_of(agent))
    assert (len(moves), len(followed)) == (1, 1)
    assert all(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True) if old.numel())


def count_calls(owner: Any, name: str) -> list[None]:
    """Grows by one with every call of the method."""
    calls: list[None] = []
    method = getattr(owner, name)

    def counted(*arguments: Any) -> Any:
        calls.append(None)
        return method(*arguments)

    setattr(owner, name, counted)
    return calls


def count_moves(optimizer: Any) -> list[None]:
    return count_calls(optimizer, "step")


def test_ppo_counts_as_many_moves_of_the_encoder_as_it_has_minibatches() -> None:
    agent = policy_with("curl", n_steps=12, batch_size=8, epochs=2)
    moves, followed = count_moves(agent.optimizer), count_calls(agent.actor.auxiliary, "after_update")
    rng, ends = np.random.default_rng(1), np.zeros(2, np.bool_)
    obs = rng.integers(0, 255, (2, 16, 16, 1), np.uint8)
    action, carry, extras = agent.act(obs, agent.initial_carry(2), explore=True, rng=rng)
    agent.observe(Transition(obs, action, np.ones(2, np.float32), obs, ends, ends, extras=extras), carry)
    agent.update()
    assert len(moves) == len(followed) == 2 * 3, "two epochs of 24 steps, eight at a time"


def test_the_gradients_are_each_cut_and_only_the_objectives_is_weighted() -> None:
    longest, added = 0.25, []
    for weight in (1.0, 3.0):
        agent = policy_with("simclr", weight=weight)
        batch, actor = steps_of(agent), agent.actor
        own = agent.losses_and_gradient(actor.tensors(batch))[1] * 0 + 1  # long enough to tell both apart
        whole, _ = actor.with_objective(own, batch, longest)
        added.append(whole - torch.nn.functional.pad(own, (0, len(whole) - len(own))))
    assert float(torch.linalg.vector_norm(added[0])) == pytest.approx(longest, rel=1e-3)
    torch.testing.assert_close(added[1], 3 * added[0], rtol=1e-4, atol=1e-6)
    encoder = sum(parameter.numel() for parameter in actor.network.core_parameters)
    assert float(added[0][encoder : len(own)].abs().sum()) == 0, "policy and value are asked for nothing"
    assert float(added[0][:encoder].abs().sum()) > 0
    assert float(added[0][len(own) :].abs().sum()) > 0


def test_the_agents_own_part_of_the_gradient_is_what_it_is_without_an_objective() -> None:
    seen = {}
    for name in (None, "curl"):
        agent = policy_with(name)
        optimizer = agent.optimizer
        optimizer.step = lambda gradient, name=name: seen.update({name: gradient.clone()})
        agent.learn(steps_of(agent))
        encoder = sum(parameter.numel() for parameter in agent.actor.network.core_parameters)
    heads = slice(encoder, len(seen[None]))
    assert torch.equal(seen["curl"][heads], seen[None][heads])
    assert not torch.equal(seen["curl"][:encoder], seen[None][:encoder])


@pytest.mark.parametrize("name", ["spr", "atc"])
def test_successors_are_those_of_the_minibatchs_own_steps(name: str) -> None:
    agent = policy_with(name)
    batch = steps_of(agent)
    rows = np.array([3, 0, 7])
    assert np.array_equal(batch.take(rows).next_obs[:, 0], batch.obs[rows + 2][:, 0]), "two environments in turn"
    assert policy_with("curl").actor.batch(agent.rollout, 0.99, 0.95).next_obs is None


def test_a_single_step_has_nothing_to_be_told_from() -> None:
    agent = policy_with("byol")
    before = {name: value.clone() for name, value in agent.actor.auxiliary.objective.state_dict().items()}
    metrics = agent.learn(steps_of(agent).take(np.array([0])))
    assert "train/auxiliary_loss" not in metrics
    assert "train/policy_gradient_loss" in metrics
    after = agent.actor.auxiliary.objective.state_dict()
    head = [name for name in before if not name.startswith("encoder.") and name.endswith("weight")]
    assert head
    assert any(torch.equal(before[name], after[name]) for name in head)


@pytest.mark.parametrize("kind", ON_POLICY)
@pytest.mark.parametrize("name", ["byol", "spr"])
def test_a_restored_policy_goes_on_with_the_same_bits(kind: str, name: str) -> None:
    first, second = policy_with(name, kind), policy_with(name, kind)
    batch = steps_of(first)
    first.learn(batch)
    second.load_policy_state(copy_tree(first.policy_state()))
    second.load_training_state(copy_tree(first.training_state()))
    assert first.learn(batch) == second.learn(batch)
    assert torch.equal(first.actor.weights, second.actor.weights)


@pytest.mark.parametrize("kind", ON_POLICY)
def test_a_run_of_a_policy_with_an_objective_resumes_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"aux": "spr", "eval_every": 0, "preset": "none", "log_every": 8, "device": "cpu"}
    config = ON_POLICY[kind] | ({} if kind == "reinforce" else {"n_steps": 8})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    rlkit.train(kind, ENV, total_steps=60, checkpoint_every=30, run_dir=whole, agent_config=config, **options)
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "checkpoints" / "step-000000060")
    assert rlkit.resume(killed).steps == 60
    assert metrics(killed) == metrics(whole)
    assert final_state(killed) == final_state(whole)
    assert rlkit.load(killed).predict(np.zeros((16, 16, 1), np.uint8)).shape == ()
