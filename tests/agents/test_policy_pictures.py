"""PPO, A2C and REINFORCE from pictures: one encoder for policy and value, rollouts in bytes, exact gradients."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_resume import final_state, metrics

import rlkit
from rlkit import registry
from rlkit.agents.sequence_policy import SequenceActor
from rlkit.cli.main import main
from rlkit.errors import UnsupportedTaskError
from rlkit.nn.backbones import Backbone, build_backbone
from rlkit.nn.cores import EncoderCore
from rlkit.nn.picture_encoder import AT_ONCE, PictureEncoder
from rlkit.types import Task, Transition

SIZE = 16
PICTURES = spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8)
SQUARE = f"{Path(__file__).parent.parent / 'picture_env.py'}:Square"
SMALL: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 8, "batch_size": 8, "epochs": 2, "hidden": (8,)},
    "a2c": {"hidden": (8,)},
    "reinforce": {"episodes": 2, "hidden": (8,)},
}
QUIET: dict[str, Any] = {"preset": "none", "eval_every": 0, "device": "cpu", "log_every": 8}


def agent_of(name: str = "ppo", space: Any = PICTURES, action: Any = None, **options: Any) -> Any:
    chosen = registry.agent_class(name)
    actions = spaces.Discrete(3) if action is None else action
    return chosen(chosen.Config(**SMALL[name] | options), Task(space, actions, num_envs=2, total_steps=100))


def walked(agent: Any, steps: int = 7, space: Any = PICTURES) -> Any:
    """The agent after some steps of random pictures, which end now and then."""
    batched = gym.vector.utils.batch_space(space, 2)
    batched.seed(0)
    rng, carry, obs = np.random.default_rng(0), agent.initial_carry(2), batched.sample()
    for time in range(steps):
        action, carry, extras = agent.act(obs, carry, explore=True, rng=rng)
        following = batched.sample()
        ends = np.array([time == 2, False]), np.array([False, time == 4])
        carry = agent.reset_carry(carry, ends[0] | ends[1])
        reward = rng.standard_normal(2).astype(np.float32)
        agent.observe(Transition(obs, action, reward, following, *ends, extras=extras), carry)
        obs = np.where((ends[0] | ends[1])[:, None, None, None], batched.sample(), following)
    return agent


def batch_of(agent: Any) -> Any:
    return agent.actor.batch(agent.rollout, 0.99, 0.95)


@pytest.mark.parametrize("core", ["none", "gru", "transformer"])
def test_learning_sees_what_acting_saw(core: str) -> None:
    agent = walked(agent_of(core=core, core_width=8, core_heads=2, core_context=4))
    tensors = agent.actor.tensors(batch_of(agent))
    found = agent.actor.network.trace(tensors.obs, tensors.action, tensors.action_mask).distribution.log_prob
    torch.testing.assert_close(found, tensors.log_prob, rtol=0, atol=1e-5)


def test_policy_and_value_have_one_encoder_which_gives_the_features() -> None:
    agent = walked(agent_of())
    assert isinstance(agent.actor, SequenceActor)
    core = agent.actor.network.core
    assert isinstance(core, EncoderCore)
    backbones = [each for each in agent.actor.network.modules() if isinstance(each, Backbone)]
    assert len(backbones) == 1
    pictures = np.arange(2 * SIZE * SIZE, dtype=np.uint8).reshape(2, SIZE, SIZE, 1)
    with torch.no_grad():
        expected = backbones[0](torch.from_numpy(pictures)).numpy()
    assert np.array_equal(agent.features(pictures), expected)


def test_steps_are_kept_in_bytes() -> None:
    agent = walked(agent_of())
    assert agent.rollout.obs.dtype == agent.rollout.next_obs.dtype == np.uint8
    assert agent.rollout.obs.shape == (8, 2, SIZE * SIZE)
    assert batch_of(agent).obs.dtype == np.uint8


def test_the_gradient_is_that_of_the_written_out_loss() -> None:
    agent = walked(agent_of(entropy_coefficient=0.1, normalize_advantage=False))
    batch, network = batch_of(agent), agent.actor.network
    losses, gradient = agent.losses_and_gradient(agent.actor.tensors(batch))

    backbone = next(each for each in network.modules() if isinstance(each, Backbone))
    pictures = torch.from_numpy(np.ascontiguousarray(batch.obs)).view(-1, SIZE, SIZE, 1)
    features = backbone(pictures)
    log_pi = torch.log_softmax(network.policy(features), dim=1)
    taken = log_pi.gather(1, torch.from_numpy(batch.action.reshape(-1, 1)))[:, 0]
    advantage, target, old = (
        torch.from_numpy(part.reshape(-1)) for part in (batch.advantage, batch.target, batch.log_prob)
    )
    ratio = (taken - old).exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    value_loss = (network.value(features)[:, 0] - target).square().mean()
    entropy = -(log_pi.exp() * log_pi).sum(1).mean()
    loss = -surrogate + 0.5 * value_loss - 0.1 * entropy
    learned = [*network.core_parameters, network.policy.flat, network.value.flat]
    expected = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, learned)])
    assert losses.value == pytest.approx(value_loss.item(), rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    assert float(gradient[: network.core_parameters[0].numel()].abs().sum()) > 0


def test_any_number_of_pictures_is_encoded_some_at_a_time() -> None:
    encoder = PictureEncoder(build_backbone("impala", (8, 8), torch.Generator().manual_seed(0)))
    rows = torch.randint(0, 256, (2 * AT_ONCE + 3, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    whole, sizes = encoder(rows), []
    encoder.backbone.register_forward_hook(lambda _module, given, _found: sizes.append(len(given[0])))
    with torch.no_grad():
        torch.testing.assert_close(encoder(rows), whole, rtol=0, atol=1e-6)
    assert sizes == [AT_ONCE, AT_ONCE, 3]


@pytest.mark.parametrize(
    ("space", "options", "told"),
    [
        (spaces.Box(-1, 1, (4,)), {"encoder": "nature"}, "the encoder nature takes uint8 pictures"),
        (PICTURES, {"encoder": "nature"}, "the nature backbone needs pictures of at least 36 x 36"),
    ],
)
def test_what_cannot_be_encoded_is_explained(space: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UnsupportedTaskError, match=told):
        agent_of("ppo", space, **options)


def test_pictures_are_flattened_only_where_that_is_asked_for() -> None:
    assert agent_of(encoder="mlp").rollout.obs.dtype == np.float32
    assert not isinstance(agent_of(encoder="mlp").actor, SequenceActor)
    assert not isinstance(agent_of("ppo", spaces.Box(-1, 1, (4,))).actor, SequenceActor)


@pytest.mark.parametrize(("name", "core"), [("ppo", "none"), ("ppo", "gru"), ("a2c", "none"), ("reinforce", "none")])
def test_a_run_cut_in_a_rollout_goes_on_with_the_same_bits(name: str, core: str, tmp_path: Path) -> None:
    config = {**SMALL[name], "core": core, "core_width": 8}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    rlkit.train(
        name, SQUARE, total_steps=96, num_envs=2, checkpoint_every=52, run_dir=whole, agent_config=config, **QUIET
    )
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "checkpoints" / "step-000000096")
    assert rlkit.resume(killed).steps == 96
    assert metrics(killed) == metrics(whole)
    assert final_state(killed) == final_state(whole)


class SideOfTheDot(gym.Env[Any, Any]):
    """A dot in one half of the picture; saying which half earns 1. Eight pictures an episode, guessing returns 4."""

    observation_space = spaces.Box(0, 255, (SIZE, SIZE), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._picture(), {}

    def step(self, action: Any) -> Any:
        reward = float(int(action) == self.side)
        self.steps += 1
        return self._picture(), reward, self.steps == 8, False, {}

    def _picture(self) -> Any:
        row, column = (int(place) for place in self.np_random.integers(SIZE - 3, size=2))
        self.side = int(column > (SIZE - 4) // 2)
        picture = np.zeros((SIZE, SIZE), np.uint8)
        picture[row : row + 4, column : column + 4] = 255
        return picture


def test_ppo_learns_where_the_dot_is(tmp_path: Path) -> None:
    config = {"n_steps": 25, "batch_size": 50, "epochs": 5, "gamma": 0.0, "learning_rate": 2e-3, "hidden": (32,)}
    run = rlkit.train(
        "ppo", SideOfTheDot, total_steps=1_000, num_envs=4, run_dir=tmp_path / "run", agent_config=config, **QUIET
    ).run_dir
    assert rlkit.evaluate(run, SideOfTheDot, episodes=20).mean > 6.5


def test_the_command_line_trains_from_pixels_with_an_objective(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = [
        "train", "ppo", "--env", SQUARE, "--wrap", "frame-stack:n=2", "--aux", "curl", "--total-steps", "32",
        "--agent.n-steps", "16", "--agent.batch-size", "8", "--agent.epochs", "1", "--agent.encoder", "impala",
        "--run-dir", str(run),
    ]  # fmt: skip
    assert main(command) == 0, capsys.readouterr().err
    assert "train/auxiliary_loss" in (run / "metrics.jsonl").read_text()
    assert main(["evaluate", str(run), "--episodes", "1"]) == 0
