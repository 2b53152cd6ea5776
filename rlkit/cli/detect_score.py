"""`rlkit detect score`: one file of predictions beside the truth, by a published protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from rlkit.cli.outputs import require_writable
from rlkit.data.frame_files import FrameArrays, read_class_names, read_frame_arrays
from rlkit.errors import DatasetError, UsageError
from rlkit.perception.detection.earliness import EarlyScores, score_early
from rlkit.perception.detection.protocols import (
    PROTOCOLS,
    ClassList,
    DetectionScores,
    number,
    score,
    scored_frames,
)
from rlkit.perception.detection.timeliness import StartScores, score_delays, score_starts
from rlkit.types import Array


@dataclass(frozen=True)
class DetectScoreOptions:
    """Score predictions of frames: files are an .npz with an array [frames, classes] a video, or folders of .npy."""

    predictions: Annotated[Path, tyro.conf.Positional]
    """probabilities (or logits, --logits) of each frame"""
    truth: Annotated[Path, tyro.conf.Positional]
    """multi-hot labels of the same frames; or one class number a frame"""
    protocol: Literal["oadtr", "lstr", "miniroad"]
    """which frames count and how ties do, docs/detection-metrics.md"""
    classes: Path | None = None
    """file with a class name on each line; by default the key `classes` of an .npz, else THUMOS14's columns"""
    logits: bool = False
    """predictions are logits; their softmax is taken over the protocol's classes"""
    common: bool = False
    """score the videos that both have, where otherwise a missing one is an error"""
    starts: bool = False
    """score starts of actions too, at 1 to 10 seconds"""
    start_rule: Literal["activitynet", "woad"] = "activitynet"
    """which of the published evaluations of starts"""
    start_threshold: float = 0.0
    """least score of a claimed start"""
    fps: float = 4.0
    """frames a second, for starts"""
    delay_at: float | None = None
    """tell the mean delay in frames at this share of false frames, such as 0.01"""
    early_at: float | None = None
    """tell how much of an action is over when it is first told, where at most this share of a class's actions, such as
    0.1, is told before they begin, and how many are told rightly after each tenth; alarms behind the last action count
    in --delay-at alone"""
    plot: Path | None = None
    """picture of time to detect against false positives, for --early-at"""
    json: bool = False
    """print one JSON object"""


def run(arguments: list[str]) -> int:
    """Print the scores of each class, their means, and how many frames were left out, and why."""
    options = tyro.cli(DetectScoreOptions, args=arguments, prog="rlkit detect score")
    _check(options)
    given, true = read_frame_arrays(options.predictions), read_frame_arrays(options.truth)
    classes = _classes(options, given, true)
    labels = {video: _multi_hot(array, len(classes.names), video) for video, array in true.videos.items()}
    predictions, labels, unscored = _common(given.videos, labels) if options.common else (given.videos, labels, [])
    protocol = PROTOCOLS[options.protocol]
    found = score(predictions, labels, protocol, classes, are_logits=options.logits)
    record = found.record() | {"videos": len(labels), "videos_in_one_file_only": unscored}
    starts = delays = early = None
    if options.starts:
        starts = score_starts(
            predictions, labels, protocol, classes, frames_per_second=options.fps, rule=options.start_rule,
            threshold=options.start_threshold, are_logits=options.logits,
        )  # fmt: skip
        record["starts"] = starts.record()
    if options.delay_at is not None:
        frames = scored_frames(predictions, labels, protocol, classes, are_logits=options.logits)
        delays = score_delays(frames, classes, options.delay_at)
        record["delay"] = {name: number(value) for name, value in delays.items()}
    if options.early_at is not None:
        early = score_early(
            predictions, labels, protocol, classes, false_positive_rate=options.early_at, are_logits=options.logits
        )
        record["early"] = early.record()
    print(json.dumps(record, indent=1) if options.json else _text(found, record, starts, delays, early))
    if early is not None and options.plot is not None:
        _plot(early, options.plot)
    return 0


def _check(options: DetectScoreOptions) -> None:
    if options.fps <= 0:
        raise UsageError(f"--fps is {options.fps:g}: a positive number of frames a second is needed")
    if options.delay_at is not None and not 0 <= options.delay_at <= 1:
        raise UsageError(f"--delay-at is {options.delay_at:g}: a share of false frames from 0 to 1 is needed")
    if options.early_at is not None and not 0 <= options.early_at <= 1:
        raise UsageError(f"--early-at is {options.early_at:g}: a share of actions from 0 to 1 is needed")
    if options.plot is not None and options.early_at is None:
        raise UsageError("--plot is of early detection: add --early-at, such as --early-at 0.1")
    require_writable("--plot", options.plot)


def _classes(options: DetectScoreOptions, given: FrameArrays, true: FrameArrays) -> ClassList:
    if options.classes is not None:
        return ClassList.named(read_class_names(options.classes))
    if given.classes is not None and true.classes is not None and given.classes != true.classes:
        raise DatasetError(
            f"the two files name other classes, {', '.join(given.classes)} and {', '.join(true.classes)}: correct one, "
            "or name them with --classes"
        )
    names = true.classes or given.classes
    if names is not None:
        return ClassList.named(names)
    first = next(iter(given.videos.values()))
    if first.ndim != 2:
        raise DatasetError(f"predictions have shape {list(first.shape)}: needed is [frames, classes]")
    return ClassList.numbered(first.shape[1])


def _multi_hot(labels: Array, classes: int, video: str) -> Array:
    """Labels [L, K], also of class numbers [L], as HDD has them."""
    if labels.ndim != 1:
        return labels
    if len(labels) and (labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes):
        told = f"labels of video {video!r} are numbers {labels.min()} to {labels.max()}"
        raise DatasetError(f"{told}: whole numbers from 0 to {classes - 1} are allowed")
    return np.eye(classes, dtype=np.uint8)[labels]


def _common(
    predictions: Mapping[str, Array], labels: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array], list[str]]:
    """Both restricted to the videos that both have, and the others."""
    both = [video for video in labels if video in predictions]
    if not both:
        raise DatasetError("the two have no video in common: videos are matched by the names of keys or .npy files")
    others = sorted(set(labels) ^ set(predictions))
    return {video: predictions[video] for video in both}, {video: labels[video] for video in both}, others


def _text(
    found: DetectionScores, record: Mapping[str, Any], starts: StartScores | None,
    delays: Mapping[str, float] | None, early: EarlyScores | None,
) -> str:  # fmt: skip
    width = max(4, *map(len, found.average_precision)) + 2
    columns = {"AP": found.average_precision, "cAP": found.calibrated} | ({"delay": delays} if delays else {})
    columns |= {"time": early.times()} if early else {}
    lines = [" " * width + "".join(f"{name:>9}" for name in columns)]
    for name in found.average_precision:
        lines.append(f"{name:<{width}}" + "".join(_cell(column[name]) for column in columns.values()))
    lines.append(f"{'mean':<{width}}" + _cell(found.mean_average_precision) + _cell(found.mean_calibrated))
    stages = " ".join(f"{value:.3f}" for value in found.stages)
    lines += [f"cAP by tenth of the actions: {stages}", f"protocol {found.protocol}: {found.frames:,} frames scored"]
    lines += [f"  {count:,} left out: {reason}" for reason, count in found.left_out.items()]
    for what, names in (
        ("no frame is scored of videos", found.videos_left_out),
        ("videos in one of the two only", record["videos_in_one_file_only"]),
        ("never there, so in no mean", found.absent),
    ):
        lines += [f"  {what}: {', '.join(names)}"] if names else []
    if starts is not None:
        lines.append(
            f"starts by {starts.rule}: {starts.starts:,} true, {starts.claims:,} claimed; mean p-AP at seconds"
        )
        lines.append("  " + "  ".join(f"{offset:g}: {value:.3f}" for offset, value in starts.means().items()))
    if early is not None:
        told = "–" if np.isnan(early.accuracy[0]) else " ".join(f"{share:.3f}" for share in early.accuracy)
        lines += [
            f"time: part of an action that is over when it is told, at most {100 * early.false_positive_rate:g} % of a "
            f"class told too soon; mean {_cell(early.mean_time()).strip()} of {early.actions:,} actions",
            f"told rightly after each tenth of an action: {told}",
        ]
    return "\n".join(lines)


def _plot(early: EarlyScores, path: Path) -> None:
    from rlkit.cli.pictures import new_figure, png_of, save

    figure = new_figure(6, 4)
    axes = figure.subplots()
    occurring = {name: curve for name, curve in early.curves.items() if not np.isnan(curve.time_to_detect).any()}
    for name, curve in occurring.items():
        axes.plot(curve.false_positive_rate, curve.time_to_detect, drawstyle="steps-post", label=name, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="actions told before they begin", ylabel="part over when told")
    axes.spines[["top", "right"]].set_visible(False)
    if occurring:
        axes.legend(frameon=False)
    save(png_of(figure), path)


def _cell(value: float) -> str:
    return f"{'–' if np.isnan(value) else f'{value:.4f}':>9}"
