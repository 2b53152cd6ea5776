"""SAC and TQC from pictures: an encoder that learns by the critics' loss alone, and slow targets of all of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from picture_tasks import SIZE, PointAtTheDot
from test_resume import final_state, metrics

import rlkit
from rlkit import registry
from rlkit.agents.sac import SAC, SACConfig
from rlkit.cli.main import main
from rlkit.data.replay import Batch
from rlkit.errors import UnsupportedTaskError, UsageError
from rlkit.nn.backbones import Backbone, build_backbone
from rlkit.nn.pixel_actor_critic import PixelEncoder, PixelFeatures
from rlkit.ops.value_learning import td_target
from rlkit.types import Task, Transition

TINY: dict[str, Any] = {"hidden": (16,), "trunk": 8, "batch_size": 8, "buffer_size": 500, "learning_starts": 20}
TASK = Task(spaces.Box(0, 255, (2, SIZE, SIZE), np.uint8), spaces.Box(-1.0, 3.0, (2,), np.float32), frame_stack=2)
OPTIONS: dict[str, Any] = {"preset": "none", "eval_every": 0, "device": "cpu", "log_every": 20}
ENV = f"{Path(__file__).parent / 'picture_tasks.py'}:PointAtTheDot"
ROWS = 8


def agent_with(name: str = "sac", task: Task = TASK, **options: Any) -> Any:
    chosen = registry.agent_class(name)
    return chosen(registry.config_class(chosen)(**TINY | options), task)


def random_batch(shape: tuple[int, ...] = (2, SIZE, SIZE)) -> Batch:
    rng = np.random.default_rng(0)
    obs, next_obs = rng.integers(256, size=(2, ROWS, *shape), dtype=np.uint8)
    action, reward = rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32), rng.standard_normal(ROWS).astype(np.float32)
    never = np.zeros(ROWS, np.bool_)
    return Batch(obs, action, reward, next_obs, never, np.full(ROWS, 0.9, np.float32))


def features_of(on_encoder: Any) -> PixelFeatures:
    found: PixelFeatures = on_encoder.core.encoder
    return found


def encoded(on_encoder: Any, pictures: Any) -> Any:
    """Convolutions and trunk written out, for [B, C, H, W]."""
    x = torch.as_tensor(pictures) / 255 - 0.5
    for layer in features_of(on_encoder).encoder.layers:  # type: ignore[union-attr]
        x = layer(x)
    linear, norm = features_of(on_encoder).trunk[:2]  # type: ignore[misc]
    x = x @ linear.weight.T + linear.bias
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    return (norm.weight * x + norm.bias).tanh()


def log_prob(mean: Any, log_std: Any, noise: Any) -> tuple[Any, Any]:
    """The squashed action of this noise, and the logarithm of its density."""
    action = (mean + log_std.exp() * noise).tanh()
    gaussian = -0.5 * noise.square() - log_std - 0.5 * np.log(2 * np.pi)
    return action, (gaussian - (1 - action.square()).log()).sum(1)


@pytest.mark.parametrize("shape", [(40, 41), (3, 40, 41), (40, 41, 3), (4, 40, 41), (3, 40, 41, 3)])
@pytest.mark.parametrize("name", ["sac", "tqc"])
def test_pictures_of_every_layout_are_acted_on_and_learned_from(name: str, shape: tuple[int, ...]) -> None:
    task = replace(TASK, observation_space=spaces.Box(0, 255, shape, np.uint8), frame_stack=1)
    agent, batch = agent_with(name, task), random_batch(shape)
    action, _, _ = agent.act(batch.obs, (), explore=False, rng=np.random.default_rng(0))
    assert action.shape == (ROWS, 2)
    assert np.isfinite(list(agent.learn(batch).values())).all()


def test_acting_is_the_mean_on_what_the_critics_encoder_gives() -> None:
    agent, batch = agent_with(), random_batch()
    action, _, _ = agent.act(batch.obs, (), explore=False, rng=np.random.default_rng(0))
    with torch.no_grad():
        mean = agent.actor(encoded(agent.critics, batch.obs))[:, :2]
    np.testing.assert_allclose(action, 1 + 2 * mean.tanh().numpy(), atol=1e-5)


def drawn_noise() -> torch.Tensor:
    return torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(5))


def test_targets_are_of_the_target_encoder_at_what_the_actor_does_on_the_other() -> None:
    agent, noise, alpha = agent_with(shift=0), drawn_noise(), 0.3
    batch = agent.tensors(random_batch())
    with torch.no_grad():  # so that targets and critics disagree
        drawn = torch.randn(agent.target_critics.flat.shape, generator=torch.Generator().manual_seed(6))
        agent.target_critics.flat.add_(0.1 * drawn)
        following = random_batch().next_obs
        mean, log_std = agent.actor(encoded(agent.critics, following)).chunk(2, dim=1)
        action, density = log_prob(mean, log_std, noise)
        inputs = torch.cat((encoded(agent.target_critics, following), action), dim=1)
        values = torch.stack([member(inputs)[:, 0] for member in agent.target_critics.head.members])
        expected = td_target(batch.reward, batch.discount, values.min(0).values - alpha * density)
        assert not torch.allclose(encoded(agent.target_critics, following), encoded(agent.critics, following))
    found = agent.target(batch, noise, torch.tensor(alpha))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_critics_gradient_is_autograds_through_the_encoder() -> None:
    agent, noise, alpha = (
        agent_with(shift=0),
        drawn_noise(),
        torch.tensor(0.3),
    )
    batch = agent.tensors(random_batch())
    loss, gradient = agent.critic_gradient(batch, noise, alpha)
    target = agent.target(batch, noise, alpha).clone()
    inputs = torch.cat((encoded(agent.critics, random_batch().obs), batch.action), dim=1)
    errors = [(member(inputs)[:, 0] - target).square().mean() for member in agent.critics.head.members]
    right = 0.5 * sum(errors[1:], errors[0])
    owned = [*agent.critics.core.parameters(), *(member.flat for member in agent.critics.head.members)]
    expected = torch.cat([part.reshape(-1) for part in torch.autograd.grad(right, owned)])
    assert loss.item() == pytest.approx(right.item(), rel=1e-4, abs=1e-5)  # a difference of larger numbers
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)
    assert gradient[: len(agent.vectors["encoder"])].abs().max() > 0


def test_the_actors_gradient_is_autograds_with_the_features_held() -> None:
    agent, noise, alpha = (
        agent_with(shift=0),
        drawn_noise(),
        torch.tensor(0.3),
    )
    batch = agent.tensors(random_batch())
    loss, gradient, _ = agent.actor_gradient(batch, noise, alpha)
    assert gradient.shape == agent.vectors["actor"].shape
    features = encoded(agent.critics, random_batch().obs).detach()
    mean, log_std = agent.actor(features).chunk(2, dim=1)
    action, density = log_prob(mean, log_std, noise)
    inputs = torch.cat((features, action), dim=1)
    value = torch.stack([member(inputs)[:, 0] for member in agent.critics.head.members]).min(0).values
    right = (alpha * density - value).mean()
    (expected,) = torch.autograd.grad(right, [agent.actor.flat])
    assert loss.item() == pytest.approx(right.item(), rel=1e-4, abs=1e-5)  # a difference of larger numbers
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("aux", [None, "curl"])
@pytest.mark.parametrize("name", ["sac", "tqc"])
def test_one_optimiser_owns_the_encoder_and_moves_it_once_an_update(
    name: str, aux: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    auxiliary = None if aux is None else registry.auxiliary(aux, 1.0)
    agent, moves = agent_with(name, replace(TASK, auxiliary=auxiliary)), []
    assert agent.critics_optimizer.parameter.data_ptr() == agent.vectors["encoder"].data_ptr()
    optimizers = agent.optimizers | ({} if aux is None else {"objective": agent.auxiliary.optimizer})
    for label, optimizer in optimizers.items():
        step = optimizer.step

        def counted(gradient: torch.Tensor, label: str = label, step: Any = step) -> None:
            before = agent.vectors["encoder"].clone()
            step(gradient)
            moves.append((label, not torch.equal(before, agent.vectors["encoder"])))

        monkeypatch.setattr(optimizer, "step", counted)
    for _ in range(2):
        agent.learn(random_batch())
    each = [("critics", True), ("actor", False), ("temperature", False)]
    assert moves == 2 * (each if aux is None else [("objective", False), *each])
    assert int(agent.critics_optimizer.steps) == 2


def test_target_encoder_and_critics_follow_by_tau() -> None:
    agent = agent_with(tau=0.25)
    assert torch.equal(agent.critics.flat, agent.target_critics.flat)
    before = agent.target_critics.flat.detach().clone()
    agent.learn(random_batch())
    torch.testing.assert_close(agent.target_critics.flat, torch.lerp(before, agent.critics.flat, 0.25))


def test_pictures_are_shifted_each_by_its_own_draw_and_the_frames_of_a_stack_together() -> None:
    agent, batch = agent_with(shift=4), random_batch()
    columns = np.broadcast_to(np.arange(SIZE, dtype=np.uint8), batch.obs.shape).copy()
    seen = [agent.tensors(replace(batch, obs=columns, next_obs=columns)) for _ in range(40)]
    for found in ([each.obs for each in seen], [each.next_obs for each in seen]):
        pictures = torch.cat([agent.pictures.of(steps) for steps in found])
        assert pictures.dtype == torch.uint8
        assert torch.equal(pictures[:, 0], pictures[:, 1])
        assert set((pictures[:, 0, 5, 8] - 8.0).tolist()) == set(range(-4, 5))
    unshifted = agent_with(shift=0).tensors(batch)
    assert np.array_equal(agent.pictures.of(unshifted.obs).numpy(), batch.obs)


def test_the_policy_that_is_saved_acts_alike() -> None:
    agent, batch = agent_with(), random_batch()
    agent.learn(batch)
    loaded = agent_with(task=replace(TASK, total_steps=0, seed=1))
    loaded.load_policy_state(agent.policy_state())
    first, second = (
        each.act(batch.obs, (), explore=False, rng=np.random.default_rng(0))[0] for each in (agent, loaded)
    )
    assert np.array_equal(first, second)


def test_which_encoder_pictures_go_through() -> None:
    def kind(task: Task = TASK, **options: Any) -> Any:
        return features_of(agent_with(task=task, **options).critics).encoder

    assert isinstance(kind(), PixelEncoder)
    assert isinstance(kind(encoder="impala"), Backbone)
    assert isinstance(kind(replace(TASK, auxiliary=registry.auxiliary("curl", 1.0))), Backbone)
    small = spaces.Box(0, 255, (8, 8), np.uint8)
    assert isinstance(kind(replace(TASK, observation_space=small, frame_stack=1)), Backbone)
    brought = build_backbone("impala", (2, SIZE, SIZE), torch.Generator().manual_seed(5))
    agent = agent_with(task=replace(TASK, encoder=brought))
    for critics in (agent.critics, agent.target_critics):
        found = features_of(critics).encoder.state_dict()
        assert all(torch.equal(value, found[name]) for name, value in brought.state_dict().items())


def test_what_does_not_fit_is_explained() -> None:
    with pytest.raises(UsageError, match=r"agent\.core takes observations as vectors.*--agent\.encoder mlp"):
        agent_with(core="gru")
    with pytest.raises(UnsupportedTaskError, match="at least 36 x 36"):
        agent_with(encoder="nature")
    vectors = replace(TASK, observation_space=spaces.Box(-1, 1, (3,)), frame_stack=1)
    with pytest.raises(UnsupportedTaskError, match="--aux is for encoders of pictures"):
        agent_with(task=replace(vectors, auxiliary=registry.auxiliary("curl", 1.0)))
    with pytest.raises(UsageError, match=r"leave out --agent\.encoder mlp"):
        agent_with(task=replace(TASK, auxiliary=registry.auxiliary("curl", 1.0)), encoder="mlp")
    with pytest.raises(UsageError, match=r"successive pictures, agent\.n_step is 3"):
        agent_with(task=replace(TASK, auxiliary=registry.auxiliary("spr", 1.0)), n_step=3)


def test_pictures_are_flattened_only_where_that_is_asked_for() -> None:
    agent = SAC(SACConfig(**TINY | {"encoder": "mlp"}), replace(TASK, frame_stack=1))
    assert agent.pictures is None
    assert agent.feature_size == 2 * SIZE * SIZE


@pytest.mark.parametrize("aux", [None, "spr"])
def test_a_killed_run_on_stacked_frames_resumes_to_the_same_bits(aux: str | None, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    config = {**TINY, "buffer_size": 80, "update_to_data_ratio": 0.25}
    rlkit.train(
        "sac", PointAtTheDot, total_steps=60, checkpoint_every=40, num_envs=2, wrap=("frame-stack:n=2",), aux=aux,
        run_dir=whole, agent_config=config, **OPTIONS,
    )  # fmt: skip
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "checkpoints" / "step-000000060")
    assert rlkit.resume(killed, env=PointAtTheDot).steps == 60
    assert metrics(killed) == metrics(whole)
    assert final_state(killed) == final_state(whole)


def test_frames_of_a_stack_are_stored_once(tmp_path: Path) -> None:
    agent = rlkit.train(
        "sac", PointAtTheDot, total_steps=40, wrap=("frame-stack:n=3",), run_dir=tmp_path / "run",
        agent_config={**TINY, "learning_starts": 30, "update_to_data_ratio": 0.25}, **OPTIONS,
    ).agent  # fmt: skip
    assert agent.replay.total_added == 40 + 40 // 5  # the frame after the last action of each episode, too
    assert agent.replay.sample(4, np.random.default_rng(0)).obs.shape == (4, 3, SIZE, SIZE)


def test_updates_wait_for_the_first_whole_transition() -> None:
    agent = agent_with(learning_starts=0, update_to_data_ratio=1.0)
    obs, never = np.zeros((1, 2, SIZE, SIZE), np.uint8), np.zeros(1, np.bool_)
    agent.observe(Transition(obs, np.zeros((1, 2), np.float32), np.ones(1, np.float32), obs, never, never), ())
    assert agent.update() == {}


def test_the_command_line_learns_on_from_pixels_with_an_objective(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained, run = tmp_path / "encoder", tmp_path / "run"
    rlkit.pretrain(
        "simclr", run_dir=pretrained, env=ENV, frames=40, updates=1,
        method_config={"backbone": "impala", "feature_size": 16, "batch_size": 16},
    )  # fmt: skip
    command = ["train", "sac", "--env", ENV, "--encoder", str(pretrained), "--finetune", "--aux", "byol"]
    sizes = ["--agent.learning-starts", "10", "--agent.batch-size", "8", "--agent.buffer-size", "100"]
    few = ["--total-steps", "13", "--eval-every", "0", "--run-dir", str(run)]
    assert main([*command, *sizes, *few]) == 0, capsys.readouterr().err
    assert "train/auxiliary_loss" in (run / "metrics.jsonl").read_text()
    assert main(["evaluate", str(run), "--episodes", "1"]) == 0


@pytest.mark.slow
def test_it_learns_to_point_at_a_dot(tmp_path: Path) -> None:
    """Random actions return about -6.9, the middle always -5.4."""
    settings = {"hidden": (32,), "batch_size": 32, "gamma": 0.0, "shift": 0, "learning_rate": 2e-3}
    result = rlkit.train(
        "sac", PointAtTheDot, total_steps=700, run_dir=tmp_path / "run",
        agent_config=settings | {"learning_starts": 200, "initial_temperature": 0.1, "buffer_size": 1000}, **OPTIONS,
    )  # fmt: skip
    assert rlkit.evaluate(result.agent, PointAtTheDot, episodes=40).mean > -2.5
