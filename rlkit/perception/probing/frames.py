"""Frames with labels of simulator state, from a dataset of episodes, in parts that share no episode and no frame.

The protocol is that of Anand et al. 2019 (https://arxiv.org/abs/1906.08226, section 4; code at
https://github.com/mila-iqia/atari-representation-learning, `episodes.py` and `label_preprocess.py`): whole episodes for
training, validation and test, 35,000, 5,000 and 10,000 frames; no frame of the test is among the others; classes whose
entropy is below 0.6 nats tell too little of an encoder and are left out. Deviations: frames are counted where the code
counts episodes; validation loses frames that are in training too; episodes may be short.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from rlkit.data.datasets import Episode, EpisodeDataset
from rlkit.data.memory import check_budget
from rlkit.data.tree import Path, leaf, leaf_name, leaf_spaces
from rlkit.envs.simulator_state import STATE
from rlkit.errors import DatasetError, UsageError
from rlkit.mdp import Integers
from rlkit.ops.prediction_scores import class_entropy
from rlkit.types import Array

SHARES = (0.7, 0.1, 0.2)
"""Of the frames, for training, validation and test: the paper's 35,000, 5,000 and 10,000."""


@dataclass(frozen=True)
class LabelledFrames:
    """M frames, or what an encoder makes of them, with labels.

    Raises:
        DatasetError: the lengths differ, or labels are no numbers [M].
    """

    inputs: Array  # [M, *O] pictures, or [M, D] features
    labels: Mapping[str, Array]  # `category/variable` -> [M]; integers are classes, floats are quantities
    episodes: Integers  # [M] number of the episode that each is from

    def __post_init__(self) -> None:
        for name, values in {"episodes": self.episodes, **self.labels}.items():
            if values.shape != (len(self.inputs),) or values.dtype.kind not in "biuf":
                raise DatasetError(
                    f"{name} of {len(self.inputs)} frames is {values.dtype} {list(values.shape)}; it must be "
                    "one number for each"
                )

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, rows: Array) -> LabelledFrames:
        """The frames that an index or a mask chooses."""
        chosen = {name: values[rows] for name, values in self.labels.items()}
        return LabelledFrames(self.inputs[rows], chosen, self.episodes[rows])

    def encoded(self, features: Array) -> LabelledFrames:
        """The same labels for features [M, D] of the frames."""
        return replace(self, inputs=features)

    def labelled_by(self, names: Iterable[str]) -> LabelledFrames:
        """The same frames with some of the labels."""
        return replace(self, labels={name: self.labels[name] for name in names})


class ProbingParts(NamedTuple):
    """The three parts of `probing_parts`."""

    train: LabelledFrames
    validation: LabelledFrames
    test: LabelledFrames


def probing_parts(
    dataset: EpisodeDataset,
    rng: np.random.Generator,
    *,
    shares: Sequence[float] = SHARES,
    max_frames: int = 50_000,
    least_entropy: float = 0.6,
    part: Path = (),
) -> ProbingParts:
    """Labelled frames for training, validation and test, by the protocol of this module.

    Args:
        dataset: Recorded with `--wrap simulator-state`.
        rng: Draws which episodes, and where there are more than `max_frames` which of their frames.
        shares: Of the frames, in each part.
        max_frames: In all parts together.
        least_entropy: Of a variable's classes over all parts, in nats; quantities must vary.
        part: Keys to the picture within Dict or Tuple observations.

    Raises:
        UsageError: there are too few episodes, no labels, no such part, or nothing is left.
        MemoryBudgetError: so many frames do not fit into memory.
    """
    chosen = split_episodes(dataset.lengths, shares, rng)
    limits = [max(1, round(max_frames * share)) for share in shares]
    train, validation, test = (
        labelled_frames(dataset, episodes, rng, max_frames=limit, part=part)
        for episodes, limit in zip(chosen, limits, strict=True)
    )
    names = telling_labels((train, validation, test), least_entropy)
    if not names:
        raise UsageError(
            f"none of the {len(train.labels)} variables changes enough to be worth a probe (classes with an entropy of "
            f"{least_entropy} nats, quantities that vary); record more, or other behaviour"
        )
    validation = without_frames_of(validation, (train,))
    test = without_frames_of(test, (train, validation))
    for name, frames in (("validation", validation), ("test", test)):
        if not len(frames):
            raise UsageError(f"every frame for {name} is also in training; record more, or more varied, episodes")
    return ProbingParts(*(frames.labelled_by(names) for frames in (train, validation, test)))


def split_episodes(lengths: Integers, shares: Sequence[float], rng: np.random.Generator) -> tuple[Integers, ...]:
    """Numbers of the episodes of each part, in order; each part has at least one and about its share of the steps.

    Args:
        lengths: Steps of each episode [E].
        shares: Of each part, adding up to 1.
        rng: Draws the order in which episodes go into parts.

    Raises:
        UsageError: there are fewer episodes than parts, or the shares are not positive with a sum of 1.
    """
    if min(shares) <= 0 or not np.isclose(sum(shares), 1.0):
        raise UsageError(f"shares are {tuple(shares)}, they must be positive and add up to 1")
    if len(lengths) < len(shares):
        raise UsageError(
            f"{len(lengths)} episodes cannot be split into {len(shares)} parts that share none; record more episodes"
        )
    order = rng.permutation(len(lengths))
    middles = np.cumsum(lengths[order]) - lengths[order] / 2
    cuts = np.searchsorted(middles, np.cumsum(shares)[:-1] * lengths.sum())
    for number in range(len(cuts)):  # one episode at least for this part, and for each that follows
        cuts[number] = np.clip(cuts[number], 1 + (cuts[number - 1] if number else 0), len(order) - len(cuts) + number)
    return tuple(np.sort(piece) for piece in np.split(order, cuts))


def labelled_frames(
    dataset: EpisodeDataset,
    episodes: Iterable[int],
    rng: np.random.Generator,
    *,
    max_frames: int | None = None,
    part: Path = (),
) -> LabelledFrames:
    """Frames of episodes with the state that they show: the label of step t belongs to the observation after it.

    The first observation of an episode has no label, as its reset's info is not recorded.

    Args:
        dataset: Recorded with `--wrap simulator-state`.
        episodes: Numbers of episodes, at least one.
        rng: Draws frames, each as likely, where there are more than `max_frames`.
        max_frames: All by default.
        part: Keys to the picture within Dict or Tuple observations.

    Raises:
        UsageError: there are no labels, or observations have no such part.
        MemoryBudgetError: so many frames do not fit into memory.
    """
    numbers = np.sort(np.fromiter(episodes, np.int64))
    lengths = dataset.lengths[numbers]
    begins = np.cumsum(lengths) - lengths  # of each episode among all these frames
    kept = _drawn(int(lengths.sum()), max_frames, rng)
    inputs, labels = _room_for(len(kept), dataset, part), dict[str, list[Array]]()
    bounds = np.searchsorted(kept, [*begins, lengths.sum()])
    for place, number in enumerate(numbers):
        mine = slice(bounds[place], bounds[place + 1])
        episode, rows = dataset[int(number)], kept[mine] - begins[place]
        inputs[mine] = leaf(episode.observations, part)[1:][rows]
        for name, values in _state_labels(dataset, int(number), episode).items():
            labels.setdefault(name, []).append(values[rows])
    if any(len(values) != len(numbers) for values in labels.values()):
        raise DatasetError(f"{dataset.folder}: episodes tell different variables: {', '.join(sorted(labels))}")
    joined = {name: np.concatenate(values) for name, values in labels.items()}
    return LabelledFrames(inputs, joined, np.repeat(numbers, np.diff(bounds)))


def _drawn(total: int, most: int | None, rng: np.random.Generator) -> Integers:
    """All of `total` numbers, or `most` of them, in order."""
    if most is None or most >= total:
        return np.arange(total)
    return np.sort(rng.choice(total, most, replace=False))


def _room_for(count: int, dataset: EpisodeDataset, part: Path) -> Array:
    """Memory for so many frames of this part of observations."""
    spaces = dict(leaf_spaces(dataset.observation_space))
    if part not in spaces:
        listed = ", ".join(repr(path) for path in spaces)
        raise UsageError(f"observations have no part {part!r}; theirs are {listed}")
    shape, kind = (count, *(spaces[part].shape or ())), np.dtype(spaces[part].dtype)
    needed = int(np.prod(shape)) * kind.itemsize
    check_budget(f"frames {list(shape)} of {leaf_name(part)}", needed, "Take fewer of them (max_frames).")
    return np.empty(shape, kind)


def _state_labels(dataset: EpisodeDataset, number: int, episode: Episode) -> dict[str, Array]:
    found = {key.removeprefix(STATE): values for key, values in episode.infos.items() if key.startswith(STATE)}
    if not found:
        raise UsageError(
            f"episode {number} of {dataset.folder} has no labels (infos {STATE}…); record it from a run with "
            "--wrap simulator-state"
        )
    return found


def telling_labels(parts: Sequence[LabelledFrames], least_entropy: float) -> list[str]:
    """Names of classes with at least so much entropy over all parts together, in nats, and of quantities that vary."""
    found = []
    for name in parts[0].labels:
        values = np.concatenate([part.labels[name] for part in parts])
        if values.max() > values.min() if is_quantity(values) else class_entropy(values) >= least_entropy:
            found.append(name)
    return found


def is_quantity(labels: Array) -> bool:
    """Whether labels are numbers to be predicted by their distance; otherwise they are classes."""
    return labels.dtype.kind == "f"


def without_frames_of(frames: LabelledFrames, others: Iterable[LabelledFrames]) -> LabelledFrames:
    """Those of the frames that are, byte by byte, not among `others`."""
    known = {digest for other in others for digest in _digests(other.inputs)}
    return frames.rows(np.array([digest not in known for digest in _digests(frames.inputs)], np.bool_))


def _digests(inputs: Array) -> list[bytes]:
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in inputs]
