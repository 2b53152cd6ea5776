"""Pretraining runs: what they leave behind, what they learn from, and that a killed one goes on as if nothing was."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlkit
from rlkit.checkpoint import load_checkpoint
from rlkit.cli.main import main
from rlkit.data.datasets import EpisodeDataset
from rlkit.errors import ConfigError, UnknownNameError, UsageError
from rlkit.pretraining import resume_pretraining

ENV = f"{Path(__file__).parent / 'picture_env.py'}:Square"
SMALL: dict[str, Any] = {"backbone": "impala", "feature_size": 16, "batch_size": 16}
FLAGS = ["--method.backbone", "impala", "--method.feature-size", "16", "--method.batch-size", "16"]


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    options: dict[str, Any] = {"frames": 100, "updates": 12, "eval_every": 4, "log_every": 2}
    return rlkit.pretrain("simclr", run_dir=folder, env=ENV, method_config=SMALL, **options).run_dir


def test_a_run_records_its_frames_and_leaves_an_encoder_behind(run: Path) -> None:
    dataset = EpisodeDataset(run / "frames")
    assert int(dataset.lengths.sum()) + len(dataset) == 100
    encoder = rlkit.load_encoder(run)
    stored = load_checkpoint(sorted((run / "checkpoints").glob("step-*"))[-1]).policy["encoder"]
    assert all(torch.equal(value, encoder.backbone.state_dict()[name]) for name, value in stored.items())
    pictures = dataset[0].observations
    features = encoder.features(pictures)
    assert (encoder.step, features.shape, features.dtype) == (12, (len(pictures), 16), np.float32)
    np.testing.assert_allclose(encoder.features(pictures[3:4])[0], encoder.features(pictures[3:5])[0], atol=1e-6)
    assert encoder.observation_space == dataset.observation_space


def test_a_run_logs_losses_and_what_features_of_pictures_kept_aside_are_like(run: Path) -> None:
    points = metrics(run)
    assert [point["step"] for point in points] == [2, 4, 6, 8, 10, 12]
    assert all("train/loss" in point for point in points)
    looks = [point for point in points if "eval/feature_spread" in point]
    assert [look["step"] for look in looks] == [4, 8, 12]
    assert {"eval/effective_rank", "eval/nearest_neighbours_row", "eval/nearest_neighbours_column"} <= set(looks[0])
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "done"
    assert result["eval/effective_rank"] == looks[-1]["eval/effective_rank"]


def test_a_run_leaves_views_and_the_projectors_files_to_tensorboard(run: Path) -> None:
    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    sheet = Image.open(io.BytesIO(events.Images("views")[0].encoded_image_string))
    assert sheet.size == (3 * 17, 8 * 17)  # a picture and its two views, eight rows, a line between
    first = np.asarray(sheet)[:16, :16]
    assert set(np.unique(first)) == {20, 230}
    config = (run / "projector_config.pbtxt").read_text()
    features = np.loadtxt(run / "projector" / "features.tsv")
    labels = (run / "projector" / "labels.tsv").read_text().splitlines()
    assert 'tensor_path: "projector/features.tsv"' in config
    assert features.shape == (len(labels) - 1, 16)
    assert labels[0].split("\t") == ["picture", "column", "row"]
    with Image.open(run / "projector" / "pictures.png") as sprite:
        assert sprite.size[0] == 48 * np.ceil(np.sqrt(len(features)))


def test_an_extended_run_is_what_one_that_went_on_would_be(run: Path, tmp_path: Path) -> None:
    data = str(run / "frames")
    options: dict[str, Any] = {"data": data, "method_config": SMALL, "log_every": 2, "eval_every": 4}
    rlkit.pretrain("simclr", run_dir=tmp_path / "parts", updates=5, **options)
    resume_pretraining(tmp_path / "parts", updates=8)
    rlkit.pretrain("simclr", run_dir=tmp_path / "whole", updates=8, **options)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_other_pictures_than_those_it_began_with_are_refused(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (40, 12, 12, 3), np.uint8)
    np.savez(tmp_path / "data.npz", images=pictures)
    rlkit.pretrain("simclr", run_dir=tmp_path / "run", data=str(tmp_path / "data.npz"), updates=2, method_config=SMALL)
    np.savez(tmp_path / "data.npz", images=255 - pictures)
    with pytest.raises(UsageError, match="holds other pictures than when the run began"):
        resume_pretraining(tmp_path / "run", updates=4)


def test_a_recording_that_was_exchanged_is_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    other = tmp_path / "other"
    rlkit.pretrain("simclr", run_dir=other, env=ENV, frames=100, updates=1, seed=7, method_config=SMALL)
    shutil.rmtree(tmp_path / "run" / "frames")
    shutil.copytree(other / "frames", tmp_path / "run" / "frames")
    with pytest.raises(UsageError, match=r"run/frames holds other pictures than when the run began"):
        resume_pretraining(tmp_path / "run", updates=14)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "what are the pictures"),
        ({"env": ENV, "data": "x.npz"}, "what are the pictures"),
        ({"env": "CartPole-v1", "frames": 50}, "an encoder is pretrained on pictures, .*--wrap add-render-observation"),
        (
            {"env": ENV, "frames": 50},
            "the nature backbone needs pictures of at least 36 x 36 pixels, these are 16 x 16",
        ),
        ({"env": ENV, "frames": 20, "method_config": SMALL | {"batch_size": 64}}, "a batch alone needs 64"),
    ],
)
def test_wrong_usage_is_explained(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        rlkit.pretrain("simclr", run_dir=tmp_path / "run", updates=1, **options)
    assert not (tmp_path / "run" / "config.yaml").exists(), "the folder can be used again"


def test_a_longer_run_than_its_cosine_says_that_nothing_is_learned(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {**SMALL, "learning_rate_schedule": "cosine"}
    rlkit.pretrain("simclr", run_dir=tmp_path / "a", data=str(run / "frames"), updates=2, method_config=config)
    assert "step size fell to zero" not in caplog.text
    resume_pretraining(tmp_path / "a", updates=3)
    assert "step size fell to zero over the first 2 updates" in caplog.text


def test_actions_of_an_npz_file_serve_methods_that_need_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures, episode = rng.integers(0, 255, (40, 12, 12, 3), np.uint8), np.repeat([0, 1], 20)
    np.savez(tmp_path / "data.npz", images=pictures, episode=episode, actions=rng.integers(0, 3, 40))
    config = {**SMALL, "batch_size": 8, "steps": 2}
    options: dict[str, Any] = {"data": str(tmp_path / "data.npz"), "updates": 1, "method_config": config}
    assert rlkit.pretrain("spr", run_dir=tmp_path / "run", **options).updates == 1


def test_unknown_methods_and_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'simclr'"):
        rlkit.pretrain("simcrl", env=ENV)
    with pytest.raises(ConfigError, match=r"(?s)2 mistakes.*updates.*method.temprature.*did you mean"):
        rlkit.pretrain("simclr", env=ENV, updates=0, method_config={"temprature": 1.0})


def test_runs_of_agents_and_encoders_are_told_apart(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a pretraining run, it has an encoder and no agent"):
        rlkit.load(run)
    agent = rlkit.train("random", "CartPole-v1", total_steps=10, run_dir=tmp_path / "run", eval_every=0).run_dir
    with pytest.raises(UsageError, match="is no pretraining run"):
        resume_pretraining(agent)


def test_a_frozen_encoder_serves_any_agent_and_is_kept_with_its_run(run: Path, tmp_path: Path) -> None:
    wrap = (f"encode-observation:run={run}",)
    made = rlkit.train("a2c", ENV, total_steps=50, run_dir=tmp_path / "run", wrap=wrap, eval_every=0).run_dir
    assert (made / "encoder" / "meta.json").exists()
    policy = rlkit.load(made)
    assert policy.observation_space.shape == (16,)
    assert len(policy.evaluate(episodes=1).returns) == 1


def test_the_command_line_trains_resumes_and_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "run")
    code = main(["pretrain", "simclr", "--env", ENV, "--frames", "60", "--updates", "3", "--run-dir", folder, *FLAGS])
    told = capsys.readouterr().out
    assert code == 0
    assert "done: 3 updates" in told
    assert f"--encoder {folder}" in told
    assert main(["pretrain", "--resume", folder, "--updates", "4"]) == 0
    assert main(["pretrain", "--help"]) == 0
    assert "simclr" in capsys.readouterr().out
    assert main(["list", "encoders"]) == 0
    assert main(["inspect", folder]) == 0
    assert "simclr on" in capsys.readouterr().out
    assert main(["plot", folder, "--output", str(tmp_path / "loss.png")]) == 0
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size[0] > 300
    assert main(["pretrain", "simclr", "--env", ENV, "--run-dir", folder, *FLAGS]) == 2
    assert "go on with `rlkit pretrain --resume" in capsys.readouterr().err
    assert main(["evaluate", folder]) == 2
    assert "pretraining run" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("crash_at", ["after-update:7", "mid-checkpoint:4", "after-rename:3", "between-logs:5"])
def test_a_killed_run_resumes_bit_by_bit(tmp_path: Path, crash_at: str) -> None:
    def command(*arguments: str, **variables: str) -> int:
        process = [sys.executable, "-m", "rlkit", "pretrain", *arguments]
        return subprocess.run(process, env=dict(os.environ) | variables, capture_output=True, timeout=120).returncode

    flags = ["simclr", "--env", ENV, "--frames", "100", "--updates", "12", *FLAGS]
    often = ["--log-every", "1", "--eval-every", "3", "--checkpoint-every", "2"]
    assert command(*flags, *often, "--run-dir", str(tmp_path / "whole")) == 0
    assert command(*flags, *often, "--run-dir", str(tmp_path / "killed"), RLKIT_CRASH_AT=crash_at) == -signal.SIGKILL
    assert command("--resume", str(tmp_path / "killed")) == 0
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    weights = [
        load_checkpoint(sorted((tmp_path / name / "checkpoints").glob("step-*"))[-1]) for name in ("killed", "whole")
    ]
    for name, value in weights[0].policy["encoder"].items():
        assert (value == weights[1].policy["encoder"][name]).all(), name


def torchrun(*arguments: str) -> subprocess.Popen[bytes]:
    """Two processes that pretrain together, restarted together where one dies."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # without it a restart may meet the keys of the processes before (pytorch issue 135712)
    variables = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    launcher = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=3", "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1",
    ]  # fmt: skip
    command = [*launcher, "-m", "rlkit", "pretrain", *arguments]
    return subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=170)
    assert process.returncode == 0, errors.decode()[-2000:]


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(tmp_path: Path, run: Path) -> None:
    common = ["simclr", "--data", str(run / "frames"), "--updates", "8", "--log-every", "1", *FLAGS]
    assert main(["pretrain", *common, "--run-dir", str(tmp_path / "one")]) == 0
    finish(torchrun(*common, "--run-dir", str(tmp_path / "two")))
    one, two = (np.array([point["train/loss"] for point in metrics(tmp_path / name)]) for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=1e-3)
    np.testing.assert_allclose(two[:3], one[:3], rtol=1e-5)


@pytest.mark.slow
def test_a_killed_process_comes_back_and_the_run_ends_as_if_it_had_lived(tmp_path: Path, run: Path) -> None:
    common = ["simclr", "--data", str(run / "frames"), "--updates", "60", "--log-every", "1", "--eval-every", "0"]
    common += ["--checkpoint-every", "5", *FLAGS]
    finish(torchrun(*common, "--run-dir", str(tmp_path / "whole")))
    process = torchrun(*common, "--run-dir", str(tmp_path / "killed"))
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed" / "checkpoints").glob("step-00000001*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    psutil.Process(process.pid).children()[1].kill()
    finish(process)
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


def test_a_vision_transformer_is_as_large_as_the_options_say(tmp_path: Path) -> None:
    config = {"backbone": "vit", "vit_patch": 4, "vit_width": 24, "vit_depth": 2, "vit_heads": 2, "batch_size": 8}
    run = rlkit.pretrain(
        "simclr", run_dir=tmp_path / "run", env=ENV, frames=40, updates=1, method_config=config
    ).run_dir
    encoder = rlkit.load_encoder(run)
    assert encoder.feature_size == 24
    assert encoder.backbone.map_shape == (24, 4, 4)
    blocks = {name.split("blocks.")[1].split(".")[0] for name in encoder.backbone.state_dict() if "blocks." in name}
    assert blocks == {"0", "1"}
