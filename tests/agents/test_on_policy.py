"""What PPO, A2C and REINFORCE promise alike: ends of episodes, actions, masks, spaces, and resuming in a rollout."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit import registry
from rlkit.agents.on_policy import scheduled
from rlkit.checkpoint import load_checkpoint
from rlkit.codec import Encoder
from rlkit.types import Task, Transition

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
SAMPLES = Path(__file__).parents[1] / "envs" / "env_samples.py"
QUIET: dict[str, Any] = {"preset": "none", "eval_every": 0}
AGENTS = ("ppo", "a2c", "reinforce")
SHORT: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 16, "batch_size": 16, "epochs": 2, "hidden": (16,)},
    "a2c": {"hidden": (16,)},
    "reinforce": {"episodes": 2, "hidden": (16,)},
}


class Loop(gym.Env[Any, Any]):
    """One state, reward 1 in every step; after four steps the episode is truncated, or said to terminate."""

    observation_space, action_space = BOX, spaces.Discrete(2)

    def __init__(self, terminates: bool) -> None:
        self.terminates = terminates

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        over = self.time == 4
        return np.zeros(2, np.float32), 1.0, over and self.terminates, over and not self.terminates, {}


FITTING: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 32, "batch_size": 32, "learning_rate": 1e-2},
    "a2c": {"n_steps": 16, "learning_rate": 1e-2},
    "reinforce": {"episodes": 4, "learning_rate": 2e-2},
}


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(("terminates", "value"), [(False, 10.0), (True, (1.0 + 1.9 + 2.71 + 3.439) / 4)])
def test_a_loop_cut_by_a_time_limit_is_worth_what_it_is_worth_without(
    name: str, terminates: bool, value: float, tmp_path: Path
) -> None:
    """With gamma 0.9 the endless loop is worth 1 / (1 - 0.9) = 10; taken for termination, the cut makes it 2.26."""
    result = rlkit.train(
        name, lambda: Loop(terminates), total_steps=5000, run_dir=tmp_path / "run",
        agent_config={"gamma": 0.9, "hidden": (16,), "max_grad_norm": None, **FITTING[name]}, **QUIET,
    )  # fmt: skip
    found = result.agent.actor.network.values(np.zeros((1, 2), np.float32))[0]
    assert found == pytest.approx(value, rel=0.08)


class Target(gym.Env[Any, Any]):
    """The reward is higher the nearer the action is to a point beyond the bounds; remembers what it was sent."""

    observation_space = BOX
    action_space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 0.5], np.float32))

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.time += 1
        return np.zeros(2, np.float32), -float(np.abs(action - 3.0).sum()), self.time == 8, False, {}


def test_actions_are_sent_within_the_bounds_and_learned_as_they_were_drawn(tmp_path: Path) -> None:
    result = rlkit.train("ppo", Target, total_steps=40, run_dir=tmp_path / "run", agent_config=SHORT["ppo"], **QUIET)
    raw = result.agent.rollout.action[:8, 0]
    assert (np.abs(raw) > 1).any()
    obs, rng = np.zeros((50, 2), np.float32), np.random.default_rng(0)
    action, _, extras = result.agent.act(obs, (), explore=True, rng=rng)
    np.testing.assert_array_equal(action, np.clip(extras["raw_action"], [-1, 0], [1, 0.5]))
    assert extras["log_prob"].shape == (50,)
    best, _, none = result.agent.act(obs, (), explore=False, rng=rng)
    assert best.shape == (50, 2)
    assert not none


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("gives", ["info", "observation", "sometimes", None])
def test_forbidden_actions_are_not_taken(name: str, gives: str | None, tmp_path: Path) -> None:
    """These environments raise where one is."""
    env, args = ("Masked", (f"gives={gives}",)) if gives else ("MaskedParts", ())
    run = rlkit.train(
        name, f"{SAMPLES}:{env}", total_steps=120, num_envs=2, env_args=args, run_dir=tmp_path / "run",
        agent_config=SHORT[name], **QUIET,
    ).run_dir  # fmt: skip
    rlkit.evaluate(run, episodes=3)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    ("observation", "action", "word"),
    [
        (BOX, spaces.MultiBinary(3), "Discrete, MultiDiscrete or continuous"),
        (BOX, spaces.Box(0, 5, (1,), np.int64), "continuous"),
        (spaces.Text(5), spaces.Discrete(2), "flatten"),
        (spaces.Dict(a=BOX, b=spaces.Tuple([BOX, spaces.Graph(BOX, None)])), spaces.Discrete(2), r"\['b'\]\[1\]"),
    ],
)
def test_spaces_it_cannot_serve_are_explained(name: str, observation: Any, action: Any, word: str) -> None:
    reason = registry.agent_class(name).supports(Task(observation, action))
    assert reason is not None
    assert re.search(word, reason)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (spaces.Dict(position=BOX, gear=spaces.Discrete(4, start=1)), spaces.Discrete(3, start=5)),
        (spaces.Tuple([BOX, spaces.Dict(inner=spaces.MultiBinary(3))]), spaces.MultiDiscrete([2, 3], start=[1, -1])),
        (spaces.Box(-1, 1, (3,), np.float64), spaces.Box(-np.inf, np.inf, (2, 2), np.float64)),
        (spaces.Box(0, 255, (4, 4, 3), np.uint8), spaces.MultiDiscrete([[2, 3], [4, 2]])),
    ],
)
def test_nested_and_other_spaces_are_learned_from(name: str, observation: Any, action: Any) -> None:
    task = Task(observation, action, num_envs=2, total_steps=1000)
    agent_class = registry.agent_class(name)
    agent = agent_class(agent_class.Config(**SHORT[name]), task)
    batched = gym.vector.utils.batch_space(observation, 2)
    batched.seed(0)
    rng, metrics = np.random.default_rng(0), {}
    for time in range(1, 33):
        obs, next_obs = batched.sample(), batched.sample()
        chosen, _, extras = agent.act(obs, (), explore=True, rng=rng)
        assert all(action.contains(row) for row in chosen)
        ends = np.array([time % 5 == 0, False]), np.array([False, time % 7 == 0])
        agent.observe(Transition(obs, chosen, np.ones(2, np.float32), next_obs, *ends, extras=extras), ())
        metrics |= agent.update()
    assert metrics
    assert np.isfinite(list(metrics.values())).all()


def everything(run: Path) -> Any:
    checkpoint = load_checkpoint(sorted((run / "checkpoints").glob("step-*"))[-1])
    assert checkpoint.training is not None
    encoder = Encoder()
    document = encoder.encode([checkpoint.policy, checkpoint.training["agent"]])
    return document, {name: array.tobytes() for name, array in encoder.arrays.items()}


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("env", ["CartPole-v1", f"{SAMPLES}:Masked"], ids=["cartpole", "masked"])
def test_a_run_stopped_in_a_rollout_goes_on_with_the_same_bits(name: str, env: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_envs": 3, "agent_config": SHORT[name], **QUIET}
    whole = rlkit.train(name, env, total_steps=300, run_dir=tmp_path / "whole", **options)
    part = rlkit.train(name, env, total_steps=123, run_dir=tmp_path / "part", **options)
    assert len(part.agent.rollout) not in (0, 300)
    # schedules keep their first horizon; there are none here
    resumed = rlkit.resume(part.run_dir, total_steps=300)
    assert everything(resumed.run_dir) == everything(whole.run_dir)


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_that_only_acts_claims_no_rollout(name: str) -> None:
    agent_class = registry.agent_class(name)
    agent = agent_class(agent_class.Config(), Task(BOX, spaces.Discrete(2), total_steps=0))
    assert len(agent.rollout.reward) == 1


@pytest.mark.parametrize("name", AGENTS)
def test_an_episode_that_was_lost_is_cut_like_a_truncated_one(name: str) -> None:
    """An environment that was restarted goes on from elsewhere: the same learning as with a truncation there.

    REINFORCE learns after the last step in both runs: from one episode with a jump, or from two whole ones.
    """
    found = []
    for marked in (False, True):
        agent_class = registry.agent_class(name)
        config = agent_class.Config(**SHORT[name] | ({"episodes": 1 + marked} if name == "reinforce" else {}))
        agent = agent_class(config, Task(BOX, spaces.Discrete(2), total_steps=1000))
        rng = np.random.default_rng(0)
        never, reward = np.zeros(1, np.bool_), np.ones(1, np.float32)
        for time in range(16):
            obs, next_obs = (np.full((1, 2), part, np.float32) for part in (time, 99 if time == 3 else time + 1))
            action, _, extras = agent.act(obs, (), explore=True, rng=rng)
            truncated = np.array([(marked and time == 3) or time == 15])
            agent.observe(Transition(obs, action, reward, next_obs, never, truncated, extras=extras), ())
            agent.update()
        found.append(agent.actor.network.flat.clone())
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("name", AGENTS)
def test_every_default_is_explained(name: str) -> None:
    assert all(field.description for field in registry.agent_class(name).Config.model_fields.values())


def test_a_schedule_is_constant_or_falls_to_zero() -> None:
    assert [scheduled("linear", 0.2, step, 100) for step in (0, 50, 100, 150)] == [0.2, 0.1, 0.0, 0.0]
    assert scheduled("constant", 0.2, 150, 100) == 0.2


def _transition(time: int, num_envs: int, agent: Any, rng: np.random.Generator) -> Transition:
    obs, next_obs = rng.standard_normal((2, num_envs, 2)).astype(np.float32)
    action, _, extras = agent.act(obs, (), explore=True, rng=rng)
    never = np.zeros(num_envs, np.bool_)
    return Transition(obs, action, np.ones(num_envs, np.float32), next_obs, never, never, extras=extras)


@pytest.mark.parametrize(("name", "updates"), [("ppo", 4), ("a2c", 12)])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_learning_is_due_when_every_environment_has_taken_n_steps(name: str, updates: int, num_envs: int) -> None:
    agent_class = registry.agent_class(name)
    task = replace(Task(BOX, spaces.Discrete(2), total_steps=1000), num_envs=num_envs)
    agent = agent_class(agent_class.Config(**SHORT[name]), task)
    rng = np.random.default_rng(0)
    learned = []
    for time in range(64):
        agent.observe(_transition(time, num_envs, agent, rng), ())
        learned.append(bool(agent.update()))
    period = 64 // updates
    assert [time for time, done in enumerate(learned) if done] == [*range(period - 1, 64, period)][:updates]
