"""Frozen encoders of trained runs under environments: the features, who may use them, and what a run keeps of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlkit
from rlkit.envs.make import make
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import CheckpointError, UnsupportedTaskError, UsageError
from rlkit.perception.encode_observation import EncodeObservation
from rlkit.types import Floats, Obs

ENV = "rlkit/NearestMatch-v0"
ARGS = ("max_objects=2", "colours=1")
SMALL: dict[str, Any] = {"env_args": ARGS, "preset": "none", "eval_every": 0}


def trained(name: str, run: Path, steps: int = 2000, **options: Any) -> Path:
    encoder = {
        "encoder": "attention", "encoder_width": 8, "encoder_heads": 2, "encoder_layers": 1, "n_steps": 32,
        "batch_size": 64, "learning_rate": 1e-3, "gamma": 0.5,
    }  # fmt: skip
    kept = encoder if name == "ppo" else {key: value for key, value in encoder.items() if key.startswith("encoder")}
    config = kept | options
    return rlkit.train(
        name, ENV, total_steps=steps, num_envs=16, run_dir=run, agent_config=config, checkpoint_every=steps, **SMALL
    ).run_dir


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("ppo", tmp_path_factory.mktemp("source") / "run")


def on_features(source: Path, run: Path, name: str = "linear-q-learning", **options: Any) -> Any:
    given: dict[str, Any] = {"agent_config": {"features": "raw", "gamma": 0.0, "learning_rate": 0.02}}
    given |= {"total_steps": 200, "wrap": (f"encode-observation:run={source}",), **SMALL, **options}
    return rlkit.train(name, ENV, run_dir=run, **given)


class Sums:
    """An encoder of one feature."""

    feature_size = 1
    observation_space = spaces.Box(-1, 1, (2,))

    def features(self, obs: Obs) -> Floats:
        return np.asarray(obs).sum(axis=1, keepdims=True)


class Pairs(gym.Env[Any, Any]):
    observation_space: Any = Sums.observation_space
    action_space: Any = spaces.Discrete(2)

    def reset(self, **given: Any) -> Any:
        return np.array([0.25, 0.5], np.float32), {}

    def step(self, action: Any) -> Any:
        return np.array([0.5, 0.5], np.float32), 0.0, True, False, {}


def test_any_encoder_can_stand_in_for_observations() -> None:
    env = EncodeObservation(Pairs(), Sums())
    assert env.observation_space == spaces.Box(-np.inf, np.inf, (1,), np.float32)
    assert env.reset(seed=0)[0].tolist() == [0.75]
    assert env.step(0)[0].tolist() == [1.0]
    assert env.observation_space.contains(env.step(0)[0])


def test_other_observations_and_masks_within_them_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match="the encoder takes observations Box"):
        EncodeObservation(gym.make("CartPole-v1"), Sums())

    class Masked(Pairs):
        observation_space = spaces.Dict(pair=Sums.observation_space, action_mask=spaces.MultiBinary(2))

    class OfMasked(Sums):
        observation_space: Any = Masked.observation_space

    with pytest.raises(UnsupportedTaskError, match=r'info\["action_mask"\]'):
        EncodeObservation(Masked(), OfMasked())


@pytest.mark.parametrize("vector", ["serial", pytest.param("process", marks=pytest.mark.slow)])
def test_features_are_those_that_the_policy_acts_on(vector: Any, source: Path) -> None:
    wrapper = resolve_wrapper(f"encode-observation:run={source}")
    envs = make(ENV, 2, vector=vector, wrappers=[wrapper], env_kwargs={"max_objects": 2, "colours": 1})
    plain = make(ENV, 2, env_kwargs={"max_objects": 2, "colours": 1})
    try:
        agent = rlkit.load(source).agent
        features, obs = envs.reset(3)[0], plain.reset(3)[0]
        network = agent.actor.network
        action, *_ = agent.act(obs, agent.initial_carry(2), explore=False, rng=np.random.default_rng(0))
        assert isinstance(features, np.ndarray)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, agent.features(obs), rtol=0, atol=1e-6)
        assert network.policy.numpy_forward(features).argmax(axis=1).tolist() == action.tolist()
        assert vector == "process" or envs.restore_tier == "exact"
    finally:
        envs.close()
        plain.close()


@pytest.mark.parametrize("name", ["a2c", "reinforce"])
def test_every_policy_with_an_encoder_has_features(name: str, tmp_path: Path) -> None:
    run = trained(name, tmp_path / "run", steps=64)
    assert on_features(run, tmp_path / "linear").steps == 200


def test_linear_q_learning_learns_on_features(source: Path, tmp_path: Path) -> None:
    run = on_features(source, tmp_path / "run", total_steps=1500).run_dir
    assert rlkit.evaluate(run, episodes=100, seed=1).mean > 0.25  # random actions: 1/8


@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_other_agents_take_features_too(name: str, source: Path, tmp_path: Path) -> None:
    result = on_features(source, tmp_path / "run", name, agent_config={"hidden": (8,)}, wrap=(
        f"encode-observation:run={source}", "normalize-observation"
    ))  # fmt: skip
    assert result.steps == 200


def test_a_run_keeps_its_encoder_wherever_both_runs_go(source: Path, tmp_path: Path) -> None:
    mine = tmp_path / "source"
    shutil.copytree(source, mine)
    whole = on_features(mine, tmp_path / "whole", num_envs=2, total_steps=300)
    part = on_features(mine, tmp_path / "part", num_envs=2, total_steps=120).run_dir
    shutil.rmtree(mine)
    part = part.rename(tmp_path / "elsewhere")
    again = rlkit.resume(part, total_steps=300)
    assert np.array_equal(again.agent.weights, whole.agent.weights)
    returns = [rlkit.evaluate(run, episodes=3).returns for run in (again.run_dir, whole.run_dir)]
    assert returns[0] == returns[1]
    assert rlkit.load(part).options.wrap == (f"encode-observation:run={part.resolve()}/encoder",)


def test_a_source_that_learned_on_gives_new_runs_its_newest_encoder(tmp_path: Path) -> None:
    mine = trained("ppo", tmp_path / "source", steps=512)
    first = on_features(mine, tmp_path / "first").run_dir
    rlkit.resume(mine, total_steps=1024)
    second = on_features(mine, tmp_path / "second").run_dir
    steps = [sorted(path.name for path in (run / "encoder" / "checkpoints").iterdir()) for run in (first, second)]
    assert steps == [["step-000000512"], ["step-000001024"]]


def test_an_encoder_that_is_gone_or_damaged_is_told(source: Path, tmp_path: Path) -> None:
    run = on_features(source, tmp_path / "run").run_dir
    (arrays,) = (run / "encoder").glob("checkpoints/*/policy/arrays.safetensors")
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"damaged.* copy it back, or train anew"):
        rlkit.resume(run, total_steps=300)
    shutil.rmtree(run / "encoder")
    with pytest.raises(CheckpointError, match=r"is gone\. .* copy it back, or train anew"):
        rlkit.load(run)


def test_features_of_a_run_that_normalises_are_not_read_without_its_statistics(tmp_path: Path) -> None:
    options = {"encoder": "attention", "encoder_width": 8, "encoder_heads": 2, "n_steps": 32, "batch_size": 32}
    mine = rlkit.train(
        "ppo", ENV, total_steps=32, run_dir=tmp_path / "source", agent_config=options, wrap=("normalize-observation",),
        **SMALL,
    ).run_dir  # fmt: skip
    config = {"features": "encoder", "encoder": str(mine)}
    with pytest.raises(UsageError, match=f"--wrap encode-observation:run={mine}"):
        rlkit.train("linear-q-learning", ENV, total_steps=32, run_dir=tmp_path / "r", agent_config=config, **SMALL)
    assert on_features(mine, tmp_path / "run").steps == 200


def test_runs_without_an_encoder_of_single_observations_are_refused(source: Path, tmp_path: Path) -> None:
    plain = trained("ppo", tmp_path / "plain", steps=64, encoder="mlp")
    with pytest.raises(UsageError, match=r"no features.*--agent.encoder attention"):
        on_features(plain, tmp_path / "run")
    core = trained("ppo", tmp_path / "core", steps=64, core="gru", core_width=8)
    with pytest.raises(UsageError, match=r"depend on what came before.*--agent.core none"):
        on_features(core, tmp_path / "run")
    random = rlkit.train("random", ENV, total_steps=64, run_dir=tmp_path / "random", **SMALL).run_dir
    with pytest.raises(UsageError, match="has no features"):
        on_features(random, tmp_path / "run")
    with pytest.raises(UnsupportedTaskError, match="env-args"):
        on_features(source, tmp_path / "run", env_args=("max_objects=3",))
    with pytest.raises(UsageError, match="2 times"):
        on_features(source, tmp_path / "run", wrap=(f"encode-observation:run={source}",) * 2)
    encoded = on_features(source, tmp_path / "encoded", "dqn", agent_config={"hidden": (8,)}).run_dir
    with pytest.raises(UsageError, match="itself sees observations through an encoder"):
        on_features(encoded, tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()
