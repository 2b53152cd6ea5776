"""How soon an action is told from others: accuracy after its first part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlkit.types import Array

TENTHS = tuple(tenth / 10 for tenth in range(1, 11))
"""Parts of an action that are seen."""


def early_accuracy(scores: Sequence[Array], labels: Sequence[Array], parts: Sequence[float] = TENTHS) -> Array:
    """Share of S actions that are told rightly after each of P parts, float64 [P]; NaN without an action.

    Of an action with the scores [L_i, K] the first ⌈part L_i⌉ frames are seen, and told is the class whose mean score
    over them is largest, the first of equals. It is right where any of these frames is labelled with it: where actions
    overlap there are several right answers. This is the curve of accuracy over observation ratio of Ryoo 2011
    (https://doi.org/10.1109/ICCV.2011.6126349), with scores of frames in the place of his classifiers.

    Args:
        scores: of each action, at least one frame each.
        labels: multi-hot, [L_i, K] of each action.
        parts: above 0, to 1.

    >>> early_accuracy([np.array([[0.6, 0.4], [0.1, 0.9]])], [np.array([[0, 1], [0, 1]])], [0.5, 1.0])
    array([0., 1.])
    """
    right = np.zeros((len(scores), len(parts)))
    for row, (of_action, shown) in enumerate(zip(scores, labels, strict=True)):
        seen = np.ceil(np.asarray(parts) * len(of_action) - 1e-9).astype(np.int64)  # 0.7 * 10 is more than 7
        told = np.cumsum(np.asarray(of_action, np.float64), axis=0)[seen - 1].argmax(axis=1)  # as of the mean
        right[row] = np.maximum.accumulate(shown)[seen - 1, told] > 0
    return right.mean(axis=0) if len(scores) else np.full(len(parts), np.nan)
