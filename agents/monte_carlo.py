"""Monte Carlo methods: values are mean returns of whole episodes (Sutton and Barto 2018, chapter 5; Zhao 2025, 5).

Loops: `rlkit.tabular.episodes` and `rlkit.tabular.basic`; ratios: `rlkit.ops.importance`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from rlkit.mdp import Dynamics, FiniteMDP, Integers
from rlkit.tabular.basic import basic
from rlkit.tabular.engine import TabularAgent
from rlkit.tabular.episodes import TRUNCATIONS, WEIGHTINGS, episodes
from rlkit.tabular.given import policy_table
from rlkit.tabular.indexing import table_reason
from rlkit.tabular.learner import Learner
from rlkit.tabular.options import ControlConfig, PredictionConfig, TabularConfig, new_tables
from rlkit.tabular.tables import Tables
from rlkit.types import State, Task


class _EpisodeConfig(TabularConfig):
    """Options of every method that waits for the end of an episode."""

    visits: Literal["first", "every"] = "first"
    """count a state's first visit in an episode, or every one"""
    max_episode_steps: int = Field(10_000, ge=1, le=10_000_000)
    """longest episode; a longer one is an error, because nothing can be learned before it ends"""
    on_truncation: Literal["bootstrap", "end", "drop"] = "bootstrap"
    """an episode cut by a time limit: go on with the table's own value, take it as ended there, or leave it out"""


class MCPredictionConfig(PredictionConfig, _EpisodeConfig):
    """Options of Monte Carlo prediction."""

    learning_rate_schedule: Literal["constant", "sample-average", "robbins-monro", "linear"] = "sample-average"
    """1/n by visits; constant; learning_rate/n^exponent by visits; linear to zero over the run"""


class MCPrediction(TabularAgent):
    """First-visit or every-visit prediction of a given policy's state values (section 5.1)."""

    Config = MCPredictionConfig

    def _build(self, config: MCPredictionConfig, task: Task) -> Learner:
        followed = policy_table(config.policy, task, config.gamma)
        tables = new_tables(config, task, (1, self.index.num_states, 1), self.num_actions, policy=followed)
        return _episodes(tables, config, task)


class MonteCarloConfig(ControlConfig, _EpisodeConfig):
    """Options of Monte Carlo control."""

    learning_rate_schedule: Literal["constant", "sample-average", "robbins-monro", "linear"] = "sample-average"
    """1/n by visits; constant; learning_rate/n^exponent by visits; linear to zero over the run"""


class MonteCarlo(TabularAgent):
    """On-policy control, ε-greedy (section 5.4; MC ε-greedy in Zhao 2025)."""

    Config = MonteCarloConfig

    def _build(self, config: MonteCarloConfig, task: Task) -> Learner:
        shape = (1, self.index.num_states, self.num_actions)
        return _episodes(new_tables(config, task, shape, self.num_actions), config, task)


class MCExploringStartsConfig(MonteCarloConfig):
    """Options of control with exploring starts."""

    epsilon: float = Field(0.0, ge=0.0, le=1.0)
    """probability of a random action after the first; the starts explore, so none is needed"""


class MCExploringStarts(TabularAgent):
    """Control with exploring starts (section 5.3): a random first action, from a random state where one can be chosen.

    Environments that choose their own first state (Blackjack deals) must reach every state by themselves.
    """

    Config = MCExploringStartsConfig

    def _build(self, config: MCExploringStartsConfig, task: Task) -> Learner:
        shape = (1, self.index.num_states, self.num_actions)
        tables = new_tables(config, task, shape, self.num_actions)
        starts = None if task.model is None else _possible_starts(task.model)
        return _episodes(tables, config, task, exploring_starts=True, starts=starts)

    def _draws_starts(self) -> bool:
        return len(self.learner.starts) > 0


class MCOffPolicyPredictionConfig(MCPredictionConfig):
    """Options of off-policy prediction."""

    behaviour: str = "uniform"
    """policy that is followed, named like `policy`, which is evaluated"""
    weighting: Literal["ordinary", "weighted", "per-decision"] = "weighted"
    """kind of importance sampling: unbiased; biased with finite variance; unbiased, each reward by its own decisions"""


class MCOffPolicyPrediction(TabularAgent):
    """State values of one policy from the episodes of another, by importance sampling (sections 5.5, 5.6 and 5.9)."""

    Config = MCOffPolicyPredictionConfig

    def _build(self, config: MCOffPolicyPredictionConfig, task: Task) -> Learner:
        followed = policy_table(config.behaviour, task, config.gamma)
        target = policy_table(config.policy, task, config.gamma)
        shape = (1, self.index.num_states, 1)
        tables = new_tables(config, task, shape, self.num_actions, policy=followed, target=target)
        return _episodes(tables, config, task, weighting=WEIGHTINGS.index(config.weighting))


class MCOffPolicyConfig(MonteCarloConfig):
    """Options of off-policy control."""

    behaviour: str | None = None
    """policy that is followed instead of the ε-greedy one: uniform, always-K, stick-K, optimal, or a run's folder"""
    weighting: Literal["ordinary", "weighted", "per-decision"] = "weighted"
    """kind of importance sampling"""
    visits: Literal["first", "every"] = "every"
    """count a pair's first visit in an episode, or every one"""


class MCOffPolicy(TabularAgent):
    """Off-policy control: learns the greedy policy while following a soft one (section 5.7).

    Deviation: while actions are equally good, the greedy policy is taken to mix them evenly.
    """

    Config = MCOffPolicyConfig

    def _build(self, config: MCOffPolicyConfig, task: Task) -> Learner:
        followed = None if config.behaviour is None else policy_table(config.behaviour, task, config.gamma)
        shape = (1, self.index.num_states, self.num_actions)
        tables = new_tables(config, task, shape, self.num_actions, policy=followed, greedy_target=True)
        return _episodes(tables, config, task, weighting=WEIGHTINGS.index(config.weighting))


class MCBasicConfig(TabularConfig):
    """Options of MC Basic."""

    episode_length: int = Field(30, ge=1)
    """rewards summed in each episode"""
    repeats: int = Field(1, ge=1)
    """episodes from each state and action; 1 suffices where nothing is random"""


class MCBasic(TabularAgent):
    """Policy iteration without a model: from every state and action in turn, follow the policy for a fixed length."""

    Config = MCBasicConfig
    too_long = (
        "an episode goes on long after --agent.episode-length. Stepped through the environment, MC Basic needs a time "
        "limit of the same length: --wrap time-limit:max_episode_steps=LENGTH"
    )

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None where one environment can begin in any state of a known model, else the reason."""
        if task.num_envs > 1:
            return f"MC Basic begins its episodes in a fixed order, in one environment, not in {task.num_envs}"
        if task.model is None:
            return "MC Basic begins episodes in every state, which needs an environment whose transitions are known"
        return table_reason(task)

    def _build(self, config: MCBasicConfig, task: Task) -> Learner:
        assert task.model is not None
        shape = (1, self.index.num_states, self.num_actions)
        starts = _possible_starts(task.model)
        return basic(new_tables(config, task, shape, self.num_actions), starts, config.episode_length, config.repeats)

    def _draws_starts(self) -> bool:
        return True

    def _limited(self, dynamics: Dynamics) -> Dynamics:
        """Episodes of the wanted length; a shorter time limit of the environment holds as well."""
        length: int = self.learner.length
        return dynamics._replace(max_steps=min(length, dynamics.max_steps or length))

    def greedy_actions(self, states: Integers, rng: np.random.Generator) -> Integers:
        """The policy of the last finished iteration."""
        chosen: Integers = self.learner.chosen[states]
        return chosen

    def policy_state(self) -> State:
        """Tables and policy."""
        return super().policy_state() | {"chosen": self.learner.chosen}

    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""
        super().load_policy_state({name: value for name, value in state.items() if name != "chosen"})
        self.learner.chosen[:] = state["chosen"]


def _possible_starts(model: FiniteMDP) -> Integers:
    """States in which an episode can begin and is not over at once."""
    return np.flatnonzero(~model.terminal_states())


def _episodes(
    tables: Tables,
    config: _EpisodeConfig,
    task: Task,
    *,
    weighting: int = 0,
    exploring_starts: bool = False,
    starts: Integers | None = None,
) -> Learner:
    return episodes(
        tables,
        num_envs=task.num_envs,
        max_length=config.max_episode_steps if task.total_steps else 1,
        weighting=weighting,
        first_visit=config.visits == "first",
        truncation=TRUNCATIONS.index(config.on_truncation),
        exploring_starts=exploring_starts,
        starts=starts,
    )
