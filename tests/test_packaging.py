"""What is built, pinned and tracked agrees with what is there; the wheel works away from the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import source_tree
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = source_tree.ROOT
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
LINKS = ("agents", "envs", "configs")
TEST_COMMAND = 'pip install -c constraints.txt -e ".[dev]" && pytest -n 2 --dist worksteal'


def run(command: list[str], cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def git(*arguments: str) -> str:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return run(["git", *arguments], ROOT)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_packages_are_the_folders_with_code() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(source_tree.package_folders())


def test_every_folder_with_code_is_a_package() -> None:
    for folder in source_tree.PACKAGES:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def test_package_dir_names_the_top_folders() -> None:
    assert {package: folder for folder, package in source_tree.PACKAGES.items()} == SETUPTOOLS["package-dir"]


def test_only_rlkit_is_installed_at_the_top() -> None:
    assert {package.partition(".")[0] for package in SETUPTOOLS["packages"]} == {"rlkit"}


@pytest.mark.parametrize("name", LINKS)
def test_links_are_relative_and_tracked_as_links(name: str) -> None:
    assert git("ls-files", "--stage", f"rlkit/{name}").startswith("120000 ")
    link = ROOT / "rlkit" / name
    if link.is_symlink():
        assert link.readlink() == Path("..", name)


def test_version_is_the_same_everywhere() -> None:
    import rlkit

    assert PROJECT["version"] == rlkit.__version__ == version("rlkit-torch")


def test_every_requirement_is_pinned_to_a_version_it_allows() -> None:
    pinned = {canonicalize_name(name): number for name, number in pins().items()}
    extras = PROJECT["optional-dependencies"].values()
    for text in [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(text)
        if requirement.name != PROJECT["name"]:
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


def test_pins_bring_no_gpu_libraries() -> None:
    assert not [name for name in pins() if re.search("nvidia|cuda|torchvision", name)]


def test_triton_comes_with_its_extra_alone() -> None:
    wanting = [extra for extra, lines in PROJECT["optional-dependencies"].items() if "triton" in " ".join(lines)]
    assert wanting == ["triton"]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert TEST_COMMAND in (ROOT / "README.md").read_text("utf-8")
    assert TEST_COMMAND in (ROOT / ".ci" / "run").read_text("utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution of the tracked and new files, so that both are tested."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        source, target = ROOT / name, tree / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.readlink()) if source.is_symlink() else target.write_bytes(source.read_bytes())
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), "."], tree)
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_module_once_and_nothing_else(wheel: Path) -> None:
    files = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    modules = [name for name in files if name.endswith(".py")]
    expected = {
        name.replace(".", "/") + ("/__init__.py" if file.stem == "__init__" else ".py")
        for name, file in source_tree.modules().items()
    }
    assert sorted(modules) == sorted(expected)
    presets = {f"rlkit/configs/{file.name}" for file in (ROOT / "configs").glob("*.yaml")}
    assert set(files) - set(modules) == presets | {"rlkit/py.typed"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_trains_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    bin_folder = tmp_path / "venv" / "bin"
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    run([sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), *install], tmp_path)
    # Its dependencies are those of this environment: one path line adds the folder without reading the .pth files in
    # it, so that an editable rlkit stays out.
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text("\n".join(paths) + "\n")

    where = run([str(bin_folder / "python"), "-c", "import rlkit.agents; print(rlkit.agents.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    assert "ddpg" in run([str(bin_folder / "rlkit"), "list", "agents"], tmp_path)
    train = ["train", "ddpg", "--env", "Pendulum-v1", "--total-steps", "500", "--run-dir", str(tmp_path / "run")]
    run([str(bin_folder / "rlkit"), *train], tmp_path, OMP_NUM_THREADS="1")
    assert (tmp_path / "run" / "result.json").is_file()
