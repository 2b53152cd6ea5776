"""Pretraining runs: an encoder learns from recorded pictures without rewards, in a run folder like any other.

result = rlkit.pretrain("simclr", env="ALE/Pong-v5", frames=30_000, updates=2_000)
encoder = rlkit.load_encoder(result.run_dir)
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit import registry, seeding
from rlkit.assembly import device_of, limited_threads
from rlkit.checkpoint import Checkpoint
from rlkit.config import ConfigTree
from rlkit.data.clips import ClipSampler, Recording
from rlkit.data.datasets import MANIFEST, EpisodeDataset
from rlkit.data.recordings import read_recording, recording_of, require_memory
from rlkit.data.space_json import space_from_json, space_to_json
from rlkit.errors import RlkitError, UsageError
from rlkit.fitting import FitResult, FitRun
from rlkit.frames import FrameSource, observation_space_of, record_frames
from rlkit.loop import Session
from rlkit.nn.encoders import is_image
from rlkit.nn.ranks import joined_ranks, rank_and_ranks, wait_for_all
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.objective import PretrainTask, new_encoder
from rlkit.pretrain_config import PretrainConfig, PretrainOptions, config_of, stored_pretraining
from rlkit.projector import SHOWN, write_views
from rlkit.representation import Representation
from rlkit.runs import RunFolder, create_run, describe_process, open_run
from rlkit.types import Array

_LOG = logging.getLogger(__name__)
FRAMES = "frames"
"""Of a run, the dataset that it recorded."""
_ADVICE = "Usual causes: a learning rate too high: try --method.learning-rate ten times smaller."


def pretrain(
    method: str,
    *,
    run_dir: str | Path | None = None,
    method_config: Mapping[str, Any] | None = None,
    **options: Any,
) -> FitResult:
    """Pretrain an encoder and leave a run folder behind.

    Args:
        method: a name, see `rlkit list encoders`.
        run_dir: the run's folder; by default `runs/<env>/<method>/…`.
        method_config: fields of the method's `Config`.
        options: fields of `PretrainOptions`, such as `env`, `data`, `frames`, `updates` or `seed`.

    Raises:
        ConfigError: every mistake in the options at once.
    """
    tree = {**options, "method": {"name": method, **(method_config or {})}}
    return start_pretraining(config_of(ConfigTree(tree)), run_dir)


def start_pretraining(config: PretrainConfig, run_dir: str | Path | None = None) -> FitResult:
    """Record or read the pictures, and begin the run.

    Started by `torchrun`, the first process does this alone, and all of them learn; after a restart they go on.
    """
    options = config.options.with_cadence()
    config = PretrainConfig(config.method_name, config.method, options)
    if (options.env is None) == (options.data is None):
        raise UsageError(
            "what are the pictures? Give either --env, to record them, or --data with a dataset of episodes, a folder "
            "of pictures or an npz file"
        )
    with joined_ranks(device_of(options.device)):
        rank, ranks = rank_and_ranks()
        if ranks > 1 and (run_dir is None or options.max_seconds is not None):
            raise UsageError("several processes need the same --run-dir, and cannot stop by --max-seconds")
        if config.method.batch_size % ranks:
            raise UsageError(f"a batch of {config.method.batch_size} cannot be shared by {ranks} processes")
        if ranks > 1 and _was_restarted(config, Path(str(run_dir))):
            return _go_on(RunFolder(Path(str(run_dir))), None)
        if rank == 0:
            folder = _new_run(config, run_dir)
        wait_for_all()
        return _go_on(folder if rank == 0 else RunFolder(Path(str(run_dir))), None)


def _was_restarted(config: PretrainConfig, run_dir: Path) -> bool:
    """Whether torchrun starts these processes again, after the same run had begun there."""
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" or not (run_dir / "meta.json").exists():
        return False
    return stored_pretraining(open_run(run_dir)).to_yaml() == config.to_yaml()


def _new_run(config: PretrainConfig, run_dir: str | Path | None) -> RunFolder:
    options = config.options
    if options.env is not None:  # told before anything is recorded
        space = observation_space_of(_source(options))
        _require_pictures(space, config)
        if options.frames < config.method.batch_size:
            raise UsageError(f"--frames is {options.frames}, a batch alone needs {config.method.batch_size}")
        require_memory(options.frames, space, "the frames to record")
    source = options.env or Path(str(options.data)).stem
    folder = create_run(None if run_dir is None else Path(run_dir), config.method_name, source, options.seed)
    with folder.locked():
        folder.write_config(config)
        _LOG.info("run folder %s", folder.path)
        try:
            _prepare(config, folder)
        except RlkitError:  # nothing to go on from
            folder.give_up(FRAMES)
            raise
    return folder


def resume_pretraining(run: str | Path, updates: int | None = None) -> FitResult:
    """Go on exactly where the run stopped; a larger `updates` extends it, schedules keep their first horizon.

    Raises:
        UsageError: it is no pretraining run, its data has changed, or it has more updates already.
        CheckpointError: none of its checkpoints can be loaded.
    """
    folder = open_run(Path(run))
    with joined_ranks(device_of(stored_pretraining(folder).options.device)):
        return _go_on(folder, updates)


def _go_on(folder: RunFolder, updates: int | None) -> FitResult:
    """Learn from where the run is; every rank does."""
    config = stored_pretraining(folder)
    is_first = rank_and_ranks()[0] == 0
    with folder.locked() if is_first else nullcontext():
        if is_first and not folder.has_meta:  # it ended while it recorded
            _prepare(config, folder)
        wait_for_all()
        if rank_and_ranks()[1] > 1 and config.options.max_seconds is not None:
            raise UsageError("the run stops by --max-seconds, which several processes cannot: resume it alone")
        meta = folder.meta()
        checkpoint = folder.checkpoints.load() if folder.checkpoints.candidates() else None
        if updates is not None:
            if checkpoint is not None and checkpoint.step > updates:
                raise UsageError(f"the run has made {checkpoint.step} updates already, more than {updates}")
            options = config.options.model_copy(update={"updates": updates})
            config = PretrainConfig(config.method_name, config.method, options)
            if is_first and config.method.learning_rate_schedule == "cosine" and updates > meta["schedule_updates"]:
                _LOG.warning(
                    "the step size fell to zero over the first %s updates and stays there, so nothing more is learned; "
                    "for a longer run with its own schedule start anew with --updates %d",
                    f"{meta['schedule_updates']:,}", updates,
                )  # fmt: skip
            if is_first:
                folder.write_config(config)
        recording = _stored_recording(config, folder)
        if (digest := _digest(recording)) != meta["digest"]:
            source = config.options.data or folder.path / FRAMES
            raise UsageError(
                f"{source} holds other pictures than when the run began (digest {digest[:12]}, it was "
                f"{meta['digest'][:12]}): put the old ones back, or begin a new run"
            )
        return _Pretraining(config, folder, recording, meta).execute(checkpoint)


def _prepare(config: PretrainConfig, folder: RunFolder) -> None:
    """Record pictures where there is an environment, and write down what the run begins with."""
    options = config.options
    if options.env is not None:
        shutil.rmtree(folder.path / FRAMES, ignore_errors=True)  # of a run that ended while it recorded
        _LOG.info("recording %s frames on %s", f"{options.frames:,}", options.env)
        with limited_threads(options.threads):
            record_frames(_source(options), folder.path / FRAMES, options.frames, options.seed)
    recording = _stored_recording(config, folder)
    space, action_space = _spaces(config, folder, recording)
    _require_pictures(space, config)
    meta = describe_process() | {
        "device": device_of(options.device),
        "threads": options.threads,
        "digest": _digest(recording),
        "pictures": len(recording),
        "schedule_updates": options.updates,
        "observation_space": space_to_json(space),
        "action_space": None if action_space is None else space_to_json(action_space),
    }
    folder.write_meta(meta)
    _LOG.info("%s pictures of shape %s", f"{len(recording):,}", space.shape)


def _stored_recording(config: PretrainConfig, folder: RunFolder) -> Recording:
    if config.options.data is not None:
        return read_recording(Path(config.options.data))
    return recording_of(EpisodeDataset(folder.path / FRAMES))


def _source(options: PretrainOptions) -> FrameSource:
    assert options.env is not None
    return FrameSource(options.env, options.env_args, options.wrap, options.policy)


def _require_pictures(space: gym.Space[Any], config: PretrainConfig) -> None:
    """Raise where no encoder of these options takes observations of the space."""
    if not is_image(space):
        raise UsageError(
            f"an encoder is pretrained on pictures, uint8 from 0 to 255; these observations are in {space}. Give an "
            "environment of pictures, or --wrap add-render-observation --env-args render_mode=rgb_array"
        )
    new_encoder(config.method, space, seed=0)


def _spaces(config: PretrainConfig, folder: RunFolder, recording: Recording) -> tuple[gym.Space[Any], Any]:
    """Of one picture and one action."""
    path = folder.path / FRAMES if config.options.data is None else Path(config.options.data)
    if (path / MANIFEST).is_file():
        dataset = EpisodeDataset(path)
        return dataset.observation_space, dataset.action_space
    observations = recording.observations
    if observations.dtype != np.uint8:
        raise UsageError(f"{path} holds pictures of {observations.dtype}, they must be uint8 from 0 to 255")
    return spaces.Box(0, 255, observations.shape[1:], np.uint8), _space_of(recording.actions)


def _space_of(actions: Array | None) -> gym.Space[Any] | None:
    """Of actions without a space of their own: numbers from 0 are Discrete, vectors a Box."""
    if actions is None:
        return None
    if actions.dtype.kind in "iu" and actions.ndim == 1 and actions.min() >= 0:
        return spaces.Discrete(int(actions.max()) + 1)
    return spaces.Box(-np.inf, np.inf, actions.shape[1:], np.float32)


def _digest(recording: Recording) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(recording.observations).data)
    digest.update(recording.episode.tobytes())
    if recording.actions is not None:
        digest.update(np.ascontiguousarray(recording.actions).data)
    return digest.hexdigest()


class _Pretraining:
    """One pretraining run in this process."""

    def __init__(
        self, config: PretrainConfig, folder: RunFolder, recording: Recording, meta: Mapping[str, Any]
    ) -> None:
        options = config.options
        space, action_space = space_from_json(meta["observation_space"]), meta["action_space"]
        task = PretrainTask(
            space, None if action_space is None else space_from_json(action_space), len(recording),
            meta["schedule_updates"], options.seed, device_of(options.device),
        )  # fmt: skip
        self.folder = folder
        self.learner = EncoderLearner(registry.method_class(config.method_name), config.method, task)
        objective = self.learner.objective
        rank, ranks = rank_and_ranks()
        sampler = ClipSampler(
            recording, objective.clip_length, config.method.batch_size, seeding.integer_seed(options.seed, "clips"),
            rank=rank, ranks=ranks,
        )  # fmt: skip
        self.representation = Representation(
            options.eval_every or 0, self.learner.features, recording, objective.uninformed_loss, options.seed,
            folder.path,
        )  # fmt: skip
        title = f"{config.method_name} on {options.env or options.data}"
        self.run = FitRun(folder, options, title, self.learner, sampler, self.representation, _ADVICE)

    def execute(self, checkpoint: Checkpoint | None) -> FitResult:
        """Learn to the end or to the next interrupt."""
        return self.run.execute(checkpoint, self._show_views)

    def _show_views(self, session: Session) -> None:
        """Put some pictures and views of them into TensorBoard, as a run begins."""
        if session.step:
            return
        pictures = self.representation.pictures[:SHOWN]
        views = self.learner.objective.shown_views(pictures.to(self.learner.device))
        if views:
            try:
                write_views(self.folder.path, "views", 0, [pictures.numpy(), *(view.cpu().numpy() for view in views)])
            except OSError as error:
                _LOG.warning("cannot write the picture of views (%s)", error.strerror)
