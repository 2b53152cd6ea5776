"""rlkit's own environments under gymnasium ids; importing this module registers them and loads none of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.envs.registration import WrapperSpec as GymWrapperSpec


class EnvEntry(NamedTuple):
    """A line of the table: where the class is, what the environment is, and how it is built."""

    path: str
    summary: str
    arguments: Mapping[str, Any] = {}
    max_episode_steps: int | None = None
    wrappers: tuple[GymWrapperSpec, ...] = ()


_GRID = "rlkit.envs.grid_world"
_BOOK = "rlkit.envs.sutton_barto_grids"
_CHAINS = "rlkit.envs.chains"
_TABLES = "rlkit.envs.classic_tables"
_MAZES = "rlkit.envs.mazes"
_RECALL = "rlkit.envs.symbol_recall"
_CLASSIC = "gymnasium.envs.classic_control"


def _without(*indices: int) -> tuple[GymWrapperSpec, ...]:
    """What hides these components of the observations; gymnasium builds it with the environment."""
    return (GymWrapperSpec("HideComponents", "rlkit.envs.wrappers:HideComponents", {"indices": indices}),)


ENVS: dict[str, EnvEntry] = {
    "rlkit/CourseGrid-v0": EnvEntry(f"{_GRID}:CourseGrid", "5x5 world of Zhao's course: forbidden cells, one target"),
    "rlkit/GridWorld-v0": EnvEntry(f"{_GRID}:GridWorld", "grid world drawn as text: walls, forbidden cells, targets"),
    "rlkit/Gridworld5x5-v0": EnvEntry(f"{_BOOK}:Gridworld5x5", "two cells that jump and pay (S&B example 3.5)"),
    "rlkit/Gridworld4x4-v0": EnvEntry(f"{_BOOK}:Gridworld4x4", "-1 per move to one of two corners (S&B example 4.1)"),
    "rlkit/Cliff-v0": EnvEntry(f"{_BOOK}:Cliff", "a path along a cliff (S&B example 6.6)"),
    "rlkit/WindyGrid-v0": EnvEntry(f"{_BOOK}:WindyGrid", "a grid with wind, four moves (S&B example 6.5)"),
    "rlkit/WindyGridKing-v0": EnvEntry(
        f"{_BOOK}:WindyGrid", "the same with king's moves (S&B exercise 6.9)", {"moves": "king"}
    ),
    "rlkit/WindyGridStochastic-v0": EnvEntry(
        f"{_BOOK}:WindyGrid", "the same with gusts (S&B exercise 6.10)", {"moves": "king", "stochastic": True}
    ),
    "rlkit/RandomWalk5-v0": EnvEntry(f"{_CHAINS}:RandomWalk", "5 states, 1 on the right, no choice (S&B example 6.2)"),
    "rlkit/RandomWalk19-v0": EnvEntry(
        f"{_CHAINS}:RandomWalk", "19 states, -1 left, 1 right (S&B example 7.1)", {"states": 19, "left_reward": -1.0}
    ),
    "rlkit/RandomWalk1000-v0": EnvEntry(f"{_CHAINS}:LongRandomWalk", "1000 states, jumps up to 100 (S&B example 9.1)"),
    "rlkit/Gambler-v0": EnvEntry(f"{_TABLES}:Gambler", "stakes on coin flips up to 100 (S&B example 4.3)"),
    "rlkit/CarRental-v0": EnvEntry(f"{_TABLES}:CarRental", "Jack's two car rentals (S&B example 4.2)"),
    "rlkit/MaximizationBias-v0": EnvEntry(
        f"{_CHAINS}:MaximizationBias", "noise that looks good to a maximum (S&B example 6.7)"
    ),
    "rlkit/InfiniteVariance-v0": EnvEntry(
        f"{_CHAINS}:InfiniteVariance", "where importance sampling does not settle (S&B example 5.5)"
    ),
    "rlkit/DynaMaze-v0": EnvEntry(f"{_MAZES}:DynaMaze", "a maze, 14 steps to the goal (S&B figure 8.2)"),
    "rlkit/BlockingMaze-v0": EnvEntry(f"{_MAZES}:BlockingMaze", "its path closes after 1000 steps (S&B figure 8.4)"),
    "rlkit/ShortcutMaze-v0": EnvEntry(
        f"{_MAZES}:ShortcutMaze", "a shorter path opens after 3000 steps (S&B figure 8.5)"
    ),
    "rlkit/Racetrack-v0": EnvEntry("rlkit.envs.racetrack:Racetrack", "a car around a turn (S&B exercise 5.12)"),
    "rlkit/ShortCorridor-v0": EnvEntry(
        f"{_CHAINS}:ShortCorridor", "three states look alike, one is reversed (S&B example 13.1)"
    ),
    "rlkit/AccessControl-v0": EnvEntry(
        f"{_TABLES}:AccessControl", "customers of four priorities, ten servers (S&B example 10.2)"
    ),
    "rlkit/Baird-v0": EnvEntry(f"{_CHAINS}:Baird", "Baird's counterexample, no rewards (S&B example 11.1)"),
    "rlkit/Bandit-v0": EnvEntry(
        "rlkit.envs.bandits:KArmedBandit",
        "10 arms, new ones every 1000 pulls (S&B section 2.3)",
        max_episode_steps=1000,
    ),
    "rlkit/MountainCar-v0": EnvEntry(
        "rlkit.envs.mountain_car:MountainCar", "the book's mountain car, no time limit (S&B example 10.1)"
    ),
    "rlkit/TMaze-v0": EnvEntry("rlkit.envs.t_maze:TMaze", "remember a cue along a corridor (Bakker 2001)"),
    "rlkit/RepeatPrevious-v0": EnvEntry(f"{_RECALL}:RepeatPrevious", "name the symbol of 4 steps ago (POPGym)"),
    "rlkit/Autoencode-v0": EnvEntry(f"{_RECALL}:Autoencode", "watch 8 symbols, say them backward (POPGym)"),
    "rlkit/KeyToDoor-v0": EnvEntry(
        "rlkit.envs.key_to_door:KeyToDoor", "a key, then apples, then its door (Hung et al. 2019)"
    ),
    "rlkit/CartPoleNoVelocity-v0": EnvEntry(
        f"{_CLASSIC}.cartpole:CartPoleEnv",
        "CartPole-v1 without its two velocities",
        max_episode_steps=500,
        wrappers=_without(1, 3),
    ),
    "rlkit/PendulumNoVelocity-v0": EnvEntry(
        f"{_CLASSIC}.pendulum:PendulumEnv",
        "Pendulum-v1 without its angular velocity",
        max_episode_steps=200,
        wrappers=_without(2),
    ),
    "rlkit/NearestMatch-v0": EnvEntry(
        "rlkit.envs.nearest_match:NearestMatch", "which way is the nearest object of a colour? Attention"
    ),
    "rlkit/ChangeDetection-v0": EnvEntry(
        "rlkit.envs.change_detection:ChangeDetection",
        "wait, or declare that the law of the samples changed",
        max_episode_steps=1000,
    ),
}
"""Ids in the order of `rlkit list envs`. S&B is Sutton and Barto (2018)."""


def register() -> None:
    """Make the ids known to gymnasium; those it knows already stay as they are."""
    for env_id, entry in ENVS.items():
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry.path,
                max_episode_steps=entry.max_episode_steps,
                additional_wrappers=entry.wrappers,
                kwargs=dict(entry.arguments),
            )


register()
