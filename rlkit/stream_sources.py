"""Where the streams of a detector's run come from: a simulator that is recorded, a dataset, or features of videos."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym

from rlkit import seeding
from rlkit.assembly import device_of
from rlkit.data.datasets import EpisodeDataset
from rlkit.data.feature_folders import read_feature_folder
from rlkit.data.space_json import space_from_json, space_to_json
from rlkit.data.streams import StreamSet
from rlkit.detect_config import DetectOptions
from rlkit.errors import UsageError
from rlkit.nn.backbones import BackboneOptions, build_backbone
from rlkit.nn.encoders import is_image
from rlkit.perception.encode_observation import FrozenEncoder
from rlkit.pretrained import FrozenBackbone, PretrainedEncoder
from rlkit.run_encoder import FOLDER, copy_encoder
from rlkit.runs import RunFolder
from rlkit.stream_features import StreamFeatures, event_classes, streams_of
from rlkit.stream_recording import StreamSource, record_stream, stream_classes, stream_spaces

UNTRAINED = "untrained"
"""In the place of a run: an encoder with the weights that pretraining would begin with."""


@dataclass(frozen=True)
class Prepared:
    """Streams to learn from and to test on, and what a stranger must know to make more of the kind."""

    train: StreamSet
    test: StreamSet
    described: dict[str, Any] = field(default_factory=dict)


def prepared_streams(options: DetectOptions, folder: RunFolder) -> Prepared:
    """Record or read the streams, with the features of their frames.

    Raises:
        UsageError: the source has no events, or needs an encoder, or a folder has no features.
        DatasetError: files of features and labels do not fit.
    """
    if options.features is not None:
        if options.actions or options.encoder is not None:
            raise UsageError("features of videos need no encoder and know of no actions: omit --encoder and --actions")
        found = read_feature_folder(Path(options.features), options.annotations, options.folder_policy)
        return Prepared(*found.split(options.test_share))
    if options.data is not None:
        dataset = EpisodeDataset(options.data)
        features, described = _features_of(dataset.observation_space, dataset.action_space, options, folder)
        return Prepared(*streams_of(dataset, features, event_classes(dataset)).split(options.test_share), described)
    return _recorded(options, folder)


def _recorded(options: DetectOptions, folder: RunFolder) -> Prepared:
    """Streams of a simulator, those to test on from seeds of their own."""
    assert options.stream is not None
    source = StreamSource(options.stream, options.env_args, options.wrap, options.policy)
    features, described = _features_of(*stream_spaces(source), options, folder)  # before minutes of recording
    found: list[EpisodeDataset] = []
    with tempfile.TemporaryDirectory() as own:
        for name, frames in (("train", options.frames), ("test", options.test_frames)):
            place = Path(own) / name
            seed = seeding.integer_seed(options.seed, f"{name}-streams")
            found.append(record_stream(source, place, frames=frames, seed=seed))
        train, test = found
        classes = stream_classes(source) or event_classes(train)
        return Prepared(streams_of(train, features, classes), streams_of(test, features, classes), described)


def _features_of(
    space: gym.Space[Any], action_space: gym.Space[Any], options: DetectOptions, folder: RunFolder
) -> tuple[StreamFeatures, dict[str, Any]]:
    """What turns frames into features; the encoder is kept with the run."""
    if options.encoder not in (None, UNTRAINED):
        copy_encoder(str(options.encoder), folder)
    described = {"observation_space": space_to_json(space), "action_space": space_to_json(action_space)}
    return frame_features(described, options, folder), described


def frame_features(described: dict[str, Any], options: DetectOptions, folder: RunFolder) -> StreamFeatures:
    """What turns frames of a detector's run into features, from what its `meta.json` tells.

    Raises:
        UsageError: the run learned from features of videos, whose frames nobody here can encode.
    """
    if "observation_space" not in described:
        raise UsageError(
            f"{folder.path} learned from features of videos, which were computed elsewhere; give it such: --features"
        )
    space = space_from_json(described["observation_space"])
    action_space = space_from_json(described["action_space"]) if options.actions else None
    return StreamFeatures(space, action_space, _encoder_of(space, options, folder))


def _encoder_of(space: gym.Space[Any], options: DetectOptions, folder: RunFolder) -> FrozenEncoder | None:
    device = device_of(options.device)
    if options.encoder is None:
        return None
    if options.encoder != UNTRAINED:
        encoder = PretrainedEncoder(folder.path / FOLDER, device)
        encoder.require_space(space)
        return encoder
    if not is_image(space):
        raise UsageError(
            f"--encoder is for pictures, observations are {space}: leave it out, they are taken as they are"
        )
    assert space.shape is not None
    weights = seeding.torch_generator(options.seed, "encoder")
    return FrozenBackbone(build_backbone("nature", space.shape, weights, BackboneOptions()), space, device)
