"""CleanRL's scripts, read from the user's checkout, patched in memory for gymnasium 1.x and run."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speed_measures.job import Job, clocked_seconds, register_clocked_env

BUFFERS = "cleanrl_utils/buffers.py"
SAME_STEP = "], autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)"
INFO_PATCHES = (
    # infos of ended episodes are a dict of arrays instead of an array of dicts
    ('in infos["final_info"]:', 'in [{"episode": {k: v[0] for k, v in infos["final_info"]["episode"].items()}}]:'),
    ('infos["final_observation"]', 'infos["final_obs"]'),
)
# The same for several environments; the script does not look at the final observation.
INFOS_PATCH = (
    'in infos["final_info"]:',
    """in [{"episode": {k: v[i] for k, v in infos["final_info"]["episode"].items()}}
                             for i in np.flatnonzero(infos["_final_info"])]:""",
)


@dataclass(frozen=True)
class Script:
    """A script of CleanRL, and where in it the vector environment is made.

    By default gymnasium 1.x begins the next episode one step later; the scripts expect it in the same step.
    """

    name: str
    end_of_env_list: str
    info_patches: tuple[tuple[str, str], ...] = INFO_PATCHES
    needs_buffers: bool = True

    @property
    def patches(self) -> tuple[tuple[str, str], ...]:
        """What stands in the script, and what must stand there."""
        before = self.end_of_env_list.partition("]")[0]
        return (self.end_of_env_list, before + SAME_STEP), *self.info_patches


DDPG = Script("cleanrl/ddpg_continuous_action.py", "capture_video, run_name)])")
DQN = Script("cleanrl/dqn.py", "for i in range(args.num_envs)]\n    )")
PPO = Script("cleanrl/ppo.py", "for i in range(args.num_envs)],\n    )", (INFOS_PATCH,), needs_buffers=False)


def run_cleanrl(
    script: Script,
    job: Job,
    folder: Path,
    options: Mapping[str, object],
    flags: Sequence[str] = (),
    total_steps: int | None = None,
) -> float:
    """Run a script, written to a temporary folder; seconds between the marks."""
    assert job.cleanrl is not None
    checkout = Path(job.cleanrl)
    files = {script.name: patched(script, cleanrl_source(checkout, script.name))}
    if script.needs_buffers:
        files[BUFFERS] = cleanrl_source(checkout, BUFFERS)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    steps = job.total_steps if total_steps is None else total_steps
    given = {**options, "env_id": register_clocked_env(job), "total_timesteps": steps, "seed": job.seed}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    sys.argv = [script.name, *arguments, *flags, "--no-cuda"]
    sys.path.insert(0, str(folder))
    runpy.run_path(str(folder / script.name), run_name="__main__")
    return clocked_seconds(job)


def cleanrl_source(checkout: Path, name: str) -> str:
    """A file of CleanRL, from a work tree or from HEAD of a bare git directory."""
    if (checkout / name).is_file():
        return (checkout / name).read_text(encoding="utf-8")
    return git(checkout, "show", f"HEAD:{name}")


def git(checkout: Path, *arguments: str) -> str:
    """What git prints about a work tree or a bare git directory."""
    folder = checkout / ".git" if (checkout / ".git").exists() else checkout
    command = ["git", "--git-dir", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def patched(script: Script, source: str) -> str:
    """A script for gymnasium 1.x; every patch must fit exactly once."""
    for old, new in script.patches:
        if source.count(old) != 1:
            raise SystemExit(f"CleanRL's {script.name} has changed: {old!r} stands in it {source.count(old)} times")
        source = source.replace(old, new)
    return source
