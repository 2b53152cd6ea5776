"""Agents on a GPU: they train there, and one update is the CPU's to 1e-4.

Without a GPU the same updates run on tensors that pretend to be on one: they compute on the processor, but say that
they do not, refuse to meet the processor's tensors, and refuse numpy their memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_data import random_pendulum
from gymnasium import spaces
from torch import Tensor
from torch.overrides import TorchFunctionMode

import rlkit
from rlkit import registry
from rlkit.types import Task, Transition

OBS = spaces.Box(-np.inf, np.inf, (4,), np.float32)
CONTINUOUS, DISCRETE = spaces.Box(-1.0, 2.0, (3,), np.float32), spaces.Discrete(3)
PICTURES = spaces.Box(0, 255, (16, 16, 2), np.uint8)
STEPS, ENVS = 24, 2
LATE: dict[str, Any] = {"learning_starts": STEPS * ENVS - 1, "batch_size": 16, "hidden": (16, 16)}
ROLLOUT: dict[str, Any] = {"n_steps": STEPS, "hidden": (16, 16)}
OFF_POLICY = (CONTINUOUS, {**LATE, "update_to_data_ratio": 1 / ENVS})
VALUES = (DISCRETE, {**LATE, "train_every": ENVS})
TRANSFORMER: dict[str, Any] = {
    "core": "transformer", "core_width": 8, "core_heads": 2, "core_context": 8, "sequence_length": 4, "burn_in": 2
}  # fmt: skip
# By agent: actions, and a configuration that updates once, after the last step.
AGENTS: dict[str, tuple[spaces.Space[Any], dict[str, Any]]] = {
    "dqn": VALUES,
    "ddpg": OFF_POLICY,
    "td3": (CONTINUOUS, {**OFF_POLICY[1], "policy_delay": 1}),
    "sac": OFF_POLICY,
    "ppo": (CONTINUOUS, {**ROLLOUT, "batch_size": STEPS * ENVS, "epochs": 1}),
    "a2c": (CONTINUOUS, {**ROLLOUT, "optimizer": "adam"}),
    "tqc": OFF_POLICY,
    "crossq": (CONTINUOUS, {**OFF_POLICY[1], "critic_hidden": (16, 16), "policy_delay": 1}),
    "sac on a gru": (CONTINUOUS, {**OFF_POLICY[1], **TRANSFORMER, "core": "gru"}),
    "td3 on a transformer": (CONTINUOUS, {**OFF_POLICY[1], "policy_delay": 1, **TRANSFORMER}),
    "dqn on a gru": (DISCRETE, {**LATE, "train_every": ENVS, **TRANSFORMER, "core": "gru"}),
    "ppo on pictures": (CONTINUOUS, {**ROLLOUT, "batch_size": STEPS * ENVS, "epochs": 1}),
    "ppo on pictures and a gru": (
        CONTINUOUS,
        {**ROLLOUT, "batch_size": STEPS * ENVS, "epochs": 1, "core": "gru", "core_width": 8},
    ),
    "sac on pictures": (CONTINUOUS, {**OFF_POLICY[1], "buffer_size": 100}),
    **dict.fromkeys(("rainbow", "c51", "qr-dqn", "iqn", "munchausen-dqn"), VALUES),
}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def build(name: str, device: str) -> Any:
    action_space, values = AGENTS[name]
    agent = registry.agent_class(name.split()[0])
    config = registry.config_class(agent)(**values)
    return agent(config, Task(seen(name), action_space, num_envs=ENVS, total_steps=1000, device=device))


def seen(name: str) -> spaces.Box:
    """Observations of the agent."""
    return PICTURES if "pictures" in name else OBS


def observed(space: spaces.Box, rng: np.random.Generator) -> Any:
    """Random observations."""
    if space is PICTURES:
        return rng.integers(0, 256, (ENVS, *space.shape), np.uint8)
    return rng.standard_normal((ENVS, *space.shape)).astype(np.float32)


def steps(acting: Any, space: spaces.Box = OBS) -> list[Transition]:
    """Random observations and rewards, the actions those of `acting`."""
    rng, carry, found = np.random.default_rng(0), acting.initial_carry(ENVS), []
    obs = observed(space, rng)
    for number in range(STEPS):
        action, carry, extras = acting.act(obs, carry, explore=True, rng=rng)
        next_obs = observed(space, rng)
        reward = rng.standard_normal(ENVS).astype(np.float32)
        terminated = np.array([False, number % 8 == 7])
        found.append(Transition(obs, action, reward, next_obs, terminated, np.zeros(ENVS, np.bool_), extras=extras))
        obs = next_obs
    return found


def one_update(agent: Any, experience: list[Transition]) -> Mapping[str, float]:
    """Metrics of the one update that so many steps lead to."""
    found = []
    for step in experience:
        agent.observe(step, agent.initial_carry(ENVS))
        found.append(agent.update())
    assert [bool(metrics) for metrics in found] == [False] * (STEPS - 1) + [True]
    return found[-1]


def gradients(agent: Any) -> dict[str, Tensor]:
    """What the optimisers were given: after one step Adam's mean is a tenth of the gradient."""
    state = agent.training_state()
    return {name: 10 * state[name]["exp_avg"].cpu() for name in state if name.endswith("optimizer")}


def assert_gives_the_cpus_update(agent: Any, reference: Any, space: spaces.Box = OBS) -> None:
    """The same actions, metrics and gradients to 1e-4; Adam's first step is a sign, so weights would say nothing."""
    experience, rng = steps(reference, space), np.random.default_rng(0)
    (action, *_), (expected, *_) = (
        each.act(experience[0].obs, each.initial_carry(ENVS), explore=False, rng=rng) for each in (agent, reference)
    )
    np.testing.assert_allclose(action, expected, atol=1e-4)

    metrics, wanted = (one_update(each, experience) for each in (agent, reference))
    assert metrics == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    found = gradients(agent)
    for name, gradient in gradients(reference).items():
        assert gradient.abs().max() > 1e-3
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4)


@needs_gpu
@pytest.mark.parametrize("name", AGENTS)
def test_one_update_on_the_gpu_is_the_cpus(name: str) -> None:
    assert_gives_the_cpus_update(build(name, "cuda"), build(name, "cpu"), seen(name))


@needs_gpu
@pytest.mark.parametrize("name", [name for name in AGENTS if seen(name) is OBS])
def test_agents_train_and_go_on_on_the_gpu(name: str, tmp_path: Path) -> None:
    env = "CartPole-v1" if AGENTS[name][0] is DISCRETE else "Pendulum-v1"
    config = {"n_steps": 50} if name in ("ppo", "a2c") else {"learning_starts": 100}
    options: dict[str, Any] = {"preset": "none", "device": "cuda", "eval_every": 0, "checkpoint_every": 200}
    config |= {key: value for key, value in AGENTS[name][1].items() if key in TRANSFORMER}
    first = rlkit.train(name.split()[0], env, total_steps=300, run_dir=tmp_path, agent_config=config, **options)
    assert {tensor.device.type for tensor in tensors_of(first.agent.policy_state())} == {"cuda"}
    result = rlkit.resume(tmp_path, total_steps=400)
    assert result.steps == 400
    assert all(bool(tensor.isfinite().all()) for tensor in tensors_of(result.agent.policy_state()))


def tensors_of(tree: Any) -> list[Tensor]:
    """Every tensor of a state."""
    if isinstance(tree, dict):
        return [tensor for child in tree.values() for tensor in tensors_of(child)]
    return [tree] if isinstance(tree, Tensor) else []


class OnGPU(Tensor):
    """A tensor of the processor that pretends."""


class PretendedGPU(TorchFunctionMode):
    """`cuda` is a device: what is made there or sent there is `OnGPU`, and so is what is computed of it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is Tensor.to and is_cuda(args[1]):
            return args[0] if isinstance(args[0], OnGPU) else args[0].detach().clone().as_subclass(OnGPU)
        if is_cuda(kwargs.get("device")):
            return function(*args, **kwargs | {"device": "cpu"}).as_subclass(OnGPU)
        if args and isinstance(args[0], OnGPU):
            if function == Tensor.is_cpu.__get__:
                return False
            if function == Tensor.device.__get__:
                return torch.device("cuda")
            if function is Tensor.cpu:
                return args[0].as_subclass(Tensor).clone()
            assert function is not Tensor.numpy, "numpy was asked for the memory of a GPU"
        if function not in (Tensor.copy_, torch._has_compatible_shallow_copy_type):  # these may meet
            require_one_device(function, [*args, *kwargs.values()])
        return function(*args, **kwargs)


def is_cuda(target: Any) -> bool:
    return isinstance(target, OnGPU) or (isinstance(target, (str, torch.device)) and str(target).startswith("cuda"))


def require_one_device(function: Any, arguments: list[Any]) -> None:
    """As on a GPU, where only single numbers may come from elsewhere."""
    lists = [argument if isinstance(argument, (list, tuple)) else [argument] for argument in arguments]
    sizable = [tensor for part in lists for tensor in part if isinstance(tensor, Tensor) and Tensor.dim(tensor) > 0]
    places = {isinstance(tensor, OnGPU) for tensor in sizable}
    assert len(places) < 2, f"{function} was given tensors of two devices"


@pytest.fixture
def pretended_gpu() -> Iterator[None]:
    """Modules that move get new parameters, because a parameter cannot begin to pretend."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with PretendedGPU():
        yield
    torch.__future__.set_overwrite_module_params_on_conversion(before)


@pytest.mark.usefixtures("pretended_gpu")
@pytest.mark.parametrize("name", AGENTS)
def test_the_gpus_path_gives_the_cpus_update(name: str) -> None:
    agent = build(name, "cuda")
    assert {tensor.device.type for tensor in tensors_of(agent.policy_state())} == {"cuda"}
    assert_gives_the_cpus_update(agent, build(name, "cpu"), seen(name))
    agent.load_policy_state(agent.policy_state())
    agent.load_training_state(agent.training_state())


@pytest.mark.usefixtures("pretended_gpu")
def test_the_gpus_path_gives_the_cpus_updates_from_a_dataset() -> None:
    agents, metrics, actions = {}, {}, {}
    for device in ("cuda", "cpu"):
        found = metrics[device] = []
        space = spaces.Box(-np.array([1, 1, 8], np.float32), np.array([1, 1, 8], np.float32))
        task = Task(space, spaces.Box(-2.0, 2.0, (1,)), device=device)
        options = {"dataset": random_pendulum(), "width": 16, "layers": 1, "context": 4, "warmup_updates": 1}
        agent_class: Any = registry.agent_class("decision-transformer")
        agent = agents[device] = agent_class(agent_class.Config(**options), task)
        agent.train_on(task, None, 3, lambda progress, found=found: found.append(progress.metrics) is None)
        obs, rng = np.ones((2, 3), np.float32), np.random.default_rng(0)
        actions[device] = agent.act(obs, agent.initial_carry(2), explore=False, rng=rng)[0]
        agent.load_policy_state(agent.policy_state())
        agent.load_training_state(agent.training_state())
    assert {tensor.device.type for tensor in tensors_of(agents["cuda"].policy_state())} == {"cuda"}
    for found, wanted in zip(metrics["cuda"], metrics["cpu"], strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    np.testing.assert_allclose(actions["cuda"], actions["cpu"], atol=1e-4)


@pytest.mark.usefixtures("pretended_gpu")
def test_the_pretended_gpu_refuses_what_a_gpu_refuses() -> None:
    on_gpu = torch.ones(2, device="cuda")
    assert not (2 * on_gpu).is_cpu
    assert (2 * on_gpu).cpu().numpy().tolist() == [2.0, 2.0]
    with pytest.raises(AssertionError, match="memory of a GPU"):
        on_gpu.exp().numpy()
    with pytest.raises(AssertionError, match="two devices"):
        on_gpu + torch.ones(2)
    with pytest.raises(AssertionError, match="two devices"):
        torch.cat([on_gpu, torch.ones(2)])
