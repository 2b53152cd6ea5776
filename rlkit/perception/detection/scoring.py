"""What a detector tells of whole streams, and how good that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from rlkit.data.events import BACKGROUND
from rlkit.data.streams import LabelledStream, StreamSet
from rlkit.ops.average_precision import class_average_precision, mean_over_occurring
from rlkit.perception.detection.detector import Detector
from rlkit.types import Array, Floats


class StreamScores(NamedTuple):
    """Probabilities of one stream's frames."""

    now: Floats  # [L, K]
    future: Floats  # [L, H, K]


@torch.inference_mode()
def stream_scores(detector: Detector, streams: Sequence[LabelledStream]) -> list[StreamScores]:
    """Scores of each stream from its first frame on, as streaming would give them."""
    detector.eval()
    device = detector.mean.device
    found = []
    for stream in streams:
        features = torch.from_numpy(stream.features).to(device)[None]
        is_first = torch.zeros(features.shape[:2], dtype=torch.bool, device=device)
        detections = detector(features, is_first)
        found.append(StreamScores(*(detector.scores(logits)[0].cpu().numpy() for logits in detections)))
    return found


def detection_quality(streams: StreamSet, scores: Sequence[StreamScores]) -> dict[str, float]:
    """Average precision of the present and of what comes next, over all frames but ambiguous ones.

    `map` and `mcap` are means over classes that occur, `background` not among them; `ap_<class>` is of one class;
    `map_ahead_<h>` is of h frames ahead, told at frames that have such a future.
    """
    classes = judged_classes(streams)
    truth, told = _joined(streams, [each.now for each in scores], ahead=0)
    plain, calibrated = (class_average_precision(truth, told, calibrated=flag) for flag in (False, True))
    found = {"map": mean_over_occurring(plain[classes]), "mcap": mean_over_occurring(calibrated[classes])}
    found |= {f"ap_{streams.classes[k]}": float(plain[k]) for k in classes if not np.isnan(plain[k])}
    for ahead in horizons(scores[0].future.shape[1]):
        pair = _joined(streams, [each.future[:, ahead - 1] for each in scores], ahead)
        found[f"map_ahead_{ahead}"] = mean_over_occurring(class_average_precision(*pair)[classes])
    return found


def judged_classes(streams: StreamSet) -> list[int]:
    """Numbers of the classes that a mean is taken over."""
    return [k for k, name in enumerate(streams.classes) if name != BACKGROUND and k != streams.ambiguous]


def horizons(horizon: int) -> list[int]:
    """1, 2, 4, … frames ahead, and the farthest."""
    return sorted({*(2**power for power in range(horizon.bit_length()) if 2**power <= horizon), horizon} - {0})


def _joined(streams: StreamSet, scores: Sequence[Array], ahead: int) -> tuple[Array, Array]:
    """Truth `ahead` frames later and scores [M, K] of all frames that have such a frame, ambiguous ones left out."""
    truth = np.concatenate([stream.labels[ahead:] for stream in streams.streams])
    told = np.concatenate([each[: max(len(each) - ahead, 0)] for each in scores])
    if streams.ambiguous is None:
        return truth, told
    kept = truth[:, streams.ambiguous] == 0
    return truth[kept], told[kept]


def absent_classes(streams: StreamSet) -> list[str]:
    """Classes that no frame shows, of which nothing can be said."""
    prevalence: Mapping[str, float] = streams.prevalence
    return [name for name, share in prevalence.items() if share == 0.0]
