"""What a pretraining run is told: its own options, its method and the method's options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import Field

from rlkit import registry
from rlkit.config import ConfigTree, problems_of
from rlkit.errors import ConfigError, UsageError
from rlkit.fitting import FitOptions
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

    def to_tree(self) -> dict[str, Any]:
        """The tree that `config.yaml` holds."""
        method = {"name": self.method_name, **self.method.model_dump(mode="json")}
        return {"method": method, **self.options.model_dump(mode="json")}

    def to_yaml(self) -> str:
        """`config.yaml` as text."""
        return yaml.safe_dump(self.to_tree(), sort_keys=False, default_flow_style=False)


def config_of(tree: ConfigTree) -> PretrainConfig:
    """The config that a tree describes.

    Raises:
        ConfigError: every mistake at once.
        UnknownNameError: there is no such method.
    """
    method = dict(tree.data.get("method", {}))
    name = str(method.pop("name", None))
    config_class = registry.method_class(name).Config
    own = {key: value for key, value in tree.data.items() if key != "method"}
    options, problems = problems_of(PretrainOptions, ConfigTree(own, tree.source, tree.lines))
    config, of_method = problems_of(config_class, ConfigTree(method, tree.source, tree.lines), "method.")
    if options is None or config is None:
        raise ConfigError([*problems, *of_method])
    return PretrainConfig(name, config, options)


def stored_pretraining(folder: RunFolder) -> PretrainConfig:
    """The config that a pretraining run was started with. Raises UsageError where it is another kind of run."""
    if not folder.is_pretraining:
        raise UsageError(f"{folder.path} is no pretraining run; `rlkit pretrain METHOD` makes one")
    return config_of(folder.config_tree())
