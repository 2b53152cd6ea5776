"""What an environment tells of its transitions: a model for planners, dynamics for the compiled engine."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from gymnasium.envs.toy_text.blackjack import BlackjackEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics, TimeLimit

from rlkit.envs.bandits import KArmedBandit
from rlkit.envs.contract import Env
from rlkit.envs.finite import FiniteMDPEnv
from rlkit.envs.mountain_car import MountainCar
from rlkit.envs.restore import layers
from rlkit.envs.vector import SerialVectorEnv
from rlkit.errors import ModelError
from rlkit.mdp import BlackjackDynamics, Dynamics, FiniteMDP, table_dynamics
from rlkit.spaces import has_goals
from rlkit.types import GoalReward, VectorEnv

# Wrappers behind which the environment stays the same decision process, but for its time limit.
_TRANSPARENT = (OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics, TimeLimit)


def finite_model(env: Env) -> FiniteMDP | None:
    """The transitions, if the environment has `transition_model()` or gymnasium's `P` and no wrapper changes them.

    None where agents do not see the state itself.
    """
    if not _is_plain(env):
        return None
    inner: Any = env.unwrapped
    if isinstance(inner, FiniteMDPEnv):
        return inner.transition_model() if inner.sees_state() else None
    return _declared_model(inner)


def dynamics_of(env: Env) -> Dynamics | None:
    """What the compiled engine can step in the environment's place, drawing the same numbers; None otherwise."""
    if not _is_plain(env):
        return None
    inner, max_steps = env.unwrapped, _time_limit(env)
    if isinstance(inner, BlackjackEnv):
        return BlackjackDynamics(bool(inner.natural), bool(inner.sab), max_steps)
    if isinstance(inner, (FiniteMDPEnv, KArmedBandit, MountainCar)):
        if not _steps_as_declared(inner):
            return None
        dynamics: Dynamics | None = inner.dynamics()
        return None if dynamics is None else dynamics._replace(max_steps=max_steps)
    model = _declared_model(inner)
    return None if model is None else table_dynamics(model, max_steps=max_steps)


def of_vector_env(envs: VectorEnv) -> tuple[FiniteMDP | None, Dynamics | None]:
    """Model and dynamics of one of the environments, where they run in this process and no wrapper changes them."""
    if not isinstance(envs, SerialVectorEnv):
        return None, None
    return finite_model(envs.single_env), dynamics_of(envs.single_env)


def goal_reward_of(envs: VectorEnv) -> GoalReward | None:
    """`compute_reward` of an environment with goals in this process, where no wrapper changes what it would see."""
    if not isinstance(envs, SerialVectorEnv) or not has_goals(envs.single_observation_space):
        return None
    if not _is_plain(envs.single_env):
        return None
    found: GoalReward | None = getattr(envs.single_env.unwrapped, "compute_reward", None)
    return found


def _is_plain(env: Env) -> bool:
    return all(type(layer) in _TRANSPARENT for layer in layers(env)[:-1])


def _declared_model(inner: Any) -> FiniteMDP | None:
    """The model of a foreign environment: its own `transition_model()`, or toy text's table `P`."""
    if not isinstance(inner.observation_space, spaces.Discrete) or not isinstance(inner.action_space, spaces.Discrete):
        return None
    if callable(getattr(inner, "transition_model", None)):
        model: FiniteMDP = inner.transition_model()
        return _fitting(model, inner)
    table, start = getattr(inner, "P", None), getattr(inner, "initial_state_distrib", None)
    # a passenger who changes his mind is not in Taxi's table
    if table is None or start is None or getattr(inner, "fickle_passenger", False):
        return None
    return _fitting(FiniteMDP.from_outcomes(table, start), inner)


def _steps_as_declared(inner: FiniteMDPEnv | KArmedBandit | MountainCar) -> bool:
    """Whether no subclass has a step or reset of its own, which could differ from what the engine steps."""
    own = type(inner)
    return any(own.step is kind.step and own.reset is kind.reset for kind in (FiniteMDPEnv, KArmedBandit, MountainCar))


def _fitting(model: FiniteMDP, inner: Any) -> FiniteMDP:
    sizes, spaces_of = (model.num_states, model.num_actions), (inner.observation_space.n, inner.action_space.n)
    if sizes != spaces_of:
        raise ModelError(
            f"the transitions of {type(inner).__name__} have {sizes[0]} states and {sizes[1]} actions, "
            f"its spaces have {spaces_of[0]} and {spaces_of[1]}"
        )
    return model


def _time_limit(env: Env) -> int:
    """Steps after which the innermost limit truncates; 0 for none."""
    limits = [layer._max_episode_steps for layer in layers(env) if isinstance(layer, TimeLimit)]
    return min(limits, default=0)
