"""DQN and its switches: each is compared with a plain reference, and a switch that does nothing fails its test."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from pydantic import ValidationError

from rlkit import registry
from rlkit.agents.dqn import DQN, Tensors
from rlkit.agents.dqn_config import DQNConfig
from rlkit.agents.rainbow import IQN, QRDQN, Rainbow
from rlkit.data.replay import Batch
from rlkit.types import Task, Transition

OBS, ACTIONS, ROWS = 4, 3, 16
TASK = Task(spaces.Box(-1.0, 1.0, (OBS,)), spaces.Discrete(ACTIONS), total_steps=1000)
SMALL: dict[str, Any] = {"hidden": (8, 8), "batch_size": 8, "buffer_size": 200, "learning_starts": 0}


def agent_with(task: Task = TASK, **options: Any) -> DQN:
    return DQN(DQNConfig(**{**SMALL, **options}), task)


def random_batch(**fields: Any) -> Batch:
    rng = np.random.default_rng(0)
    terminated = rng.random(ROWS) < 0.3
    batch = Batch(
        obs=rng.standard_normal((ROWS, OBS)).astype(np.float32),
        action=rng.integers(ACTIONS, size=ROWS),
        reward=rng.standard_normal(ROWS).astype(np.float32),
        next_obs=rng.standard_normal((ROWS, OBS)).astype(np.float32),
        terminated=terminated,
        discount=np.where(terminated, 0.0, 0.9).astype(np.float32),
    )
    return replace(batch, **fields)


def different_networks(agent: DQN) -> DQN:
    """Online and target network that disagree about the best action."""
    generator = torch.Generator().manual_seed(5)
    agent.target_network.flat.add_(torch.randn(agent.target_network.flat.shape, generator=generator))
    return agent


def reference_values(agent: DQN, tensors: Tensors, *, online: bool) -> torch.Tensor:
    network = agent.network if online else agent.target_network
    return network.outputs(tensors.next_obs)[:, :, 0]


def test_target_is_the_reward_and_the_discounted_best_value_of_the_target_network():
    agent = different_networks(agent_with())
    tensors = agent.tensors(random_batch())
    best = reference_values(agent, tensors, online=False).max(dim=1).values
    torch.testing.assert_close(agent.target(tensors)[:, 0], tensors.reward + tensors.discount * best)


def test_double_selects_by_the_online_network():
    agent = different_networks(agent_with(double=True))
    tensors = agent.tensors(random_batch())
    chosen = reference_values(agent, tensors, online=True).argmax(dim=1)
    values = reference_values(agent, tensors, online=False)
    expected = tensors.reward + tensors.discount * values[torch.arange(ROWS), chosen]
    torch.testing.assert_close(agent.target(tensors)[:, 0], expected)
    assert not torch.allclose(expected, tensors.reward + tensors.discount * values.max(dim=1).values)


def test_targets_never_use_forbidden_actions():
    agent = different_networks(agent_with())
    mask = np.zeros((ROWS, ACTIONS), np.bool_)
    mask[:, 1] = True
    tensors = agent.tensors(random_batch(next_action_mask=mask))
    only = reference_values(agent, tensors, online=False)[:, 1]
    torch.testing.assert_close(agent.target(tensors)[:, 0], tensors.reward + tensors.discount * only)


@pytest.mark.parametrize("loss", ["huber", "squared"])
def test_loss_and_gradient_are_those_of_autograd(loss):
    agent = different_networks(agent_with(loss=loss))
    tensors = agent.tensors(random_batch())
    found, gradient, error = agent.loss_and_gradient(tensors)
    network = agent.network.mlp
    predicted = network(tensors.obs)[torch.arange(ROWS), tensors.action]
    function = torch.nn.functional.smooth_l1_loss if loss == "huber" else torch.nn.functional.mse_loss
    expected = function(predicted, agent.target(tensors)[:, 0])
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, network.flat)[0])
    torch.testing.assert_close(error, (predicted - agent.target(tensors)[:, 0]).abs().detach())


def test_importance_weights_scale_each_transitions_gradient():
    agent = agent_with()
    weights = np.zeros(ROWS, np.float32)
    weights[3] = 1.0
    _, weighted, _ = agent.loss_and_gradient(agent.tensors(random_batch(weights=weights)))
    whole = random_batch()
    rows = {
        name: getattr(whole, name)[3:4] for name in ("obs", "action", "reward", "next_obs", "terminated", "discount")
    }
    _, alone, _ = agent.loss_and_gradient(agent.tensors(Batch(**rows)))
    torch.testing.assert_close(weighted, alone / ROWS)


def test_munchausen_target_is_the_papers_equation():
    agent = different_networks(agent_with(munchausen=True, munchausen_temperature=0.5, munchausen_lowest=-0.3))
    tensors = agent.tensors(random_batch())
    q = agent.target_network.outputs(tensors.obs)[:, :, 0].double().numpy()
    q_next = agent.target_network.outputs(tensors.next_obs)[:, :, 0].double().numpy()
    for row in range(ROWS):
        pi = np.exp(q[row] / 0.5) / np.exp(q[row] / 0.5).sum()
        pi_next = np.exp(q_next[row] / 0.5) / np.exp(q_next[row] / 0.5).sum()
        bonus = 0.9 * max(0.5 * math.log(pi[tensors.action[row]]), -0.3)
        soft = sum(p * (v - 0.5 * math.log(p)) for p, v in zip(pi_next, q_next[row], strict=True))
        expected = tensors.reward[row].item() + bonus + tensors.discount[row].item() * soft
        assert agent.target(tensors)[row, 0].item() == pytest.approx(expected, abs=1e-5)


def test_forbidden_actions_have_no_part_in_the_munchausen_policies():
    agent = different_networks(agent_with(munchausen=True))
    batch = random_batch(action=np.full(ROWS, 1))
    only = np.zeros((ROWS, ACTIONS), np.bool_)
    only[:, 1] = True
    tensors = agent.tensors(replace(batch, action_mask=only, next_action_mask=only))
    values = reference_values(agent, tensors, online=False)[:, 1]  # one action: log-policies are zero
    torch.testing.assert_close(agent.target(tensors)[:, 0], tensors.reward + tensors.discount * values)


def test_categorical_learning_moves_the_distribution_to_its_target():
    agent = agent_with(distribution="categorical", atoms=11, lowest_return=-2.0, highest_return=2.0, learning_rate=0.01)
    batch = random_batch(discount=np.zeros(ROWS, np.float32), reward=np.full(ROWS, 0.4, np.float32))
    for _ in range(300):
        agent.learn(batch)
    values = agent.head.values(agent.network.outputs(torch.from_numpy(batch.obs)))
    taken = values[torch.arange(ROWS), torch.from_numpy(batch.action)]
    torch.testing.assert_close(taken, torch.full((ROWS,), 0.4), atol=0.05, rtol=0)
    probabilities = torch.softmax(agent.network.outputs(torch.from_numpy(batch.obs))[0, batch.action[0]], dim=0)
    assert probabilities[6] > 0.9  # atom 6 of 11 between -2 and 2 is 0.4


def test_returns_outside_the_atoms_are_told_once(caplog):
    agent = agent_with(distribution="categorical", atoms=11, lowest_return=-2.0, highest_return=2.0)
    for reward in (1.0, 50.0, 50.0):
        agent.learn(random_batch(reward=np.full(ROWS, reward, np.float32)))
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "most discounted returns lie outside the atoms from -2 to 2 and are clipped; choose --agent.lowest-return "
        "and --agent.highest-return around what an episode can give"
    ]


@pytest.mark.parametrize("kind", [QRDQN, IQN])
def test_quantiles_spread_over_random_returns(kind):
    agent = kind(kind.Config(**{**SMALL, "quantiles": 8, "learning_rate": 0.01, "quantile_threshold": 0.0}), TASK)
    rng = np.random.default_rng(0)
    obs = np.zeros((64, OBS), np.float32)
    for _ in range(600):
        reward = rng.random(64).astype(np.float32)
        zeros = np.zeros(64, np.float32)
        agent.learn(Batch(obs, np.zeros(64, np.int64), reward, obs, np.ones(64, np.bool_), zeros))
    outputs = agent.network.outputs(torch.zeros(1, OBS), agent._at_midpoints(agent._draws(1)._replace(noise=None), 1))
    quantiles = outputs[0, 0].sort().values
    torch.testing.assert_close(quantiles, (torch.arange(8) + 0.5) / 8, atol=0.12, rtol=0)


def one_step(reward: float, value: float) -> Transition:
    obs, never = np.full((1, OBS), value, np.float32), np.zeros(1, np.bool_)
    return Transition(obs, np.array([0]), np.array([reward], np.float32), obs + 1, never, never)


def test_prioritised_replay_draws_what_was_most_wrong():
    agent = agent_with(prioritized=True, priority_alpha=1.0, target_update_every=10**6, train_every=10**6)
    for step in range(50):
        agent.observe(one_step(1000.0 if step == 7 else 0.0, step / 50), ())
    for _ in range(20):
        agent.learn(agent.replay.sample(32, np.random.default_rng(0), beta=1.0))
    batch = agent.replay.sample(200, np.random.default_rng(1), beta=1.0)
    assert (batch.reward == 1000.0).mean() > 0.8
    assert batch.weights is not None
    assert batch.weights[batch.reward == 1000.0].max() < batch.weights[batch.reward == 0.0].min()


def test_importance_weights_grow_to_full_correction_over_the_run():
    agent = agent_with(prioritized=True, train_every=10**6)
    assert agent._beta() == pytest.approx(0.4)
    observe(agent, 500)
    assert agent._beta() == pytest.approx(0.7)
    observe(agent, 600)
    assert agent._beta() == pytest.approx(1.0)


def test_n_step_returns_sum_rewards_before_bootstrapping():
    agent = agent_with(n_step=3, gamma=0.5, train_every=10**6)
    for step in range(20):
        agent.observe(one_step(1.0, step), ())
    batch = agent.replay.sample(100, np.random.default_rng(0), beta=1.0)
    inner = batch.obs[:, 0] < 17
    assert np.allclose(batch.reward[inner], 1.75)
    assert np.allclose(batch.discount[inner], 0.125)
    assert np.allclose(batch.next_obs[inner] - batch.obs[inner], 3.0)


def test_dueling_networks_move_all_actions_with_the_value_of_the_state():
    plain, dueling = agent_with(), agent_with(dueling=True)
    batch = random_batch(action=np.zeros(ROWS, np.int64), reward=np.full(ROWS, 5.0, np.float32))
    moved = []
    for agent in (plain, dueling):
        # only the last layer learns, so that actions are tied by the streams and not by shared features
        before = agent.network.outputs(torch.from_numpy(batch.obs))
        gradient = agent.loss_and_gradient(agent.tensors(batch))[1]
        others = gradient.clone()
        others[: len(others) - _last_layer_size(agent)] = 0
        agent.network.flat.sub_(others)
        moved.append((agent.network.outputs(torch.from_numpy(batch.obs)) - before)[:, 1:].abs().max().item())
    assert moved[0] == 0.0
    assert moved[1] > 1e-3


def _last_layer_size(agent: DQN) -> int:
    outputs = 1 if agent.config.dueling else ACTIONS
    return 9 * outputs  # 8 units and a bias each; in dueling networks the value stream lies last


def test_noisy_networks_explore_by_noise_and_act_by_the_means():
    agent = agent_with(noisy=True, noisy_sigma=5.0)
    assert agent.epsilon() == 0.0
    obs = np.zeros((1, OBS), np.float32)
    explored = {int(agent.act(obs, (), explore=True, rng=np.random.default_rng(s))[0][0]) for s in range(40)}
    greedy = {int(agent.act(obs, (), explore=False, rng=np.random.default_rng(s))[0][0]) for s in range(40)}
    assert len(explored) > 1
    assert len(greedy) == 1


def test_epsilon_falls_by_env_steps_over_its_part_of_the_run():
    agent = agent_with(replace(TASK, num_envs=2), epsilon_fraction=0.5, final_epsilon=0.1)
    observe(agent, 125, num_envs=2)
    assert agent.epsilon() == pytest.approx(1.0 - 0.9 * 250 / 500)
    observe(agent, 300, num_envs=2)
    assert agent.epsilon() == pytest.approx(0.1)


def test_every_environment_draws_its_own_exploration():
    agent = agent_with(replace(TASK, num_envs=1000), epsilon=0.3, final_epsilon=0.3, buffer_size=5000)
    obs = np.zeros((1000, OBS), np.float32)
    greedy = agent.act(obs, (), explore=False, rng=np.random.default_rng(0))[0]
    explored = agent.act(obs, (), explore=True, rng=np.random.default_rng(0))[0]
    assert 0.3 * 2 / 3 * 0.7 < (explored != greedy).mean() < 0.3 * 2 / 3 * 1.3


@pytest.mark.parametrize("options", [{}, {"epsilon": 1.0, "final_epsilon": 1.0}, {"noisy": True}])
def test_no_forbidden_action_is_ever_taken(options):
    agent = agent_with(replace(TASK, num_envs=200), **{"buffer_size": 2000, **options})
    rng = np.random.default_rng(1)
    mask = rng.random((200, ACTIONS)) < 0.5
    mask[np.arange(200), rng.integers(ACTIONS, size=200)] = True
    obs = rng.standard_normal((200, OBS)).astype(np.float32)
    for explore in (True, False):
        action, _, _ = agent.act(obs, (), explore=explore, rng=rng, action_mask=mask)
        assert mask[np.arange(200), action].all()


def observe(agent: DQN, steps: int, num_envs: int = 1, *, learn: bool = False) -> None:
    rng = np.random.default_rng(0)
    for _ in range(steps):
        obs, next_obs = rng.standard_normal((2, num_envs, OBS)).astype(np.float32)
        nothing = np.zeros(num_envs, np.bool_)
        action = rng.integers(ACTIONS, size=num_envs)
        agent.observe(Transition(obs, action, np.ones(num_envs, np.float32), next_obs, nothing, nothing), ())
        if learn:
            agent.update()


def test_updates_come_every_few_env_steps_after_the_warm_up():
    agent = agent_with(learning_starts=10, train_every=4, gradient_steps=2)
    observe(agent, 20, learn=True)
    assert int(agent.optimizer.steps) == 2 * 3  # at env steps 12, 16 and 20


def test_the_target_is_copied_every_so_many_env_steps():
    agent = agent_with(target_update_every=10, learning_rate=0.1)
    observe(agent, 9, learn=True)
    assert not torch.equal(agent.target_network.flat, agent.network.flat)
    agent.config = agent.config.model_copy(update={"train_every": 10**6})
    observe(agent, 1, learn=True)
    assert torch.equal(agent.target_network.flat, agent.network.flat)


def test_polyak_targets_move_a_fraction():
    agent = different_networks(agent_with(target_update_every=1, tau=0.25, train_every=10**6))
    expected = agent.target_network.flat.lerp(agent.network.flat, 0.25)
    observe(agent, 1, learn=True)
    torch.testing.assert_close(agent.target_network.flat, expected)


def test_a_fixed_dataset_stops_growing_while_learning_goes_on():
    agent = agent_with(dataset_steps=50, learning_starts=50)
    observe(agent, 120, learn=True)
    assert len(agent.replay) == 50
    assert int(agent.optimizer.steps) > 0


def test_long_gradients_are_cut_to_the_norm():
    free, cut = (agent_with(max_grad_norm=limit, learning_rate=1.0) for limit in (None, 1e-3))
    batch = random_batch(reward=np.full(ROWS, 100.0, np.float32))
    for agent in (free, cut):
        agent.learn(batch)
    ratio = cut.optimizer.exp_avg.norm() / free.optimizer.exp_avg.norm()
    assert cut.optimizer.exp_avg.norm().item() == pytest.approx(0.1 * 1e-3, rel=1e-3)
    assert ratio < 0.1


def test_actions_of_a_space_that_starts_elsewhere_keep_their_numbers():
    task = replace(TASK, action_space=spaces.Discrete(ACTIONS, start=5))
    agent = agent_with(task)
    action, _, _ = agent.act(np.zeros((1, OBS), np.float32), (), explore=False, rng=np.random.default_rng(0))
    assert task.action_space.contains(action[0])
    nothing = np.zeros(1, np.bool_)
    obs = np.zeros((1, OBS), np.float32)
    for _ in range(3):
        agent.observe(Transition(obs, np.array([7]), np.ones(1, np.float32), obs, nothing, nothing), ())
    assert (agent.replay.sample(4, np.random.default_rng(0), beta=1.0).action == 2).all()


def test_pictures_are_kept_as_bytes_and_learned_from():
    task = replace(TASK, observation_space=spaces.Box(0, 255, (2, 10, 10), np.uint8), frame_stack=1)
    agent = Rainbow(Rainbow.Config(**{**SMALL, "hidden": (8,), "batch_size": 4}), task)
    rng = np.random.default_rng(0)
    nothing = np.zeros(1, np.bool_)
    for _ in range(12):
        obs, next_obs = rng.integers(0, 256, (2, 1, 2, 10, 10), dtype=np.uint8)
        agent.observe(Transition(obs, np.array([1]), np.ones(1, np.float32), next_obs, nothing, nothing), ())
        metrics = agent.update()
    assert agent.replay.sample(4, rng, beta=1.0).obs.dtype == np.uint8
    assert math.isfinite(metrics["train/loss"])


def test_rainbow_switches_everything_on():
    config = Rainbow.Config()
    assert (config.double, config.dueling, config.prioritized, config.noisy) == (True, True, True, True)
    assert (config.n_step, config.distribution, config.priority_alpha) == (3, "categorical", 0.5)


@pytest.mark.parametrize(
    "options",
    [{}, {"double": True}, {"loss": "squared"}, {"prioritized": True}, {"max_grad_norm": 0.01}, {"adam_epsilon": 0.1}],
    ids=str,
)
@pytest.mark.parametrize("has_masks", [False, True])
def test_the_compiled_update_is_wired_like_the_ordinary_one(options, has_masks):
    compiled, ordinary = (different_networks(agent_with(learning_rate=0.01, **options)) for _ in range(2))
    assert compiled._compiled is not None
    ordinary._compiled = None
    mask = np.zeros((ROWS, ACTIONS), np.bool_)
    mask[:, 1] = True
    weights = np.linspace(0.1, 1.0, ROWS, dtype=np.float32) if options.get("prioritized") else None
    batch = random_batch(next_action_mask=mask if has_masks else None, weights=weights)
    for agent in (compiled, ordinary):
        for _ in range(5):
            agent.learn(batch)
    torch.testing.assert_close(compiled.network.flat, ordinary.network.flat, rtol=1e-4, atol=1e-6)
    plain = different_networks(agent_with(learning_rate=0.01))
    for _ in range(5):
        plain.learn(random_batch())
    differs = options or has_masks
    assert torch.allclose(plain.network.flat, compiled.network.flat, atol=1e-5) != bool(differs)


def test_the_target_network_has_noise_of_its_own():
    agent = agent_with(noisy=True, noisy_sigma=5.0)
    tensors = agent.tensors(random_batch())
    assert not torch.equal(agent.target(tensors), agent.target(tensors))


def test_the_initial_noise_has_the_scale_asked_for():
    network = agent_with(noisy=True, noisy_sigma=2.0).network
    assert network._advantage.sigma.detach().max().item() == pytest.approx(2.0 / 8**0.5)


def test_importance_weights_use_the_beta_of_this_step(monkeypatch):
    agent = agent_with(prioritized=True, priority_beta=0.25, train_every=1)
    seen = []
    sample = agent.replay.sample
    monkeypatch.setattr(agent.replay, "sample", lambda *given, beta: seen.append(beta) or sample(*given, beta=beta))
    observe(agent, 100, learn=True)
    assert seen[0] == pytest.approx(0.25, abs=0.01)
    assert seen[-1] == pytest.approx(0.25 + 0.75 * 0.1)


@pytest.mark.parametrize("options", [{"noisy": True}, {"epsilon": 0.0, "final_epsilon": 0.0}])
def test_the_warm_up_is_random_whatever_comes_after(options):
    agent = agent_with(learning_starts=50, **options)
    assert agent.epsilon() == 1.0
    observe(agent, 50)
    assert agent.epsilon() == 0.0


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_polyak_targets_move_as_often_as_env_steps_say(num_envs):
    task = replace(TASK, num_envs=num_envs)
    agent = different_networks(agent_with(task, target_update_every=1, tau=0.1, train_every=10**6))
    distance = (agent.target_network.flat - agent.network.flat).norm()
    observe(agent, 24 // num_envs, num_envs, learn=True)
    moved = (agent.target_network.flat - agent.network.flat).norm()
    assert (moved / distance).item() == pytest.approx(0.9**24, rel=1e-3)


def test_frozen_features_are_the_last_hidden_layer():
    agent = agent_with()
    features = agent.features(np.zeros((2, OBS), np.float32))
    assert features.shape == (2, agent.feature_size) == (2, 8)
    (weight, bias) = agent.network.mlp.layer_views()[-1]
    outputs = torch.from_numpy(features) @ weight.T + bias
    torch.testing.assert_close(outputs, agent.network.outputs(torch.zeros(2, OBS))[:, :, 0])


def test_continuous_actions_are_refused_with_what_to_do():
    reason = DQN.supports(replace(TASK, action_space=spaces.Box(-1, 1, (2,))))
    assert reason is not None
    assert "discretize-action" in reason
    assert "ddpg" in registry.agents_for(replace(TASK, action_space=spaces.Box(-1, 1, (2,))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest_return": 1.0, "highest_return": 0.0}, "must be lower"),
        ({"munchausen": True, "distribution": "categorical"}, "not with categorical"),
        ({"dueling": True, "hidden": ()}, "at least one hidden layer"),
        ({"dataset_steps": 500, "buffer_size": 100}, "forget part of the dataset"),
        ({"distribution": "categorical", "highest_return": float("inf")}, "finite"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        DQNConfig(**options)


@pytest.mark.parametrize(
    ("actions", "remedy"),
    [
        (spaces.Box(-1.0, 1.0, (2,)), "discretize-action"),
        (spaces.MultiDiscrete([2, 3]), "(ppo takes"),
        (spaces.MultiBinary(3), "(sb3/ppo takes"),
    ],
)
def test_actions_that_it_refuses_are_sent_to_an_agent_that_takes_them(actions: Any, remedy: str) -> None:
    task = Task(TASK.observation_space, actions)
    assert remedy in (DQN.supports(task) or "")
    name = "sb3/ppo" if "sb3" in remedy else "ppo"
    assert registry.agent_class(name).supports(task) is None
