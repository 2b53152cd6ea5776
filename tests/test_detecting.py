"""Runs of detectors: what they leave behind, what they learn, and that a killed one goes on as if nothing was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from event_env import ThreeActions
from gymnasium import spaces
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlkit
from rlkit.checkpoint import load_checkpoint
from rlkit.cli.main import main
from rlkit.data.datasets import DatasetWriter, Episode, EpisodeDataset
from rlkit.data.frame_files import read_frame_arrays
from rlkit.data.stream_files import read_streams
from rlkit.data.streams import LabelledStream, StreamSet
from rlkit.detected import StreamDetector, Told, detect_events
from rlkit.detecting import moments, resume_detection
from rlkit.errors import ConfigError, UnknownNameError, UnsupportedTaskError, UsageError
from rlkit.perception.detection.detector import Memory
from rlkit.perception.detection.scoring import detection_quality
from rlkit.stream_features import event_classes
from rlkit.stream_recording import record_stream
from rlkit.types import Floats
from rlkit.watching import WatchOptions, watched_streams

FILE = Path(__file__).parent / "event_env.py"
ENV, PICTURES = f"{FILE}:Cued", f"{FILE}:Pictured"
SMALL: dict[str, Any] = {"width": 16, "window": 8, "horizon": 2, "dropout": 0.0, "learning_rate": 0.02}
FLAGS = ["--detector.width", "16", "--detector.window", "8", "--detector.horizon", "2"]


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_stream(ENV, tmp_path_factory.mktemp("cued") / "data", episodes=40, seed=5).folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector") / "run"
    options: dict[str, Any] = {"frames": 900, "test_frames": 300, "updates": 150, "eval_every": 50, "log_every": 10}
    return rlkit.train_detector("gru", run_dir=folder, stream=ENV, detector_config=SMALL, **options).run_dir


def test_a_detector_learns_what_needs_memory(run: Path) -> None:
    found = [point for point in metrics(run) if "eval/map" in point]
    assert [point["step"] for point in found] == [50, 100, 150]
    assert found[-1]["eval/map"] > 0.8  # from one frame alone some 0.3, the prevalence
    assert found[-1]["eval/map_ahead_2"] > 0.8
    assert {"eval/ap_jump", "eval/ap_run", "eval/mcap", "eval/map_ahead_1"} <= set(found[-1])
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["eval/map"]) == ("done", found[-1]["eval/map"])


def test_test_streams_are_not_those_that_are_learned_from(run: Path) -> None:
    streams = read_streams(run / "streams.npz")
    train, test = ({each.features.tobytes() for each in streams[name].streams} for name in ("train", "test"))
    assert len(train) > 20
    assert len(test) > 5
    assert not train & test
    assert streams["train"].classes == ("background", "jump", "run")


def test_features_are_standardised_by_the_moments_of_all_frames() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(1000, 2, (length, 3)).astype(np.float32) for length in (1, 50, 7)]
    for part in parts:
        part[:, 2] = 5.0  # one that never changes
    streams = [LabelledStream(str(n), part, np.ones((len(part), 1), np.uint8)) for n, part in enumerate(parts)]
    mean, deviation = moments(StreamSet(("hit",), tuple(streams)))
    every = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(mean, every.mean(0), rtol=1e-7)
    np.testing.assert_allclose(deviation[:2], every.std(0)[:2], rtol=1e-6)
    assert deviation[2] == np.float32(1e-3)


def test_curves_and_a_timeline_are_in_tensorboard(run: Path) -> None:
    pytest.importorskip("matplotlib")
    events = EventAccumulator(str(run), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    assert len(events.Images("timeline")) == 1
    curve = {tag: events.Tensors(tag) for tag in events.Tags()["tensors"]}
    assert set(curve) == {"precision-recall/jump", "precision-recall/run"}


def test_watching_frame_by_frame_tells_what_the_test_did(run: Path) -> None:
    detector, streams = rlkit.load_detector(run), read_streams(run / "streams.npz")["test"].streams[:3]
    carry, length = detector.begin(3), min(map(len, streams))
    whole = np.stack([detector.scores(stream).now[:length] for stream in streams])
    for frame in range(length):
        told, carry = detector.step(np.stack([stream.features[frame] for stream in streams]), carry)
        np.testing.assert_allclose(told.now, whole[:, frame], atol=1e-5)
    carry = detector.reset(carry, np.array([True, False, False]))
    told, _ = detector.step(np.stack([stream.features[0] for stream in streams]), carry)
    np.testing.assert_allclose(told.now[0], whole[0, 0], atol=1e-5)
    assert not np.allclose(told.now[1], whole[1, 0], atol=1e-3)


def test_a_run_watches_new_streams(run: Path) -> None:
    watched = list(watched_streams(run, WatchOptions(episodes=2)))
    assert [each.name for each in watched] == ["episode-00000", "episode-00001"]
    for each in watched:
        assert each.truth is not None
        assert each.now.shape == each.truth.shape
        assert (each.now.argmax(1) == each.truth.argmax(1)).mean() > 0.7
        frames = list(each.frame_records())
        assert len(frames) == len(each.now)
        assert set(frames[0]) == {"stream", "frame", "scores", "ahead", "truth"}
        spans = [(event["start"], event["stop"]) for event in each.event_records(0.5)]
        assert spans == sorted(spans)
        assert sum(stop - start for start, stop in spans) == int((each.now[:, 1:] >= 0.5).sum())
        assert {event["event"] for event in each.event_records(0.5)} <= {"jump", "run"}


def test_what_the_first_frame_loads_is_no_latency(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    np.savez(tmp_path / "one.npz", video=features)
    detector, calls, step = rlkit.load_detector(run), [0], StreamDetector.step

    def slow_at_first(self: StreamDetector, features: Floats, carry: Memory) -> tuple[Told, Memory]:
        calls[0] += 1
        time.sleep(0.3 if calls[0] == 1 else 0.0)
        return step(self, features, carry)

    monkeypatch.setattr(StreamDetector, "step", slow_at_first)
    (watched,) = watched_streams(run, WatchOptions(features=str(tmp_path / "one.npz")))
    assert len(watched.seconds) == 6
    assert watched.seconds.max() < 0.3
    scores = detector.scores(LabelledStream("video", features, np.zeros((6, 3), np.uint8)))
    np.testing.assert_allclose(watched.now, scores.now, atol=1e-6)


def test_an_environment_that_tells_nothing_can_be_watched(run: Path) -> None:
    watched, told = (next(watched_streams(run, WatchOptions(stream=f"{FILE}:{name}"))) for name in ("Silent", "Cued"))
    assert watched.truth is None
    np.testing.assert_array_equal(watched.now, told.now)
    assert "truth" not in next(watched.frame_records())


def test_wrappers_stand_between_environment_and_detector(tmp_path: Path) -> None:
    hidden = ("hide-components:indices=[2]",)
    options: dict[str, Any] = {"stream": ENV, "wrap": hidden, "frames": 200, "test_frames": 60, "updates": 1}
    run = rlkit.train_detector("gru", run_dir=tmp_path / "run", detector_config=SMALL, **options).run_dir
    assert read_streams(run / "streams.npz")["train"].feature_size == 2
    assert len(list(watched_streams(run, WatchOptions()))) == 1
    with pytest.raises(UsageError, match="observations in"):
        list(watched_streams(run, WatchOptions(stream=PICTURES)))


def test_an_agent_is_not_resumed_from_a_detector(run: Path) -> None:
    with pytest.raises(UsageError, match="is a detector's run, it has no agent"):
        rlkit.resume(run)


def test_actions_are_features_where_they_are_asked_for(dataset: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": str(dataset), "updates": 2, "detector_config": SMALL}
    without = rlkit.train_detector("gru", run_dir=tmp_path / "without", **options).run_dir
    with_actions = rlkit.train_detector("gru", run_dir=tmp_path / "with", actions=True, **options).run_dir
    sizes = [read_streams(run / "streams.npz")["train"].feature_size for run in (without, with_actions)]
    assert sizes == [3, 5]
    streams, episode = read_streams(with_actions / "streams.npz")["train"], EpisodeDataset(dataset)[0]
    np.testing.assert_array_equal(streams.streams[0].features[:, 3:], np.eye(2)[np.asarray(episode.actions)])
    np.testing.assert_array_equal(streams.streams[0].features[:, :3], np.asarray(episode.observations)[1:])


def test_pictures_need_an_encoder_and_one_that_has_learned_nothing_will_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"stream": PICTURES, "frames": 200, "test_frames": 100, "updates": 3}
    with pytest.raises(UsageError, match="take one that has learned nothing with --encoder untrained"):
        rlkit.train_detector("gru", run_dir=tmp_path / "run", detector_config=SMALL, **options)
    with pytest.raises(UsageError, match="there is no run nowhere"):
        rlkit.train_detector("gru", run_dir=tmp_path / "run", detector_config=SMALL, encoder="nowhere", **options)
    with pytest.raises(UsageError, match="--encoder is for pictures"):
        rlkit.train_detector("gru", run_dir=tmp_path / "run", encoder="untrained", **(options | {"stream": ENV}))
    assert "episodes" not in caplog.text, "nothing was recorded for it"
    rlkit.train_detector("gru", run_dir=tmp_path / "run", detector_config=SMALL, encoder="untrained", **options)
    assert read_streams(tmp_path / "run" / "streams.npz")["train"].feature_size == 256
    assert len(list(watched_streams(tmp_path / "run", WatchOptions()))) == 1


def test_a_pretrained_encoder_is_kept_with_the_run(tmp_path: Path) -> None:
    options: dict[str, Any] = {"stream": PICTURES, "frames": 200, "test_frames": 100, "updates": 3}
    encoder = rlkit.pretrain(
        "simclr", run_dir=tmp_path / "encoder", env=PICTURES, frames=60, updates=2,
        method_config={"feature_size": 8, "batch_size": 8},
    ).run_dir  # fmt: skip
    rlkit.train_detector("gru", run_dir=tmp_path / "run", detector_config=SMALL, encoder=str(encoder), **options)
    with pytest.raises(UsageError, match="Box"):  # when a copy of the encoder has been made
        rlkit.train_detector("gru", run_dir=tmp_path / "other", stream=ENV, encoder=str(encoder))
    assert not (tmp_path / "other").exists()
    shutil.rmtree(encoder)
    watched = next(watched_streams(tmp_path / "run", WatchOptions()))
    assert read_streams(tmp_path / "run" / "streams.npz")["train"].feature_size == 8
    assert len(watched.now) == 30


def test_an_extended_run_is_what_one_that_went_on_would_be(dataset: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "data": str(dataset), "log_every": 2, "eval_every": 4,
        "detector_config": SMALL | {"dropout": 0.2, "learning_rate_schedule": "constant"},
    }  # fmt: skip
    rlkit.train_detector("gru", run_dir=tmp_path / "parts", updates=5, **options)
    resume_detection(tmp_path / "parts", updates=8)
    rlkit.train_detector("gru", run_dir=tmp_path / "whole", updates=8, **options)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_the_result_is_of_the_last_update_also_between_two_evaluations(dataset: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": str(dataset), "updates": 7, "eval_every": 5, "detector_config": SMALL}
    result = rlkit.train_detector("gru", run_dir=tmp_path / "run", **options)
    streams, detector = read_streams(result.run_dir / "streams.npz")["test"], rlkit.load_detector(result.run_dir)
    quality = detection_quality(streams, [detector.scores(stream) for stream in streams.streams])
    assert result.evaluated == pytest.approx({f"eval/{name}": value for name, value in quality.items()})


def test_an_extension_without_a_step_size_is_told(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"data": str(dataset), "updates": 2, "log_every": 1, "detector_config": SMALL}
    run = rlkit.train_detector("gru", run_dir=tmp_path / "run", **options).run_dir
    assert "learning rate" not in caplog.text
    resume_detection(run, updates=3)
    assert metrics(run)[-1]["train/learning_rate"] == 0.0
    assert "the learning rate reaches 0 at update 2, where the run was to end first" in caplog.text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "what does the detector watch"),
        ({"stream": ENV, "data": "x"}, "what does the detector watch"),
        ({"stream": "CartPole-v1"}, "tells no events"),
        ({"stream": "freeway-hits"}, "freeway-hit"),
        ({"data": "nothing-here"}, "nothing-here"),
    ],
)
def test_wrong_usage_is_explained(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises((UsageError, UnknownNameError), match=told):
        rlkit.train_detector("gru", run_dir=tmp_path / "run", updates=1, **options)
    assert not (tmp_path / "run").exists(), "the folder can be used again"


def test_a_run_that_cannot_begin_leaves_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "freeway-hits" / "mine").mkdir(parents=True)
    (tmp_path / "link").symlink_to("runs")
    before = sorted(map(str, Path().rglob("*")))
    for folder in (None, ".", "link", "runs/freeway-hits/mine", "deep/er/run", tmp_path / "runs" / "a" / "b"):
        with pytest.raises(UnknownNameError, match="did you mean"):
            rlkit.train_detector("gru", stream="freeway-hits", run_dir=folder)
        assert sorted(map(str, Path().rglob("*"))) == before, folder


def test_unknown_detectors_and_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="gru"):
        rlkit.train_detector("gruu", run_dir=tmp_path / "run", stream=ENV)
    with pytest.raises(ConfigError, match=r"detector\.widht: unknown name"):
        rlkit.train_detector("gru", run_dir=tmp_path / "run", stream=ENV, detector_config={"widht": 3})


def test_streams_that_were_exchanged_are_refused(run: Path, dataset: Path, tmp_path: Path) -> None:
    rlkit.train_detector("gru", run_dir=tmp_path / "run", data=str(dataset), updates=1, detector_config=SMALL)
    shutil.copyfile(run / "streams.npz", tmp_path / "run" / "streams.npz")
    with pytest.raises(UsageError, match="holds other streams than when the run began"):
        resume_detection(tmp_path / "run", updates=3)


def test_a_detector_refuses_what_it_has_not_learned_to_watch(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="observations in"):
        list(watched_streams(run, WatchOptions(stream=PICTURES)))
    np.savez(tmp_path / "wrong.npz", video=np.zeros((5, 7), np.float32))
    for wrong in (np.zeros(5), np.zeros((0, 3)), np.full((5, 3), np.nan), np.zeros((5, 3, 2, 2))):
        np.savez(tmp_path / "shape.npz", video=wrong)
        with pytest.raises(UsageError, match=r"features of video in .*finite numbers \[frames, C\] are needed"):
            list(watched_streams(run, WatchOptions(features=str(tmp_path / "shape.npz"))))
    with pytest.raises(UsageError, match=r"frames have 7 features, the detector of .* learned from 3"):
        list(watched_streams(run, WatchOptions(features=str(tmp_path / "wrong.npz"))))
    with pytest.raises((UsageError, UnsupportedTaskError), match="is no detector's run"):
        rlkit.load_detector(rlkit.train("random", ENV, total_steps=10, run_dir=tmp_path / "agent").run_dir)


def test_of_the_dataset_it_learned_from_a_run_watches_what_was_kept_to_test_on(dataset: Path, tmp_path: Path) -> None:
    run = rlkit.train_detector("gru", run_dir=tmp_path, data=str(dataset), updates=1, detector_config=SMALL).run_dir
    kept = [stream.name for stream in read_streams(run / "streams.npz")["test"].streams]
    assert kept == [f"episode-{number:05d}" for number in range(30, 40)]
    assert [each.name for each in watched_streams(run, WatchOptions(data=str(dataset), episodes=50))] == kept
    other = shutil.copytree(dataset, tmp_path / "other")
    assert [each.name for each in watched_streams(run, WatchOptions(data=str(other)))] == ["episode-00000"]


def test_only_classes_that_never_meet_have_a_background(tmp_path: Path) -> None:
    def classes(name: str, run: list[int], jump: list[int]) -> tuple[str, ...]:
        steps, infos = len(run), {"events/run": np.array(run), "events/jump": np.array(jump)}
        space = spaces.Box(0.0, 1.0, (1,), np.float32)
        with DatasetWriter(tmp_path / name, space, spaces.Discrete(2), env="none", made_by="a test") as writer:
            seen, nothing = np.zeros((steps + 1, 1), np.float32), np.zeros(steps, np.int64)
            writer.add(Episode(seen, nothing, nothing.astype(float), False, True, infos))
        return event_classes(EpisodeDataset(tmp_path / name))

    assert classes("apart", [1, 0, 0], [0, 1, 0]) == ("background", "run", "jump")
    assert classes("always", [1, 0, 1], [0, 1, 0]) == ("run", "jump")
    assert classes("meeting", [1, 1, 0], [0, 1, 0]) == ("run", "jump")


def test_other_actions_are_refused_where_they_are_seen(dataset: Path, tmp_path: Path) -> None:
    source = record_stream(f"{FILE}:ThreeActions", tmp_path / "three", episodes=2)
    options: dict[str, Any] = {"data": str(dataset), "updates": 1, "detector_config": SMALL}
    blind = rlkit.train_detector("gru", run_dir=tmp_path / "blind", **options).run_dir
    seeing = rlkit.train_detector("gru", run_dir=tmp_path / "seeing", actions=True, **options).run_dir
    assert len(list(watched_streams(blind, WatchOptions(data=str(source.folder))))) == 1
    with pytest.raises(UsageError, match=r"has actions in Discrete\(3\), the detector takes Discrete\(2\)"):
        list(watched_streams(seeing, WatchOptions(data=str(source.folder))))
    with pytest.raises(
        UnsupportedTaskError, match=r"learned with actions in Discrete\(2\), here they are in Discrete\(3"
    ):
        detect_events(ThreeActions(), str(seeing))
    detect_events(ThreeActions(), str(blind))


def test_the_command_line_trains_watches_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    flags = ["--env", ENV, "--frames", "300", "--test-frames", "120", "--updates", "20", *FLAGS]
    assert main(["detect", "train", "gru", *flags, "--run-dir", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "done: 20 updates" in printed
    assert f"rlkit detect run {run}\n" in printed
    assert main(["detect", "train", "--resume", str(run), "--updates", "25"]) == 0
    assert "done: 25 updates" in capsys.readouterr().out
    plot, predictions = tmp_path / "new" / "line.png", tmp_path / "new" / "told.npz"
    flags = ["--lines", "frames", "--plot", str(plot), "--predictions", str(predictions)]
    assert main(["detect", "run", str(run), *flags]) == 0
    lines = capsys.readouterr()
    assert len([json.loads(line) for line in lines.out.splitlines()]) == 30
    assert "30 frames, " in lines.err
    assert " events of at least 0.5; one frame takes" in lines.err
    assert plot.read_bytes()[:4] == b"\x89PNG"
    assert main(["detect", "run", str(run), "--env", ENV, "--seed", "7", "--lines", "frames"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 30
    assert main(["detect", "run", str(run), "--env", ENV, "--stream", ENV]) == 2
    assert "two names of one option" in capsys.readouterr().err
    assert main(["detect", "run", str(run), "--predictions", str(tmp_path / "told")]) == 2
    assert "must end in .npz" in capsys.readouterr().err
    assert main(["detect", "run", str(run), "--plot", str(tmp_path)]) == 2
    assert f"--plot {tmp_path} cannot be written" in capsys.readouterr().err
    truth = tmp_path / "new" / "told-truth.npz"
    assert main(["detect", "score", str(predictions), str(truth), "--protocol", "miniroad"]) == 0
    assert main(["detect", "train", "--help"]) == 0
    assert "gru" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no pipe has a name here")
@pytest.mark.parametrize("to_file", [False, True])
def test_files_are_written_also_where_nobody_reads_the_lines(run: Path, tmp_path: Path, to_file: bool) -> None:
    told = tmp_path / "told.npz"
    command = [
        sys.executable,
        "-m",
        "rlkit",
        "detect",
        "run",
        str(run),
        "--lines",
        "frames",
        "--predictions",
        str(told),
    ]
    reading, writing = os.pipe()
    os.close(reading)
    if to_file:
        command += ["--output", f"/dev/fd/{writing}"]
    ended = subprocess.run(
        command, stdout=subprocess.DEVNULL if to_file else writing, stderr=subprocess.PIPE, text=True, timeout=120,
        pass_fds=(writing,),
    )  # fmt: skip
    os.close(writing)
    assert ended.returncode == 0, ended.stderr
    assert [len(scores) for scores in read_frame_arrays(told).videos.values()] == [30]
    assert "30 frames" in ended.stderr
    assert "Broken" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("crash_at", ["after-update:7", "mid-checkpoint:4", "after-rename:3", "between-logs:5"])
def test_a_killed_run_resumes_bit_by_bit(dataset: Path, tmp_path: Path, crash_at: str) -> None:
    flags = ["gru", "--data", str(dataset), "--updates", "12", *FLAGS, "--detector.dropout", "0.2"]
    often = ["--checkpoint-every", "3", "--log-every", "1", "--eval-every", "4"]

    def command(*arguments: str, **environment: str) -> int:
        done = subprocess.run(
            [sys.executable, "-m", "rlkit", "detect", "train", *arguments], env=os.environ | environment, check=False
        )
        return done.returncode

    assert command(*flags, *often, "--run-dir", str(tmp_path / "whole")) == 0
    assert command(*flags, *often, "--run-dir", str(tmp_path / "killed"), RLKIT_CRASH_AT=crash_at) == -signal.SIGKILL
    assert command("--resume", str(tmp_path / "killed")) == 0
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    killed, whole = (
        load_checkpoint(sorted((tmp_path / name / "checkpoints").glob("step-*"))[-1]) for name in ("killed", "whole")
    )
    for name, value in whole.policy["detector"].items():
        assert (value == killed.policy["detector"][name]).all(), name
