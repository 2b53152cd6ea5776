"""State of simulators that keep it outside Python: MuJoCo, and the Arcade Learning Environment."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from rlkit.envs.contract import Env
from rlkit.types import Array, State


def capture_simulator(layer: Env) -> State:
    """The simulator's state under its name; empty where there is none."""
    if is_of_class(layer, "gymnasium.envs.mujoco.mujoco_env", "MujocoEnv"):
        return {"mujoco": _capture_mujoco(layer)}
    if is_of_class(layer, "ale_py.env", "AtariEnv"):
        return {"atari": _capture_atari(layer)}
    return {}


def restore_simulator(layer: Env, tree: State) -> None:
    """Put the simulator into the state that `capture_simulator` found, if any."""
    if "mujoco" in tree:
        _restore_mujoco(layer, tree["mujoco"])
    if "atari" in tree:
        _restore_atari(layer, tree["atari"])


def is_of_class(layer: Env, module_name: str, class_name: str) -> bool:
    """Whether it is an environment of this class, which nobody imports for the question's sake."""
    module = sys.modules.get(module_name)
    return module is not None and isinstance(layer, vars(module)[class_name])


def _mujoco_fields(data: Any) -> dict[str, Array]:
    """Writable arrays of MjData that step() may read before it recomputes them (Ant's cfrc_ext, for one).

    efc_* and contact have a size of their own each step and are recomputed. MjData lists its fields only by name.
    """
    names = [name for name in dir(data) if not name.startswith(("_", "efc_", "contact"))]
    fields = {name: getattr(data, name) for name in names}
    return {key: value for key, value in fields.items() if isinstance(value, np.ndarray) and value.flags.writeable}


def _capture_mujoco(env: Any) -> State:
    import mujoco

    specification = mujoco.mjtState.mjSTATE_INTEGRATION
    integration = np.empty(mujoco.mj_stateSize(env.model, specification))
    mujoco.mj_getState(env.model, env.data, integration, specification)
    return {
        "integration": integration,
        "fields": {name: field.copy() for name, field in _mujoco_fields(env.data).items()},
    }


def _restore_mujoco(env: Any, tree: State) -> None:
    import mujoco

    mujoco.mj_setState(env.model, env.data, tree["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)
    fields = _mujoco_fields(env.data)
    for name, stored in tree["fields"].items():
        if name in fields and fields[name].shape == stored.shape:
            fields[name][...] = stored


def _capture_atari(env: Any) -> Array:
    """The console with its random numbers (sticky actions), about 14 kB."""
    return np.frombuffer(env.ale.cloneState(include_rng=True).serialize(), np.uint8).copy()


def _restore_atari(env: Any, state: Array) -> None:
    from ale_py import ALEState

    env.ale.restoreState(ALEState(state.tobytes()))
