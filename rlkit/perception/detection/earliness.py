"""Early detection: how much of an action must be seen before it is told, of whole files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlkit.ops.average_precision import action_runs, mean_over_occurring
from rlkit.ops.detection_delay import AmocCurve, amoc_curve, time_to_detect_at
from rlkit.ops.early_recognition import TENTHS, early_accuracy
from rlkit.perception.detection.protocols import ClassList, Protocol, check_videos, class_scores, number
from rlkit.types import Array


@dataclass(frozen=True)
class EarlyScores:
    """How early actions are told.

    Attributes:
        false_positive_rate: At which the times are read.
        curves: AMOC by class; of one that never occurs, all NaN.
        accuracy: Of telling an action's class after each tenth of it, [10]; NaN with a single class.
        actions: How many there are.
    """

    false_positive_rate: float
    curves: Mapping[str, AmocCurve]
    accuracy: tuple[float, ...]
    actions: int

    def times(self) -> dict[str, float]:
        """Mean normalised time to detect by class, 0 to 1; NaN where the class never occurs."""
        return {name: time_to_detect_at(curve, self.false_positive_rate) for name, curve in self.curves.items()}

    def mean_time(self) -> float:
        """Over the classes that occur."""
        return mean_over_occurring(np.array(list(self.times().values())))

    def record(self) -> dict[str, Any]:
        """As a tree for JSON."""
        return {
            "false_positive_rate": self.false_positive_rate,
            "actions": self.actions,
            "mean_time_to_detect": number(self.mean_time()),
            "time_to_detect": {name: number(time) for name, time in self.times().items()},
            "accuracy": {f"{part:g}": number(share) for part, share in zip(TENTHS, self.accuracy, strict=True)},
        }


def score_early(
    predictions: Mapping[str, Array],
    truth: Mapping[str, Array],
    protocol: Protocol,
    classes: ClassList,
    *,
    false_positive_rate: float = 0.1,
    are_logits: bool = False,
) -> EarlyScores:
    """AMOC curves, and accuracy by the part of an action that is seen; the rest is as of `protocols.score`.

    Each action is a sequence of its class, which begins where the video does or where the last action of the class
    ends, so that an alarm in between is a false positive; what follows the last one, and videos without the class, are
    no sequences of it (`timeliness.score_delays` counts their false alarms). All frames count, those that the protocol
    leaves out too; of the protocol only the softmax is taken. For telling actions apart see `early_accuracy`.
    """
    check_videos(predictions, truth, classes)
    scores = {
        video: class_scores(predictions[video], protocol, classes, video, are_logits=are_logits) for video in truth
    }
    curves: dict[str, AmocCurve] = {}
    actions: list[tuple[Array, Array]] = []  # scores and labels of each, [L, actions]
    for k in classes.actions:
        sequences: list[Array] = []
        events: list[tuple[int, int]] = []
        for video, labels in truth.items():
            begin = 0
            for first, past in zip(*action_runs(labels[:, k], np.array([0])), strict=True):
                sequences.append(scores[video][begin:past, k])
                events.append((first - begin, past - begin))
                actions.append((scores[video][first:past, classes.actions], labels[first:past, classes.actions]))
                begin = past
        curves[classes.names[k]] = amoc_curve(sequences, np.array(events, np.int64).reshape(-1, 2))
    asked = actions if len(classes.actions) > 1 else []
    accuracy = early_accuracy([told for told, _ in asked], [shown for _, shown in asked])
    return EarlyScores(false_positive_rate, curves, tuple(accuracy.tolist()), len(actions))
