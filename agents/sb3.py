"""stable-baselines3's algorithms (`sb3/ddpg`, `sb3/ppo`, …) in rlkit's run folder, evaluation and TensorBoard.

The algorithm keeps its own loop and its own numbers (Raffin et al. 2021, https://jmlr.org/papers/v22/20-1364.html);
this file lends it our environments and stores its state without pickle, so that a run resumes exactly, which SB3's own
save and load does not.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from pydantic import Field, create_model
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rlkit.agents.sb3_bridge import LentEnv, Ring, action_noise, correlated_noises, load_noise, load_ring
from rlkit.config import AgentConfig
from rlkit.seeding import integer_seed
from rlkit.types import Array, Bools, Carry, Obs, Progress, State, Task, VectorEnv

# Constructor arguments that rlkit sets itself, or that are not plain values.
_NOT_OPTIONS = frozenset(
    {"policy", "env", "seed", "device", "verbose", "tensorboard_log", "stats_window_size", "optimize_memory_usage"}
    | {"use_sde", "sde_sample_freq", "use_sde_at_warmup", "_init_setup_model"}
)
# Counters of all algorithms, and DQN's own two.
_COUNTERS = (
    "num_timesteps",
    "_n_updates",
    "_episode_num",
    "_current_progress_remaining",
    "exploration_rate",
    "_n_calls",
)


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
        box = task.action_space
        if isinstance(box, spaces.Box) and not box.is_bounded("both"):
            return f"stable-baselines3 needs finite action bounds, these are {box}; give the Box finite low and high"
        leaves = [task.observation_space]
        if isinstance(task.observation_space, spaces.Dict):
            leaves = list(task.observation_space.spaces.values())
        if any(isinstance(leaf, (spaces.Dict, spaces.Tuple)) for leaf in leaves):
            return "stable-baselines3 takes no nested Dict and no Tuple observations"
        return None

    def __init__(self, config: Sb3Config, task: Task) -> None:
        self._env = LentEnv(task)
        options = config.model_dump()
        if "buffer_size" in options and not task.total_steps:
            options["buffer_size"] = task.num_envs
        hidden = options.pop("hidden")
        noise = action_noise(options.pop("noise", "none"), options.pop("noise_sigma", 0.0), task)
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
        self._pending: State | None = None  # environments' and noise's state, applied when training goes on

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
        if not explore:
            return self.model.predict(obs, deterministic=True)[0], carry, {}  # type: ignore[arg-type]
        with _generators_from(rng, self.model.action_space):
            return self.model.predict(obs, deterministic=False)[0], carry, {}  # type: ignore[arg-type]

    def train_on(
        self, task: Task, make_env: Callable[[], VectorEnv], until_step: int, hook: Callable[[Progress], bool]
    ) -> None:
        """SB3's `learn` until `until_step` env steps; the hook is called between its rollouts."""
        if self._env.venv is None:
            self._env.venv = make_env()
        pending, self._pending = self._pending, None
        if pending is not None and self._env.venv.set_state(pending["env"]) is not None:
            self.model._last_obs = None  # lost episodes: SB3 resets the environments
        fresh = self.model._last_obs is None and self.model.num_timesteps == 0
        reporter = _Reporter(self, hook, [] if pending is None else pending["noise"])
        with contextlib.suppress(_Stop):
            self.model.learn(until_step - self.model.num_timesteps, callback=reporter, reset_num_timesteps=fresh)

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
        venv = self._env.venv
        return {
            "optimizers": {name: parameters[name] for name in state_dicts if name != "policy"},
            "tensors": {name: getattr(model, name) for name in tensors},
            "counters": {name: value for name, value in vars(model).items() if name in _COUNTERS},
            "replay": Ring(model) if isinstance(model, OffPolicyAlgorithm) else None,
            "noise": [noise.noise_prev for noise in correlated_noises(model)],
            "action_space": model.action_space.np_random.bit_generator.state,
            "last_obs": model._last_obs,
            "last_episode_starts": model._last_episode_starts,
            "running": {"returns": self._env.returns, "lengths": self._env.lengths},
            "env": (self._pending or {}).get("env") if venv is None else venv.get_state(),
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
            load_ring(model, state["replay"])
        model.action_space.np_random.bit_generator.state = state["action_space"]
        self._env.returns, self._env.lengths = state["running"]["returns"], state["running"]["lengths"]
        model._last_obs, model._last_episode_starts = state["last_obs"], state["last_episode_starts"]
        load_noise(model, state["noise"])
        self._pending = None if state["env"] is None else {"env": state["env"], "noise": state["noise"]}


@contextlib.contextmanager
def _generators_from(rng: np.random.Generator, action_space: spaces.Space[Any]) -> Iterator[None]:
    """Seed what SB3 samples actions from (global generators, the action space's) by `rng`, and put it back."""
    seed = int(rng.integers(2**31))
    own, before = action_space.np_random.bit_generator, np.random.get_state()
    own_before = own.state
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        own.state = np.random.PCG64(seed).state
        try:
            yield
        finally:
            np.random.set_state(before)
            own.state = own_before


class _Stop(Exception):
    """Leaves SB3's loop between two rollouts."""


class _Reporter(BaseCallback):
    """Calls the hook between rollouts, when SB3's state is complete."""

    def __init__(self, agent: Sb3Agent, hook: Callable[[Progress], bool], noise: Sequence[Array]) -> None:
        super().__init__()
        self._agent, self._hook, self._noise = agent, hook, noise
        self._reported = agent.model.num_timesteps

    def _on_training_start(self) -> None:
        load_noise(self.model, self._noise)  # `learn` has just set it back to zero

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
