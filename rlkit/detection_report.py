"""How good a detector is on streams that are kept aside: numbers while it learns, curves and a timeline at the end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlkit.data.streams import StreamSet
from rlkit.errors import MissingExtraError
from rlkit.logs import write_image, write_precision_recall
from rlkit.loop import Session
from rlkit.perception.detection.detector import Detector
from rlkit.perception.detection.scoring import (
    StreamScores,
    absent_classes,
    detection_quality,
    judged_classes,
    stream_scores,
)
from rlkit.timeline import draw_timeline
from rlkit.types import Array, Metrics, State

_LOG = logging.getLogger(__name__)
SHOWN_FRAMES = 600
"""Of a timeline."""
THRESHOLDS = 127
"""Of a precision–recall curve, as TensorBoard has them."""


class DetectionReport:
    """Every `every` updates: average precision on the test streams.

    Args:
        every: updates between two evaluations; 0: never.
        detector: what is judged.
        streams: that it never learns from.
        folder: of the run.
    """

    name = "detection"

    def __init__(self, every: int, detector: Detector, streams: StreamSet, folder: Path) -> None:
        self.every, self._detector, self._streams, self._folder = every, detector, streams, folder
        self.last: Metrics = {}
        self._scored: tuple[int, list[StreamScores]] = (-1, [])

    def start(self, session: Session) -> None:
        """Say what cannot be judged."""
        if absent := absent_classes(self._streams):
            _LOG.warning(
                "the test streams never show %s: nothing is said of %s, and means leave %s out",
                ", ".join(absent), *(("it", "it") if len(absent) == 1 else ("them", "them")),
            )  # fmt: skip

    def after_step(self, session: Session) -> None:
        """Evaluate if due."""
        if session.crossed(self.every):
            session.evaluated = self._judge(self._scores_at(session.step))

    def stop(self, session: Session) -> None:
        """Leave curves and a timeline to TensorBoard, where anything was judged."""
        if not self.every or not self.last:
            return
        scores = self._scores_at(session.step)
        self._judge(scores)  # what the run ends with, also between two evaluations
        try:
            curves = precision_recall_curves(self._streams, scores)
            write_precision_recall(self._folder, "precision-recall", session.step, curves)
            self._write_timeline(session.step, scores)
        except OSError as error:
            _LOG.warning("cannot write the curves (%s)", error.strerror)

    def _scores_at(self, step: int) -> list[StreamScores]:
        """Of the detector as it is at this step; the last ones are kept, as a run's end is often an evaluation too."""
        if self._scored[0] != step:
            self._scored = step, stream_scores(self._detector, self._streams.streams)
        return self._scored[1]

    def _judge(self, scores: Sequence[StreamScores]) -> dict[str, float]:
        found = {f"eval/{name}": value for name, value in detection_quality(self._streams, scores).items()}
        self.last = found
        return found

    def _write_timeline(self, step: int, scores: Sequence[StreamScores]) -> None:
        from rlkit.cli.pictures import new_figure, png_of

        stream, shown = self._streams.streams[0], slice(0, SHOWN_FRAMES)
        try:
            figure = new_figure(12, 1 + 0.8 * len(self._streams.classes))
        except MissingExtraError:
            return  # the numbers are there; a picture needs matplotlib
        draw_timeline(figure, self._streams.classes, scores[0].now[shown], stream.labels[shown])
        write_image(self._folder, "timeline", step, *png_of(figure))

    def state(self) -> State:
        """The last evaluation."""
        return {"last": dict(self.last)}

    def load_state(self, state: State) -> None:
        """Restore `state`."""
        self.last = state["last"]


def precision_recall_curves(streams: StreamSet, scores: Sequence[StreamScores]) -> dict[str, Array]:
    """Of each judged class, [6, T] as `write_precision_recall` takes it."""
    truth = np.concatenate([stream.labels for stream in streams.streams])
    told = np.concatenate([each.now for each in scores])
    kept = slice(None) if streams.ambiguous is None else truth[:, streams.ambiguous] == 0
    return {streams.classes[k]: _curve(truth[kept, k] > 0, told[kept, k]) for k in judged_classes(streams)}


def _curve(truth: Array, told: Array) -> Array:
    thresholds = np.linspace(0.0, 1.0, THRESHOLDS)
    claimed = told[:, None] >= thresholds
    hits, false = (claimed & truth[:, None]).sum(0), (claimed & ~truth[:, None]).sum(0)
    positives, negatives = truth.sum(), (~truth).sum()
    precision, recall = hits / np.maximum(hits + false, 1), hits / max(positives, 1)
    return np.stack([hits, false, negatives - false, positives - hits, precision, recall]).astype(np.float32)
