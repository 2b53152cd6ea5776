"""Run folders, their lock, and names: what is refused and how it is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gymnasium import spaces

from rlkit import registry
from rlkit.config import AgentConfig
from rlkit.errors import RunLockedError, UnknownNameError, UnsupportedTaskError, UsageError
from rlkit.runs import create_run, open_run
from rlkit.types import Task

BOX = spaces.Box(-1.0, 1.0, (2,))


def test_a_default_folder_is_named_by_environment_agent_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = create_run(None, "sb3/ddpg", "some dir/my_env.py:MyEnv", 7)
    assert folder.path.parts[:3] == ("runs", "MyEnv", "sb3-ddpg")
    assert folder.path.name.split("-")[2] == "s7"
    assert create_run(None, "sb3/ddpg", "ALE/Pong-v5", 7).path.parts[1] == "ALE-Pong-v5"


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UsageError, match="holds a run already; go on with `rlkit train --resume"):
        create_run(tmp_path, "ddpg", "Pendulum-v1", 0)


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    folder = create_run(tmp_path / "run", "random", "CartPole-v1", 0)
    program = (
        "import sys, pathlib; from rlkit.runs import RunFolder; from rlkit.errors import RunLockedError\n"
        "try:\n    RunFolder(pathlib.Path(sys.argv[1])).locked().__enter__()\nexcept RunLockedError: sys.exit(9)"
    )
    with folder.locked():
        assert subprocess.run([sys.executable, "-c", program, str(folder.path)]).returncode == 9
        with pytest.raises(RunLockedError, match="another process"), create_lock_again(folder.path):
            pass
    assert subprocess.run([sys.executable, "-c", program, str(folder.path)]).returncode == 0


def create_lock_again(path: Path):  # type: ignore[no-untyped-def]
    from rlkit.runs import RunFolder

    return RunFolder(path).locked()


def test_what_is_not_a_run_is_explained_with_what_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = create_run(None, "random", "CartPole-v1", 0)
    (run.path / "config.yaml").touch()
    with pytest.raises(UsageError, match="the latest run here is runs/CartPole-v1/random/"):
        open_run(Path("elsewhere"))
    with pytest.raises(UsageError, match=r"is not a run folder.*runs inside it: runs/CartPole-v1/random"):
        open_run(Path("runs"))
    assert open_run(run.path).path == run.path


def test_what_others_put_beside_a_run_that_cannot_begin_stays(tmp_path: Path) -> None:
    mine = tmp_path / "new" / "mine"
    mine.mkdir(parents=True)
    (mine / "frames").mkdir()
    for path in (mine, tmp_path / "new" / "made"):
        run = create_run(path, "random", "CartPole-v1", 0)
        for name in ("config.yaml", ".lock", "since.txt"):
            (path / name).touch()
        for folder in ("encoder", "frames"):
            (path / folder / "deep").mkdir(parents=True)
        run.give_up("encoder", "frames")
    assert sorted(each.name for each in mine.rglob("*")) == ["deep", "frames", "since.txt"]
    assert [each.name for each in (tmp_path / "new" / "made").rglob("*")] == ["since.txt"]


@pytest.mark.parametrize("name", registry.AGENTS)
def test_every_entry_of_the_table_is_an_agent_with_a_config(name: str) -> None:
    agent = registry.agent_class(name)
    assert issubclass(registry.config_class(agent), AgentConfig)
    registry._require_agent(agent, name)
    assert agent.__doc__
    assert registry.AGENTS[name].summary


def test_unknown_agents_are_told_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'ddpg'\?\)\nallowed: .*ddpg.*, random, .*sb3/a2c"):
        registry.agent_class("dddpg")


def test_an_agent_from_a_file_may_leave_out_config_and_supports(tmp_path: Path) -> None:
    methods = "\n".join(f"    def {name}(self, *a, **k): ..." for name in (*registry._COMMON, "observe", "update"))
    path = tmp_path / "my_agent.py"
    path.write_text(f"class Mine:\n{methods}\nclass Half:\n    def act(self): ...\n")
    agent = registry.agent_class(f"{path}:Mine")
    assert agent is registry.agent_class(f"{path}:Mine"), "the file is imported once"
    assert registry.config_class(agent) is AgentConfig
    registry.require_support("mine", agent, Task(BOX, BOX))
    with pytest.raises(UsageError, match="is not an agent: it has no initial_carry, reset_carry, policy_state"):
        registry.agent_class(f"{path}:Half")
    with pytest.raises(UsageError, match=r"no class 'Min' \(did you mean 'Mine'\?\); it has \['Mine', 'Half'\]"):
        registry.agent_class(f"{path}:Min")
    with pytest.raises(UsageError, match="there is no file"):
        registry.agent_class(f"{tmp_path}/other.py:Mine")
    with pytest.raises(UsageError, match="cannot import the module"):
        registry.agent_class("no_such_module_here:Mine")


def test_spaces_nobody_serves_name_nobody() -> None:
    task = Task(spaces.Text(3), spaces.Text(3))
    with pytest.raises(UnsupportedTaskError, match="agents that can: none of the registered agents"):
        registry.require_support("ddpg", registry.agent_class("ddpg"), task)
