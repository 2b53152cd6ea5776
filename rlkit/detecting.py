"""Runs of detectors: streams are recorded or read, their features computed once, and a detector learns from them.

result = rlkit.train_detector("gru", stream="freeway-hit", encoder="untrained")
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlkit import registry, seeding
from rlkit.assembly import device_of, limited_threads
from rlkit.config import ConfigTree
from rlkit.data.stream_files import read_streams, write_streams
from rlkit.data.streams import StreamSet, WindowSampler
from rlkit.detect_config import DetectConfig, DetectOptions, detect_config_of, stored_detection
from rlkit.detection_report import DetectionReport
from rlkit.errors import RlkitError, UsageError
from rlkit.fitting import FitResult, FitRun
from rlkit.perception.detection.detector import DetectionTask
from rlkit.perception.detection.learner import DetectorLearner
from rlkit.run_encoder import FOLDER
from rlkit.runs import RunFolder, create_run, describe_process, open_run
from rlkit.stream_sources import Prepared, prepared_streams
from rlkit.types import Floats

_LOG = logging.getLogger(__name__)
STREAMS = "streams.npz"
"""Of a run, its features and labels."""
_ADVICE = "Usual causes: a learning rate too high: try --detector.learning-rate ten times smaller."
_SMALLEST_DEVIATION = 1e-3
"""Of a feature: one that hardly changes is not blown up."""


def train_detector(
    detector: str,
    *,
    run_dir: str | Path | None = None,
    detector_config: Mapping[str, Any] | None = None,
    **options: Any,
) -> FitResult:
    """Train a detector and leave a run folder behind.

    Args:
        detector: a name, see `rlkit list detectors`.
        run_dir: the run's folder; by default `runs/<stream>/<detector>/…`.
        detector_config: fields of the detector's `Config`.
        options: fields of `DetectOptions`, such as `stream`, `data`, `encoder`, `updates` or `seed`.

    Raises:
        ConfigError: every mistake in the options at once.
    """
    tree = {**options, "detector": {"name": detector, **(detector_config or {})}}
    return start_detection(detect_config_of(ConfigTree(tree)), run_dir)


def start_detection(config: DetectConfig, run_dir: str | Path | None = None) -> FitResult:
    """Record or read the streams, compute their features, and learn."""
    options = config.options.with_cadence()
    config = DetectConfig(config.detector_name, config.detector, options)
    source = _source_of(options)
    folder = create_run(None if run_dir is None else Path(run_dir), config.detector_name, source, options.seed)
    with folder.locked():
        folder.write_config(config)
        _LOG.info("run folder %s", folder.path)
        try:
            _prepare(config, folder)
        except RlkitError:  # nothing to go on from
            folder.give_up(FOLDER, STREAMS)
            raise
    return _go_on(folder, None)


def resume_detection(run: str | Path, updates: int | None = None) -> FitResult:
    """Go on exactly where the run stopped; a larger `updates` extends it, schedules keep their first horizon.

    Raises:
        UsageError: it is no detector's run, its streams have changed, or it has more updates already.
        CheckpointError: none of its checkpoints can be loaded.
    """
    return _go_on(open_run(Path(run)), updates)


def _source_of(options: DetectOptions) -> str:
    """What the run's folder is named after. Raises UsageError unless there is exactly one source."""
    given = [source for source in (options.stream, options.data, options.features) if source is not None]
    if len(given) != 1:
        raise UsageError(
            "what does the detector watch? Give one of --stream (a simulator that is recorded), --data (a dataset of "
            f"episodes) and --features (a folder with features of videos); given are {len(given)}"
        )
    return given[0] if options.stream is not None else Path(given[0]).stem


def _prepare(config: DetectConfig, folder: RunFolder) -> None:
    """Compute features where there are none, and write down what the run begins with."""
    with limited_threads(config.options.threads):
        prepared = prepared_streams(config.options, folder)
    streams = {"train": prepared.train, "test": prepared.test}
    if prepared.train.frames < config.detector.batch_size:
        raise UsageError(f"{prepared.train.frames} frames to learn from are fewer than a batch needs")
    write_streams(folder.path / STREAMS, streams)
    folder.write_meta(_meta(config, prepared))
    for name, each in streams.items():
        shares = ", ".join(f"{label} {share:.1%}" for label, share in each.prevalence.items())
        _LOG.info("%s: %d streams, %s frames (%s)", name, len(each.streams), f"{each.frames:,}", shares)


def _meta(config: DetectConfig, prepared: Prepared) -> dict[str, Any]:
    return describe_process() | {
        "device": device_of(config.options.device),
        "threads": config.options.threads,
        "digests": {"train": prepared.train.digest(), "test": prepared.test.digest()},
        "schedule_updates": config.options.updates,
        "classes": prepared.train.classes,
        "feature_size": prepared.train.feature_size,
        "ambiguous": prepared.train.ambiguous,
        **prepared.described,
    }


def _go_on(folder: RunFolder, updates: int | None) -> FitResult:
    """Learn from where the run is."""
    config = stored_detection(folder)
    with folder.locked():
        if not folder.has_meta:  # it ended while it recorded
            _prepare(config, folder)
        checkpoint = folder.checkpoints.load() if folder.checkpoints.candidates() else None
        if updates is not None:
            if checkpoint is not None and checkpoint.step > updates:
                raise UsageError(f"the run has made {checkpoint.step} updates already, more than {updates}")
            options = config.options.model_copy(update={"updates": updates})
            config = DetectConfig(config.detector_name, config.detector, options)
            folder.write_config(config)
        meta, streams = folder.meta(), read_streams(folder.path / STREAMS)
        _tell_of_schedule(config, meta["schedule_updates"])
        if {name: each.digest() for name, each in streams.items()} != meta["digests"]:
            raise UsageError(
                f"{folder.path / STREAMS} holds other streams than when the run began: put the old file back, or begin "
                "a new run"
            )
        return _run_of(config, folder, streams, meta).execute(checkpoint)


def _tell_of_schedule(config: DetectConfig, horizon: int) -> None:
    if config.detector.learning_rate_schedule == "cosine" and config.options.updates > horizon:
        _LOG.warning(
            "the learning rate reaches 0 at update %s, where the run was to end first: nothing is learned after it. A "
            "run that is to be extended is begun with --detector.learning-rate-schedule constant", f"{horizon:,}",
        )  # fmt: skip


def _run_of(
    config: DetectConfig, folder: RunFolder, streams: Mapping[str, StreamSet], meta: Mapping[str, Any]
) -> FitRun:  # fmt: skip
    options, train = config.options, streams["train"]
    mean, deviation = moments(train)
    task = DetectionTask(
        train.feature_size, train.classes, train.ambiguous, mean, deviation, meta["schedule_updates"], options.seed,
        device_of(options.device),
    )  # fmt: skip
    learner = DetectorLearner(registry.detector_class(config.detector_name), config.detector, task)
    detector = config.detector
    seed = seeding.integer_seed(options.seed, "windows")
    sampler = WindowSampler(train, detector.window, detector.horizon, detector.batch_size, seed)
    report = DetectionReport(options.eval_every or 0, learner.detector, streams["test"], folder.path)
    title = f"{config.detector_name} on {_source_of(options)}"
    return FitRun(folder, options, title, learner, sampler, report, _ADVICE)


def moments(streams: StreamSet) -> tuple[Floats, Floats]:
    """Mean and deviation [C] of the features of all frames."""
    # stream by stream: all features once more in float64 would be more than reading them has made sure of
    mean = np.sum([stream.features.sum(0, np.float64) for stream in streams.streams], 0) / streams.frames
    squares = np.sum([((stream.features - mean) ** 2).sum(0) for stream in streams.streams], 0)
    deviation = np.maximum(np.sqrt(squares / streams.frames), _SMALLEST_DEVIATION)
    return mean.astype(np.float32), deviation.astype(np.float32)
