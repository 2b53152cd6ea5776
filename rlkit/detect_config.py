"""What a detector's run is told: its own options, its detector and the detector's options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from rlkit import registry
from rlkit.config import ConfigTree
from rlkit.data.video_labels import FolderPolicy
from rlkit.errors import UsageError
from rlkit.fitting import FitOptions, Parsed, config_text, parsed_config
from rlkit.perception.detection.detector import DetectorConfig
from rlkit.runs import RunFolder


class DetectOptions(FitOptions):
    """Everything about a detector's run except its detector's own options. A step is an update."""

    stream: str | None = None
    """simulator to record: a name of `rlkit list streams`, or an environment whose info tells `events/<class>`;
    --env is the same"""
    env_args: tuple[str, ...] = ()
    """arguments of the environment's constructor, as key=value"""
    wrap: tuple[str, ...] = ()
    """wrappers from the inside out, around those of a named simulator"""
    policy: str | None = None
    """run whose policy acts while an environment of yours is recorded; by default actions are random"""
    frames: int = Field(16_000, ge=100)
    """frames to record, to learn from"""
    test_frames: int = Field(4_000, ge=50)
    """further frames to record with other seeds, to test on"""
    data: str | None = None
    """learn from this dataset of episodes instead"""
    features: str | None = None
    """learn from features of videos instead: a folder in the layout of TRN, OadTR, LSTR and MiniROAD"""
    annotations: str | None = None
    """of --features: a folder with labels per frame, or a JSON file with intervals"""
    label_rule: str = "lstr"
    """how such intervals become labels of frames: a rule of docs/detection-metrics.md"""
    outside: Literal["raise", "clip"] = "raise"
    """of intervals that leave their video: an error, or cut there"""
    overlapping: Literal["raise", "merge"] = "raise"
    """of intervals of one class that overlap: an error, or one event"""
    test_share: float = Field(0.25, gt=0, lt=1)
    """part of the episodes of --data or of the videos of --features that is kept to test on, the last ones,
    where they name no split of their own"""
    encoder: str | None = None
    """run of `rlkit pretrain` whose frozen encoder sees pictures, or `untrained`"""
    actions: bool = False
    """whether the action that led to a frame is among its features"""
    updates: int = Field(2_000, ge=1)
    """updates of the whole run"""

    @property
    def folder_policy(self) -> FolderPolicy:
        """How a folder of features is read."""
        return FolderPolicy(self.label_rule, self.outside, self.overlapping)


@dataclass(frozen=True)
class DetectConfig:
    """A detector's resolved run."""

    detector_name: str
    detector: DetectorConfig
    options: DetectOptions

    def to_yaml(self) -> str:
        """`config.yaml` as text."""
        return config_text("detector", Parsed(self.detector_name, self.detector, self.options))


def detect_config_of(tree: ConfigTree) -> DetectConfig:
    """The config that a tree describes.

    Raises:
        ConfigError: every mistake at once.
        UnknownNameError: there is no such detector.
    """
    found = parsed_config(tree, "detector", lambda name: registry.detector_class(name).Config, DetectOptions)
    return DetectConfig(found.name, found.config, found.options)


def stored_detection(folder: RunFolder) -> DetectConfig:
    """The config that a detector's run was started with. Raises UsageError where it is another kind of run."""
    if not folder.is_detection:
        raise UsageError(f"{folder.path} is no detector's run; `rlkit detect train DETECTOR` makes one")
    return detect_config_of(folder.config_tree())
