"""Configuration: the base of every agent's config, a run's options, and YAML with line numbers.

All mistakes are reported at once in a `ConfigError`, each with file and line where there is one, the allowed values
and the nearest name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rlkit.errors import ConfigError, UsageError, did_you_mean


class Options(BaseModel):
    """Frozen options; unknown keys are mistakes; a field's docstring is its help text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class AgentConfig(Options):
    """Base of an agent's `Config`: frozen, typed, each default with its source."""

    @classmethod
    def still_valid(cls, earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
        """What of the `earlier` options, a preset's or a file's, holds beside `later` ones, which win: all of them.

        For options that mean something else, or nothing, after another one has changed.
        """
        return dict(earlier)


class RunOptions(Options):
    """Everything about a run except its agent's own config. Counts are in environment steps over all environments."""

    env: str
    """gymnasium id, `module:EnvId-v0` or `path/to/file.py:ClassName`"""
    env_args: tuple[str, ...] = ()
    """arguments of the environment's constructor, as key=value (see the environment's documentation)"""
    total_steps: int = Field(100_000, ge=1)
    """environment steps of the whole run"""
    num_envs: int = Field(1, ge=1)
    """parallel environments"""
    vector: Literal["serial", "process", "compiled"] = "serial"
    """step the environments one by one, each in its own process, or all in one call (gymnasium's classic control)"""
    seed: int = Field(0, ge=0)
    """seed of every random stream of the run"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where networks live; auto: cuda where there is one"""
    threads: int = Field(1, ge=1)
    """threads of one matrix product; more than 1 rarely pays for small networks"""
    wrap: tuple[str, ...] = ()
    """wrappers from the inside out, as NAME or NAME:key=value,key=value (see `rlkit list wrappers`)"""
    encoder: str | None = None
    """run of `rlkit pretrain` whose encoder the agent sees through; frozen unless --finetune"""
    finetune: bool = False
    """learn on from --encoder instead of leaving it as it is (--freeze)"""
    aux: str | None = None
    """self-supervised objective that the encoder of pictures learns by besides: curl, byol, simsiam, simclr, …"""
    aux_weight: float = Field(1.0, gt=0)
    """how much the loss of --aux counts"""
    log_every: int | None = Field(None, ge=1)
    """steps between two logged points; by default about 200 points a run"""
    eval_every: int | None = Field(None, ge=0)
    """steps between two evaluations on separate environments; 0 disables; by default 20 a run, at least 1,000 apart"""
    eval_episodes: int = Field(10, ge=1)
    """episodes of one evaluation"""
    eval_max_episode_steps: int | None = Field(None, ge=1)
    """steps after which an evaluation episode is cut; by default 1,000 where the transitions are known, else 100,000"""
    checkpoint_every: int | None = Field(None, ge=1)
    """steps between two checkpoints; by default 10 a run, at least 1,000 apart"""
    stop_at_return: float | None = None
    """stop when an evaluation (without evaluations: the last 100 episodes) reaches this mean return"""
    max_seconds: float | None = Field(None, gt=0)
    """stop after this many seconds of training in this process, with a checkpoint"""

    def with_cadence(self) -> RunOptions:
        """The same options with the defaults that depend on `total_steps` filled in, so that extending keeps them."""
        log_every = self.log_every or min(max(self.total_steps // 200, 10), 10_000)
        # At least 1,000 apart: an evaluation of ten episodes takes as many steps itself.
        eval_every = max(self.total_steps // 20, 1_000) if self.eval_every is None else self.eval_every
        checkpoint_every = self.checkpoint_every or max(self.total_steps // 10, 1_000)
        return self.model_copy(
            update={"log_every": log_every, "eval_every": eval_every, "checkpoint_every": checkpoint_every}
        )


@dataclass(frozen=True)
class RunConfig:
    """A resolved run: the agent's name, its config, and the run's options."""

    agent_name: str
    agent: AgentConfig
    options: RunOptions

    def to_tree(self) -> dict[str, Any]:
        """The tree that `config.yaml` holds; `agent.name` stands beside the agent's own fields."""
        agent = {"name": self.agent_name, **self.agent.model_dump(mode="json")}
        return {"agent": agent, **self.options.model_dump(mode="json")}

    def to_yaml(self) -> str:
        """`config.yaml` as text."""
        return yaml.safe_dump(self.to_tree(), sort_keys=False, default_flow_style=False)


@dataclass(frozen=True)
class ConfigTree:
    """A mapping read from somewhere, with the line of each dotted key where it came from a file."""

    data: Mapping[str, Any]
    source: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)

    def place(self, key: str) -> str:
        """`file.yaml:3: agent.gamma`, or as much of it as is known."""
        if not self.source:
            return key
        line = self.lines.get(key)
        return f"{self.source}:{line}: {key}" if line else f"{self.source}: {key}"


class _Loader(yaml.SafeLoader):
    """The safe loader, reading `3e-4` as a number (YAML 1.2) where PyYAML's 1.1 rules see a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> ConfigTree:
    """A YAML file as a tree with line numbers.

    Raises:
        UsageError: the file cannot be read, is not YAML, or is not a mapping.
        ConfigError: a key stands twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    try:
        node = yaml.compose(text, Loader=_Loader)
        data = {} if node is None else _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path} must hold a mapping of option names to values, not a {type(data).__name__}")
    lines: dict[str, int] = {}
    if node is not None:
        duplicates = _collect_lines(node, "", lines)
        if duplicates:
            raise ConfigError(f"{path}:{line}: {key}: stands twice" for key, line in duplicates)
    return ConfigTree(data, str(path), lines)


def _collect_lines(node: yaml.Node, prefix: str, lines: dict[str, int]) -> list[tuple[str, int]]:
    duplicates = []
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key, line = f"{prefix}{key_node.value}", key_node.start_mark.line + 1
            if key in lines:
                duplicates.append((key, line))
            lines[key] = line
            duplicates += _collect_lines(value_node, f"{key}.", lines)
    return duplicates


ModelT = TypeVar("ModelT", bound=Options)


def problems_of(model: type[ModelT], tree: ConfigTree, prefix: str = "") -> tuple[ModelT | None, list[str]]:
    """The validated model, or None and one sentence for each mistake."""
    try:
        return model.model_validate(dict(tree.data)), []
    except ValidationError as error:
        return None, [_sentence(model, tree, prefix, dict(item)) for item in error.errors()]


def _sentence(model: type[Options], tree: ConfigTree, prefix: str, item: dict[str, Any]) -> str:
    location = ".".join(str(part) for part in item["loc"])
    place = tree.place(prefix + location)
    if item["type"] == "extra_forbidden":
        allowed = sorted(model.model_fields)
        return f"{place}: unknown name{did_you_mean(location, allowed)}; allowed: {', '.join(allowed)}"
    if item["type"] == "missing":
        return f"{place}: is required"
    message = item["msg"]
    return f"{place}: {item['input']!r} is not allowed: {message[0].lower()}{message[1:]}"
