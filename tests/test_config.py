"""Configuration: all mistakes at once, with their place, what is allowed and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit import registry
from rlkit.config import RunOptions, problems_of, read_yaml
from rlkit.errors import ConfigError, UnknownNameError, UsageError
from rlkit.resolve import resolve


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_every_mistake_is_told_at_once_with_file_and_line(tmp_path: Path) -> None:
    path = written(tmp_path, "agent:\n  learning_rte: 1e-3\n  gamma: 1.5\nnum_envs: four\ntotal_step: 5\n")
    with pytest.raises(ConfigError) as caught:
        resolve("ddpg", "Pendulum-v1", config_file=path)
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert f"{path}:2: agent.learning_rte: unknown name (did you mean 'learning_rate'?); allowed: batch_size" in told
    assert f"{path}:3: agent.gamma: 1.5 is not allowed" in told
    assert f"{path}:4: num_envs: 'four' is not allowed" in told
    assert f"{path}:5: total_step: unknown name (did you mean 'total_steps'?)" in told


def test_mistakes_in_file_and_call_are_told_together(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: -1\n")
    with pytest.raises(ConfigError) as caught:
        resolve("ddpg", "Pendulum-v1", config_file=path, agent_config={"tau": 2}, options={"thread": 2})
    assert len(caught.value.problems) == 3
    assert "agent.tau: 2 is not allowed" in str(caught.value)


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    path = written(tmp_path, "agent:\n  gamma: 0.9\n  tau: 0.1\n")
    config = resolve("ddpg", "Pendulum-v1", config_file=path, agent_config={"tau": 0.2})
    values = config.agent.model_dump()
    assert (values["buffer_size"], values["gamma"], values["tau"]) == (200_000, 0.9, 0.2)
    assert config.options.total_steps == 20_000
    assert resolve("ddpg", "Pendulum-v1", preset="none").options.total_steps == 100_000
    assert resolve("ddpg", "Pendulum-v1", options={"total_steps": 7}).options.total_steps == 7


def test_a_preset_can_be_named_for_any_environment() -> None:
    values = resolve("ddpg", "MountainCarContinuous-v0", preset="ddpg_paper").agent.model_dump()
    assert (values["learning_rate"], values["critic_learning_rate"], values["hidden"]) == (1e-4, 1e-3, (400, 300))
    with pytest.raises(UnknownNameError, match="did you mean 'ddpg_paper'"):
        resolve("ddpg", "Pendulum-v1", preset="ddpg_papr")


def test_numbers_are_read_as_numbers(tmp_path: Path) -> None:
    data = read_yaml(written(tmp_path, "a: 3e-4\nb: 1E5\nc: -2e+3\nd: e3\nf: 1.5e-3\n")).data
    assert data == {"a": 3e-4, "b": 1e5, "c": -2e3, "d": "e3", "f": 1.5e-3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "run.yaml:3: a: stands twice"),
        ("- 1\n", "must hold a mapping"),
        ("a: [1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [true]\n", "not valid YAML"),
        ("agent: ddpg\n", "agent: must be a mapping"),
    ],
)
def test_a_file_that_is_no_configuration_is_explained(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        resolve("ddpg", "Pendulum-v1", config_file=written(tmp_path, text))


def test_a_missing_file_and_a_missing_environment_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the configuration"):
        resolve("ddpg", "Pendulum-v1", config_file=tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="which environment"):
        resolve("ddpg", None)


@pytest.mark.parametrize("name", registry.preset_files())
def test_every_preset_loads_and_states_score_and_command(name: str) -> None:
    path = registry.preset_files()[name]
    tree = read_yaml(path)
    env = tree.data.get("envs", ["Pendulum-v1"])[0]
    config = resolve(tree.data["agent"]["name"], env, preset=name)
    assert config.agent_name == tree.data["agent"]["name"]
    assert "# Score" in path.read_text()
    assert "# Command: rlkit train" in path.read_text()
    if "envs" in tree.data:
        assert registry.preset_for(config.agent_name, env) == path


def test_a_resolved_config_reads_back_as_itself(tmp_path: Path) -> None:
    config = resolve("ddpg", "Pendulum-v1", options={"wrap": ["frame-stack:n=2"]}, agent_config={"final_init": 3e-3})
    again = resolve("ddpg", None, preset="none", config_file=written(tmp_path, config.to_yaml()))
    assert again == config


def test_defaults_that_depend_on_the_steps_are_kept_when_a_run_is_extended() -> None:
    options = RunOptions(env="Pendulum-v1", total_steps=40_000).with_cadence()
    longer = options.model_copy(update={"total_steps": 80_000}).with_cadence()
    assert (longer.log_every, longer.eval_every, longer.checkpoint_every) == (200, 2_000, 4_000)
    assert RunOptions(env="Pendulum-v1", eval_every=0).with_cadence().eval_every == 0


def test_every_run_option_is_explained() -> None:
    assert all(field.description for field in RunOptions.model_fields.values())
    assert problems_of(RunOptions, read_yaml(registry.preset_files()["ddpg_paper"]))[0] is None
