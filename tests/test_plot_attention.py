"""`rlkit plot RUN --attention`: what a policy attends to, as a picture and in TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlkit
from rlkit.cli.main import main

SMALL: dict[str, Any] = {"core_width": 8, "core_heads": 2, "core_context": 6, "encoder_width": 8, "encoder_heads": 2}


def train(folder: Path, env: str, **options: Any) -> rlkit.RunResult:
    return rlkit.train(
        "ppo", env, total_steps=32, run_dir=folder, preset="none", eval_every=0,
        agent_config={"n_steps": 16, "batch_size": 16, **SMALL, **options},
    )  # fmt: skip


def test_a_picture_of_attention_is_written_and_put_into_tensorboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "run", "rlkit/RepeatPrevious-v0", core="transformer")
    output = tmp_path / "new" / "a.png"
    capsys.readouterr()
    assert main(["plot", str(tmp_path / "run"), "--attention", "--output", str(output)]) == 0
    assert capsys.readouterr().out.split() == [str(output)]
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0})
    events.Reload()
    (image,) = events.Images("attention")
    assert image.encoded_image_string == output.read_bytes()
    assert output.read_bytes().startswith(b"\x89PNG")


def test_maps_are_of_every_layer_and_head_and_of_the_encoder(tmp_path: Path) -> None:
    agent = train(tmp_path / "run", "rlkit/NearestMatch-v0", core="transformer", encoder="attention").agent
    rng = np.random.default_rng(0)
    mask = np.zeros((9, 1, 12), np.int8)
    mask[:, :, :4] = 1
    episode = [
        {"entities": rng.random((1, 12, 6), np.float32), "mask": mask[step], "own": rng.random((1, 6), np.float32)}
        for step in range(9)
    ]
    maps = agent.attention_maps(episode)
    assert list(maps) == [f"layer {i}, head {h}" for i in (1, 2) for h in (1, 2)] + ["parts, head 1", "parts, head 2"]
    layer, parts = maps["layer 2, head 1"], maps["parts, head 2"]
    np.testing.assert_allclose(layer.sum(1), 1.0, rtol=1e-5)
    assert (np.triu(layer, 1) == 0).all()
    assert (np.tril(layer, -6) == 0).all()  # the context is 6
    assert parts.shape == (9, 13)
    assert (parts[:, 4:12] == 0).all()
    np.testing.assert_allclose(parts.sum(1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("core", ["none", "gru"])
def test_a_policy_that_attends_to_nothing_is_told(
    tmp_path: Path, core: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "run", "CartPole-v1", core=core)
    assert main(["plot", str(tmp_path / "run"), "--attention"]) == 2
    assert "attends to nothing; train one with --agent.core transformer" in capsys.readouterr().err
