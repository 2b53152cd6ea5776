"""stable-baselines3's algorithms (`sb3/ddpg`, `sb3/ppo`, …) in rlkit's run folder, evaluation and TensorBoard.

The algorithm keeps its own loop and its own numbers (Raffin et al. 2021, https://jmlr.org/papers/v22/20-1364.html);
this file lends it our environments and stores its state without pickle, so that a run resumes exactly, which SB3's own
save and load does not.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from pydantic import Field, create_model
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
    VectorizedActionNoise,
)
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from rlkit.config import AgentConfig
from rlkit.data.append_only import AppendOnly
from rlkit.seeding import integer_seed
from rlkit.types import Array, Bools, Carry, Episode, Obs, Progress, State, Task, VectorEnv

# Constructor arguments that rlkit sets itself, or that are not plain values.
_NOT_OPTIONS = frozenset(
    {"policy", "env", "seed", "device", "verbose", "tensorboard_log", "stats_window_size", "optimize_memory_usage"}
    | {"use_sde", "sde_sample_freq", "use_sde_at_warmup", "_init_setup_model"}
)
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")
_RING = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class Sb3Config(AgentConfig):
    """What every SB3 algorithm takes here; the rest is its own constructor's plain arguments and defaults."""

    hidden: tuple[int, ...] | None = None
    """widths of the hidden layers (`net_arch`); by default the algorithm's own"""


class Sb3OffPolicyConfig(Sb3Config):
    """Also exploration noise, which SB3 wants as an object."""

    noise: Literal["none", "gaussian", "ornstein-uhlenbeck"] = "none"
    """kind of exploration noise (DDPG and TD3 do not explore without it)"""
    noise_sigma: float = Field(0.1, ge=0)
    """scale of the noise, where actions span [-1, 1]"""


def config_of(algorithm: type[BaseAlgorithm], **defaults: Any) -> type[Sb3Config]:
    """A config with one field for each plain argument of SB3's constructor, with SB3's default or ours."""
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(algorithm.__init__).parameters.items():
        default = parameter.default
        if name not in _NOT_OPTIONS and type(default) in (int, float, bool, str):
            fields[name] = (type(default), Field(default, description=f"stable-baselines3's {name}"))
    base = Sb3OffPolicyConfig if issubclass(algorithm, OffPolicyAlgorithm) else Sb3Config
    for name, value in defaults.items():
        fields[name] = (base.model_fields[name].annotation, Field(value))
    return create_model(f"Sb3{algorithm.__name__}Config", __base__=base, __doc__=base.__doc__, **fields)


class Sb3Agent:
    """A stable-baselines3 algorithm that trains through its own loop. Subclasses name the algorithm."""

    algorithm: ClassVar[type[BaseAlgorithm]]
    Config: ClassVar[type[Sb3Config]]

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None if SB3's algorithm takes the spaces, else the reason."""
        allowed = _ACTION_SPACES[cls.algorithm]
        if not isinstance(task.action_space, allowed):
            names = ", ".join(kind.__name__ for kind in allowed)
            return f"stable-baselines3's {cls.algorithm.__name__} needs an action space of kind {names}"
        leaves = [task.observation_space]
        if isinstance(task.observation_space, spaces.Dict):
            leaves = list(task.observation_space.spaces.values())
        if any(isinstance(leaf, (spaces.Dict, spaces.Tuple)) for leaf in leaves):
            return "stable-baselines3 takes no nested Dict and no Tuple observations"
        return None

    def __init__(self, config: Sb3Config, task: Task) -> None:
        self._env = _LentEnv(task)
        options = config.model_dump()
        hidden = options.pop("hidden")
        noise = _noise(options.pop("noise", "none"), options.pop("noise_sigma", 0.0), task)
        if noise is not None:
            options["action_noise"] = noise
        policy = "MultiInputPolicy" if isinstance(task.observation_space, spaces.Dict) else "MlpPolicy"
        image = isinstance(task.observation_space, spaces.Box) and len(task.observation_space.shape) == 3
        self.model: BaseAlgorithm = self.algorithm(
            "CnnPolicy" if image else policy,
            self._env,
            seed=integer_seed(task.seed, "sb3"),
            device=task.device,
            policy_kwargs=None if hidden is None else {"net_arch": list(hidden)},
            **options,
        )
        # An in-memory logger without outputs: what SB3 records, our hooks write.
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self._resumed: State | None = None

    def initial_carry(self, num_envs: int) -> Carry:
        """SB3's feed-forward policies remember nothing."""
        return ()

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """Nothing to forget."""
        return carry

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """The policy's prediction, stochastic where `explore` (without the action noise of training)."""
        assert not isinstance(obs, tuple)
        with torch.random.fork_rng(devices=[]):
            if explore:  # SB3 samples from torch's global generator
                torch.manual_seed(int(rng.integers(2**31)))
            action, _ = self.model.predict(obs, deterministic=not explore)  # type: ignore[arg-type]
        return action, carry, {}

    def train_on(
        self, task: Task, make_env: Callable[[], VectorEnv], until_step: int, hook: Callable[[Progress], bool]
    ) -> None:
        """SB3's `learn` until `until_step` env steps; the hook is called between its rollouts."""
        if self._env.venv is None:
            self._env.venv = make_env()
        if self._resumed is not None:
            fresh_obs = self._env.venv.set_state(self._resumed["env"])
            self.model._last_obs = None if fresh_obs is not None else self._resumed["last_obs"]
            self.model._last_episode_starts = self._resumed["last_episode_starts"]
        resumed, self._resumed = self._resumed, None
        remaining = until_step - self.model.num_timesteps
        fresh = self.model._last_obs is None and self.model.num_timesteps == 0
        with contextlib.suppress(_Stop):
            self.model.learn(remaining, callback=_Reporter(self, hook, resumed), reset_num_timesteps=fresh)

    def policy_state(self) -> State:
        """Weights of the policy, with its targets."""
        return dict(self.model.policy.state_dict())

    def load_policy_state(self, state: State) -> None:
        """Restore the weights."""
        self.model.policy.load_state_dict(state)

    def training_state(self) -> State:
        """Optimisers, replay, counters, noise, generators and the environments."""
        model = self.model
        state_dicts, tensors = model._get_torch_save_params()
        parameters = model.get_parameters()
        noises = _noise_parts(model)
        venv = self._env.venv
        return {
            "optimizers": {name: parameters[name] for name in state_dicts if name != "policy"},
            "tensors": {name: getattr(model, name) for name in tensors},
            "counters": {name: getattr(model, name) for name in _COUNTERS},
            "replay": _Ring(model) if isinstance(model, OffPolicyAlgorithm) else None,
            "noise": [noise.noise_prev for noise in noises if isinstance(noise, OrnsteinUhlenbeckActionNoise)],
            "action_space": model.action_space.np_random.bit_generator.state,
            "last_obs": model._last_obs,
            "last_episode_starts": model._last_episode_starts,
            "running": {"returns": self._env.returns, "lengths": self._env.lengths},
            "env": None if venv is None else venv.get_state(),
        }

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned; the environments follow when training goes on."""
        model = self.model
        model.set_parameters(state["optimizers"] | {"policy": model.policy.state_dict()}, exact_match=True)
        for name, tensor in state["tensors"].items():
            getattr(model, name).data.copy_(tensor)
        for name, value in state["counters"].items():
            setattr(model, name, value)
        if isinstance(model, OffPolicyAlgorithm):
            _load_ring(model, state["replay"])
        model.action_space.np_random.bit_generator.state = state["action_space"]
        self._env.returns, self._env.lengths = state["running"]["returns"], state["running"]["lengths"]
        self._resumed = state if state["env"] is not None else None


class _Stop(Exception):
    """Leaves SB3's loop between two rollouts."""


class _Reporter(BaseCallback):
    """Calls the hook between rollouts, when SB3's state is complete."""

    def __init__(self, agent: Sb3Agent, hook: Callable[[Progress], bool], resumed: State | None) -> None:
        super().__init__()
        self._agent, self._hook, self._resumed = agent, hook, resumed
        self._reported = agent.model.num_timesteps

    def _on_training_start(self) -> None:
        if self._resumed is not None:  # `learn` has just set the noise back to zero
            noises = (n for n in _noise_parts(self.model) if isinstance(n, OrnsteinUhlenbeckActionNoise))
            for noise, previous in zip(noises, self._resumed["noise"], strict=True):
                noise.noise_prev = previous

    def _on_rollout_start(self) -> None:
        self._report()

    def _on_training_end(self) -> None:
        self._report()

    def _on_step(self) -> bool:
        return True

    def _report(self) -> None:
        if self.model.num_timesteps == self._reported:
            return
        self._reported = self.model.num_timesteps
        values = self.model.logger.name_to_value
        metrics = {name: float(value) for name, value in values.items() if name.startswith("train/")}
        values.clear()
        if not self._hook(Progress(self._reported, self._agent._env.take_episodes(), metrics)):
            raise _Stop


class _LentEnv(VecEnv):
    """Our vector environment as SB3's; only spaces until `venv` is attached."""

    def __init__(self, task: Task) -> None:
        self.venv: VectorEnv | None = None
        self.returns, self.lengths = np.zeros(task.num_envs), np.zeros(task.num_envs, dtype=np.int64)
        self._seed, self._episodes = task.seed, list[Episode]()
        super().__init__(task.num_envs, task.observation_space, task.action_space)

    def reset(self) -> Any:
        assert self.venv is not None, "train_on attaches the environments first"
        return self.venv.reset(self._seed)[0]

    def step_async(self, actions: Array) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, Array, Array, list[dict[str, Any]]]:
        assert self.venv is not None
        step = self.venv.step(self._actions)
        ended = step.ended
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self.returns += step.env_reward
        self.lengths += 1
        for row in np.flatnonzero(ended).tolist():
            infos[row] = {
                "terminal_observation": _row(step.next_obs, row),
                "TimeLimit.truncated": bool(step.truncated[row]),
            }
            self._episodes.append((float(self.returns[row]), int(self.lengths[row])))
            self.returns[row], self.lengths[row] = 0.0, 0
        return step.obs, step.reward.astype(np.float32), ended, infos

    def take_episodes(self) -> Sequence[Episode]:
        """Episodes that ended since the last call."""
        episodes, self._episodes = self._episodes, []
        return episodes

    def close(self) -> None:
        """The environments belong to whoever made them."""

    # The rest of SB3's interface reaches into environments; nothing in `learn` needs it.
    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError(f"setting {attr_name} inside environments is not possible here")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise NotImplementedError(f"calling {method_name} inside environments is not possible here")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class _Ring:
    """SB3's replay buffer as an append-only log of time steps."""

    def __init__(self, model: OffPolicyAlgorithm) -> None:
        assert model.replay_buffer is not None
        self._buffer = model.replay_buffer
        # rows are time steps of all environments, and every one was added since the run began
        self.total_added = model.num_timesteps // model.n_envs
        self.oldest_held = max(self.total_added - self._buffer.buffer_size, 0)

    def rows(self, start: int, stop: int) -> dict[str, Array]:
        """Copies of time steps [start, stop)."""
        places = np.arange(start, stop) % self._buffer.buffer_size
        return {name: array[places] for name, array in _ring_arrays(self._buffer).items()}


def _ring_arrays(buffer: Any) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for name in _RING:
        value = getattr(buffer, name)
        parts = value.items() if isinstance(value, dict) else [("", value)]
        arrays |= {f"{name}/{key}" if key else name: array for key, array in parts}
    return arrays


def _load_ring(model: OffPolicyAlgorithm, log: AppendOnly) -> None:
    buffer = model.replay_buffer
    assert buffer is not None
    if log.total_added > log.oldest_held:
        places = np.arange(log.oldest_held, log.total_added) % buffer.buffer_size
        rows = log.rows(log.oldest_held, log.total_added)
        for name, array in _ring_arrays(buffer).items():
            array[places] = rows[name]
    buffer.pos = log.total_added % buffer.buffer_size
    buffer.full = log.total_added >= buffer.buffer_size


def _noise(kind: str, sigma: float, task: Task) -> ActionNoise | None:
    if kind == "none":
        return None
    shape = task.action_space.shape or ()
    noise_class = NormalActionNoise if kind == "gaussian" else OrnsteinUhlenbeckActionNoise
    return noise_class(np.zeros(shape), np.full(shape, sigma))


def _noise_parts(model: BaseAlgorithm) -> Sequence[ActionNoise]:
    noise = model.action_noise if isinstance(model, OffPolicyAlgorithm) else None
    if noise is None:
        return []
    return noise.noises if isinstance(noise, VectorizedActionNoise) else [noise]


def _row(obs: Obs, row: int) -> Any:
    return {key: _row(value, row) for key, value in obs.items()} if isinstance(obs, dict) else obs[row]


_CONTINUOUS = (spaces.Box,)
_ANY = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_ACTION_SPACES: dict[type[BaseAlgorithm], tuple[type, ...]] = {
    stable_baselines3.A2C: _ANY,
    stable_baselines3.DDPG: _CONTINUOUS,
    stable_baselines3.DQN: (spaces.Discrete,),
    stable_baselines3.PPO: _ANY,
    stable_baselines3.SAC: _CONTINUOUS,
    stable_baselines3.TD3: _CONTINUOUS,
}


class Sb3A2C(Sb3Agent):
    """stable-baselines3's A2C."""

    algorithm = stable_baselines3.A2C
    Config = config_of(algorithm)


class Sb3DDPG(Sb3Agent):
    """stable-baselines3's DDPG."""

    algorithm = stable_baselines3.DDPG
    Config = config_of(algorithm, noise="gaussian")


class Sb3DQN(Sb3Agent):
    """stable-baselines3's DQN."""

    algorithm = stable_baselines3.DQN
    Config = config_of(algorithm)


class Sb3PPO(Sb3Agent):
    """stable-baselines3's PPO."""

    algorithm = stable_baselines3.PPO
    Config = config_of(algorithm)


class Sb3SAC(Sb3Agent):
    """stable-baselines3's SAC."""

    algorithm = stable_baselines3.SAC
    Config = config_of(algorithm)


class Sb3TD3(Sb3Agent):
    """stable-baselines3's TD3."""

    algorithm = stable_baselines3.TD3
    Config = config_of(algorithm, noise="gaussian")
