"""The decision transformer acts as it was taught, hears only of the past, and gets about what it is asked for."""

from __future__ import annotations

import copy
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from episode_data import random_episodes, random_pendulum
from gymnasium import spaces
from torch import nn

import rlkit
from rlkit import registry, seeding
from rlkit.agents.decision_transformer import DecisionTransformerAgent, DecisionTransformerConfig
from rlkit.agents.imitated_actions import imitated_actions
from rlkit.checkpoint import load_checkpoint
from rlkit.codec import Encoder
from rlkit.data.datasets import DatasetWriter, Episode, EpisodeDataset
from rlkit.data.windows import EpisodeSteps
from rlkit.envs.make import make
from rlkit.errors import CheckpointError, DatasetError, RlkitError, UnsupportedTaskError, UsageError
from rlkit.evaluation import evaluate
from rlkit.nn.decision_transformer import DecisionTransformer
from rlkit.types import RewardAware, Task

SMALL: dict[str, Any] = {"width": 16, "layers": 2, "context": 4, "batch_size": 8, "warmup_updates": 10}
OBSERVATION = spaces.Box(-5, 5, (3,))
ACTIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(np.array([-1, 0], np.float32), np.array([3, 10], np.float32)),
    "discrete": spaces.Discrete(3, start=5),
    "multi-discrete": spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [0, 2]]),
}


def sampled(space: spaces.Space[Any], count: int) -> Any:
    space.seed(count)
    return np.stack([np.asarray(space.sample()) for _ in range(count)])


def dataset(folder: Path, action_space: spaces.Space[Any], lengths: tuple[int, ...] = (7, 3, 9)) -> str:
    """Noise."""
    rng = np.random.default_rng(0)
    with DatasetWriter(folder, OBSERVATION, action_space, env="", made_by="noise") as writer:
        for steps in lengths:
            observations = rng.normal(2, 3, (steps + 1, 3)).astype(np.float32)
            writer.add(Episode(observations, sampled(action_space, steps), rng.normal(1, 1, steps), True, False))
    return str(folder)


def build(folder: str, action_space: spaces.Space[Any], **options: Any) -> DecisionTransformerAgent:
    config = DecisionTransformerConfig(**{**SMALL, "dataset": folder, **options})
    return DecisionTransformerAgent(config, Task(OBSERVATION, action_space))


def trained(agent: DecisionTransformerAgent, updates: int) -> DecisionTransformerAgent:
    agent.train_on(Task(OBSERVATION, OBSERVATION), lambda: None, agent.updates + updates, lambda _: True)
    return agent


def test_it_is_driven_by_itself_and_hears_of_rewards() -> None:
    assert registry.agent_class("decision-transformer") is DecisionTransformerAgent
    assert issubclass(DecisionTransformerAgent, RewardAware)


@pytest.mark.parametrize("kind", ACTIONS)
def test_acting_is_what_training_sees(kind: str, tmp_path: Path) -> None:
    """Rows begin and end apart and live longer than the context; each action is that of its window in training."""
    space, context, rows = ACTIONS[kind], SMALL["context"], 3
    agent = trained(build(dataset(tmp_path / "d", space), space, target_return=9.0), 30)
    outputs: list[Any] = []
    chosen = agent._imitated.chosen
    agent._imitated.chosen = lambda given, rng, mask: (outputs.append(given), chosen(given, rng, mask))[1]
    rng = np.random.default_rng(1)
    carry = agent.initial_carry(rows)
    past: list[deque[Any]] = [deque(maxlen=context) for _ in range(rows)]
    remaining, step = np.full(rows, 9.0), np.zeros(rows, int)
    for _ in range(25):
        obs, reward = rng.normal(2, 3, (rows, 3)).astype(np.float32), rng.normal(1, 1, rows)
        action, carry, _ = agent.act(obs, carry, explore=True, rng=rng)
        for row in range(rows):
            past[row].append((remaining[row], obs[row], action[row]))
            to_go, seen, done = (np.stack(part) for part in zip(*past[row], strict=True))
            step[row] += 1
            with torch.no_grad():
                whole = agent.network(
                    torch.tensor(agent._scaled(to_go))[None], torch.tensor(agent._standardised(seen))[None],
                    torch.tensor(agent._imitated.told(done))[None], torch.tensor([step[row] - len(to_go)]),
                )  # fmt: skip
            np.testing.assert_allclose(outputs[-1][row], whole[0, -1].numpy(), atol=1e-5)
        ended = rng.random(rows) < 0.12
        carry = agent.reset_carry(agent.rewarded(carry, reward), ended)
        remaining = np.where(ended, 9.0, remaining - reward)
        for row in np.flatnonzero(ended):
            past[row].clear()
            step[row] = 0
        np.testing.assert_allclose(carry.remaining, remaining)
    assert step.max() > 2 * context


def test_nothing_depends_on_what_comes_later(tmp_path: Path) -> None:
    agent = trained(build(dataset(tmp_path / "d", ACTIONS["box"]), ACTIONS["box"]), 20)
    generator = torch.Generator().manual_seed(0)
    shapes = {"to_go": (2, 4), "observations": (2, 4, 3), "actions": (2, 4, 2)}
    inputs = {name: torch.randn(*shape, generator=generator, requires_grad=True) for name, shape in shapes.items()}
    first = torch.tensor([0, 7])
    outputs = agent.network(**inputs, first_step=first)
    for now in range(4):
        later = {name: value.detach().clone() for name, value in inputs.items()}
        for name, value in later.items():
            value[:, now + (name != "actions") :] = 50.0  # the action of a step comes after it
        assert torch.equal(agent.network(**later, first_step=first)[:, : now + 1], outputs[:, : now + 1])
        gradients = torch.autograd.grad(outputs[:, now].sum(), list(inputs.values()), retain_graph=True)
        for name, gradient in zip(inputs, gradients, strict=True):
            after = now + (name != "actions")
            assert (gradient[:, after:] == 0).all()
            assert after == 0 or (gradient[:, :after] != 0).any()


def test_steps_beyond_the_last_embedding_share_it(tmp_path: Path) -> None:
    agent = build(dataset(tmp_path / "d", ACTIONS["box"]), ACTIONS["box"], max_timesteps=9)
    inputs = torch.ones(3, 1), torch.ones(3, 1, 3), torch.ones(3, 1, 2)
    seventh, last, beyond = agent.network(*inputs, first_step=torch.tensor([7, 8, 50]))
    assert torch.equal(last, beyond)
    assert not torch.equal(seventh, last)


def test_padding_is_neither_learned_from_nor_of_any_effect(tmp_path: Path) -> None:
    agent, twin = (build(dataset(tmp_path / name, ACTIONS["box"]), ACTIONS["box"]) for name in ("a", "b"))
    assert agent._steps is not None
    windows = agent._steps.sample(16, 4, np.random.default_rng(0))
    assert (windows.length < 4).any()
    behind = np.arange(4) >= windows.length[:, None]
    garbage = windows._replace(**{
        name: np.where(behind.reshape(*behind.shape, *(1,) * (value.ndim - 2)), np.float32(9), value)
        for name, value in (("observations", windows.observations), ("actions", windows.actions))
    })  # fmt: skip
    assert agent.learn(windows) == twin.learn(garbage)
    for one, other in zip(agent.network.parameters(), twin.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_windows_are_consecutive_steps_of_one_episode(tmp_path: Path) -> None:
    """Every step of the dataset is as likely to begin one, so that an episode is drawn as often as it is long."""
    space = ACTIONS["discrete"]
    folder = dataset(tmp_path / "d", space)
    data = EpisodeDataset(folder)
    steps = EpisodeSteps(data, np.asarray, imitated_actions(space).told)
    windows = steps.sample(3000, 4, np.random.default_rng(0))
    flat = np.concatenate([np.asarray(episode.observations)[:-1] for episode in data])
    starts = [int(np.flatnonzero((flat == row[0]).all(1))[0]) for row in windows.observations]
    counts = np.bincount(starts, minlength=19)
    assert counts.min() > 100, "158 expected"
    ends = np.cumsum(data.lengths)
    for start, length, first in zip(starts, windows.length, windows.first_step, strict=True):
        episode = int(np.searchsorted(ends, start, side="right"))
        assert first == start - (ends[episode] - data.lengths[episode])
        assert length == min(4, ends[episode] - start)
    rewards = np.concatenate([episode.rewards for episode in data])
    for row in range(20):
        episode = int(np.searchsorted(ends, starts[row], side="right"))
        there = range(starts[row], starts[row] + windows.length[row])
        expected = [rewards[step : ends[episode]].sum() for step in there]
        np.testing.assert_allclose(windows.to_go[row, : len(expected)], expected)
        np.testing.assert_array_equal(windows.observations[row, : len(expected)], flat[list(there)])


@pytest.mark.parametrize("kind", ACTIONS)
def test_the_loss_is_that_of_the_paper(kind: str) -> None:
    space = ACTIONS[kind]
    actions = sampled(space, 5)
    coded = imitated_actions(space)
    outputs = torch.randn(5, coded.outputs, generator=torch.Generator().manual_seed(0))
    if isinstance(space, spaces.Box):
        unit = torch.tensor(2 * (actions - space.low) / (space.high - space.low) - 1)
        expected = ((outputs.tanh() - unit) ** 2).mean()
    else:
        sizes = [int(space.n)] if isinstance(space, spaces.Discrete) else space.nvec.ravel().tolist()
        numbers = torch.tensor((actions - space.start).reshape(5, -1))
        parts = outputs.split(sizes, 1)
        expected = sum(torch.nn.functional.cross_entropy(part, numbers[:, i]) for i, part in enumerate(parts))
    found = coded.loss(outputs, torch.from_numpy(coded.told(actions)))
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("kind", ACTIONS)
def test_confident_outputs_give_the_action_back(kind: str) -> None:
    space = ACTIONS[kind]
    actions = sampled(space, 20)
    coded = imitated_actions(space)
    told = coded.told(actions)
    outputs = np.arctanh(told * 0.999999) if kind == "box" else 50 * told
    found = coded.chosen(outputs, np.random.default_rng(0), None)
    assert found.dtype == space.dtype
    np.testing.assert_allclose(found, actions, rtol=1e-4, atol=1e-4)


def test_a_forbidden_action_is_never_taken(tmp_path: Path) -> None:
    space = ACTIONS["discrete"]
    agent = build(dataset(tmp_path / "d", space), space)
    mask = np.array([[False, True, False]])
    for explore in (False, True):
        for seed in range(10):
            carry, rng = agent.initial_carry(1), np.random.default_rng(seed)
            action, _, _ = agent.act(np.ones((1, 3), np.float32), carry, explore=explore, rng=rng, action_mask=mask)
            assert action.tolist() == [6]


def test_defaults_come_from_the_dataset_and_travel_with_the_policy(tmp_path: Path) -> None:
    space = ACTIONS["box"]
    agent = build(dataset(tmp_path / "d", space), space)
    data = EpisodeDataset(tmp_path / "d")
    assert agent.target_return == data.returns.max()
    to_go = np.concatenate([np.cumsum(episode.rewards[::-1]) for episode in data])
    assert agent.return_scale == pytest.approx(np.abs(to_go).max())
    seen = np.concatenate([np.asarray(episode.observations)[:-1] for episode in data])
    np.testing.assert_allclose(agent.mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(agent.std, seen.std(0), rtol=1e-5)
    actor = DecisionTransformerAgent(
        agent.config.model_copy(update={"dataset": ""}), Task(OBSERVATION, space, total_steps=0)
    )
    actor.load_policy_state(agent.policy_state())
    obs, rng = np.ones((2, 3), np.float32), np.random.default_rng(0)
    first, second = (
        each.act(obs, each.initial_carry(2), explore=False, rng=rng)[0] for each in (agent, actor)
    )  # fmt: skip
    np.testing.assert_array_equal(first, second)


def test_a_new_network_hears_how_large_a_return_is() -> None:
    """Its tokens are normalised: without biases in their embeddings all positive returns would be one."""
    network = DecisionTransformer(
        2, 1, 3, width=32, layers=2, heads=1, max_timesteps=9, generator=torch.Generator().manual_seed(0)
    )
    rest = torch.zeros(1, 4, 2), torch.zeros(1, 4, 1), torch.zeros(1, dtype=torch.long)

    def change() -> float:
        """Of the outputs between returns of 0.5 and 1, as a share."""
        with torch.no_grad():
            half, whole = (network(torch.full((1, 4), asked), *rest) for asked in (0.5, 1.0))
        return float((whole - half).norm() / half.norm())

    told = change()
    nn.init.zeros_(network.embed_return.bias)
    assert change() < 0.25 * told


def test_behaviour_cloning_is_told_of_no_return(tmp_path: Path) -> None:
    space = ACTIONS["box"]
    agent = trained(build(dataset(tmp_path / "d", space), space, use_returns=False), 10)
    obs, rng = np.ones((1, 3), np.float32), np.random.default_rng(0)
    actions = []
    for agent.target_return in (-100.0, 100.0):
        actions.append(agent.act(obs, agent.initial_carry(1), explore=False, rng=rng)[0].tolist())
    assert actions[0] == actions[1]


def test_the_learning_rate_rises_to_its_value(tmp_path: Path) -> None:
    agent = build(dataset(tmp_path / "d", ACTIONS["box"]), ACTIONS["box"], learning_rate=1e-3)
    rates = []
    for _ in range(12):
        trained(agent, 1)
        rates.append(agent._optimizer.learning_rate)
    np.testing.assert_allclose(rates, 1e-3 * np.minimum(np.arange(1, 13) / 10, 1))


def test_an_update_is_that_of_torchs_adamw(tmp_path: Path) -> None:
    agent = build(dataset(tmp_path / "d", ACTIONS["box"]), ACTIONS["box"], weight_decay=0.1, warmup_updates=0)
    twin = copy.deepcopy(agent.network)
    optimizer = torch.optim.AdamW(twin.parameters(), 1e-4, weight_decay=0.1)
    assert agent._steps is not None
    windows = agent._steps.sample(8, 4, np.random.default_rng(0))
    there = np.arange(4) < windows.length[:, None]
    for _ in range(5):
        inputs = agent._scaled(windows.to_go), agent._standardised(windows.observations), windows.actions
        outputs = twin(*map(torch.tensor, (*inputs, windows.first_step)))
        loss = torch.square(torch.tanh(outputs) - torch.tensor(windows.actions))[torch.tensor(there)].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.25)
        optimizer.step()
        assert agent.learn(windows)["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
    for one, other in zip(agent.network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"dataset": ""}, UsageError, "--agent.dataset FOLDER"),
        ({"dataset": "nowhere"}, UsageError, "export-dataset RUN --out nowhere"),
        ({"max_timesteps": 8}, UsageError, "give --agent.max-timesteps 9 or more"),
        ({"heads": 3}, UsageError, "do not divide"),
    ],
    ids=str,
)
def test_mistakes_are_told_before_the_first_update(
    options: dict[str, Any], kind: type[RlkitError], told: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=told):
        build(**{"folder": dataset(tmp_path / "d", ACTIONS["box"]), "action_space": ACTIONS["box"]} | options)


def test_a_dataset_that_does_not_fit_is_refused_before_a_run_begins(tmp_path: Path) -> None:
    run = {"total_steps": 5, "run_dir": tmp_path / "run", "preset": "none"}
    with pytest.raises(UnsupportedTaskError, match="the observation space of the dataset"):
        rlkit.train("decision-transformer", "CartPole-v1", agent_config={"dataset": random_pendulum()}, **run)
    with pytest.raises(UnsupportedTaskError, match="the action space of the dataset"):
        build(dataset(tmp_path / "d", ACTIONS["box"]), ACTIONS["discrete"])
    DatasetWriter(tmp_path / "e", OBSERVATION, ACTIONS["box"], env="", made_by="").close()
    with pytest.raises(DatasetError, match="has no episodes"):
        build(str(tmp_path / "e"), ACTIONS["box"])
    with DatasetWriter(tmp_path / "n", OBSERVATION, ACTIONS["discrete"], env="", made_by="") as writer:
        writer.add(Episode(np.full((2, *OBSERVATION.shape), np.nan), np.full(1, 5), np.zeros(1), True, False))
    with pytest.raises(DatasetError, match="are not finite"):
        build(str(tmp_path / "n"), ACTIONS["discrete"])
    unbounded = spaces.Box(-np.inf, np.inf, (1,))
    assert "finite action bounds" in (DecisionTransformerAgent.supports(Task(OBSERVATION, unbounded)) or "")
    assert not (tmp_path / "run").exists()


def bits(tree: Any) -> Any:
    encoder = Encoder()
    document = encoder.encode(tree)
    return document, {name: array.tobytes() for name, array in encoder.arrays.items()}


def test_a_resumed_run_is_the_run_that_nobody_stopped(tmp_path: Path) -> None:
    config = SMALL | {"dataset": random_pendulum()}
    common: dict[str, Any] = {"preset": "none", "agent_config": config, "eval_episodes": 1, "checkpoint_every": 10}
    for name, steps in (("whole", 40), ("parts", 25)):
        rlkit.train(
            "decision-transformer", "Pendulum-v1", total_steps=steps, run_dir=tmp_path / name, eval_every=20,
            log_every=5, **common,
        )  # fmt: skip
    result = rlkit.resume(tmp_path / "parts", total_steps=40)
    assert result.steps == 40
    states = []
    for name in ("whole", "parts"):
        checkpoint = load_checkpoint(tmp_path / name / "checkpoints" / "step-000000040")
        assert checkpoint.training is not None
        states.append(bits([checkpoint.policy, checkpoint.training["agent"]]))
    assert states[0] == states[1]
    lines = (tmp_path / "whole/metrics.jsonl").read_text().splitlines()
    assert "train/loss" in lines[-1]


def test_a_run_does_not_go_on_with_another_dataset(tmp_path: Path) -> None:
    folder = random_episodes(tmp_path / "d", "Pendulum-v1", 1)
    rlkit.train(
        "decision-transformer", "Pendulum-v1", total_steps=5, run_dir=tmp_path / "run", preset="none", eval_every=0,
        agent_config=SMALL | {"dataset": str(folder)},
    )  # fmt: skip
    space, actions = EpisodeDataset(folder).observation_space, EpisodeDataset(folder).action_space
    with DatasetWriter(folder, space, actions, env="", made_by="", append=True) as writer:
        writer.add(EpisodeDataset(folder)[0])
    with pytest.raises(CheckpointError, match="not the one that the run began with"):
        rlkit.resume(tmp_path / "run", total_steps=10)
    assert rlkit.load(tmp_path / "run").predict(np.zeros(3, np.float32)).shape == (1,), "acting needs no dataset"


def test_predict_needs_rewards_within_an_episode(tmp_path: Path) -> None:
    result = rlkit.train(
        "decision-transformer", "Pendulum-v1", total_steps=3, run_dir=tmp_path / "run", preset="none", eval_every=0,
        agent_config=SMALL | {"dataset": random_pendulum()},
    )  # fmt: skip
    policy = rlkit.load(result.run_dir)
    envs = make("Pendulum-v1")
    obs, _ = envs.reset(seeding.integer_seed(0, "evaluation"))
    step, total = envs.step(policy.predict(obs)), 0.0
    while not step.ended[0]:
        total += float(step.env_reward[0])
        step = envs.step(policy.predict(step.obs, reward=step.env_reward))
    total += float(step.env_reward[0])
    assert total == pytest.approx(policy.evaluate(episodes=1).mean, rel=1e-6)
    with pytest.raises(UsageError, match="reward="):
        policy.predict(step.obs)


class Bars(gym.Env[Any, Any]):
    """Eight times left or right; right pays 1. What it pays is all that matters, the observation says nothing."""

    observation_space, action_space = spaces.Box(0, 1, (1,)), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return np.zeros(1, np.float32), float(action), self.time == 8, False, {}


def test_it_gets_what_it_is_asked_for_from_random_episodes(tmp_path: Path) -> None:
    folder = random_episodes(tmp_path / "d", Bars, 300)
    options = {"context": 8, "batch_size": 64, "learning_rate": 3e-3, "warmup_updates": 50, "dataset": str(folder)}
    envs = make(Bars)
    task = Task(envs.single_observation_space, envs.single_action_space)
    agent = trained(DecisionTransformerAgent(DecisionTransformerConfig(**SMALL | options), task), 300)
    got = {}
    for asked in (0, 2, 4, 6, 8):
        agent.target_return = float(asked)
        got[asked] = evaluate(agent, envs, episodes=20, seed=0, explore=True).mean
    assert all(abs(got[asked] - asked) < 1 for asked in got), got


class Walk(gym.Env[Any, Any]):
    """The paper's section 3: from any node of a random directed graph to node 0, every step costs 1."""

    NODES, WAYS, LIMIT = 20, 3, 10
    observation_space, action_space = spaces.Discrete(NODES), spaces.Discrete(WAYS)
    edges = np.random.default_rng(5).integers(NODES, size=(NODES, WAYS))

    @classmethod
    def distances(cls) -> Any:
        """Fewest steps from each node to node 0."""
        distance = np.where(np.arange(cls.NODES) == 0, 0, 10**6)
        for _ in range(cls.NODES):
            distance = np.minimum(distance, 1 + distance[cls.edges].min(1))
        return distance

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time, self.start = 0, int(self.np_random.integers(1, self.NODES))
        self.node = self.start
        return self.node, {}

    def step(self, action: Any) -> Any:
        self.time, self.node = self.time + 1, int(self.edges[self.node, action])
        return self.node, -1.0, self.node == 0, self.node != 0 and self.time >= self.LIMIT, {}


def test_it_walks_shorter_ways_than_the_random_walks_it_learned_from(tmp_path: Path) -> None:
    distances = Walk.distances()
    assert 2 <= distances[1:].mean() <= 5
    folder = random_episodes(tmp_path / "d", Walk, 1000)
    data = EpisodeDataset(folder)
    options = {"width": 32, "context": 10, "batch_size": 64, "learning_rate": 3e-3, "warmup_updates": 50}
    envs = make(Walk)
    task = Task(envs.single_observation_space, envs.single_action_space)
    config = DecisionTransformerConfig(**SMALL | options | {"dataset": str(folder)})
    agent = trained(DecisionTransformerAgent(config, task), 500)
    lengths = {}
    for asked in (-1.0, -10.0):
        agent.target_return = asked
        lengths[asked] = float(np.mean(evaluate(agent, envs, episodes=100, seed=0).lengths))
    random = float(data.lengths.mean())
    shortest = float(np.minimum(distances[1:], Walk.LIMIT).mean())
    assert lengths[-1.0] < shortest + 0.2 * (random - shortest)
    assert lengths[-10.0] > random, "asked for a low return it goes a long way round"
