"""`agents`, `envs` and `configs`, imported from the checkout's root, are the modules of `rlkit.agents`, …."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import source_tree

LINKS = ("agents", "envs", "configs")
PROBE = "class Probe:\n    pass\n"


def copied_tree(folder: Path, *, links: bool) -> Path:
    """A copy of the package's sources with a module `probe` in `agents` and in `envs`."""
    skip = shutil.ignore_patterns("__pycache__")
    for name in source_tree.PACKAGES:
        shutil.copytree(source_tree.ROOT / name, folder / name, symlinks=True, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (source_tree.ROOT / name).is_file():
            shutil.copy(source_tree.ROOT / name, folder)
    for name in ("agents", "envs"):
        (folder / name / "probe.py").write_text(PROBE)
    for name in LINKS:
        link = folder / "rlkit" / name
        link.unlink(missing_ok=True)
        if links:
            link.symlink_to(Path("..", name))
    return folder


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, None]:
    return copied_tree(tmp_path_factory.mktemp("linked"), links=True), None


@pytest.fixture(scope="module")
def unlinked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy without links, and a folder with what `pip install -e` puts into site-packages for it."""
    root = copied_tree(tmp_path_factory.mktemp("unlinked"), links=False)
    wheels, site = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    build = f"from setuptools import build_meta; build_meta.build_editable({str(wheels)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=root, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return root, site


def run(code: str, tree: tuple[Path, Path | None], cwd: Path | None = None) -> None:
    """Run `code` at the root of `tree`. `-S` keeps this environment's own editable install of rlkit out."""
    root, site = tree
    libraries = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    # The copy's editable finder first: this environment holds a module of the same name.
    start = "import site, sys\n" + (f"site.addsitedir({str(site)!r})\n" if site else "") + f"sys.path += {libraries}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"{start}\n{code}"],
        cwd=cwd or root,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr


SAME = """
assert agents is rlkit.agents and agents.__name__ == "rlkit.agents" == agents.__spec__.name
assert agents.probe is rlkit.agents.probe and agents.probe.__spec__.name == "rlkit.agents.probe"
assert agents.__spec__.loader is agents.__loader__ and agents.probe.__spec__.loader is agents.probe.__loader__
from agents.probe import Probe
from rlkit.agents.probe import Probe as Same
assert Probe is Same and Probe.__module__ == "rlkit.agents.probe"
"""
CASES = {
    "bare name first": "import agents.probe, rlkit.agents.probe" + SAME,
    "installed name first": "import rlkit.agents.probe, agents.probe" + SAME,
    "mixed": "import rlkit.agents, agents.probe, rlkit.agents.probe" + SAME,
    "from": "from agents.probe import Probe as First; import agents.probe, rlkit.agents.probe" + SAME,
    "all three": "import agents, envs, configs, rlkit.envs, rlkit.configs, envs.probe\n"
    "assert envs is rlkit.envs and configs is rlkit.configs and envs.probe.Probe.__module__ == 'rlkit.envs.probe'",
    "missing": "import agents\ntry:\n    import agents.nothing\nexcept ModuleNotFoundError as error:\n"
    "    assert error.name == 'agents.nothing'\nelse:\n    raise AssertionError",
    "reload": "import importlib, agents.probe, rlkit.agents.probe\n"
    "assert importlib.reload(agents.probe) is rlkit.agents.probe",
}


@pytest.mark.parametrize("code", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("tree", ["linked", "unlinked"])
def test_each_module_exists_once(code: str, tree: str, request: pytest.FixtureRequest) -> None:
    run(code, request.getfixturevalue(tree))


def test_without_links_every_module_is_found_from_anywhere(unlinked: tuple[Path, Path], tmp_path: Path) -> None:
    names = [name for name in source_tree.modules(unlinked[0]) if name.startswith("rlkit.")]
    code = f"import importlib.util\nfor name in {names}:\n    assert importlib.util.find_spec(name), name"
    run(code, unlinked, cwd=tmp_path)
    run(code, unlinked)


def test_a_foreign_package_of_that_name_is_left_alone(linked: tuple[Path, None], tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").touch()
    (tmp_path / "agents" / "probe.py").write_text("FOREIGN = True")
    code = f"sys.path.append({str(linked[0])!r})\nimport rlkit.agents, envs, agents.probe\nassert agents.probe.FOREIGN"
    run(code, linked, cwd=tmp_path)
