"""`EngineAgent`: a learner behind the agent protocols, stepped or compiled; `TabularAgent`: one with tables.

Such an agent is driven by `rlkit.loop` like any other. But as `pathlib.Path(...)` gives a path of the system at hand,
`QLearning(config, task)` gives one that owns its loop, in machine code, where the environment's transitions are known.
Both call the same compiled functions with the same random streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rlkit import seeding
from rlkit.errors import EnvironmentFault, UsageError
from rlkit.mdp import Dynamics, Floats64, Integers
from rlkit.tabular.arrays import arrays_of, load_arrays
from rlkit.tabular.finished import FinishedEpisodes
from rlkit.tabular.handles import Handle
from rlkit.tabular.indexing import TableIndex, table_reason
from rlkit.tabular.learner import (
    OK,
    OUTSIDE,
    TOO_LONG,
    Learner,
    begin,
    choose_rows,
    learn_rows,
    run,
)
from rlkit.tabular.options import TabularConfig
from rlkit.tabular.rules import drawn_action
from rlkit.tabular.stepping import new_env_state, require_dynamics
from rlkit.tabular.streams import Stream, Streams, stream
from rlkit.tabular.tables import Tables, epsilon_now
from rlkit.types import Array, Bools, Carry, Metrics, Obs, Progress, State, Task, Transition, VectorEnv

_REPORTS = 1000
"""Reports of the compiled engine in a run: often enough for a curve, seldom enough to cost nothing."""
_METRICS_EVERY = 50


class EngineAgent:
    """What all agents with a compiled learner share. Subclasses have a `Config` and build their learner.

    Attributes:
        config: the options.
        learner: a named tuple of arrays (`rlkit.tabular.learner`), changed in place.
    """

    Config: ClassVar[type[TabularConfig]] = TabularConfig
    too_long = (
        "an episode has not ended within --agent.max-episode-steps, and this agent learns only from whole episodes. "
        "Give the environment a time limit (--wrap time-limit:max_episode_steps=1000), raise that option, or use a "
        "method that learns from step to step, such as sarsa"
    )
    outside = "an observation lies outside its space; rlkit check-env says what the environment returns"
    config: TabularConfig
    learner: Learner

    def __new__(cls, config: Any, task: Task) -> EngineAgent:
        """An agent of the engine that `config.engine` and the task allow. Raises UsageError for `compiled` without."""
        kind: Any = cls
        agent: EngineAgent = object.__new__(_compiled(kind) if cls._is_compiled(config, task) else kind)
        return agent

    @classmethod
    def _is_compiled(cls, config: Any, task: Task) -> bool:
        """Whether the agent is to own its loop."""
        if config.engine == "compiled" and task.num_envs > 1:
            raise UsageError(f"--agent.engine compiled steps one environment, not {task.num_envs}; use --num-envs 1")
        if config.engine == "compiled":
            require_dynamics(task.dynamics)
        return config.engine != "step" and task.dynamics is not None and task.num_envs == 1

    def __init__(self, config: Any, task: Task) -> None:
        assert isinstance(task.action_space, spaces.Discrete)
        self.config = config
        self.num_actions = int(task.action_space.n)
        self._first_action = int(task.action_space.start)
        self._action_type = task.action_space.dtype
        self._is_plain_action = self._first_action == 0 and self._action_type == np.int64
        self._no_row_begins = np.zeros(task.num_envs, dtype=np.bool_)
        self._rng = seeding.generator(task.seed, "learner")
        self._learning = stream(self._rng)
        self._act_stream: tuple[np.random.Generator, Stream] | None = None
        self._look_at(task)
        self.learner = self._build(config, task)
        self._handle = Handle(self.learner)
        self._has_starts = self._draws_starts()
        self._prepare(task)

    def _look_at(self, task: Task) -> None:
        """What `perceived` needs."""
        raise NotImplementedError

    def _build(self, config: Any, task: Task) -> Learner:
        """The learner."""
        raise NotImplementedError

    def perceived(self, obs: Obs) -> Array:
        """Observations as the learner takes them, with leading axis N."""
        raise NotImplementedError

    def best_actions(self, perceived: Array, rng: np.random.Generator) -> Integers:
        """What to do without exploration, int64 [N] from 0."""
        raise NotImplementedError

    def policy_state(self) -> State:
        """What has been learned, and what else the learner's choices depend on."""
        raise NotImplementedError

    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""
        raise NotImplementedError

    def _memory(self) -> State:
        """The learner's arrays that are not in `policy_state`."""
        raise NotImplementedError

    def metrics(self) -> Metrics:
        """What is worth a curve; the truth about values is the evaluation's."""
        raise NotImplementedError

    def _draws_starts(self) -> bool:
        """Whether the learner says where episodes begin."""
        return False

    def _limited(self, dynamics: Dynamics) -> Dynamics:
        """The dynamics with the agent's own limit on episodes, where it has one."""
        return dynamics

    def _prepare(self, task: Task) -> None:
        """What the engine needs besides."""
        self._updates = 0

    @property
    def gamma(self) -> float:
        """Discount γ of the values."""
        return self.config.gamma

    def initial_carry(self, num_envs: int) -> Carry:
        """Whether the next step is the first of its episode, bool [N]."""
        return np.ones(num_envs, dtype=np.bool_)

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Rows that ended begin again."""
        return carry | ended

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """Actions [N]; without exploration the first of the best ones."""
        perceived = self.perceived(obs)
        count = len(perceived)
        if not explore:
            return self._to_actions(self.best_actions(perceived, rng)), self._going_on(count), {}
        actions, starts = np.empty(count, np.int64), np.empty(count, np.int64)
        self._require_ok(choose_rows(self._handle, perceived, carry, self._acting(rng), actions, starts))
        extras: Mapping[str, Array] = {"reset_state": starts} if self._has_starts else {}
        return self._to_actions(actions), self._going_on(count), extras

    def _to_actions(self, chosen: Integers) -> Array:
        """Numbers from 0 as the environment's actions."""
        if self._first_action == 0:
            return chosen.astype(self._action_type, copy=False)
        return (chosen + self._first_action).astype(self._action_type)

    def _going_on(self, count: int) -> Carry:
        """The carry of rows in mid-episode; one array that nobody writes to."""
        if len(self._no_row_begins) != count:
            self._no_row_begins = np.zeros(count, dtype=np.bool_)
        return self._no_row_begins

    def observe(self, step: Transition, carry: Carry) -> None:
        """Keep the transition of every row for `update`."""
        self._observed = (
            self.perceived(step.obs),
            step.action if self._is_plain_action else step.action.astype(np.int64) - self._first_action,
            step.reward,
            self.perceived(step.next_obs),
            step.terminated,
            step.ended,
        )

    def update(self) -> Metrics:
        """Learn what is due; metrics now and then."""
        self._require_ok(learn_rows(self._handle, *self._observed, self._learning))
        self._updates += 1
        return self.metrics() if self._updates % _METRICS_EVERY == 0 else {}

    def _acting(self, rng: np.random.Generator) -> Stream:
        """The stream of the caller's generator, which is the same one in every step."""
        if self._act_stream is None or self._act_stream[0] is not rng:
            self._act_stream = (rng, stream(rng))
        return self._act_stream[1]

    def training_state(self) -> State:
        """The learner's memory, its generator, and where a compiled environment is."""
        return {"memory": self._memory(), "rng": self._rng.bit_generator.state, "engine": self._engine_state()}

    def load_training_state(self, state: State) -> None:
        """Restore `training_state`."""
        load_arrays(self.learner, state["memory"])
        self._rng.bit_generator.state = state["rng"]
        self._load_engine_state(state["engine"])

    def _engine_state(self) -> State:
        return {"updates": self._updates}

    def _load_engine_state(self, state: State) -> None:
        self._updates = state["updates"]

    def _require_ok(self, status: int) -> None:
        if status == OK:
            return
        if status == TOO_LONG:
            raise EnvironmentFault(self.too_long)
        if status == OUTSIDE:
            raise EnvironmentFault(self.outside)
        raise EnvironmentFault(
            "an episode did not begin in the state that exploring starts asked for: the environment ignores "
            'reset(options={"state": …}). Use monte-carlo, which starts where the environment does'
        )


class TabularAgent(EngineAgent):
    """What all agents with tables share: a row for every observation."""

    def _look_at(self, task: Task) -> None:
        self.index = TableIndex(task.observation_space)
        self.outside = (
            f"an observation lies outside its space, which has {self.index.num_states:,} values; "
            "rlkit check-env says what the environment returns"
        )

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for Discrete actions and finitely many observations, else the reason."""
        return table_reason(task)

    def perceived(self, obs: Obs) -> Integers:
        """Rows of the table, int64 [N]."""
        return self.index.rows(obs)

    @property
    def tables(self) -> Tables:
        """Values, counts and policies of the learner."""
        tables: Tables = self.learner.tables
        return tables

    def best_actions(self, perceived: Array, rng: np.random.Generator) -> Integers:
        """What the learner holds for best."""
        return self.greedy_actions(perceived, rng)

    def greedy_actions(self, states: Integers, rng: np.random.Generator) -> Integers:
        """What the learner holds for best in each state, int64 [N]; prediction acts by the policy that it evaluates."""
        policy = self.evaluated_policy()
        if policy is not None:
            drawn = rng.random(len(states))
            return np.array([drawn_action(policy[s], u) for s, u in zip(states, drawn, strict=True)])
        best: Integers = self.tables.values[:, states].sum(axis=0).argmax(axis=1)
        return best

    def state_values(self) -> Floats64:
        """V(s), or the value of the best action, [S]."""
        tables = self.tables
        values: Floats64 = tables.values.mean(axis=0).max(axis=1)
        return values

    def evaluated_policy(self) -> Floats64 | None:
        """The policy [S, A] whose values are predicted; None for control, which aims at the best."""
        tables = self.tables
        policy = tables.target if len(tables.target) else tables.policy
        return policy if tables.values.shape[2] == 1 and len(policy) else None

    def policy_state(self) -> State:
        """The tables, and what else the learner's choices depend on."""
        return arrays_of(self.tables)

    def load_policy_state(self, state: State) -> None:
        """Restore `policy_state`."""
        load_arrays(self.tables, state)

    def _memory(self) -> State:
        return {name: tree for name, tree in arrays_of(self.learner).items() if name != "tables"}

    def metrics(self) -> Metrics:
        """What is worth a curve; the truth about values is the evaluation's."""
        tables = self.tables
        visited = tables.visits.reshape(tables.values.shape) > 0
        mean = float(tables.values[visited].mean()) if visited.any() else 0.0
        metrics = {"train/mean_value": mean, "train/visited_entries": float(visited.sum())}
        if tables.exploration.initial > 0.0 and not len(tables.policy):
            metrics["train/epsilon"] = float(epsilon_now(tables))
        return metrics


class CompiledLoop(EngineAgent):
    """What makes an agent own its loop: environment, policy and update run in machine code."""

    # no agent that `rlkit.loop` could drive (None makes isinstance with the protocol false, as for __hash__)
    observe = None  # type: ignore[assignment]
    update = None  # type: ignore[assignment]

    def _prepare(self, task: Task) -> None:
        self._dynamics = self._limited(require_dynamics(task.dynamics))
        self._env = new_env_state(self._dynamics)
        self._env_rng = np.random.Generator(np.random.PCG64(seeding.row_seed(task.seed, 0)))
        self._act_rng = seeding.generator(task.seed, "act")
        self._streams = Streams(stream(self._env_rng), stream(self._act_rng), self._learning)
        self._step = 0
        self._has_begun = False

    def advance(self, max_steps: int, max_episodes: int, reference: Floats64 | None = None) -> Floats64:
        """Train for `max_steps` env steps, or until `max_episodes` more episodes have ended, in one compiled call.

        Returns the return and the length of each episode that ended, and the root mean square difference of the values
        from `reference` [S] after it (over states where that is not NaN), [E, 3].

        Raises:
            EnvironmentFault: an episode is longer than the agent can hold.
        """
        if not self._has_begun:
            begin(self._dynamics, self._env, self._streams)
            self._has_begun = True
        finished = np.zeros((min(max_steps, max_episodes), 3))
        steps, count, status = run(
            self._dynamics, self._env, self._handle, self._streams, max_steps, max_episodes, finished,
            np.zeros(0) if reference is None else reference,
        )  # fmt: skip
        self._step += steps
        self._require_ok(status)
        return finished[:count]

    def train_on(
        self, task: Task, make_env: Callable[[], VectorEnv], until_step: int, hook: Callable[[Progress], bool]
    ) -> None:
        """Train until `until_step` env steps in total; the hook is called about a thousand times in a run."""
        period = max(task.total_steps // _REPORTS, 1)
        while self._step < until_step:
            limit = min(period - self._step % period, until_step - self._step)
            finished = self.advance(limit, limit)
            if not hook(Progress(self._step, FinishedEpisodes(finished), self.metrics())):
                return

    def _engine_state(self) -> State:
        return {
            "step": self._step,
            "has_begun": self._has_begun,
            "env": arrays_of(self._env),
            "env_rng": self._env_rng.bit_generator.state,
            "act_rng": self._act_rng.bit_generator.state,
        }

    def _load_engine_state(self, state: State) -> None:
        self._step, self._has_begun = state["step"], state["has_begun"]
        load_arrays(self._env, state["env"])
        self._env_rng.bit_generator.state = state["env_rng"]
        self._act_rng.bit_generator.state = state["act_rng"]


@cache
def _compiled(agent: Any) -> Any:
    """The agent's class as one that owns its loop, under the same name."""
    names = {"__module__": agent.__module__, "__qualname__": agent.__qualname__}
    return type(agent.__name__, (agent, CompiledLoop), names)
