"""`--agent.encoder attention`: what becomes a token, that order and absence do not matter, and agents that use it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rlkit
from rlkit.agents.observations import token_parts
from rlkit.data.flatten import ObservationFlattener
from rlkit.errors import UnsupportedTaskError
from rlkit.nn.attention_encoder import AttentionEncoder, Part
from rlkit.nn.cores import EncoderCore, RecurrentCore, TransformerCore
from rlkit.types import Transition

ENV = "rlkit/NearestMatch-v0"


def encoder(space: gym.Space[Any], layers: int = 2) -> AttentionEncoder:
    generator = torch.Generator().manual_seed(0)
    return AttentionEncoder(token_parts(space), 16, layers=layers, heads=4, generator=generator)


def entities() -> spaces.Dict:
    return spaces.Dict(
        mask=spaces.MultiBinary(5),
        own=spaces.Box(-1, 1, (2,)),
        things=spaces.Box(-1, 1, (5, 3)),
        kind=spaces.Discrete(4),
    )


def observations(rows: int = 4) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {
        "kind": rng.integers(4, size=rows),
        "mask": np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])[:rows],
        "own": rng.standard_normal((rows, 2)).astype(np.float32),
        "things": rng.standard_normal((rows, 5, 3)).astype(np.float32),
    }


def test_parts_of_a_dict() -> None:
    assert token_parts(entities()) == (Part(5, 1, 2), Part(7, 5, 3, mask_start=0), Part(22, 1, 4))
    named = spaces.Dict(
        a=spaces.Box(-1, 1, (2, 3)),
        a_mask=spaces.MultiBinary(2),
        b=spaces.Box(-1, 1, (2, 3)),
        mask=spaces.MultiBinary(7),
    )
    assert token_parts(named) == (Part(0, 2, 3, mask_start=6), Part(8, 2, 3), Part(14, 1, 7))


def test_a_picture_becomes_patches() -> None:
    space = spaces.Box(0, 255, (32, 48, 3), np.uint8)
    assert token_parts(space) == (Part(0, 1, 32 * 48 * 3, picture=(32, 48, 3)),)
    network = encoder(space)
    assert network.kinds[0].shape == (8 * 12, 16)
    flat = torch.rand(2, 32 * 48 * 3)
    moved = flat.view(2, 32, 48, 3).flip(2).flatten(1)
    assert network(flat).shape == (2, 16)
    assert not torch.allclose(network(moved), network(flat))


def test_the_order_of_entities_and_those_that_are_missing_do_not_matter() -> None:
    space, obs = entities(), observations()
    network, flatten = encoder(space), ObservationFlattener(space)
    with torch.no_grad():
        features = network(torch.from_numpy(flatten(obs)))
        order = np.array([4, 2, 0, 1, 3])
        shuffled = {**obs, "things": obs["things"][:, order], "mask": obs["mask"][:, order]}
        torch.testing.assert_close(network(torch.from_numpy(flatten(shuffled))), features, rtol=0, atol=1e-5)
        loud = {**obs, "things": np.where(obs["mask"][..., None] == 1, obs["things"], np.float32(1e4))}
        assert torch.equal(network(torch.from_numpy(flatten(loud))), features)
        other = {**obs, "own": obs["own"] + 1}
        assert not torch.allclose(network(torch.from_numpy(flatten(other))), features)
    assert bool(features.isfinite().all())


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (4,)), spaces.Discrete(3), spaces.Dict(a=spaces.Box(-1, 1, (4,)))])
def test_one_token_alone_is_refused(space: gym.Space[Any]) -> None:
    with pytest.raises(UnsupportedTaskError, match=r"several parts .* use --agent.encoder mlp"):
        token_parts(space)


CORES = {"none": EncoderCore, "gru": RecurrentCore, "transformer": TransformerCore}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", ["ppo", "a2c", "reinforce"])
def test_agents_train_resume_and_act_with_it(name: str, core: str, tmp_path: Any) -> None:
    options: dict[str, Any] = {
        "encoder": "attention", "encoder_width": 8, "encoder_heads": 2, "core": core, "core_width": 8, "core_heads": 2,
        "core_context": 4, **{"ppo": {"n_steps": 8, "batch_size": 8}, "a2c": {}, "reinforce": {"episodes": 2}}[name],
    }  # fmt: skip
    train: dict[str, Any] = {"agent_config": options, "num_envs": 2, "preset": "none", "eval_every": 0}
    whole = rlkit.train(name, ENV, total_steps=96, run_dir=tmp_path / "whole", **train)
    rlkit.train(name, ENV, total_steps=44, run_dir=tmp_path / "part", **train)
    again = rlkit.resume(tmp_path / "part", total_steps=96)
    network = whole.agent.actor.network
    assert torch.equal(network.flat, again.agent.actor.network.flat)
    assert isinstance(network.core.policy, CORES[core])
    assert isinstance(network.core.policy.encoder, AttentionEncoder)
    observation, _ = gym.make(ENV).reset(seed=0)
    assert rlkit.load(whole.run_dir).predict(observation) in range(8)


def test_steps_apart_are_shuffled_by_themselves(tmp_path: Any) -> None:
    """Without memory a minibatch is of single steps, as with perceptrons."""
    result = rlkit.train(
        "ppo", ENV, total_steps=64, run_dir=tmp_path / "run", preset="none", eval_every=0, num_envs=2,
        agent_config={"encoder": "attention", "encoder_width": 8, "encoder_heads": 2, "n_steps": 24, "batch_size": 7},
    )  # fmt: skip
    actor, rollout = result.agent.actor, result.agent.rollout
    batch = actor.batch(rollout, 0.9, 0.9)
    assert batch.obs.shape[:2] == (2 * len(rollout), 1)
    assert [len(part) for part in actor.minibatches(batch, 7, np.random.default_rng(0))][:2] == [7, 7]


DQN: dict[str, Any] = {
    "encoder": "attention", "encoder_width": 8, "encoder_heads": 2, "encoder_layers": 1, "hidden": (16, 16),
    "batch_size": 16, "buffer_size": 500, "learning_starts": 20,
}  # fmt: skip
RECURRENT = {"core": "gru", "core_width": 8, "sequence_length": 8, "burn_in": 2}


@pytest.mark.parametrize(
    "options",
    [{}, {"prioritized": True, "n_step": 3, "double": True}, {"dueling": True, "noisy": True},
     {"distribution": "implicit", "quantiles": 4}, {"hidden": ()}, RECURRENT],
)  # fmt: skip
def test_dqn_trains_resumes_and_acts_with_it(options: dict[str, Any], tmp_path: Any) -> None:
    train: dict[str, Any] = {
        # ε stands still: its fall keeps the horizon of the shorter run
        "agent_config": {**DQN, "epsilon": 0.2, "final_epsilon": 0.2, **options}, "num_envs": 2, "preset": "none",
        "eval_every": 0,
    }  # fmt: skip
    if "prioritized" in options:  # so does the exponent of the weights
        train["agent_config"]["priority_beta"] = 1.0
    whole = rlkit.train("dqn", ENV, total_steps=120, run_dir=tmp_path / "whole", **train)
    rlkit.train("dqn", ENV, total_steps=64, run_dir=tmp_path / "part", **train)
    again = rlkit.resume(tmp_path / "part", total_steps=120)
    assert torch.equal(whole.agent.network.flat, again.agent.network.flat)
    observation, _ = gym.make(ENV).reset(seed=0)
    assert rlkit.load(whole.run_dir).predict(observation) in range(8)


def test_order_does_not_matter_to_dqn_and_what_it_attends_to_is_told() -> None:
    agent = rlkit.make("dqn", ENV, **DQN)
    obs, _ = gym.make(ENV).reset(seed=0)
    batch = {key: np.array(value)[None] for key, value in obs.items()}
    turned = {key: value if key == "own" else value[:, ::-1] for key, value in batch.items()}
    np.testing.assert_allclose(agent.features(turned), agent.features(batch), rtol=0, atol=1e-5)
    assert agent.features(batch).shape == (1, agent.feature_size)
    maps = agent.attention_maps([batch, turned])
    assert {weights.shape for weights in maps.values()} == {(2, 13)}
    assert rlkit.make("dqn", ENV).attention_maps([batch]) == {}


def test_dqn_descends_the_gradient_of_its_loss_through_the_encoder(tmp_path: Any) -> None:
    agent = rlkit.make("dqn", ENV, loss="squared", **{**DQN, "learning_starts": 10_000})
    env = gym.make(ENV)
    rng, obs = np.random.default_rng(0), env.reset(seed=0)[0]
    for _ in range(40):
        action = int(rng.integers(8))
        following, reward, terminated, truncated, _ = env.step(action)
        here, after = ({key: np.array(value)[None] for key, value in part.items()} for part in (obs, following))
        ends = np.array([terminated]), np.array([truncated])
        agent.observe(Transition(here, np.array([action]), np.array([reward], np.float32), after, *ends), ())
        obs = env.reset()[0] if terminated or truncated else following
    tensors = agent.tensors(agent.replay.sample(16, rng, beta=1.0))
    flat, (_, gradient, _) = agent.network.flat, agent.loss_and_gradient(tensors)
    direction = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    direction /= direction.norm()
    begin, losses = flat.clone(), []
    for shift in (3e-3, -3e-3):
        flat.copy_(begin + shift * direction)
        losses.append(float(agent.loss_and_gradient(tensors)[0]))
    assert float(gradient @ direction) == pytest.approx((losses[0] - losses[1]) / 6e-3, rel=5e-2, abs=2e-3)


class Follow(gym.Env[Any, Any]):
    """The nearer the action is to the first of some things, the better; one thing of five is missing."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(things=spaces.Box(-1, 1, (5, 2)), mask=spaces.MultiBinary(5))
        self.action_space = spaces.Box(-1, 1, (2,))
        self.steps = 0

    def seen(self) -> dict[str, Any]:
        self.things = self.np_random.uniform(-1, 1, (5, 2)).astype(np.float32)
        return {"things": self.things, "mask": np.array([1, 1, 1, 1, 0], np.int8)}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        reward = -float(np.square(action - self.things[0]).sum())
        self.steps += 1
        return self.seen(), reward, False, self.steps == 9, {}


OFF_POLICY: dict[str, Any] = {
    "encoder": "attention", "encoder_width": 8, "encoder_heads": 2, "encoder_layers": 1, "hidden": (16,),
    "batch_size": 16, "buffer_size": 500, "learning_starts": 20,
}  # fmt: skip
OFF_POLICY_AGENTS = ("ddpg", "td3", "sac", "tqc")


@pytest.mark.parametrize("options", [{}, {"n_step": 3}, RECURRENT], ids=["plain", "n-step", "gru"])
@pytest.mark.parametrize("name", OFF_POLICY_AGENTS)
def test_off_policy_agents_train_resume_and_act_with_it(name: str, options: dict[str, Any], tmp_path: Any) -> None:
    train: dict[str, Any] = {"agent_config": {**OFF_POLICY, **options}, "preset": "none", "eval_every": 0}
    whole = rlkit.train(name, Follow, total_steps=70, run_dir=tmp_path / "whole", **train)
    rlkit.train(name, Follow, total_steps=45, run_dir=tmp_path / "part", **train)
    again = rlkit.resume(tmp_path / "part", total_steps=70, env=Follow)
    found, expected = again.agent.vectors, whole.agent.vectors
    assert all(torch.equal(found[vector], expected[vector]) for vector in expected)
    observation, _ = Follow().reset(seed=0)
    assert rlkit.load(whole.run_dir, env=Follow).predict(observation).shape == (2,)


def met(agent: Any) -> Any:
    """A batch of what the agent met in a random episode."""
    env = Follow()
    rng, obs = np.random.default_rng(0), env.reset(seed=0)[0]
    for _ in range(9):
        following, reward, terminated, truncated, _ = env.step(action := rng.uniform(-1, 1, 2).astype(np.float32))
        here, after = ({key: value[None] for key, value in part.items()} for part in (obs, following))
        ends = np.array([terminated]), np.array([truncated])
        agent.observe(Transition(here, action[None], np.array([reward], np.float32), after, *ends), ())
        obs = following
    return agent.replay.sample(6, rng)


@pytest.mark.parametrize("name", OFF_POLICY_AGENTS)
def test_actors_see_in_learning_what_they_saw_in_acting(name: str) -> None:
    agent = rlkit.make(name, Follow, **OFF_POLICY)
    batch = met(agent)
    tensors = agent.tensors(batch)
    for obs, steps in ((batch.obs, tensors.obs), (batch.next_obs, tensors.next_obs)):
        features, _ = agent.actor.step(agent.prepare(obs), ())
        np.testing.assert_allclose(agent.actor(steps).numpy(), agent.actor.numpy_forward(features), rtol=0, atol=1e-5)
    shuffled = {key: value[:, [1, 0, 2, 3, 4]] for key, value in batch.obs.items()}
    features, _ = agent.actor.step(agent.prepare(shuffled), ())
    expected = agent.actor.numpy_forward(agent.actor.step(agent.prepare(batch.obs), ())[0])
    np.testing.assert_allclose(agent.actor.numpy_forward(features), expected, rtol=0, atol=1e-5)
    assert agent.attention_maps([{key: value[:1] for key, value in batch.obs.items()}] * 3).popitem()[1].shape == (3, 5)


def test_ddpg_descends_the_gradients_of_its_losses_through_the_encoders() -> None:
    agent = rlkit.make("ddpg", Follow, **OFF_POLICY)
    tensors = agent.tensors(met(agent))
    generator = torch.Generator().manual_seed(0)
    for network, loss_and_gradient in ((agent.critic, agent.critic_gradient), (agent.actor, agent.actor_gradient)):
        flat, (_, gradient) = network.flat, loss_and_gradient(tensors)
        direction = torch.randn(flat.shape, generator=generator)
        direction /= direction.norm()
        begin, losses = flat.clone(), []
        for shift in (3e-3, -3e-3):
            flat.copy_(begin + shift * direction)
            losses.append(float(loss_and_gradient(tensors)[0]))
        flat.copy_(begin)
        assert float(gradient @ direction) == pytest.approx((losses[0] - losses[1]) / 6e-3, rel=5e-2, abs=2e-3)
