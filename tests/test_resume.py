"""Kill the process, resume, and compare everything with the run that nobody killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlkit.checkpoint import CheckpointStore, load_checkpoint
from rlkit.codec import Encoder
from rlkit.errors import CheckpointError

STEPS = 900
OPTIONS = [
    *("--total-steps", str(STEPS), "--log-every", "30", "--eval-every", "200", "--eval-episodes", "1"),
    *("--checkpoint-every", "150", "--preset", "none"),
]
SMALL_NETS = ["--agent.hidden", "16", "16", "--agent.batch-size", "16", "--agent.learning-starts", "100"]
# A ring that overflows, so that segments are dropped while others are still shared.
DDPG = ["ddpg", "--env", "Pendulum-v1", *OPTIONS, *SMALL_NETS, "--agent.buffer-size", "400"]
MASKED = Path(__file__).parent / "envs" / "env_samples.py"
POINTS = (
    "after-update:437",  # between two env steps
    "mid-segment:3",
    "mid-checkpoint:9",
    "before-manifest:4",
    "after-manifest:5",
    "after-rename:4",
    "mid-prune:2",
    "evaluate:3",
    "between-logs:17",
)


def rlkit(*arguments: str, crash_at: str | None = None, kill_after: float | None = None) -> int:
    """Run the command line in its own process; its exit code, negative for a signal."""
    env = dict(os.environ) | ({} if crash_at is None else {"RLKIT_CRASH_AT": crash_at})
    process = subprocess.Popen(
        [sys.executable, "-m", "rlkit", *arguments], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, errors = process.communicate(timeout=kill_after or 120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return -signal.SIGKILL
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()[-2000:]
    return process.returncode


def metrics(run: Path) -> list[dict[str, Any]]:
    """`metrics.jsonl` without wall-clock values."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every point in the event files, nothing purged by the reader."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def final_state(run: Path) -> tuple[Any, Mapping[str, bytes]]:
    """Everything the last checkpoint holds, replay rows included, bit by bit; without wall-clock values."""
    checkpoint = load_checkpoint(sorted((run / "checkpoints").glob("step-*"))[-1])
    training = checkpoint.training
    assert training is not None
    session = {key: value for key, value in training["session"].items() if key not in ("seconds", "hooks")}
    encoder = Encoder()
    document = encoder.encode({"policy": checkpoint.policy, "training": training | {"session": session}})
    rows = {
        f"{name}/{key}": array.tobytes()
        for name, log in encoder.logs.items()
        for key, array in log.rows(log.oldest_held, log.total_added).items()
    }
    return [checkpoint.step, document], {name: array.tobytes() for name, array in encoder.arrays.items()} | rows


def assert_same_run(found: Path, expected: Path) -> None:
    assert metrics(found) == metrics(expected)
    assert scalars(found) == scalars(expected)
    assert final_state(found) == final_state(expected)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert rlkit("train", *DDPG, "--run-dir", str(run)) == 0
    return run


def test_the_uninterrupted_run_has_one_point_a_logging_step(uninterrupted: Path) -> None:
    steps = [line["step"] for line in metrics(uninterrupted)]
    assert steps == sorted({*range(30, STEPS + 1, 30), *range(200, STEPS + 1, 200)})
    assert all(len(points) == len({step for step, _ in points}) for points in scalars(uninterrupted).values())
    assert {"train/critic_loss", "rollout/ep_rew_mean", "eval/mean_reward"} <= scalars(uninterrupted).keys()


@pytest.mark.parametrize("point", POINTS[:2])
def test_killed_at_a_named_point_it_resumes_to_the_same_bits(point: str, uninterrupted: Path, tmp_path: Path) -> None:
    killed_and_resumed(point, uninterrupted, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS[2:])
def test_killed_at_any_other_point_it_resumes_to_the_same_bits(point: str, uninterrupted: Path, tmp_path: Path) -> None:
    killed_and_resumed(point, uninterrupted, tmp_path)


def killed_and_resumed(point: str, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run with a space"
    assert rlkit("train", *DDPG, "--run-dir", str(run), crash_at=point) == -signal.SIGKILL
    assert rlkit("train", "--resume", str(run)) == 0
    assert_same_run(run, uninterrupted)
    assert not list((run / "checkpoints").glob(".tmp-*"))


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Several kills hit one run, also while it resumes."""
    # long enough that a kill at a random moment usually finds it training
    command = ["ddpg", "--env", "Pendulum-v1", *OPTIONS, *SMALL_NETS, "--total-steps", "6000"]
    assert rlkit("train", *command, "--run-dir", str(tmp_path / "expected")) == 0
    rng = np.random.default_rng(20261121)
    kills, number = 0, 0
    while kills < 10:
        run = tmp_path / f"run-{number}"
        number += 1
        arguments = ["train", *command, "--run-dir", str(run)]
        while True:
            code = rlkit(*arguments, kill_after=float(rng.uniform(2.5, 7.0)))
            if code == 0:
                break
            kills += 1
            if list((run / "checkpoints").glob("step-*")):
                arguments = ["train", "--resume", str(run)]
            else:
                run = tmp_path / f"run-{number}-again"  # killed before anything was written: there is nothing to resume
                number += 1
                arguments = ["train", *command, "--run-dir", str(run)]
            if kills % 3 == 0:  # let it finish
                assert rlkit(*arguments) == 0
                break
        assert_same_run(run, tmp_path / "expected")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            ["ddpg", "--env", "MountainCarContinuous-v0", "--agent.noise", "ornstein-uhlenbeck"], id="ou-noise"
        ),
        pytest.param(
            ["ddpg", "--env", "Pendulum-v1", "--num-envs", "3", "--agent.n-step", "3"], id="three-envs-n-step"
        ),
        pytest.param(["ddpg", "--env", "Pendulum-v1", "--num-envs", "2", "--vector", "process"], id="processes"),
        pytest.param(["ddpg", "--env", "Pendulum-v1", "--num-envs", "2", "--vector", "compiled"], id="machine-code"),
        pytest.param(
            ["ddpg", "--env", "Pendulum-v1", "--wrap", "frame-stack:n=2", "normalize-observation", "normalize-reward"],
            id="wrappers",
        ),
        pytest.param(["random", "--env", "CartPole-v1"], id="random"),
        pytest.param(["random", "--env", "FrozenLake-v1", "--num-envs", "2"], id="toy-text"),
        pytest.param(["random", "--env", "Taxi-v4", "--num-envs", "2"], id="masks-in-info"),
        pytest.param(["random", "--env", f"{MASKED}:Masked", "--env-args", "gives=sometimes"], id="masks-now-and-then"),
        pytest.param(["random", "--env", f"{MASKED}:MaskedParts", "--vector", "process"], id="masks-of-two-components"),
        pytest.param(["sb3/ddpg", "--env", "Pendulum-v1", "--agent.noise", "ornstein-uhlenbeck"], id="sb3-ddpg"),
        pytest.param(["sb3/ppo", "--env", "CartPole-v1", "--agent.n-steps", "64"], id="sb3-ppo"),
        pytest.param(["sb3/dqn", "--env", "CartPole-v1", "--agent.learning-starts", "100"], id="sb3-dqn"),
        pytest.param(["ddpg", "--env", "HalfCheetah-v5"], id="mujoco"),
        pytest.param(["q-learning", "--env", "FrozenLake-v1", "--preset", "none"], id="compiled"),
        pytest.param(["monte-carlo", "--env", "Blackjack-v1", "--preset", "none"], id="compiled-blackjack"),
        pytest.param(["n-step-sarsa", "--env", "Taxi-v4", "--agent.engine", "step"], id="stepped"),
        pytest.param(["mc-exploring-starts", "--env", "FrozenLake-v1", "--num-envs", "3"], id="exploring-starts"),
        pytest.param(
            ["linear-sarsa-lambda", "--env", "rlkit/MountainCar-v0", "--preset", "none"], id="linear-compiled"
        ),
        pytest.param(["linear-n-step-sarsa", "--env", "CartPole-v1", "--num-envs", "2"], id="linear-stepped"),
        pytest.param(["network-sarsa", "--env", "CartPole-v1"], id="small-network"),
        pytest.param(
            ["network-sarsa", "--env", "CartPole-v1", "--agent.core", "transformer"], id="small-network-memory"
        ),
        pytest.param(["dqn", "--env", "CartPole-v1", "--agent.learning-starts", "100"], id="dqn"),
        pytest.param(["dqn", "--env", "Taxi-v4", "--agent.learning-starts", "100"], id="dqn-masks"),
        pytest.param(["rainbow", "--env", "CartPole-v1", "--agent.learning-starts", "100"], id="rainbow"),
        pytest.param(["dyna-q-plus", "--env", "rlkit/ShortcutMaze-v0"], id="changing-maze"),
        pytest.param(
            ["asynchronous-value-iteration", "--env", "FrozenLake-v1", "--agent.tolerance", "1e-300"], id="planning"
        ),
    ],
)
def test_every_kind_of_run_resumes_to_the_same_bits(command: list[str], tmp_path: Path) -> None:
    small = SMALL_NETS if command[0] == "ddpg" else []
    small = ["--agent.hidden", "16", "16"] if command[0].startswith("sb3") else small
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = ["train", *command, *OPTIONS, *small, "--total-steps", "600"]
    assert rlkit(*arguments, "--run-dir", str(whole)) == 0
    # the third checkpoint after the first, then once more while going on
    assert rlkit(*arguments, "--run-dir", str(killed), crash_at="before-checkpoint:4") == -signal.SIGKILL
    assert rlkit("train", "--resume", str(killed)) == 0
    assert_same_run(killed, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_writes_a_checkpoint_and_resuming_changes_nothing(
    number: signal.Signals, code: int, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "rlkit", "train", *DDPG, "--run-dir", str(run)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert f"rlkit train --resume {run}" in output
    assert "Traceback" not in errors
    assert json.loads((run / "result.json").read_text())["status"] == number.name
    assert rlkit("train", "--resume", str(run)) == 0
    assert_same_run(run, uninterrupted)


def test_resuming_a_finished_run_is_refused_kindly_and_extending_goes_on(uninterrupted: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    before = metrics(run)
    assert rlkit("train", "--resume", str(run)) == 0
    assert metrics(run) == before
    assert rlkit("train", "--resume", str(run), "--total-steps", str(STEPS + 60)) == 0
    assert metrics(run)[: len(before)] == before
    assert [line["step"] for line in metrics(run)[len(before) :]] == [STEPS + 30, STEPS + 60]


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(uninterrupted: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    with (newest / "training" / "arrays.safetensors").open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    assert rlkit("train", "--resume", str(run)) == 0
    assert_same_run(run, uninterrupted)


def test_with_every_checkpoint_damaged_resuming_says_so(uninterrupted: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    for manifest in (run / "checkpoints").glob("*/manifest.json"):
        manifest.write_text("")
    with pytest.raises(CheckpointError, match="nothing to load"):
        CheckpointStore(run / "checkpoints").load()
    command = [sys.executable, "-m", "rlkit", "train", "--resume", str(run)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == 1
    assert "nothing to load" in process.stderr
    assert "Traceback" not in process.stderr
