"""From what a user writes after `--env` to a function that builds the environment."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium.error import DependencyNotInstalled

from rlkit.envs.contract import OLD_GYM_HINT, Env, describe
from rlkit.errors import EnvironmentFault, MissingExtraError, UsageError, did_you_mean

EnvRef: TypeAlias = str | Callable[..., Env]
"""A gymnasium id, `module:EnvId-v0`, `path/to/file.py:ClassName`, or a class or function that builds one."""
Builder: TypeAlias = Callable[..., Env]

# Where an environment's entry point or id says which extra it needs.
_EXTRA_OF_MODULE = {
    "gymnasium.envs.mujoco": "mujoco",
    "gymnasium.envs.box2d": "box2d",
    "ale_py": "atari",
    "minigrid": "minigrid",
}
# Ids whose package registers them on import: prefix of the id → (package, extra; None for rlkit itself).
_PACKAGE_OF_PREFIX: dict[str, tuple[str, str | None]] = {
    "rlkit/": ("rlkit.envs.registration", None),
    "ALE/": ("ale_py", "atari"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "BabyAI-": ("minigrid", "minigrid"),
}


def locate(ref: EnvRef) -> Builder:
    """Function that builds the environment that `ref` names.

    Raises:
        UsageError: Nothing has this name; says what is near.
    """
    if not isinstance(ref, str):
        return ref
    path, colon, name = ref.rpartition(":")
    if colon and path.endswith(".py"):
        return class_in_file(Path(path), name)
    if ref.endswith(".py"):
        raise UsageError(f"--env {ref} names a file; add the class, as in {ref}:MyEnv{_classes_hint(Path(ref))}")
    return _registered(ref)


def class_in_file(path: Path, name: str) -> Builder:
    """Class (or function) `name` of a Python file, which is imported once."""
    module = module_from_file(path)
    found = vars(module).get(name)
    if callable(found):
        return _as_builder(found)
    classes = env_classes(module)
    listed = ", ".join(classes) or "none"
    raise UsageError(f"{path} has no class {name!r}{did_you_mean(name, classes)}; environments there: {listed}")


def module_from_file(path: Path) -> ModuleType:
    """Module of a Python file under a name made from its full path, so that its classes exist once.

    Raises:
        UsageError: There is no such file.
        EnvironmentFault: The file fails while it is imported.
    """
    full = path.expanduser().resolve()
    if not full.is_file():
        near = did_you_mean(full.name, [p.name for p in full.parent.glob("*.py")] if full.parent.is_dir() else [])
        raise UsageError(f"there is no file {path}{near} (looked in {full.parent})")
    digest = hashlib.sha256(str(full).encode()).hexdigest()[:8]
    name = f"rlkit_file_{full.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, full)
    assert spec is not None, "a .py file always has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _import_fault(path, error) from error
    return module


def env_classes(module: ModuleType) -> list[str]:
    """Names of the gymnasium environments that a module defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, gym.Env) and value.__module__ == module.__name__
    ]


def _as_builder(found: Any) -> Builder:
    builder: Builder = found
    return builder


def _classes_hint(path: Path) -> str:
    if not path.is_file():
        return ""
    return f"; environments there: {', '.join(env_classes(module_from_file(path))) or 'none'}"


def _import_fault(path: Path, error: Exception) -> EnvironmentFault:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing == "gym":
        return EnvironmentFault(f"{path} imports gym. {OLD_GYM_HINT}")
    if missing is not None and (path.parent / f"{missing}.py").exists():
        return EnvironmentFault(
            f"{path} imports {missing}, a file beside it; run with PYTHONPATH={path.parent} so that Python finds it"
        )
    line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
    return EnvironmentFault(f"{path}{line} cannot be imported: {describe(error)}")


def _registered(ref: str) -> Builder:
    """Builder of a gymnasium id, `module:Id` included."""
    module_name, _, env_id = ref.rpartition(":")
    if module_name:
        module = _imported(module_name, ref)
        found = vars(module).get(env_id)
        if env_id not in gym.registry and inspect.isclass(found):
            return _as_builder(found)
    _import_package_of(env_id)
    try:
        spec = gym.spec(env_id)
    except gym.error.Error as error:
        raise _unknown(env_id, error) from error

    def build(**kwargs: Any) -> Env:
        return _make(spec.id, kwargs)

    return build


def _imported(module_name: str, ref: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--env {ref}: there is no module {error.name!r}. For a file, write path/to/file.py:ClassName"
        ) from error


def _import_package_of(env_id: str) -> None:
    for prefix, (package, extra) in _PACKAGE_OF_PREFIX.items():
        if env_id.startswith(prefix):
            try:
                importlib.import_module(package)
            except ImportError as error:
                if extra is None:
                    raise
                raise MissingExtraError(extra, f"the environment {env_id}") from error


def _unknown(env_id: str, error: Exception) -> UsageError:
    importlib.import_module("rlkit.envs.registration")  # so that ours are near names too
    env_id = env_id if f"rlkit/{env_id}" not in gym.registry else f"rlkit/{env_id}"
    if env_id in gym.registry:
        return UsageError(f"unknown environment {env_id.removeprefix('rlkit/')!r} (did you mean {env_id!r}?)")
    lowered = {name.lower(): name for name in gym.registry}
    same_name = [name for low, name in lowered.items() if low.rpartition("-v")[0] == env_id.lower().rpartition("-v")[0]]
    near = f" (did you mean {max(same_name)!r}?)" if same_name else did_you_mean(env_id, gym.registry)
    return UsageError(
        f"unknown environment {env_id!r}{near}\n"
        "Use a gymnasium id (rlkit list envs), module:EnvId-v0, or path/to/file.py:ClassName"
    )


def _make(env_id: str, kwargs: dict[str, Any]) -> Env:
    """`gym.make` without its passive checker, which costs time in every first step; rlkit checks itself."""
    try:
        return gym.make(env_id, disable_env_checker=True, **kwargs)
    except (DependencyNotInstalled, ImportError) as error:
        entry_point = str(gym.spec(env_id).entry_point)
        for module, extra in _EXTRA_OF_MODULE.items():
            if entry_point.startswith(module):
                raise MissingExtraError(extra, f"the environment {env_id}") from error
        raise UsageError(f"{env_id} needs a package that is not installed: {error}") from error
    except gym.error.Error as error:
        raise UsageError(f"{env_id} cannot be built: {error}") from error
