"""A run's config from its sources: flags win over the file, which wins over the preset."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlkit import registry
from rlkit.config import AgentConfig, ConfigTree, RunConfig, RunOptions, problems_of, read_yaml
from rlkit.errors import ConfigError, UsageError
from rlkit.run_encoder import with_stored_encoder
from rlkit.runs import RunFolder

_LOG = logging.getLogger(__name__)


def resolve(
    agent: str,
    env: str | None,
    *,
    preset: str = "auto",
    config_file: Path | None = None,
    options: Mapping[str, Any] | None = None,
    agent_config: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The run's config: `options` and `agent_config` win over the file, which wins over the preset.

    Args:
        agent: registered name, `path/to/file.py:ClassName` or `module:ClassName`.
        env: environment, or None where the file or `preset` names it.
        preset: name of a preset, `auto` for the one of this agent and environment, `none` for none.
        config_file: YAML with the keys of a run's `config.yaml`.
        options: fields of `RunOptions`.
        agent_config: fields of the agent's `Config`.

    Raises:
        ConfigError: every mistake at once, with file and line where there is one.
    """
    path = None
    if preset == "auto":
        path = registry.preset_for(agent, env)
        if path is not None:
            _LOG.info("preset %s; --preset none takes the agent's own defaults", path.stem)
    elif preset != "none":
        path = registry.preset_named(preset)
    given = dict(options or {}) | ({} if env is None else {"env": env})
    trees = [read_yaml(file) for file in (path, config_file) if file is not None]
    return _merged([*trees, ConfigTree({**given, "agent": dict(agent_config or {})})], agent)


def _merged(trees: list[ConfigTree], agent_name: str) -> RunConfig:
    """Later trees win; each is checked by itself, so that a mistake is told with its own place."""
    agent_config = registry.config_class(registry.agent_class(agent_name))
    options: dict[str, Any] = {}
    agent: dict[str, Any] = {}
    problems: list[str] = []
    for tree in trees:
        own_options = {key: value for key, value in tree.data.items() if key not in ("agent", "envs")}
        own_agent = tree.data.get("agent", {})
        if not isinstance(own_agent, Mapping):
            problems.append(f"{tree.place('agent')}: must be a mapping with `name` and the agent's options")
            continue
        own_agent = {key: value for key, value in own_agent.items() if key != "name"}
        checkable = {"env": "?", **own_options}
        problems += problems_of(RunOptions, ConfigTree(checkable, tree.source, tree.lines))[1]
        problems += problems_of(agent_config, ConfigTree(own_agent, tree.source, tree.lines), "agent.")[1]
        options |= own_options
        agent = joined(agent_config, agent, own_agent)
    if problems:
        raise ConfigError(problems)
    if "env" not in options:
        raise UsageError("which environment? Give --env with a gymnasium id (see `rlkit list envs`) or file.py:Class")
    return RunConfig(agent_name, agent_config.model_validate(agent), RunOptions.model_validate(options))


def joined(agent_config: type[AgentConfig], earlier: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """An agent's options from preset and files with one's own, which win; says which of the earlier no longer hold."""
    kept = agent_config.still_valid(earlier, own)
    defaults = {name: field.get_default(call_default_factory=True) for name, field in agent_config.model_fields.items()}
    gone = set(earlier) - set(kept) - set(own)
    if dropped := sorted(name for name in gone if earlier[name] != defaults[name]):
        _LOG.warning(
            "%s of the preset or file %s not hold beside your options; the agent's defaults take their place",
            ", ".join(dropped), "does" if len(dropped) == 1 else "do",
        )  # fmt: skip
    return {**kept, **own}


def stored_config(folder: RunFolder) -> RunConfig:
    """The config that a run was started with."""
    tree = folder.config_tree()
    name = tree.data.get("agent", {}).get("name")
    if folder.is_pretraining:
        raise UsageError(
            f"{folder.path} is a pretraining run, it has an encoder and no agent: go on with `rlkit pretrain --resume "
            f"{folder.path}`, use it with `rlkit train AGENT --env ENV --encoder {folder.path}`"
        )
    if folder.is_detection:
        raise UsageError(
            f"{folder.path} is a detector's run, it has no agent: go on with `rlkit detect train --resume "
            f"{folder.path}`, use it with `--wrap detect-events:run={folder.path}`"
        )
    if not isinstance(name, str):
        raise UsageError(f"{folder.path}/config.yaml names no agent (agent.name)")
    return with_stored_encoder(_merged([tree], name), folder)
