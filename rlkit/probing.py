"""How much an encoder's features tell of a simulator's state, beside what they have to be compared with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from rlkit import seeding
from rlkit.assembly import device_of, limited_threads
from rlkit.config import Options
from rlkit.data.datasets import EpisodeDataset
from rlkit.errors import UsageError
from rlkit.frames import FrameSource, record_frames
from rlkit.perception.probing.frames import SHARES, LabelledFrames, probing_parts
from rlkit.perception.probing.linear_probe import LinearProbe
from rlkit.perception.probing.majority_probe import MajorityProbe
from rlkit.perception.probing.neighbour_probe import NeighbourProbe
from rlkit.perception.probing.probe import Probe, ProbeTable, probe
from rlkit.perception.probing.supervised_probe import SupervisedProbe
from rlkit.perception.ssl.objective import new_encoder
from rlkit.pretrain_config import stored_pretraining
from rlkit.pretrained import FrozenBackbone, PretrainedEncoder
from rlkit.runs import open_run
from rlkit.types import Array

_STATE = "simulator-state"


class ProbeOptions(Options):
    """How an encoder is judged; what is not given is as in its pretraining run."""

    env: str | None = None
    """environment whose state is to be told"""
    env_args: tuple[str, ...] = ()
    """arguments of the environment's constructor, as key=value"""
    wrap: tuple[str, ...] = ()
    """wrappers from the inside out"""
    policy: str | None = None
    """run whose policy acts; by default actions are random"""
    data: str | None = None
    """a dataset recorded with --wrap simulator-state, in the place of an environment"""
    frames: int = Field(50_000, ge=100)
    """labelled frames to record: 70 % to learn from, 10 % to validate, 20 % to test (Anand et al. 2019)"""
    kind: Literal["linear", "neighbours"] = "linear"
    """logistic and ridge regression, or the vote of nearest neighbours"""
    supervised: bool = True
    """train an encoder on the labels themselves, the upper mark; takes minutes"""
    seed: int = Field(1, ge=0)
    """seed of the recording, of the split and of the probes"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where networks live"""
    threads: int = Field(1, ge=1)
    """threads of one matrix product or convolution"""


@dataclass(frozen=True)
class Judgement:
    """Scores of the encoder and of what is beside it, by name, on the same frames."""

    tables: dict[str, ProbeTable]
    frames: dict[str, int]  # in each part

    def record(self) -> dict[str, Any]:
        """As a tree for JSON."""
        rows = {
            name: {"overall": table.overall(), "categories": table.categories(), "variables": dict(table.variables)}
            for name, table in self.tables.items()
        }
        return {"frames": self.frames, "scores": rows}


def judge(run: str | Path, options: ProbeOptions) -> Judgement:
    """Probe the encoder of a pretraining run.

    Raises:
        UsageError: it is no such run, there is no environment or dataset to take frames from, or these are too few
            or without labels.
        UnsupportedTaskError: the environment's state is not known.
    """
    with limited_threads(options.threads), tempfile.TemporaryDirectory() as folder:
        dataset = _dataset(run, options, Path(folder) / "frames")
        parts = probing_parts(
            dataset, seeding.generator(options.seed, "probing"), max_frames=options.frames
        )  # fmt: skip
        device = device_of(options.device)
        encoder = PretrainedEncoder(run, device)
        encoder.require_space(dataset.observation_space)
        untrained = new_encoder(stored_pretraining(open_run(Path(run))).method, encoder.observation_space, options.seed)
        by: Probe = LinearProbe(device=device) if options.kind == "linear" else NeighbourProbe(device=device)
        tables = {"pretrained": _probed(parts, encoder.features, by)}
        tables["untrained"] = _probed(parts, FrozenBackbone(untrained, encoder.observation_space, device).features, by)
        tables["majority"] = probe(*parts, MajorityProbe())
        if options.supervised:
            tables["supervised"] = probe(*parts, SupervisedProbe(untrained, seed=options.seed, device=device))
        return Judgement(tables, {name: len(part) for name, part in parts._asdict().items()})


def _probed(parts: tuple[LabelledFrames, ...], features: Callable[[Array], Array], by: Probe) -> ProbeTable:
    train, validation, test = (part.encoded(features(part.inputs)) for part in parts)
    return probe(train, validation, test, by)


def _dataset(run: str | Path, options: ProbeOptions, folder: Path) -> EpisodeDataset:
    if options.data is not None:
        return EpisodeDataset(options.data)
    source = _source(run, options)
    # never the seed that pretraining recorded with: the encoder would be judged on what it learned from
    record_frames(source, folder, options.frames, seeding.integer_seed(options.seed, "probe-frames"))
    dataset = EpisodeDataset(folder)
    if len(dataset.lengths) < len(SHARES):
        raise UsageError(
            f"--frames {options.frames} of {source.env} are {len(dataset.lengths)} episodes, and a probe learns, "
            f"validates and tests on frames of different ones: give more --frames, for {len(SHARES)} episodes at least"
        )
    return dataset


def _source(run: str | Path, options: ProbeOptions) -> FrameSource:
    """Frames like those of pretraining, with labels."""
    pretrained = stored_pretraining(open_run(Path(run))).options
    env = options.env or pretrained.env
    if env is None:
        raise UsageError("the encoder was pretrained on --data: name the environment whose state it is to tell, --env")
    args, wrap = options.env_args or pretrained.env_args, options.wrap or pretrained.wrap
    return FrameSource(env, args, wrap if _STATE in wrap else (*wrap, _STATE), options.policy)


def scores_of(table: ProbeTable) -> dict[str, float]:
    """The figure of each category, and their mean: weighted F1 of classes, R² of quantities."""
    found = {}
    for category, scores in {**table.categories(), "mean of all": table.overall()}.items():
        for name, label in (("f1_weighted", "F1"), ("r_squared", "R²")):
            if name in scores and np.isfinite(scores[name]):
                found[f"{category} {label}".replace("_", " ")] = scores[name]
    return found
