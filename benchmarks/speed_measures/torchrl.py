"""Training TorchRL's DDPG, TD3 and SAC as its `sota-implementations` scripts do. Import it where torchrl is installed.

Without `torch.compile` (as the scripts by default) and without prefetching, which gained nothing on one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from tensordict import TensorDict
from tensordict.nn import InteractionType, NormalParamExtractor, TensorDictModule, TensorDictSequential
from torch import nn, optim
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import Compose, DoubleToFloat, EnvBase, GymEnv, RewardSum, StepCounter, TransformedEnv
from torchrl.modules import MLP, AdditiveGaussianModule, ProbabilisticActor, TanhModule, TanhNormal, ValueOperator
from torchrl.objectives import DDPGLoss, SACLoss, SoftUpdate, TD3Loss, group_optimizers
from torchrl.record.loggers.tensorboard import TensorboardLogger

from speed_measures.job import WARM_UP, Job, clocked_seconds, register_clocked_env
from speed_measures.off_policy import HIDDEN, LEARNING_RATE, NOISE_SIGMA, OWN, SETTINGS

FRAMES_PER_BATCH = 1_000  # env steps that the scripts collect before as many updates
Losses = dict[str, torch.Tensor]
Learner = Callable[[TensorDict], Losses]


def train(job: Job, folder: Path) -> float:
    """Collect, store and update in turns, so many steps at a time that the clock stops after whole turns."""
    torch.manual_seed(job.seed)
    env = TransformedEnv(GymEnv(register_clocked_env(job)), Compose(StepCounter(), DoubleToFloat(), RewardSum()))
    env.set_seed(job.seed)
    actor, learn = {"ddpg": ddpg, "td3": td3, "sac": sac}[job.work](env)
    replay = TensorDictReplayBuffer(
        storage=LazyTensorStorage(SETTINGS["buffer_size"]), batch_size=SETTINGS["batch_size"]
    )
    frames = math.gcd(FRAMES_PER_BATCH, job.steps)
    collector = Collector(
        env, actor, frames_per_batch=frames, init_random_frames=WARM_UP, total_frames=job.total_steps, device="cpu"
    )
    logger = TensorboardLogger("run", log_dir=str(folder))
    collected = 0
    for batch in collector:
        collector.update_policy_weights_()
        replay.extend(batch.reshape(-1))
        collected += frames
        losses = [learn(replay.sample()) for _ in range(frames)] if collected > WARM_UP else []
        log(logger, batch, losses, collected)
    collector.shutdown()
    logger.experiment.close()
    return clocked_seconds(job)


def log(logger: TensorboardLogger, batch: TensorDict, losses: list[Losses], step: int) -> None:
    """Write the means of the losses and of the episodes that ended, as the scripts do after each of their turns."""
    ended = batch["next", "done"]
    values = {f"train/{name}": batch["next", name][ended] for name in ("episode_reward", "step_count") if ended.any()}
    for name in {name for found in losses for name in found}:
        values[f"train/{name}"] = torch.stack([found[name] for found in losses if name in found])
    for name, value in values.items():
        logger.log_scalar(name, value.float().mean().item(), step)


def mlp(inputs: int, outputs: int) -> MLP:
    """The hidden layers of all networks."""
    return MLP(in_features=inputs, out_features=outputs, num_cells=list(HIDDEN), activation_class=nn.ReLU)


def critic(env: EnvBase) -> ValueOperator:
    """Q of action and observation."""
    inputs = env.action_spec.shape[-1] + env.observation_spec["observation"].shape[-1]
    return ValueOperator(mlp(inputs, 1), in_keys=["action", "observation"])


def deterministic_actor(env: EnvBase) -> TensorDictSequential:
    """Actions without noise."""
    net = mlp(env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1])
    tanh = TanhModule(spec=env.action_spec, in_keys=["param"], out_keys=["action"])
    return TensorDictSequential(TensorDictModule(net, in_keys=["observation"], out_keys=["param"]), tanh)


def with_noise(actor: TensorDictSequential, env: EnvBase) -> TensorDictSequential:
    """The actor that collects."""
    noise = AdditiveGaussianModule(spec=env.action_spec, sigma_init=1.0, sigma_end=1.0, mean=0.0, std=NOISE_SIGMA)
    return TensorDictSequential(actor, noise)


def adam(params: TensorDict, work: str) -> optim.Adam:
    """An optimizer of the parameters that a loss holds."""
    return optim.Adam(list(params.flatten_keys().values()), lr=LEARNING_RATE[work])


def ddpg(env: EnvBase) -> tuple[TensorDictSequential, Learner]:
    """The actor that collects, and one update of everything."""
    actor = deterministic_actor(env)
    loss = DDPGLoss(actor, critic(env), loss_function="l2", delay_actor=True, delay_value=True)
    loss.make_value_estimator(gamma=SETTINGS["gamma"])
    targets = SoftUpdate(loss, tau=SETTINGS["tau"])
    optimizer = group_optimizers(adam(loss.actor_network_params, "ddpg"), adam(loss.value_network_params, "ddpg"))

    def learn(batch: TensorDict) -> Losses:
        found = loss(batch)
        (found["loss_actor"] + found["loss_value"]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        targets.step()
        return {name: found[name].detach() for name in ("loss_actor", "loss_value")}

    return with_noise(actor, env), learn


def td3(env: EnvBase) -> tuple[TensorDictSequential, Learner]:
    """The actor that collects, and one update: of actor and targets every second time."""
    actor = deterministic_actor(env)
    loss = TD3Loss(
        actor, critic(env), num_qvalue_nets=2, loss_function="l2", delay_actor=True, delay_qvalue=True,
        action_spec=env.action_spec, policy_noise=OWN["td3"]["target_noise"], noise_clip=0.5,
    )  # fmt: skip
    loss.make_value_estimator(gamma=SETTINGS["gamma"])
    targets = SoftUpdate(loss, tau=SETTINGS["tau"])
    actor_optimizer = adam(loss.actor_network_params, "td3")
    critic_optimizer = adam(loss.qvalue_network_params, "td3")
    updates = 0

    def learn(batch: TensorDict) -> Losses:
        nonlocal updates
        updates += 1
        critic_loss, _ = loss.value_loss(batch)
        critic_loss.backward()
        critic_optimizer.step()
        critic_optimizer.zero_grad(set_to_none=True)
        losses = {"loss_qvalue": critic_loss.detach()}
        if updates % OWN["td3"]["policy_delay"] == 0:
            actor_loss, _ = loss.actor_loss(batch)
            actor_loss.backward()
            actor_optimizer.step()
            actor_optimizer.zero_grad(set_to_none=True)
            targets.step()
            losses["loss_actor"] = actor_loss.detach()
        return losses

    return with_noise(actor, env), learn


def sac(env: EnvBase) -> tuple[ProbabilisticActor, Learner]:
    """The actor that collects, and one update of everything."""
    spec = env.action_spec
    net = nn.Sequential(
        mlp(env.observation_spec["observation"].shape[-1], 2 * spec.shape[-1]),
        NormalParamExtractor(scale_mapping="biased_softplus_1.0", scale_lb=0.1),
    )
    actor = ProbabilisticActor(
        TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"]), in_keys=["loc", "scale"], spec=spec,
        distribution_class=TanhNormal, default_interaction_type=InteractionType.RANDOM,
        distribution_kwargs={"low": spec.space.low, "high": spec.space.high, "tanh_loc": False},
    )  # fmt: skip
    loss = SACLoss(actor, critic(env), num_qvalue_nets=2, loss_function="l2", delay_actor=False, delay_qvalue=True)
    loss.make_value_estimator(gamma=SETTINGS["gamma"])
    targets = SoftUpdate(loss, tau=SETTINGS["tau"])
    params = (loss.actor_network_params, loss.qvalue_network_params)
    alpha = optim.Adam([loss.log_alpha], lr=LEARNING_RATE["sac"])
    optimizer = group_optimizers(*(adam(each, "sac") for each in params), alpha)
    names = ("loss_actor", "loss_qvalue", "loss_alpha")

    def learn(batch: TensorDict) -> Losses:
        found = loss(batch)
        sum(found[name] for name in names).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        targets.step()
        return {name: found[name].detach() for name in names}

    return actor, learn
