"""Protocols by which published codes score one and the same file of frames differently, by name.

What differs (read in the codes of the papers, at the addresses below):

| | oadtr | lstr | miniroad |
|---|---|---|---|
| frames scored of a video of L | 63 … L - 10 | all; none where L < 32 | all |
| frames labelled ambiguous go | where that is their first label | always | always |
| softmax over | all classes but ambiguous | all | all |
| equal scores in AP | as sorted | grouped | grouped |
| equal scores in cAP | as sorted | as sorted | as sorted |

OadTR (https://github.com/wangxiang1230/OadTR) scores the ends of windows of 64 frames that are followed by 9. LSTR
(https://github.com/amazon-science/long-short-term-transformer) needs a working memory of 8 seconds, and scores no video
that is shorter; it trains without the ambiguous class, but its softmax has it. MiniROAD
(https://github.com/jbistanbul/MiniROAD) trains on that class too: of one file of scores the two differ only in short
videos.

Deviations: a class that never occurs is NaN and left out of means, where OadTR's loop divides by zero; actions end
where a video does, where LSTR's stages join those of two videos; equal scores that count as sorted keep the order of
the file, where the codes sort by an unstable algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlkit.errors import DatasetError, NonFiniteError, UsageError
from rlkit.ops.average_precision import Ties, class_average_precision, mean_over_occurring, stage_average_precision
from rlkit.types import Array, Bools


@dataclass(frozen=True)
class Protocol:
    """Which frames count, and how scores are read.

    Attributes:
        name: By which it is printed.
        first: Frames at the beginning of a video that are not scored.
        last: Frames at its end that are not.
        shortest: Frames that a video has at least, or it is not scored.
        ambiguous: Which frames labelled ambiguous are left out: all, those without another class that is named before
            (numpy's argmax of the labels), or none.
        softmax: Over which classes scores are probabilities.
        ties: Whether equal scores are one threshold in average precision.
        calibrated_ties: The same in calibrated average precision.
        last_of_action: Whether the last frame of an action is in its last stage.
    """

    name: str
    first: int = 0
    last: int = 0
    shortest: int = 0
    ambiguous: Literal["drop", "drop-alone", "keep"] = "drop"
    softmax: Literal["all", "without-ambiguous"] = "all"
    ties: Ties = "grouped"
    calibrated_ties: Ties = "grouped"
    last_of_action: bool = True


PROTOCOLS = {
    "oadtr": Protocol(
        "oadtr", first=63, last=9, ambiguous="drop-alone", softmax="without-ambiguous", ties="as-sorted",
        calibrated_ties="as-sorted", last_of_action=False,
    ),
    "lstr": Protocol("lstr", shortest=32, calibrated_ties="as-sorted", last_of_action=False),
    "miniroad": Protocol("miniroad", calibrated_ties="as-sorted", last_of_action=False),
}  # fmt: skip


@dataclass(frozen=True)
class ClassList:
    """Names of K classes, and which of them are no actions.

    Attributes:
        names: Distinct, in the order of the columns.
        background: Column of what is no action; None where classes do not exclude each other.
        ambiguous: Column of what annotators could not tell, as in THUMOS14; None where there is none.
    """

    names: tuple[str, ...]
    background: int | None
    ambiguous: int | None

    @classmethod
    def named(cls, names: Sequence[str]) -> ClassList:
        """By names; `background` and `ambiguous` are found, whatever their case.

        Raises:
            UsageError: a name is there twice.
        """
        lower = [name.lower() for name in names]
        if twice := sorted({name for name in lower if lower.count(name) > 1}):
            raise UsageError(f"classes {', '.join(twice)} are named twice: give each its own name")
        at = {name: lower.index(name) if name in lower else None for name in ("background", "ambiguous")}
        return cls(tuple(names), at["background"], at["ambiguous"])

    @classmethod
    def numbered(cls, count: int) -> ClassList:
        """Without names: 0 is the background, and of THUMOS14's 22 classes 21 is ambiguous, as published codes have it.

        >>> ClassList.numbered(3).names
        ('background', 'class-1', 'class-2')
        """
        names = ["background", *(f"class-{number}" for number in range(1, count))]
        if count == 22:
            names[21] = "ambiguous"
        return cls.named(names)

    @property
    def actions(self) -> list[int]:
        """Columns that are scored."""
        return [k for k in range(len(self.names)) if k not in (self.background, self.ambiguous)]


@dataclass(frozen=True)
class ScoredFrames:
    """What a protocol scores of all videos, one after the other, M frames."""

    truth: Array  # [M, K]
    scores: Array  # [M, K]
    first_frames: Array  # [V] rows at which videos begin
    left_out: Mapping[str, int]  # frames that are not scored, by reason
    videos_left_out: tuple[str, ...]  # those without a frame that is


@dataclass(frozen=True)
class DetectionScores:
    """Scores of one file by one protocol. Classes that never occur have NaN, and are in no mean.

    Attributes:
        protocol: Its name.
        average_precision: By class.
        calibrated: Calibrated average precision by class.
        stages: Mean over classes of the calibrated average precision in each tenth of the actions, [10].
        absent: Classes that never occur in the frames scored.
        frames: Frames scored.
        left_out: Frames that are not, by reason.
        videos_left_out: Videos without a frame that is scored.
    """

    protocol: str
    average_precision: Mapping[str, float]
    calibrated: Mapping[str, float]
    stages: tuple[float, ...]
    absent: tuple[str, ...]
    frames: int
    left_out: Mapping[str, int]
    videos_left_out: tuple[str, ...]

    @property
    def mean_average_precision(self) -> float:
        """Of the classes that occur."""
        return mean_over_occurring(np.array(list(self.average_precision.values())))

    @property
    def mean_calibrated(self) -> float:
        """Of the classes that occur."""
        return mean_over_occurring(np.array(list(self.calibrated.values())))

    def record(self) -> dict[str, Any]:
        """As a tree for JSON, None where a number is NaN."""
        return {
            "protocol": self.protocol,
            "mAP": number(self.mean_average_precision),
            "mcAP": number(self.mean_calibrated),
            "AP": {name: number(value) for name, value in self.average_precision.items()},
            "cAP": {name: number(value) for name, value in self.calibrated.items()},
            "mcAP_by_stage": [number(value) for value in self.stages],
            "absent_classes": list(self.absent),
            "frames": self.frames,
            "frames_left_out": dict(self.left_out),
            "videos_left_out": list(self.videos_left_out),
        }


def score(
    predictions: Mapping[str, Array],
    truth: Mapping[str, Array],
    protocol: Protocol,
    classes: ClassList,
    *,
    are_logits: bool = False,
) -> DetectionScores:
    """Scores of `predictions` [L, K] a video beside multi-hot `truth` [L, K], pooled over videos in the truth's order.

    Predictions are probabilities, or logits with `are_logits`.

    Raises:
        DatasetError: the videos, lengths or classes of the two differ, labels are not 0 and 1, or no frame is left.
        NonFiniteError: a score is not finite.
        UsageError: probabilities are needed, and some are negative.
    """
    frames = scored_frames(predictions, truth, protocol, classes, are_logits=are_logits)
    columns = classes.actions
    names = [classes.names[k] for k in columns]
    labels, scores = frames.truth[:, columns], frames.scores[:, columns]
    plain = class_average_precision(labels, scores, protocol.ties)
    calibrated = class_average_precision(labels, scores, protocol.calibrated_ties, calibrated=True)
    stages = [
        stage_average_precision(
            labels[:, k], scores[:, k], frames.first_frames, protocol.calibrated_ties,
            last_frames=protocol.last_of_action,
        )
        for k in range(len(columns))
    ]  # fmt: skip
    return DetectionScores(
        protocol=protocol.name,
        average_precision=dict(zip(names, plain.tolist(), strict=True)),
        calibrated=dict(zip(names, calibrated.tolist(), strict=True)),
        stages=tuple(mean_over_occurring(np.array(each)) for each in zip(*stages, strict=True)),
        absent=tuple(name for name, value in zip(names, plain, strict=True) if np.isnan(value)),
        frames=len(labels),
        left_out=frames.left_out,
        videos_left_out=frames.videos_left_out,
    )


def scored_frames(
    predictions: Mapping[str, Array],
    truth: Mapping[str, Array],
    protocol: Protocol,
    classes: ClassList,
    *,
    are_logits: bool = False,
) -> ScoredFrames:
    """The frames that `protocol` scores, with their scores as it reads them; arguments and errors as of `score`."""
    check_videos(predictions, truth, classes)
    first_of = f"among the first {protocol.first} of a video"
    left_out = {first_of: 0, f"among the last {protocol.last} of a video": 0, "in a video that is too short": 0,
                "ambiguous": 0}  # fmt: skip
    first, last, short, ambiguous = left_out
    labels, scores, empty = [], [], []
    for video, of_video in truth.items():
        length = len(of_video)
        place = np.arange(length)
        reasons = {
            short: np.full(length, length < protocol.shortest),
            first: place < protocol.first,
            last: place >= length - protocol.last,
            ambiguous: _ambiguous(of_video, protocol, classes),
        }
        rows = np.ones(length, np.bool_)
        for reason, applies in reasons.items():
            left_out[reason] += int((rows & applies).sum())
            rows &= ~applies
        if not rows.any():
            empty.append(video)
        labels.append(of_video[rows])
        scores.append(class_scores(predictions[video], protocol, classes, video, are_logits=are_logits)[rows])
    counts = np.array([len(each) for each in labels])
    if not counts.sum():
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count) or "there are none"
        raise DatasetError(f"protocol {protocol.name!r} leaves no frame to score: {told}")
    begins = np.concatenate(([0], np.cumsum(counts)[:-1]))[counts > 0]
    told_reasons = {reason: count for reason, count in left_out.items() if count}
    return ScoredFrames(np.concatenate(labels), np.concatenate(scores), begins, told_reasons, tuple(empty))


def class_scores(
    given: Array, protocol: Protocol, classes: ClassList, video: str, *, are_logits: bool = False
) -> Array:  # fmt: skip
    """Predictions [L, K] of one video as `protocol` reads them, float64 [L, K]; 0 for a class outside its softmax.

    Of probabilities over all classes those over some are found by dividing by their sum.
    """
    values = np.asarray(given, np.float64)
    inside = np.ones(len(classes.names), np.bool_)
    if protocol.softmax == "without-ambiguous" and classes.ambiguous is not None:
        inside[classes.ambiguous] = False
    if are_logits:
        weights = np.exp(values - values[:, inside].max(axis=1, keepdims=True)) * inside
    elif inside.all():
        return values
    elif (values < 0).any():
        raise UsageError(
            f"video {video!r} has scores below 0, and protocol {protocol.name!r} needs probabilities or logits: where "
            "they are logits, say so (--logits)"
        )
    else:
        weights = values * inside
    total = weights.sum(axis=1, keepdims=True)
    shares: Array = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return shares


def check_videos(predictions: Mapping[str, Array], truth: Mapping[str, Array], classes: ClassList) -> None:
    """Refuse what does not fit together; errors as of `score`."""
    _check_names(predictions, truth)
    for video, labels in truth.items():
        scores = predictions[video]
        for kind, array in (("predictions", scores), ("labels", labels)):
            if array.ndim != 2 or array.shape[1] != len(classes.names):
                raise DatasetError(
                    f"{kind} of video {video!r} have shape {list(array.shape)}: needed is [frames, "
                    f"{len(classes.names)}], a column for each class"
                )
        if len(scores) != len(labels):
            raise DatasetError(
                f"video {video!r} has {len(scores)} predictions and {len(labels)} labels: both need one a frame; check "
                "their rates"
            )
        if not np.isin(labels, (0, 1)).all():
            raise DatasetError(f"labels of video {video!r} are not all 0 or 1: multi-hot labels are needed")
        if not np.isfinite(scores).all():
            raise NonFiniteError(f"video {video!r} has a score that is not finite: nothing can be ranked by it")


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)


def _check_names(predictions: Mapping[str, Array], truth: Mapping[str, Array]) -> None:
    for having, other, what in ((truth, predictions, "predictions"), (predictions, truth, "labels")):
        missing = [video for video in having if video not in other]
        if missing:
            shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise DatasetError(
                f"{len(missing)} of {len(having)} videos have no {what}: {shown}. Add them, or score only the videos "
                "that both have (--common)"
            )


def _ambiguous(labels: Array, protocol: Protocol, classes: ClassList) -> Bools:
    """Frames that the protocol leaves out as ambiguous, bool [L]."""
    if classes.ambiguous is None or protocol.ambiguous == "keep":
        return np.zeros(len(labels), np.bool_)
    ambiguous: Bools = labels[:, classes.ambiguous] == 1
    if protocol.ambiguous == "drop-alone":
        ambiguous &= labels.argmax(axis=1) == classes.ambiguous
    return ambiguous
