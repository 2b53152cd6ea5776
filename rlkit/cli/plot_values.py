"""The values of a tabular run as a picture: which one fits its environment, and where it goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.envs.toy_text.blackjack import BlackjackEnv

from rlkit.api import load
from rlkit.cli.pictures import keep, png_of
from rlkit.cli.value_pictures import blackjack_figure, grid_figure, line_figure
from rlkit.envs.grids import grid_view, has_own_spaces
from rlkit.envs.mazes import ChangingMaze
from rlkit.envs.models import finite_model
from rlkit.envs.vector import SerialVectorEnv
from rlkit.errors import ModelError
from rlkit.mdp import FiniteMDP, Floats64, Integers
from rlkit.policy import Policy
from rlkit.registry import agent_class
from rlkit.runs import RunFolder
from rlkit.tabular.planning import optimal_action_values, policy_values
from rlkit.tabular.truth import Truth, ValueTable, reachable_states

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOLVABLE = 2000  # states of a model whose true values are worth the wait for a picture
TAG = "values"
"""The picture's name in TensorBoard."""


def has_values(agent_name: str) -> bool:
    """Whether the agents of this name hold a value for every state."""
    return "state_values" in dir(agent_class(agent_name))


def draw_values(folder: RunFolder, title: str, output: Path) -> bool:
    """Write the picture of the run's latest values, into its TensorBoard too; False where there is nothing to see."""
    policy = load(folder.path)
    envs, table = policy._envs, policy.agent
    try:
        if not isinstance(envs, SerialVectorEnv) or not isinstance(table, ValueTable) or len(table.state_values()) < 2:
            return False
        picture = png_of(_figure(policy, envs, table, title))
    finally:
        envs.close()
    keep(picture, output, folder, TAG, policy.step)
    return True


def _figure(policy: Policy, envs: SerialVectorEnv, table: ValueTable, title: str) -> Figure:
    env = envs.single_env
    if isinstance(env.unwrapped, ChangingMaze):  # the maze that the values are about
        env.unwrapped.set_state({"state": 0, "last_action": None, "steps": policy.step})
    model = finite_model(env)
    heading = f"{title}\nvalues after {policy.step:,} steps{_error(model, table)}"
    values, view = table.state_values(), grid_view(env)
    if view is not None:
        return grid_figure(values, view, _actions(table, len(values)), heading)
    if isinstance(env.unwrapped, BlackjackEnv) and has_own_spaces(env):
        control = table.evaluated_policy() is None
        return blackjack_figure(values, _actions(table, len(values)) if control else None, heading.replace("\n", ", "))
    if model is None:
        return line_figure(values, None, heading)
    counted = reachable_states(model) & ~model.terminal_states()
    return line_figure(np.where(counted, values, np.nan), _true_values(model, table), heading)


def _actions(table: ValueTable, num_states: int) -> Integers | None:
    """The greedy actions [S]; those of a policy that is evaluated only where it leaves no choice to chance."""
    policy = table.evaluated_policy()
    if policy is None:
        return table.greedy_actions(np.arange(num_states), np.random.default_rng(0))
    chosen: Integers = policy.argmax(axis=1)
    return chosen if policy.max(axis=1).min() > 1.0 - 1e-9 else None


def _error(model: FiniteMDP | None, table: ValueTable) -> str:
    """The value error as evaluations log it, for the title; empty where it is unknown."""
    metrics = {} if model is None else Truth(model, table.gamma).metrics(table)
    return f", value error {metrics['eval/value_rmse']:.2g}" if metrics else ""


def _true_values(model: FiniteMDP, table: ValueTable) -> Floats64 | None:
    """What the values aim at; None where it takes long or does not exist."""
    if model.num_states > _SOLVABLE:
        return None
    policy = table.evaluated_policy()
    try:
        if policy is not None:
            return policy_values(model, table.gamma, policy)
        best: Floats64 = optimal_action_values(model, table.gamma).max(axis=1)
        return best
    except ModelError:  # its warning came with the title
        return None
