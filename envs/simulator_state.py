"""What a simulator knows and its pictures should tell: named variables of its present state, as labels in `info`.

| environment | variables |
|---|---|
| Atari games of `rlkit.envs.atari_ram` | bytes of the console's RAM |
| MiniGrid | cell and direction of the agent, what it carries, and of each kind of object how many there are, cell and \
colour of the first in reading order, and whether the first door is open |
| gymnasium's classic control, `rlkit/MountainCar-v0` | the physics; an angle that can go round as its cosine and sine |
| gymnasium's MuJoCo | `qpos` and `qvel` |
| grids of rlkit | row and column |
| yours | what its `simulator_state()` returns |

A name is `category/variable`, with a category of `rlkit.envs.atari_ram.Category`. Integers are classes without an
order, floats are quantities. An environment tells the same names in every step, so that datasets keep them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from rlkit.envs.atari_ram import ATARI_RAM, ram_bytes
from rlkit.envs.contract import Env
from rlkit.envs.grid_world import GridEnv
from rlkit.envs.simulators import is_of_class
from rlkit.errors import UnsupportedTaskError

STATE = "state/"
"""What the keys of `info` begin with: `state/agent/player_x`."""

Labels: TypeAlias = dict[str, "np.integer[Any] | np.floating[Any]"]
"""Values by `category/variable`."""
StateReader: TypeAlias = Callable[[], Labels]


@runtime_checkable
class TellsState(Protocol):
    """An environment that names its own state."""

    def simulator_state(self) -> Mapping[str, int | float]:
        """Integers (classes) and floats (quantities) by `category/variable`; always the same names."""


class SimulatorState(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds the simulator's state to `info`, of reset and of each step, under `state/category/variable`.

    Observations stay as they are. Wherever it stands among other wrappers, the state is the present one.

    Args:
        env: an environment of the module's table.

    Raises:
        UnsupportedTaskError: its state is not known.

    >>> env = SimulatorState(gym.make("MountainCar-v0"))
    >>> sorted(env.reset(seed=0)[1])
    ['state/agent/position', 'state/motion/velocity']
    """

    def __init__(self, env: Env) -> None:
        RecordConstructorArgs.__init__(self)  # so that gymnasium can build it again from its spec
        gym.Wrapper.__init__(self, env)
        self._read = state_reader(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The environment's own reset, with the first state in `info`."""
        obs, info = self.env.reset(seed=seed, options=options)
        return obs, self._told(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """The environment's own step, with the state that it led to in `info`."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, self._told(info)

    def _told(self, info: Mapping[str, Any]) -> dict[str, Any]:
        return {**info, **{STATE + name: value for name, value in self._read().items()}}


def state_reader(env: Env) -> StateReader:
    """A function that returns the present state of `env`, which must have been reset when it is called.

    Raises:
        UnsupportedTaskError: nobody knows it.
    """
    inner: Any = env.unwrapped
    if isinstance(inner, TellsState):
        return partial(_own_state, inner)
    if isinstance(inner, GridEnv):
        return partial(_grid_state, inner)
    for module, name, reader in _READERS:
        if is_of_class(inner, module, name):
            return partial(reader, inner)
    if is_of_class(inner, "ale_py.env", "AtariEnv"):
        return _atari_reader(inner)
    raise UnsupportedTaskError(
        f"simulator-state: the state of {type(inner).__name__} is not known. It is of Atari games ({_games()}), "
        "MiniGrid, gymnasium's classic control and MuJoCo, rlkit's grids, and of environments with a method "
        "simulator_state() -> {'category/variable': number}"
    )


def _own_state(env: TellsState) -> Labels:
    told = env.simulator_state()
    return {name: np.int64(value) if isinstance(value, (int, np.integer)) else np.float64(value)
            for name, value in told.items()}  # fmt: skip


def _grid_state(env: GridEnv) -> Labels:
    row, column = divmod(env.state, env.grid().columns)
    return {"agent/row": np.int64(row), "agent/column": np.int64(column)}


def _atari_reader(env: Any) -> StateReader:
    game: str = env._game
    if game not in ATARI_RAM:
        raise UnsupportedTaskError(
            f"simulator-state: nobody has told where the game {game!r} keeps its state. Known games: {_games()}"
        )
    screen, ram = tuple(env.ale.getScreenDims()), env.ale.getRAM()
    if screen != (210, 160) or len(ram) != 128:
        raise UnsupportedTaskError(
            f"simulator-state: the bytes of {game} are known for frames of 210x160 pixels and 128 bytes of RAM, here "
            f"they are {screen[0]}x{screen[1]} and {len(ram)}; use the cartridge that ale-py ships"
        )
    names = ram_bytes(game)
    places = np.array(list(names.values()))
    return lambda: dict(zip(names, env.ale.getRAM()[places], strict=True))


def _games() -> str:
    return ", ".join(sorted(ATARI_RAM))


def _physics(names: tuple[str, ...], env: Any) -> Labels:
    return {name: np.float64(value) for name, value in zip(names, env.state, strict=True)}


def _pendulum_state(env: Any) -> Labels:
    angle, velocity = env.state
    return {**_direction("pole", angle), "motion/angular_velocity": np.float64(velocity)}


def _acrobot_state(env: Any) -> Labels:
    first, second, *velocities = env.state
    return {
        **_direction("first_link", first),
        **_direction("second_link", second),
        "motion/first_link_velocity": np.float64(velocities[0]),
        "motion/second_link_velocity": np.float64(velocities[1]),
    }


def _direction(name: str, angle: float) -> Labels:
    """An angle as a picture shows it: the same after a whole turn, and without a jump."""
    return {
        f"agent/{name}_cosine": np.float64(math.cos(angle)),
        f"agent/{name}_sine": np.float64(math.sin(angle)),
    }


def _mujoco_state(env: Any) -> Labels:
    positions = {f"agent/qpos_{number}": value for number, value in enumerate(env.data.qpos.copy())}
    return positions | {f"motion/qvel_{number}": value for number, value in enumerate(env.data.qvel.copy())}


_MINIGRID_KINDS = ("door", "key", "ball", "box", "goal", "lava")


def _minigrid_state(env: Any) -> Labels:
    """State of the grid; where there is no such object: cell (0, 0), which is a wall, colour 6 and door state 3."""
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX

    held, first = env.carrying, dict[str, tuple[int, Any]]()
    count = dict.fromkeys(_MINIGRID_KINDS, 0)
    for place, thing in enumerate(env.grid.grid):  # row by row
        if thing is not None and thing.type in count:
            first.setdefault(thing.type, (place, thing))
            count[thing.type] += 1
    found = {
        "agent/x": env.agent_pos[0],
        "agent/y": env.agent_pos[1],
        "miscellaneous/agent_direction": env.agent_dir,  # right, down, left, up
        "miscellaneous/carried": OBJECT_TO_IDX["empty" if held is None else held.type],
        "miscellaneous/carried_colour": len(COLOR_TO_IDX) if held is None else COLOR_TO_IDX[held.color],
    }
    for kind in _MINIGRID_KINDS:
        place, thing = first.get(kind, (0, None))
        found |= {
            f"other_object/{kind}_x": place % env.width,
            f"other_object/{kind}_y": place // env.width,
            f"miscellaneous/{kind}_colour": len(COLOR_TO_IDX) if thing is None else COLOR_TO_IDX[thing.color],
            f"miscellaneous/{kind}_count": count[kind],
        }
    _, door = first.get("door", (0, None))
    found["miscellaneous/door_state"] = len(STATE_TO_IDX) if door is None else door.encode()[2]
    return {name: np.int64(value) for name, value in found.items()}


_CONTROL = "gymnasium.envs.classic_control"
_CART = ("agent/cart_position", "motion/cart_velocity", "agent/pole_angle", "motion/pole_angular_velocity")
_CAR = ("agent/position", "motion/velocity")
_READERS: tuple[tuple[str, str, Callable[[Any], Labels]], ...] = (
    (f"{_CONTROL}.cartpole", "CartPoleEnv", partial(_physics, _CART)),
    (f"{_CONTROL}.mountain_car", "MountainCarEnv", partial(_physics, _CAR)),
    (f"{_CONTROL}.continuous_mountain_car", "Continuous_MountainCarEnv", partial(_physics, _CAR)),
    (f"{_CONTROL}.pendulum", "PendulumEnv", _pendulum_state),
    (f"{_CONTROL}.acrobot", "AcrobotEnv", _acrobot_state),
    ("gymnasium.envs.mujoco.mujoco_env", "MujocoEnv", _mujoco_state),
    ("minigrid.minigrid_env", "MiniGridEnv", _minigrid_state),
)
"""Module and class, looked up without importing either, and what reads such an environment."""
