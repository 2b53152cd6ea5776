"""Scores of a probe: how well features tell each variable of a simulator's state, and each category of them.

    parts = probing_parts(EpisodeDataset("data/pong"), rng)
    encoded = [frames.encoded(features_of(frames.inputs)) for frames in parts]
    table = probe(*encoded, LinearProbe())
    table.categories()["small_object"]["f1_weighted"]

Beside every encoder belong the controls: `MajorityProbe`, which looks at nothing, the same probe on an untrained
encoder, and `SupervisedProbe` on the frames themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from rlkit.errors import UsageError
from rlkit.ops.prediction_scores import class_scores, r_squared
from rlkit.perception.probing.frames import LabelledFrames, is_quantity
from rlkit.types import Array

Scores: TypeAlias = Mapping[str, float]
"""`f1_macro`, `f1_weighted` and `accuracy` of classes; `r_squared` of quantities."""
Predictions: TypeAlias = dict[str, Array]
"""Of each variable [M], in the type of its labels."""


class Probe(Protocol):
    """A way to predict labels from features or frames, the same for every encoder."""

    def predictions(self, train: LabelledFrames, validation: LabelledFrames, inputs: Array) -> Predictions:
        """Every variable of `train` for other inputs [M, …]. `validation` decides when enough was learned."""


@dataclass(frozen=True)
class ProbeTable:
    """Scores by `category/variable`."""

    variables: Mapping[str, Scores]

    def categories(self) -> dict[str, dict[str, float]]:
        """Mean of each score over the variables of each category that have it; `miscellaneous` without a category."""
        found: dict[str, dict[str, list[float]]] = {}
        for variable, scores in self.variables.items():
            for score, value in scores.items():
                found.setdefault(_category(variable), {}).setdefault(score, []).append(value)
        return {category: {score: float(np.mean(values)) for score, values in scores.items()}
                for category, scores in found.items()}  # fmt: skip

    def overall(self) -> dict[str, float]:
        """Mean of each score over categories, so that many variables of one kind do not outweigh the others.

        It is what Anand et al. 2019 (https://arxiv.org/abs/1906.08226, table 2) print of a game.
        """
        categories = self.categories().values()
        scores = dict.fromkeys(score for found in categories for score in found)
        return {score: float(np.mean([found[score] for found in categories if score in found])) for score in scores}


def probe(train: LabelledFrames, validation: LabelledFrames, test: LabelledFrames, by: Probe) -> ProbeTable:
    """Scores of a probe on `test`.

    Args:
        train: What the probe learns from.
        validation: What decides when it has learned enough.
        test: What it is scored on.
        by: The kind of probe, with its settings.

    Raises:
        UsageError: the parts have other variables, other kinds of them, or no frames.
    """
    kinds = [{name: is_quantity(values) for name, values in part.labels.items()} for part in (train, validation, test)]
    if not kinds[0] or not kinds[0] == kinds[1] == kinds[2]:
        raise UsageError(f"training, validation and test need the same variables, at least one; they have {kinds}")
    if not (len(train) and len(validation) and len(test)):
        raise UsageError(f"a part is empty: {len(train)} frames to train, {len(validation)} and {len(test)} others")
    predicted = by.predictions(train, validation, test.inputs)
    return ProbeTable({name: _scores(truth, predicted[name]) for name, truth in test.labels.items()})


def _scores(truth: Array, predicted: Array) -> Scores:
    return (
        {"r_squared": r_squared(truth, predicted)} if is_quantity(truth) else class_scores(truth, predicted)._asdict()
    )


def _category(variable: str) -> str:
    category, slash, _ = variable.partition("/")
    return category if slash else "miscellaneous"
