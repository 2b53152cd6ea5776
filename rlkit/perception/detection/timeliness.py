"""When things are told: starts of actions, and the delay at a rate of false alarms, of whole files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlkit.ops.average_precision import action_runs, mean_over_occurring
from rlkit.ops.detection_delay import delay_at, delay_curve
from rlkit.ops.start_detection import (
    OFFSETS,
    StartClaims,
    StartRule,
    Starts,
    changed_classes,
    rising_scores,
    start_average_precision,
)
from rlkit.perception.detection.protocols import (
    ClassList,
    Protocol,
    ScoredFrames,
    check_videos,
    class_scores,
    number,
)
from rlkit.types import Array


@dataclass(frozen=True)
class StartScores:
    """Point-level average precision of starts, by offset in seconds; the class that never starts is in no mean."""

    rule: str
    average_precision: Mapping[float, Mapping[str, float]]  # by offset, by class
    starts: int
    claims: int

    def means(self) -> dict[float, float]:
        """Over the classes that start, by offset."""
        return {
            offset: mean_over_occurring(np.array(list(by_class.values())))
            for offset, by_class in self.average_precision.items()
        }

    def record(self) -> dict[str, Any]:
        """As a tree for JSON."""
        return {
            "rule": self.rule,
            "starts": self.starts,
            "claims": self.claims,
            "mean_pAP": {f"{offset:g}": number(value) for offset, value in self.means().items()},
            "pAP": {
                f"{offset:g}": {name: number(value) for name, value in by_class.items()}
                for offset, by_class in self.average_precision.items()
            },
        }


def score_starts(
    predictions: Mapping[str, Array],
    truth: Mapping[str, Array],
    protocol: Protocol,
    classes: ClassList,
    *,
    frames_per_second: float,
    offsets: Sequence[float] = OFFSETS,
    rule: StartRule = "activitynet",
    threshold: float = 0.0,
    depth: float = 1.0,
    are_logits: bool = False,
) -> StartScores:
    """Claimed starts beside true ones at `offsets` in seconds; other arguments and errors as of `protocols.score`.

    A true start is the first frame of a run of labels. Where there is a background a start is claimed at a frame at
    which the likeliest class changes to an action of more than `threshold`, elsewhere where a class rises above it.
    Frames count whether the protocol scores them or not, as in the published codes; of the protocol only the softmax
    is taken.
    """
    check_videos(predictions, truth, classes)
    claimed: list[tuple[int, int, int, float]] = []  # class, video, frame, score
    true: list[tuple[int, int, int]] = []  # class, video, frame
    for place, (video, labels) in enumerate(truth.items()):
        scores = class_scores(predictions[video], protocol, classes, video, are_logits=are_logits)
        for k in classes.actions:
            true += [(k, place, int(frame)) for frame in action_runs(labels[:, k], np.array([0]))[0]]
        if classes.background is None:
            frames, likeliest = rising_scores(scores, threshold)
        else:
            frames, likeliest = changed_classes(scores, threshold, classes.background)
        claimed += [
            (int(k), place, int(frame), float(scores[frame, k]))
            for frame, k in zip(frames, likeliest, strict=True)
            if k in classes.actions
        ]
    found: dict[float, dict[str, float]] = {offset: {} for offset in offsets}
    for k in classes.actions:
        mine = np.array([row[1:] for row in claimed if row[0] == k], np.float64).reshape(-1, 3)
        real = np.array([row[1:] for row in true if row[0] == k], np.float64).reshape(-1, 2)
        claims = StartClaims(mine[:, 0], mine[:, 1] / frames_per_second, mine[:, 2])
        starts = Starts(real[:, 0], real[:, 1] / frames_per_second)
        for offset in offsets:
            found[offset][classes.names[k]] = start_average_precision(claims, starts, offset, rule, depth)
    return StartScores(rule, found, len(true), len(claimed))


def score_delays(frames: ScoredFrames, classes: ClassList, false_alarm_rate: float) -> dict[str, float]:
    """Mean delay in frames by class at a share of false frames; NaN where the class never occurs.

    Frames that the protocol leaves out are no delay, and what goes on behind them is the same event.
    """
    found = {}
    for k in classes.actions:
        curve = delay_curve(frames.truth[:, k], frames.scores[:, k], frames.first_frames)
        found[classes.names[k]] = delay_at(curve, false_alarm_rate)
    return found
