"""What a pretraining run is told: its own options, its method and the method's options."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from rlkit import registry
from rlkit.config import ConfigTree
from rlkit.errors import UsageError
from rlkit.fitting import FitOptions, Parsed, config_text, parsed_config
from rlkit.perception.ssl.objective import MethodConfig
from rlkit.runs import RunFolder


class PretrainOptions(FitOptions):
    """Everything about a pretraining run except its method's own options. A step is an update."""

    env: str | None = None
    """environment to record pictures on: gymnasium id, `module:EnvId-v0` or `path/to/file.py:ClassName`"""
    env_args: tuple[str, ...] = ()
    """arguments of the environment's constructor, as key=value"""
    wrap: tuple[str, ...] = ()
    """wrappers from the inside out, as NAME or NAME:key=value,key=value (see `rlkit list wrappers`)"""
    policy: str | None = None
    """run whose policy acts while pictures are recorded; by default actions are random"""
    frames: int = Field(100_000, ge=2)
    """pictures to record"""
    data: str | None = None
    """learn from this instead: a dataset of episodes, a folder of pictures, or an npz file"""


@dataclass(frozen=True)
class PretrainConfig:
    """A resolved pretraining run."""

    method_name: str
    method: MethodConfig
    options: PretrainOptions

    def to_yaml(self) -> str:
        """`config.yaml` as text."""
        return config_text("method", Parsed(self.method_name, self.method, self.options))


def config_of(tree: ConfigTree) -> PretrainConfig:
    """The config that a tree describes.

    Raises:
        ConfigError: every mistake at once.
        UnknownNameError: there is no such method.
    """
    found = parsed_config(tree, "method", lambda name: registry.method_class(name).Config, PretrainOptions)
    return PretrainConfig(found.name, found.config, found.options)


def stored_pretraining(folder: RunFolder) -> PretrainConfig:
    """The config that a pretraining run was started with. Raises UsageError where it is another kind of run."""
    if not folder.is_pretraining:
        raise UsageError(f"{folder.path} is no pretraining run; `rlkit pretrain METHOD` makes one")
    return config_of(folder.config_tree())
