"""Detectors of runs, ready to watch many streams at once, frame by frame."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch

from rlkit import registry
from rlkit.checkpoint import MANIFEST
from rlkit.config import RunConfig
from rlkit.data.space_json import space_from_json
from rlkit.data.streams import LabelledStream
from rlkit.detect_config import stored_detection
from rlkit.envs.contract import Env
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import CheckpointError, UsageError
from rlkit.perception.detect_events import DetectEvents
from rlkit.perception.detection.detector import DetectionTask, Memory
from rlkit.perception.detection.scoring import StreamScores, stream_scores
from rlkit.runs import RunFolder, open_run
from rlkit.stream_features import StreamFeatures
from rlkit.stream_sources import frame_features
from rlkit.types import Bools, Floats, Obs


class Told(NamedTuple):
    """What a detector tells of one frame of each of N streams."""

    now: Floats  # probabilities [N, K]
    future: Floats  # [N, H, K] of the H frames that follow


class StreamDetector:
    """The detector of a run at its latest checkpoint.

    Args:
        run: its folder.
        device: where it computes.

    Attributes:
        classes: names, K.
        horizon: H.
        sees_actions: whether frames are told with the action that led to them.
        step_number: updates that it learned.

    Raises:
        CheckpointError: the run has no checkpoint, or it fits no such detector.

    >>> detector = StreamDetector("runs/…")  # doctest: +SKIP
    >>> carry = detector.begin(num_streams)  # doctest: +SKIP
    >>> told, carry = detector.watch(observations, actions, carry)  # doctest: +SKIP
    """

    def __init__(self, run: str | Path, device: str = "cpu") -> None:
        self._folder = open_run(Path(run))
        config, meta = stored_detection(self._folder), self._folder.meta()
        stored = self._folder.checkpoints.load(policy_only=True)
        self.classes: tuple[str, ...] = tuple(meta["classes"])
        self.horizon, self.sees_actions = config.detector.horizon, config.options.actions
        self.step_number, self._meta = stored.step, meta
        self._options = config.options.model_copy(update={"device": device})  # the encoder computes there too
        task = DetectionTask(meta["feature_size"], self.classes, meta["ambiguous"], seed=config.options.seed)
        detector = registry.detector_class(config.detector_name)(config.detector, task)
        try:
            detector.load_state_dict(stored.policy["detector"])
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"the weights in {stored.path} do not fit the detector that config.yaml describes: {error}"
            ) from error
        self.detector = detector.to(torch.device(device)).eval().requires_grad_(False)
        self._features: StreamFeatures | None = None

    @property
    def feature_size(self) -> int:
        """C."""
        return int(self._meta["feature_size"])

    @property
    def observation_space(self) -> gym.Space[Any] | None:
        """Of one observation; None where the run learned from given features."""
        described = self._meta.get("observation_space")
        return None if described is None else space_from_json(described)

    @property
    def action_space(self) -> gym.Space[Any] | None:
        """Of the actions beside the frames; None where it sees none."""
        return space_from_json(self._meta["action_space"]) if self.sees_actions else None

    @property
    def features(self) -> StreamFeatures:
        """What turns observations and actions into features. UsageError where the run learned from given features."""
        if self._features is None:
            self._features = frame_features(self._meta, self._options, self._folder)
        return self._features

    def begin(self, streams: int) -> Memory:
        """What is remembered of so many streams that begin."""
        return self.detector.empty(streams)

    def reset(self, carry: Memory, ended: Bools) -> Memory:
        """Streams in `ended` (bool [N]) begin anew."""
        return self.detector.reset(carry, torch.from_numpy(ended).to(self.detector.mean.device))

    @torch.inference_mode()
    def step(self, features: Floats, carry: Memory) -> tuple[Told, Memory]:
        """One frame of each stream, features [N, C].

        Raises:
            UsageError: they have another size than those that were learned from.
        """
        if features.shape[1] != self.feature_size:
            raise UsageError(
                f"frames have {features.shape[1]} features, the detector of {self._folder.path} learned from "
                f"{self.feature_size}: use the encoder and --actions of its run"
            )
        detections, carry = self.detector.step(torch.from_numpy(features).to(self.detector.mean.device), carry)
        now, future = (self.detector.scores(logits).cpu().numpy() for logits in detections)
        return Told(now, future), carry

    def watch(self, observations: Obs, actions: Any, carry: Memory) -> tuple[Told, Memory]:
        """One observation of each stream [N, *O], and the actions [N, *A] that led there."""
        return self.step(self.features(observations, actions), carry)

    def scores(self, stream: LabelledStream) -> StreamScores:
        """Of a whole stream; what `step` would tell frame by frame."""
        return stream_scores(self.detector, [stream])[0]


def load_detector(run: str | Path, device: str = "cpu") -> StreamDetector:
    """The detector of a run of `rlkit detect train`: `.begin(N)`, `.watch(observations, actions, carry)`."""
    return StreamDetector(run, device)


def starts_and_ends(scores: Floats, classes: tuple[str, ...], threshold: float = 0.5) -> list[tuple[int, int, str]]:
    """Claimed events of one stream's scores [L, K]: first frame, frame after the last, and class.

    An event lasts while its class scores at least `threshold`; one that lasts at the stream's end ends there.
    """
    found = []
    for k, name in enumerate(classes):
        above = np.concatenate([[False], scores[:, k] >= threshold, [False]])
        changes = np.flatnonzero(above[1:] != above[:-1])
        found += [(int(first), int(past), name) for first, past in changes.reshape(-1, 2)]
    return sorted(found)


def detect_events(
    env: Env, run: str | int, observe: Literal["keep", "append", "replace"] = "keep", reward: str | None = None,
    reward_weight: float = 1.0, stop: str | None = None, threshold: float = 0.5, weights: str | None = None,
) -> DetectEvents:  # fmt: skip
    """The environment watched by the detector of a run, see `DetectEvents`; `weights` as `pinned_detectors` has them.

    Raises:
        CheckpointError: the detector has learned on since the weights were named.
    """
    folder = open_run(Path(str(run)))  # a folder's name may look like a number
    found = _weights_of(folder)
    if weights not in (None, found):
        raise CheckpointError(
            f"detect-events: the detector of {folder.path} has learned on since this run began (its weights were "
            f"{weights}, now {found}), so its agent would see something else: put the old checkpoint back or begin anew"
        )
    return DetectEvents(
        env, _loaded(folder.path.resolve(), found), observe=observe, reward=reward, reward_weight=reward_weight,
        stop=stop, threshold=threshold,
    )  # fmt: skip


def pinned_detectors(config: RunConfig) -> RunConfig:
    """The same run with the weights named of each detector that watches, so that none changes under it unseen."""
    wraps = []
    for text in config.options.wrap:
        spec = resolve_wrapper(text)
        if spec.name == "detect-events" and "run" in spec.arguments and "weights" not in spec.arguments:
            text = f"{text},weights={_weights_of(open_run(Path(str(spec.arguments['run']))))}"
        wraps.append(text)
    if tuple(wraps) == config.options.wrap:
        return config
    return RunConfig(config.agent_name, config.agent, config.options.model_copy(update={"wrap": tuple(wraps)}))


def _weights_of(folder: RunFolder) -> str:
    """Of the latest checkpoint: changes with anything in it. The letter keeps it from looking like a number."""
    found = folder.checkpoints.candidates()
    return "w" + hashlib.sha256((found[0] / MANIFEST).read_bytes()).hexdigest()[:16] if found else "none"


@lru_cache(maxsize=4)
def _loaded(run: Path, weights: str) -> StreamDetector:
    """One for all the environments of a process; the weights tell two states of a run apart."""
    return StreamDetector(run)
