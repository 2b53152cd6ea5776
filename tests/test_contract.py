"""What every registered agent must keep to, for one environment and for three.

A new agent is tested by its registration alone; it needs a line in `SMALL` only where its defaults are too slow here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from episode_data import random_pendulum
from gymnasium import spaces

import rlkit
from rlkit import registry, seeding
from rlkit.assembly import task_of
from rlkit.checkpoint import load_checkpoint
from rlkit.codec import Encoder, copy_tree
from rlkit.config import RunOptions
from rlkit.envs.make import make as make_env
from rlkit.types import Agent, Progress, SelfDriven, Task, Transition, VectorEnv

DEEP_Q: dict[str, Any] = {"hidden": (16, 16), "batch_size": 16, "buffer_size": 500, "learning_starts": 20}
SMALL: dict[str, dict[str, Any]] = {
    "lstd": {"features": "fourier", "order": 1},
    "lspi": {"features": "fourier", "order": 1, "improve_every": 30},
    **dict.fromkeys(("dqn", "c51", "qr-dqn", "iqn", "munchausen-dqn", "rainbow"), DEEP_Q),
    "ppo": {"hidden": (16,), "n_steps": 32, "batch_size": 16, "epochs": 2},
    "a2c": {"hidden": (16,)},
    "reinforce": {"hidden": (16,), "episodes": 1},
    **dict.fromkeys(("ddpg", "td3", "sac", "tqc"), DEEP_Q),
    "crossq": DEEP_Q | {"critic_hidden": (16, 16)},
    "drqv2": DEEP_Q | {"n_step": 1, "update_to_data_ratio": 0.1},
    "sb3/a2c": {"hidden": (16,)},
    "sb3/ddpg": {"hidden": (16, 16), "batch_size": 16, "buffer_size": 500, "learning_starts": 20},
    "sb3/dqn": {"hidden": (16,), "batch_size": 16, "buffer_size": 500, "learning_starts": 20},
    "sb3/ppo": {"hidden": (16,), "n_steps": 32, "batch_size": 16, "n_epochs": 2},
    "sb3/sac": {"hidden": (16, 16), "batch_size": 16, "buffer_size": 500, "learning_starts": 20},
    "decision-transformer": {"width": 16, "layers": 1, "context": 4, "batch_size": 4, "warmup_updates": 10},
    "tabular-reinforce": {"baseline_learning_rate": 0.1},
    "sb3/td3": {"hidden": (16, 16), "batch_size": 16, "buffer_size": 500, "learning_starts": 20},
}
PICTURES = f"{Path(__file__).parent}/agents/picture_tasks.py:PointAtTheDot"
ENVS = ("Pendulum-v1", "CartPole-v1", "FrozenLake-v1", PICTURES)
PLANNING = "rlkit.agents.dynamic_programming:"  # deterministic, converges early, and learns from no experience
ALONE = ("epsilon-greedy-bandit", "ucb-bandit", "gradient-bandit", "mc-basic")  # one environment only
WHOLE_EPISODES = ("mc-", "monte-carlo", "tabular-reinforce", "gradient-mc", "network-mc")
NEXT_ACTION = (
    *("rainbow", "sarsa", "n-step-", "sarsa-lambda", "td-lambda", "watkins-q-lambda", "tree-backup", "q-sigma"),
    *("linear-sarsa", "linear-n-step-", "linear-td-lambda", "differential-sarsa", "emphatic-td", "network-sarsa"),
)
SETTINGS = [
    pytest.param(name, num_envs, id=f"{name}-{num_envs}")
    for name in registry.AGENTS
    for num_envs in (1, 3)
    if num_envs == 1 or name not in ALONE
]
STEPS = 80  # vector steps; every agent above has learned by then


def small(name: str) -> dict[str, Any]:
    """The agent's options here, with what it learns from where that is not an environment."""
    data = {"dataset": random_pendulum()} if name == "decision-transformer" else {}
    return SMALL.get(name, {}) | data


def task_for(name: str, num_envs: int, seed: int = 0) -> tuple[str, Task]:
    """The first environment that the agent serves."""
    for env in ENVS:
        envs = make_env(env, num_envs)
        task = task_of(RunOptions(env=env, num_envs=num_envs, total_steps=1000, seed=seed), envs)
        if registry.agent_class(name).supports(task) is None:
            return env, task
    raise AssertionError(f"no environment here for {name}")


def build(name: str, task: Task) -> Any:
    agent_class = registry.agent_class(name)
    seeding.seed_global_generators(task.seed)
    return agent_class(registry.config_class(agent_class)(**small(name)), task)


def bits(tree: Any) -> tuple[Any, Mapping[str, bytes]]:
    """A tree as something that can be compared bit by bit."""
    encoder = Encoder()
    document = encoder.encode(tree)
    logs = {
        f"{name}/{key}": value.tobytes()
        for name, log in encoder.logs.items()
        for key, value in log.rows(log.oldest_held, log.total_added).items()
    }
    return document, {name: array.tobytes() for name, array in encoder.arrays.items()} | logs


def everything(agent: Any) -> Any:
    return bits({"policy": agent.policy_state(), "training": agent.training_state()})


def driven(agent: Any, envs: VectorEnv, task: Task, until_step: int) -> None:
    """Train an agent of either kind, without hooks."""
    if isinstance(agent, SelfDriven):
        agent.train_on(task, lambda: envs, until_step, lambda progress: progress.step < until_step)
        return
    rng = np.random.default_rng(7)
    obs, _ = envs.reset(task.seed)
    carry = agent.initial_carry(task.num_envs)
    for _ in range(until_step // task.num_envs):
        action, carry, extras = agent.act(obs, carry, explore=True, rng=rng)
        starts = extras.get("reset_state")
        step = envs.step(action, None if starts is None else list(starts))
        if step.ended.any():
            carry = agent.reset_carry(carry, step.ended)
        reward = step.reward.astype(np.float32)
        ends = (step.terminated, step.truncated)
        agent.observe(Transition(obs, action, reward, step.next_obs, *ends, extras=extras), carry)
        agent.update()
        obs = step.obs


@pytest.mark.parametrize("name", registry.AGENTS)
def test_an_agent_is_driven_by_the_loop_or_by_itself(name: str) -> None:
    agent = build(name, task_for(name, 1)[1])
    assert isinstance(agent, Agent) != isinstance(agent, SelfDriven)


@pytest.mark.parametrize(("name", "num_envs"), SETTINGS)
def test_actions_lie_in_the_action_space_with_a_leading_axis(name: str, num_envs: int) -> None:
    env, task = task_for(name, num_envs)
    agent, envs = build(name, task), make_env(env, num_envs)
    driven(agent, envs, task, STEPS * num_envs)
    obs, _ = make_env(env, num_envs).reset(3)
    for explore in (False, True):
        action, _, _ = agent.act(obs, agent.initial_carry(num_envs), explore=explore, rng=np.random.default_rng(0))
        assert action.shape == (num_envs, *(task.action_space.shape or ()))
        assert action.dtype == task.action_space.dtype
        assert all(task.action_space.contains(row) for row in action)


@pytest.mark.parametrize(("name", "num_envs"), SETTINGS)
def test_acting_repeats_itself_and_changes_nothing(name: str, num_envs: int) -> None:
    env, task = task_for(name, num_envs)
    agent, envs = build(name, task), make_env(env, num_envs)
    driven(agent, envs, task, STEPS * num_envs)
    obs, _ = make_env(env, num_envs).reset(3)
    before, inputs = everything(agent), bits(obs)
    globals_before = bits(seeding.global_generators_state())
    for explore in (False, True):
        carry = agent.initial_carry(num_envs)
        carry_before = bits(carry)
        first, second = (agent.act(obs, carry, explore=explore, rng=np.random.default_rng(5)) for _ in range(2))
        assert bits(list(first)) == bits(list(second))
        assert bits(carry) == carry_before
    assert everything(agent) == before
    assert bits(obs) == inputs
    assert bits(seeding.global_generators_state()) == globals_before


@pytest.mark.parametrize(("name", "num_envs"), SETTINGS)
def test_a_restored_agent_makes_the_same_next_updates(name: str, num_envs: int) -> None:
    env, task = task_for(name, num_envs)
    agent, envs = build(name, task), make_env(env, num_envs)
    driven(agent, envs, task, STEPS * num_envs)
    policy, training = copy_tree(agent.policy_state()), copy_tree(agent.training_state())
    env_state, generators = envs.get_state(), seeding.global_generators_state()

    twin = build(name, replace(task, seed=99))
    twin.load_policy_state(policy)
    twin.load_training_state(training)
    twin_envs = make_env(env, num_envs)
    assert everything(twin)[1] == everything(agent)[1]

    for each, each_envs in ((agent, envs), (twin, twin_envs)):
        each_envs.set_state(env_state)
        seeding.load_global_generators_state(generators)
        more = (2 * STEPS if isinstance(agent, SelfDriven) else STEPS) * num_envs
        driven(each, each_envs, task, more)
    assert everything(twin) == everything(agent)


@pytest.mark.parametrize(("name", "num_envs"), SETTINGS)
def test_the_same_seed_gives_the_same_run(name: str, num_envs: int, tmp_path: Path) -> None:
    env, _ = task_for(name, num_envs)

    def run(folder: str, seed: int) -> Any:
        result = rlkit.train(
            name, env, total_steps=60 * num_envs, num_envs=num_envs, seed=seed, run_dir=tmp_path / folder,
            preset="none", agent_config=small(name), eval_episodes=1, eval_every=30 * num_envs,
        )  # fmt: skip
        checkpoint = load_checkpoint(sorted((result.run_dir / "checkpoints").glob("step-*"))[-1])
        assert checkpoint.training is not None
        session = {key: value for key, value in checkpoint.training["session"].items() if key != "seconds"}
        session = {key: value for key, value in session.items() if key != "hooks"}
        return bits([checkpoint.policy, checkpoint.training["agent"], session])

    first = run("first", 1)
    assert run("second", 1) == first
    assert run("third", 2) != first or registry.AGENTS[name].target.startswith(PLANNING)


def _random_observations(task: Task, rng: np.random.Generator) -> Any:
    space = task.observation_space
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.n, size=task.num_envs)
    assert space.shape is not None
    if space.dtype == np.uint8:
        return rng.integers(256, size=(task.num_envs, *space.shape), dtype=np.uint8)
    return rng.standard_normal((task.num_envs, *space.shape)).astype(np.float32)


def _updated_after(name: str, task: Task, ends: Callable[[Transition], Transition]) -> Any:
    agent = build(name, task)
    rng = np.random.default_rng(0)
    learned = False
    for _ in range(STEPS):
        obs, next_obs = _random_observations(task, rng), _random_observations(task, rng)
        action, carry, extras = agent.act(obs, agent.initial_carry(task.num_envs), explore=True, rng=rng)
        never = np.zeros(task.num_envs, dtype=np.bool_)
        reward = rng.standard_normal(task.num_envs).astype(np.float32)
        agent.observe(ends(Transition(obs, action, reward, next_obs, never, never, extras=extras)), carry)
        learned |= bool(agent.update())
    # tables also count episodes, which truncated steps end and unfinished ones do not
    learned_from = {name: value for name, value in agent.policy_state().items() if name != "clock"}
    return bits(learned_from) if learned else None


@pytest.mark.parametrize(("name", "num_envs"), SETTINGS)
def test_truncation_bootstraps_and_termination_does_not(name: str, num_envs: int) -> None:
    """Truncated transitions teach what unfinished ones do (for one-step targets), terminated ones something else."""
    _, task = task_for(name, num_envs)
    if isinstance(build(name, task), SelfDriven):
        pytest.skip("an agent that owns its loop is tested on an environment, see tests/agents/test_sb3.py")
    always = np.ones(num_envs, dtype=np.bool_)
    unfinished = _updated_after(name, task, lambda step: step)
    if unfinished is None:
        pytest.skip("learns nothing")
    truncated = _updated_after(name, task, lambda step: replace(step, truncated=always))
    assert truncated == unfinished or name.startswith((*WHOLE_EPISODES, *NEXT_ACTION))
    assert _updated_after(name, task, lambda step: replace(step, terminated=always)) not in (unfinished, truncated)


@pytest.mark.parametrize("name", [name for name in registry.AGENTS if name != "random"])
def test_a_self_driven_agent_stops_when_its_hook_says_so(name: str) -> None:
    env, task = task_for(name, 1)
    agent, envs = build(name, task), make_env(env, 1)
    if not isinstance(agent, SelfDriven):
        pytest.skip("driven by the loop")
    seen: list[Progress] = []

    def hook(progress: Progress) -> bool:
        seen.append(progress)
        return progress.step < 40

    agent.train_on(task, lambda: envs, 1000, hook)
    assert seen[-1].step >= 40 or registry.AGENTS[name].target.startswith(PLANNING)
    assert all(earlier.step < 40 for earlier in seen[:-1])
