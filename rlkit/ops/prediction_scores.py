"""How well predictions fit: F1 scores of classes, R² of quantities; and how much there is to predict.

M examples. Numbers agree with scikit-learn's `f1_score` (macro and weighted, `zero_division=0`) and `r2_score`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlkit.types import Array


class ClassScores(NamedTuple):
    """Scores of predicted classes, all from 0 to 1."""

    f1_macro: float  # mean over classes
    f1_weighted: float  # mean over examples of the F1 of their true class
    accuracy: float


def class_scores(truth: Array, predicted: Array) -> ClassScores:
    """Scores of predicted classes [M] beside the true ones [M], M ≥ 1; classes are any integers.

    F1 = 2 TP / (2 TP + FP + FN) of each class that occurs in either, so it is 0 for one that was never there or never
    found. Anand et al. 2019 (https://arxiv.org/abs/1906.08226) print the weighted average.

    >>> class_scores(np.array([0, 0, 1, 1]), np.array([0, 5, 1, 1])).accuracy
    0.75
    """
    classes, index = np.unique(np.concatenate((truth, predicted)), return_inverse=True)
    right, found = index[: len(truth)], index[len(truth) :]
    support, claims = np.bincount(right, minlength=len(classes)), np.bincount(found, minlength=len(classes))
    hits = np.bincount(right[right == found], minlength=len(classes))
    f1 = 2 * hits / (support + claims)  # TP + FN and TP + FP; one of them is not 0
    return ClassScores(float(f1.mean()), float(f1 @ support / len(truth)), float(hits.sum() / len(truth)))


def r_squared(truth: Array, predicted: Array) -> float:
    """1 - Σ (y - ŷ)² / Σ (y - ȳ)², at most 1; 0 for predicting the mean of `truth` [M], negative for worse.

    Where the truth never changes: 1 if every prediction is exact, else 0.

    >>> r_squared(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]))
    0.5
    """
    residual = float(np.square(truth - predicted, dtype=np.float64).sum())
    spread = float(np.square(truth - truth.mean(dtype=np.float64)).sum())
    if spread == 0.0:
        return float(residual == 0.0)
    return 1.0 - residual / spread


def class_entropy(labels: Array) -> float:
    """Entropy of the frequencies of classes [M], in nats; 0 where there is one class, ln K where K are even.

    >>> round(class_entropy(np.array([3, 3, 7, 7])), 4)
    0.6931
    """
    _, counts = np.unique(labels, return_counts=True)
    frequency = counts / counts.sum()
    return float(-(frequency * np.log(frequency)).sum())
