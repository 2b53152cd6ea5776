"""The documentation tells the truth: its commands run, its examples are the files, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlkit.cli.main import COMMANDS
from rlkit.registry import AGENTS

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
# The tour with fewer steps and smaller networks: the commands are otherwise as printed.
FEWER_STEPS = {"100000": "2000", "20000": "400", "21000": "450", "10000": "400", "5000": "300", "2000": "300"}
FEWER_EPISODES = {"100": "2", "20": "2"}


def shortened(command: list[str]) -> list[str]:
    """The command with fewer steps and episodes."""
    for flag, shorter in (("--total-steps", FEWER_STEPS), ("--episodes", FEWER_EPISODES)):
        if flag in command:
            place = command.index(flag) + 1
            command = [*command[:place], shorter[command[place]], *command[place + 1 :]]
    return command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_counts_the_agents() -> None:
    (told,) = re.findall(r"^rlkit list agents +# (\d+) of them", (ROOT / "README.md").read_text(), re.M)
    assert int(told) == len(AGENTS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_the_docs_exists(page: Path) -> None:
    for block in BLOCK.finditer(page.read_text()):
        if block[1] == "bash":
            for name in re.findall(r"^rlkit (\S+)", block[2], re.M):
                assert name in COMMANDS, name


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "README.zh.md"], ids=lambda page: page.name)
def test_the_readme_installs_this_checkout_and_nobody_elses_package(page: Path) -> None:
    text = page.read_text()
    assert "pip install rlkit" not in text
    assert "\npip install -c constraints.txt -e . && rlkit train ddpg --env Pendulum-v1\n" in text
    assert '\npip install -c constraints.txt -e ".[dev]" && pytest -n 2 --dist worksteal\n' in text


def test_the_printed_agent_is_the_example() -> None:
    page = (ROOT / "docs" / "your-own-agent.md").read_text()
    assert (ROOT / "examples" / "my_agent.py").read_text() in page


def test_the_example_agent_solves_cartpole(tmp_path: Path) -> None:
    import rlkit

    agent = f"{ROOT / 'examples' / 'my_agent.py'}:MyAgent"
    result = rlkit.train(agent, "CartPole-v1", total_steps=30_000, run_dir=tmp_path / "run", eval_every=0)
    assert rlkit.evaluate(result.run_dir, episodes=20).mean > 400


@pytest.mark.slow
def test_the_tour_can_be_walked(tmp_path: Path) -> None:
    for example in (ROOT / "examples").glob("my_*.py"):
        shutil.copy(example, tmp_path)
    walked = 0
    for block in BLOCK.finditer((ROOT / "docs" / "tour.md").read_text()):
        commands = [[sys.executable, "-c", block[2]]]
        if block[1] == "bash":
            lines = block[2].splitlines()
            commands = [[sys.executable, "-m", "rlkit", *shortened(shlex.split(line))[1:]] for line in lines]
        for command in commands:
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr
            walked += 1
    assert walked > 15
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
