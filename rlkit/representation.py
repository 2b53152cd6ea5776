"""A look at an encoder while it learns: how its features of pictures kept aside spread, and whether they collapse."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rlkit import seeding
from rlkit.data.clips import Recording
from rlkit.loop import Session
from rlkit.nn.encoders import to_channels
from rlkit.ops.collapse import effective_rank, feature_spread
from rlkit.ops.nearest_neighbours import class_votes, vote_weights
from rlkit.projector import write_projector
from rlkit.types import Array, State

_LOG = logging.getLogger(__name__)
KEPT = 512
"""Pictures that are looked at."""
LONGEST_CLASS_LIST = 256
"""Different values up to which a label is a class."""
NEIGHBOURS, TEMPERATURE = 20, 0.07
"""Of the vote (Wu et al. 2018, section 3.4, https://arxiv.org/abs/1805.01978, with 200 among a million pictures)."""


class Representation:
    """Every `every` updates: deviation and effective rank of features, accuracy of nearest neighbours, an alarm.

    Features have collapsed where they no longer tell pictures apart. Three signs are told once each, when two looks in
    a row see them: the loss is within 1 % of what an encoder that tells nothing gets; normalised features spread less
    than a tenth of 1/sqrt(D), what directions without preference have (Chen and He 2021, section 4.1), and less than
    half as far as before any learning; their effective rank is below 2, and below half of what it was.

    Args:
        every: updates between two looks; 0: never.
        features: of uint8 pictures [B, C, H, W], [B, D].
        recording: pictures, some of which are looked at, with their labels.
        uninformed_loss: loss of an encoder that tells nothing, where it is known.
        seed: of the choice of pictures.
        folder: of the run.
    """

    name = "representation"

    def __init__(
        self, every: int, features: Callable[[Tensor], Tensor], recording: Recording, uninformed_loss: float | None,
        seed: int, folder: Path,
    ) -> None:  # fmt: skip
        self.every, self._folder = every, folder
        self._features, self._uninformed_loss = features, uninformed_loss
        known = np.flatnonzero(recording.labels.get("is_labelled", np.ones(len(recording), np.bool_)))
        kept = np.sort(seeding.generator(seed, "representation").permutation(known)[:KEPT])
        self.pictures = to_channels(torch.from_numpy(recording.observations[kept]))
        labels = {name: values[kept] for name, values in recording.labels.items() if name != "is_labelled"}
        self._labels = {name: values for name, values in labels.items() if values.ndim == 1}
        self._classes = {name: _numbered(values) for name, values in labels.items() if _is_class(values)}
        self._told: set[str] = set()
        self._size = 1  # D
        self._seen: set[str] = set()  # signs at the last look
        self._first: Mapping[str, float] = {}  # the look before any learning
        self.last: Mapping[str, float] = {}

    def start(self, session: Session) -> None:
        """Look at what the features are like before any learning."""
        if self.every and not self._first:
            self._first = self._look()

    def after_step(self, session: Session) -> None:
        """Look if due."""
        loss = session.metrics.mean("train/loss")
        if not session.crossed(self.every):
            return
        found = session.evaluated = self.last = self._look()
        self._warn(found, loss)

    def _look(self) -> dict[str, float]:
        features = self._features(self.pictures)
        self._size = features.shape[1]
        return {
            "eval/feature_spread": float(feature_spread(features)),
            "eval/effective_rank": float(effective_rank(features)),
            **{
                f"eval/nearest_neighbours_{name}": nearest_neighbour_accuracy(features, values)
                for name, values in self._classes.items()
            },
        }

    def _warn(self, found: Mapping[str, float], loss: float | None) -> None:
        signs = self._signs(found, loss)
        for name in sorted((signs & self._seen) - self._told):
            self._told.add(name)
            _LOG.warning("%s", self._explained(name, found, loss))
        self._seen = signs

    def _signs(self, found: Mapping[str, float], loss: float | None) -> set[str]:
        """What looks like a collapse now."""
        uninformed = self._uninformed_loss
        spread, rank = found["eval/feature_spread"], found["eval/effective_rank"]
        signs = {
            "loss": uninformed is not None and loss is not None and abs(loss - uninformed) < 0.01 * abs(uninformed),
            "spread": spread < min(0.1 * self._size**-0.5, 0.5 * self._first["eval/feature_spread"]),
            "rank": rank < min(2.0, 0.5 * self._first["eval/effective_rank"]),
        }
        return {name for name, is_seen in signs.items() if is_seen}

    def _explained(self, sign: str, found: Mapping[str, float], loss: float | None) -> str:
        what = {
            "loss": f"the loss is {loss}, that of an encoder that tells nothing ({self._uninformed_loss})",
            "spread": f"the features hardly differ between pictures (spread {found['eval/feature_spread']:.2g})",
            "rank": f"the features lie on a line (effective rank {found['eval/effective_rank']:.2f})",
        }
        return f"collapse? {what[sign]}. {REMEDY}"

    def stop(self, session: Session) -> None:
        """Leave the pictures and their features to TensorBoard's projector."""
        if not self.every:
            return
        try:
            pictures = self.pictures.numpy()
            write_projector(self._folder, self._features(self.pictures).cpu().numpy(), pictures, self._labels)
        except OSError as error:
            _LOG.warning("cannot write the projector's files (%s)", error.strerror)

    def state(self) -> State:
        """What was told and seen, the look before any learning, and the last one."""
        return {
            "told": sorted(self._told), "seen": sorted(self._seen), "first": dict(self._first), "last": dict(self.last)
        }  # fmt: skip

    def load_state(self, state: State) -> None:
        """Restore `state`."""
        self._told, self._seen = set(state["told"]), set(state["seen"])
        self._first, self.last = state["first"], state["last"]


def nearest_neighbour_accuracy(features: Tensor, classes: Tensor) -> float:
    """How often the vote of the nearest neighbours by cosine tells a row's class, when its own is not asked.

    Args:
        features: [B, D].
        classes: int64 [B], from 0.
    """
    unit = F.normalize(features, dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    nearest = similarity.topk(min(NEIGHBOURS, len(unit) - 1), dim=1)
    weight = vote_weights(nearest.values, TEMPERATURE)
    votes = class_votes(weight, classes.to(unit.device)[nearest.indices], int(classes.max()) + 1)
    return float((votes.argmax(dim=1).cpu() == classes).float().mean())


REMEDY = (
    "Early in a run this can pass; if it stays, try a smaller --method.learning-rate, a longer "
    "--method.warmup-fraction, a larger --method.batch-size, or other --method.views where the method has them"
)


def _numbered(values: Array) -> Tensor:
    """Values [B] as the numbers of those that differ."""
    return torch.from_numpy(np.unique(values, return_inverse=True)[1].astype(np.int64))


def _is_class(values: Array) -> bool:
    return values.ndim == 1 and values.dtype.kind in "biu" and 1 < len(np.unique(values)) <= LONGEST_CLASS_LIST
