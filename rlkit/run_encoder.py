"""A run's encoder under another agent, kept with each new run: frozen between environment and agent, or learned on.

`--wrap encode-observation:run=RUN` takes a run of an agent that has features, or one of `rlkit pretrain`; `--encoder
RUN` is the same wrapper, the last one, or with `--finetune` where the agent's own network begins.

A run that begins takes the source's latest checkpoint into its own folder, as `encoder/`, and its `config.yaml` names
this copy. So the source may go on learning, move or be deleted, and a run that is resumed or loaded has the encoder
that it began with; checkpoints are hashed, so that a damaged copy is found.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym

from rlkit.checkpoint import MANIFEST, read_manifest
from rlkit.config import RunConfig
from rlkit.envs.contract import Env
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import CheckpointError, UsageError
from rlkit.linear.observations import FeatureEncoder
from rlkit.perception.encode_observation import EncodeObservation, FrozenEncoder
from rlkit.runs import RunFolder, open_run
from rlkit.types import Floats, Obs

FOLDER = "encoder"
"""Of a run, where its copy is."""
_NAME = "encode-observation"


class RunEncoder:
    """The features that a run's agent has of observations, normalised as in that run.

    Raises:
        UsageError: its agent has none.
    """

    def __init__(self, run: Path) -> None:
        from rlkit.api import load  # which builds environments, perhaps with this very wrapper

        self._policy = load(run)
        self._policy.close()
        agent = self._policy.agent
        if not isinstance(agent, FeatureEncoder):
            raise UsageError(f"{_NAME}: the agent of {run} has no features; take one of dqn, or of ppo on pictures")
        self._agent = agent
        self.feature_size = agent.feature_size

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Of one observation, before it is normalised."""
        return self._policy.observation_space

    def features(self, obs: Obs) -> Floats:
        """Features [B, D] of observations [B, *O]."""
        return self._agent.features(self._policy.normalized(obs))


def encode_observation(env: Env, run: str | int) -> EncodeObservation:
    """The environment with the features of the run's latest policy for observations."""
    folder = open_run(Path(str(run)))  # a folder's name may look like a number
    return EncodeObservation(env, _loaded(folder.path.resolve(), _digest(folder)))


@lru_cache(maxsize=4)
def _loaded(run: Path, digest: str) -> FrozenEncoder:
    """One for all the environments of a process; the digest tells two policies in the same place apart."""
    return _frozen_encoder(RunFolder(run))


def _frozen_encoder(folder: RunFolder) -> FrozenEncoder:
    if folder.is_pretraining:
        from rlkit.pretrained import PretrainedEncoder  # and with it torch

        return PretrainedEncoder(folder.path)
    return RunEncoder(folder.path)


def _digest(folder: RunFolder) -> str:
    candidates = folder.checkpoints.candidates()
    return hashlib.sha256((candidates[0] / MANIFEST).read_bytes()).hexdigest() if candidates else ""


def encoder_source(config: RunConfig) -> str | None:
    """The run whose encoder the options name; None for most.

    Raises:
        UsageError: they name several, or want one to be learned on and name none.
    """
    options = config.options
    if options.aux is not None and options.encoder is not None and not options.finetune:
        raise UsageError("--aux learns an encoder, and --encoder leaves it frozen: add --finetune, or leave out one")
    if options.finetune and options.encoder is None:
        raise UsageError("--finetune learns on from an encoder: name its run with --encoder")
    found = [spec for text in config.options.wrap if (spec := resolve_wrapper(text)).name == _NAME]
    if len(found) > 1:
        raise UsageError(f"--wrap {_NAME} stands {len(found)} times; observations can be encoded once")
    if found and options.encoder is not None:
        raise UsageError(f"--encoder and --wrap {_NAME} both name an encoder; observations can be encoded once")
    return str(found[0].arguments["run"]) if found else options.encoder


def with_own_encoder(config: RunConfig, source: str, folder: RunFolder) -> RunConfig:
    """The same run with a copy of the source's encoder, which is put into its folder.

    Raises:
        UsageError: the source has no encoder, or sees observations through one itself.
        CheckpointError: it has no checkpoint.
    """
    run = open_run(Path(source))
    if config.options.finetune and not run.is_pretraining:
        raise UsageError(f"--finetune learns on from runs of `rlkit pretrain`, {run.path} is a run of an agent")
    own = copy_encoder(source, folder)
    return _naming(config, own.path)


def copy_encoder(source: str, folder: RunFolder) -> RunFolder:
    """Put a copy of the source's encoder into a run's folder, which is where it is from then on.

    Raises:
        UsageError: the source has no encoder, or sees observations through one itself.
        CheckpointError: it has no checkpoint.
    """
    run, own = open_run(Path(source)), RunFolder(folder.path / FOLDER)
    stored = run.checkpoints.load(policy_only=True)
    if (run.path / FOLDER).exists():
        raise UsageError(
            f"{_NAME}: {run.path} itself sees observations through an encoder, and they can be encoded once; take the "
            f"run that its {FOLDER}/meta.json names as source"
        )
    _frozen_encoder(run)  # refuses a run without features before anything is written
    shutil.rmtree(own.path, ignore_errors=True)  # of a run that did not begin
    own.checkpoints.save(stored.step, stored.policy)
    shutil.copyfile(run.path / "config.yaml", own.path / "config.yaml")
    meta = {"source": str(run.path.resolve()), "step": stored.step}
    if run.is_pretraining:  # which has no environment to ask
        meta["observation_space"] = run.meta()["observation_space"]
    own.write_meta(meta)
    return own


def with_stored_encoder(config: RunConfig, folder: RunFolder) -> RunConfig:
    """A stored run with the encoder in its folder, wherever that has moved.

    Raises:
        CheckpointError: it is gone or damaged.
    """
    if encoder_source(config) is None:
        return config
    own = RunFolder(folder.path / FOLDER)
    try:
        stored = own.checkpoints.candidates()
        if not stored or not (own.path / "config.yaml").exists():
            raise CheckpointError(f"{own.path} is gone")
        read_manifest(stored[0], verify=True)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}. It is the encoder that this run's observations go through: copy it back, or train anew"
        ) from error
    return _naming(config, own.path)


def _naming(config: RunConfig, run: Path) -> RunConfig:
    """The same run with its encoder from there; what is frozen is a wrapper, whatever the option was."""
    options, text = config.options, f"{_NAME}:run={run.resolve()}"
    if options.finetune:
        return _with(config, encoder=str(run.resolve()))
    if options.encoder is not None:
        return _with(config, encoder=None, wrap=(*options.wrap, text))
    return _with(config, wrap=tuple(text if each.partition(":")[0] == _NAME else each for each in options.wrap))


def _with(config: RunConfig, **changes: Any) -> RunConfig:
    return RunConfig(config.agent_name, config.agent, config.options.model_copy(update=changes))
