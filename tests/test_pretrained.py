"""Pretrained encoders under agents: frozen or learned on, refused where they do not fit, kept with their run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlkit
from rlkit.cli.main import main
from rlkit.errors import UnsupportedTaskError, UsageError
from rlkit.nn.backbones import Backbone

ENV = f"{Path(__file__).parent / 'picture_env.py'}:Square"
QUIET: dict[str, Any] = {"eval_every": 0, "preset": "none"}
DQN: dict[str, Any] = {"learning_starts": 20, "batch_size": 8, "hidden": (16,), "buffer_size": 500}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "run"
    config = {"backbone": "impala", "feature_size": 16, "batch_size": 16}
    return rlkit.pretrain("simclr", run_dir=folder, env=ENV, frames=60, updates=2, method_config=config).run_dir


def backbone_of(agent: Any) -> Backbone:
    return next(module for module in agent.network.modules() if isinstance(module, Backbone))


def test_a_frozen_encoder_gives_the_agent_its_features(encoder: Path, tmp_path: Path) -> None:
    result = rlkit.train("ppo", ENV, total_steps=64, run_dir=tmp_path / "run", encoder=str(encoder),
                         agent_config={"n_steps": 32}, **QUIET)  # fmt: skip
    policy = rlkit.load(result.run_dir)
    assert policy.observation_space.shape == (16,)
    shutil.move(result.run_dir, tmp_path / "moved")
    shutil.move(encoder, tmp_path / "source")  # the run has its own copy
    assert len(rlkit.load(tmp_path / "moved").evaluate(episodes=1).returns) == 1
    shutil.move(tmp_path / "source", encoder)


def test_dqn_learns_on_from_an_encoder_and_resumes(encoder: Path, tmp_path: Path) -> None:
    before = rlkit.load_encoder(encoder).backbone.state_dict()
    options: dict[str, Any] = {"encoder": str(encoder), "finetune": True, **QUIET}
    result = rlkit.train("dqn", ENV, total_steps=20, run_dir=tmp_path / "run", agent_config=DQN, **options)
    first = {name: value.clone() for name, value in backbone_of(result.agent).state_dict().items()}
    assert all(torch.equal(first[name], before[name]) for name in before), "nothing was learned yet"
    agent = rlkit.resume(tmp_path / "run", total_steps=40).agent
    after = backbone_of(agent).state_dict()
    assert all(not torch.equal(after[name], before[name]) for name in before)
    loaded = rlkit.load(tmp_path / "run").agent
    assert all(torch.equal(backbone_of(loaded).state_dict()[name], after[name]) for name in after)
    assert torch.equal(rlkit.load_encoder(encoder).backbone.state_dict()["trunk.0.weight"], before["trunk.0.weight"])


def test_one_optimiser_moves_a_tuned_encoder_once_an_update(encoder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"encoder": str(encoder), "finetune": True, **QUIET}
    agent = rlkit.train("dqn", ENV, total_steps=60, run_dir=tmp_path / "run", agent_config=DQN, **options).agent
    weight = backbone_of(agent).trunk[0].weight  # type: ignore[index]
    start, stop = agent.network.flat.data_ptr(), agent.network.flat.data_ptr() + 4 * agent.network.flat.numel()
    assert start <= weight.data_ptr() < stop, "the encoder is part of the one vector that the optimiser moves"
    assert agent.optimizer.parameter is agent.network.flat
    steps, before = int(agent.optimizer.steps), weight.detach().clone()
    agent.learn(agent.replay.sample(8, np.random.default_rng(0)))
    assert int(agent.optimizer.steps) == steps + 1
    assert not torch.equal(weight, before)


@pytest.mark.parametrize("core", ["none", "gru"])
def test_a_policy_learns_on_from_an_encoder_and_resumes(encoder: Path, tmp_path: Path, core: str) -> None:
    before = rlkit.load_encoder(encoder).backbone.state_dict()
    options: dict[str, Any] = {"encoder": str(encoder), "finetune": True, **QUIET}
    config = {"n_steps": 16, "batch_size": 8, "epochs": 2, "core": core, "core_width": 8}

    def states(agent: Any) -> dict[str, torch.Tensor]:
        found = [module for module in agent.actor.network.modules() if isinstance(module, Backbone)]
        assert len(found) == 1
        return {name: value.clone() for name, value in found[0].state_dict().items()}

    begun = rlkit.train("ppo", ENV, total_steps=15, run_dir=tmp_path / "run", agent_config=config, **options).agent
    assert all(torch.equal(states(begun)[name], before[name]) for name in before), "nothing was learned yet"
    agent = rlkit.resume(tmp_path / "run", total_steps=16).agent
    assert int(agent.optimizer.steps) == 4 if core == "none" else 2  # a core's minibatches are whole rows
    after = states(agent)
    assert all(not torch.equal(after[name], before[name]) for name in before)
    loaded = rlkit.load(tmp_path / "run").agent
    assert all(torch.equal(states(loaded)[name], after[name]) for name in after)


def test_agents_that_cannot_learn_on_are_named_those_that_can(encoder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"encoder": str(encoder), "finetune": True, **QUIET}
    able = r"(?s)random has no encoder of its own.*agents that can: .*dqn.*ppo.*drqv2"
    with pytest.raises(UnsupportedTaskError, match=able):
        rlkit.train("random", ENV, total_steps=10, run_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("env", "options", "told"),
    [
        ("CartPole-v1", {"encoder": "RUN"}, "the encoder takes observations"),
        ("CartPole-v1", {"encoder": "RUN", "finetune": True}, "--encoder: the encoder takes pictures"),
        (ENV, {"finetune": True}, "name its run with --encoder"),
        (ENV, {"encoder": "RUN", "wrap": ("encode-observation:run=RUN",)}, "observations can be encoded once"),
        (ENV, {"encoder": "nowhere"}, "there is no run nowhere"),
    ],
)
def test_encoders_that_do_not_fit_are_refused_and_leave_nothing(
    encoder: Path, tmp_path: Path, env: str, options: dict[str, Any], told: str
) -> None:
    options = {
        key: value.replace("RUN", str(encoder)) if isinstance(value, str) else
        tuple(each.replace("RUN", str(encoder)) for each in value) if isinstance(value, tuple) else value
        for key, value in options.items()
    }  # fmt: skip
    with pytest.raises(UsageError, match=told):
        rlkit.train("dqn", env, total_steps=10, run_dir=tmp_path / "run", **QUIET, **options)
    assert not (tmp_path / "run").exists()


def test_the_command_line_freezes_finetunes_and_refuses_two_encoders(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["train", "dqn", "--env", ENV, "--total-steps", "10", "--eval-every", "0", "--encoder", str(encoder)]
    assert main([*common, "--freeze", "--run-dir", str(tmp_path / "frozen")]) == 0
    assert main([*common, "--finetune", "--run-dir", str(tmp_path / "tuned")]) == 0
    capsys.readouterr()
    assert main([*common, "--agent.encoder", "impala", "--run-dir", str(tmp_path / "both")]) == 2
    assert "leave out --agent.encoder" in capsys.readouterr().err
    for both in (["--freeze", "--finetune"], ["--finetune", "--freeze"]):
        assert main([*common, *both, "--run-dir", str(tmp_path / "both")]) == 2
        assert "--freeze leaves the encoder as it is, --finetune learns on from it" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()
