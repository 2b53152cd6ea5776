"""Continuous control from pixels by data augmentation, DrQ-v2 (Yarats et al. 2022, https://arxiv.org/abs/2107.09645).

DDPG on pictures (section 3.1): an encoder f and twin critics learn from y = Σ γ^i r_i + γ^n min_k Q'_k(f(s'), ã) over
n steps; the actor climbs the smaller critic on the same features, but sends no gradient through them. Pictures are
shifted at random to be learned from. ã = μ(s') + clipped noise, whose σ falls over time as it does for exploration.

Deviations from the paper
- Pictures shift by whole pixels, without bilinear interpolation.
- Encoder and critics share one optimiser (the authors' code: one each, with the same step size, so the same steps).
- Actions are not repeated here; a wrapper of the environment can.
- n-step returns are cut where an episode ends; truncated episodes bootstrap from the true last observation.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field, model_validator
from torch import Tensor, nn

from rlkit import seeding
from rlkit.agents.off_policy import OffPolicyAgent, OffPolicyConfig, Tensors, unit_box
from rlkit.agents.picture_control import randomly_shifted
from rlkit.data.replay import Batch
from rlkit.data.replays import make_store
from rlkit.data.store import TransitionStore
from rlkit.nn.backbones import Backbone, build_backbone, own_copy
from rlkit.nn.encoders import image_shape, is_image, to_channels
from rlkit.nn.flat import flat_gradient, flatten_parameters
from rlkit.nn.optim import Adam
from rlkit.nn.pixel_actor_critic import SMALLEST_PICTURE, PixelActor, PixelCritics, PixelEncoder, too_small
from rlkit.ops import dpg
from rlkit.ops.noise import gaussian_noise
from rlkit.ops.schedules import scheduled_epsilon
from rlkit.ops.value_learning import td_target
from rlkit.perception.ssl.auxiliary import Auxiliary, AuxiliaryDesign
from rlkit.spaces import continuous_control_reason
from rlkit.types import Array, Carry, Floats, Metrics, Obs, State, Task, TunesEncoder


class DrQv2Config(OffPolicyConfig):
    """Defaults: Yarats et al. 2022, table of hyperparameters in the appendix (medium tasks)."""

    learning_starts: int = Field(2_000, ge=0)
    """uniformly random env steps before learning"""
    update_to_data_ratio: float = Field(0.5, gt=0)
    """updates per env step"""
    n_step: int = Field(3, ge=1)
    """rewards summed before bootstrapping"""
    learning_rate: float = Field(1e-4, gt=0)
    """step size of Adam for actor, encoder and critics"""
    tau: float = Field(0.01, gt=0, le=1)
    """fraction of the way that the target critics move with each update"""
    noise_sigma: float = Field(1.0, ge=0)
    """scale of the noise at the first step, where actions span [-1, 1]; it falls linearly"""
    final_noise_sigma: float = Field(0.1, ge=0)
    """scale of the noise in the end"""
    noise_steps: int = Field(500_000, ge=1)
    """env steps over which it falls (easy tasks: 100,000, hard ones: 2,000,000)"""
    noise_clip: float = Field(0.3, ge=0)
    """bound of the noise on actions that are learned from; exploration has none"""
    shift: int = Field(4, ge=0)
    """pixels by which pictures are shifted at most, in each direction; 0 switches augmentation off"""
    trunk: int = Field(50, ge=1)
    """features that actor and critics keep of the encoder's"""
    hidden: tuple[int, ...] = (1024, 1024)
    """widths of the hidden layers of actor and critics"""

    @model_validator(mode="after")
    def _has_no_goals(self) -> Self:
        if self.her:
            raise ValueError("her is for observations with goals, drqv2 learns from pictures; leave it out")
        return self


class DrQv2(OffPolicyAgent, TunesEncoder):
    """Off-policy actor-critic for pictures and bounded continuous actions."""

    Config = DrQv2Config
    policy_names = ("encoder", "actor")

    @classmethod
    def supports(cls, task: Task) -> str | None:
        """None for bounded Box actions and pictures of at least 15 x 15 pixels, else the reason."""
        space = task.observation_space
        if not is_image(space):
            return (
                f"it learns from uint8 pictures [H, W], [C, H, W] or [H, W, C] or stacks of them, the observations are "
                f"{space}; use td3 or sac for vectors, or --wrap add-render-observation for pictures"
            )
        if reason := continuous_control_reason(space, task.action_space):
            instead = "; use dqn or ppo" if isinstance(task.action_space, spaces.Discrete) else ""
            return reason + instead
        assert space.shape is not None
        _, height, width = image_shape(space.shape)
        return too_small(height, width) if min(height, width) < SMALLEST_PICTURE else None

    def __init__(self, config: DrQv2Config, task: Task) -> None:
        super().__init__(config, task)
        self.config = config
        assert task.observation_space.shape is not None

        weights = seeding.torch_generator(task.seed, "weights")
        self.encoder: PixelEncoder | Backbone = PixelEncoder(image_shape(task.observation_space.shape), weights)
        if isinstance(task.encoder, Backbone):
            self.encoder = own_copy(task.encoder)
        elif task.auxiliary is not None:
            self.encoder = build_backbone("impala", task.observation_space.shape, weights)
        self.encoder.to(self.device)
        sizes = (self.encoder.feature_size, config.trunk, config.hidden, self.action_size)
        self.actor = PixelActor(*sizes, weights).to(self.device)
        self.critics, self.target_critics = (PixelCritics(*sizes, weights).to(self.device) for _ in range(2))
        self._encoder_and_critics = nn.ModuleList([self.encoder, self.critics])

        both, targets = flatten_parameters(self._encoder_and_critics), flatten_parameters(self.target_critics)
        encoder, critics = both[: -len(targets)], both[-len(targets) :]
        targets.copy_(critics)
        self.actor_optimizer = Adam(flatten_parameters(self.actor), config.learning_rate)
        self.critics_optimizer = Adam(both, config.learning_rate)
        self.vectors = {
            "encoder": encoder,
            "actor": self.actor_optimizer.parameter,
            "critics": critics,
            "target_critics": targets,
        }
        self.optimizers = {"actor": self.actor_optimizer, "critics": self.critics_optimizer}
        self.auxiliary: Auxiliary | None = None
        if isinstance(task.auxiliary, AuxiliaryDesign) and isinstance(self.encoder, Backbone):
            objective = task.auxiliary.objective(
                self.encoder,
                task,
                actions=unit_box(self.action_size),
                pictures=config.buffer_size,
                n_step=config.n_step,
            )
            self.auxiliary = Auxiliary(task.auxiliary, objective, both, task.total_steps)

    def new_replay(self, config: OffPolicyConfig, task: Task) -> TransitionStore:
        """An empty store of single frames where the task stacks them, else of whole pictures."""
        return make_store(
            task.observation_space, unit_box(self.action_size),
            config.buffer_size if task.total_steps else 0, task.num_envs,
            n_step=config.n_step, gamma=config.gamma, frame_stack=task.frame_stack,
        )  # fmt: skip

    def prepare(self, obs: Obs) -> Array:
        """Pictures as they are, uint8 [N, *shape]."""
        return np.asarray(obs)

    @torch.no_grad()
    def unit_action(
        self, features: Array, carry: Carry, *, explore: bool, rng: np.random.Generator
    ) -> tuple[Floats, Carry]:
        """μ(s) for pictures [N, *shape], with noise where `explore`."""
        pictures = to_channels(torch.from_numpy(features).to(self.device))
        unit: Floats = self.actor(self.encoder(pictures)).cpu().numpy()
        if explore:
            unit = np.clip(unit + gaussian_noise(unit.shape, self.sigma(), rng), -1.0, 1.0)
        return unit, carry

    def sigma(self) -> float:
        """Scale of the noise now (section 3.1, "Scheduled exploration noise")."""
        config = self.config
        return scheduled_epsilon(
            1, config.noise_sigma, config.final_noise_sigma, config.noise_steps, self._env_steps, 0
        )

    def update(self) -> Metrics:
        """As many updates as are due; the latest of each metric."""
        if not len(self.replay):  # stacked frames: the first transition is complete after the second step
            self._updates_due = 0.0
        return super().update()

    def learn(self, batch: Batch) -> Metrics:
        """Exactly one update of encoder and critics, then of the actor and the target critics."""
        tensors, rows = self.tensors(batch), len(batch.reward)

        critic_loss, gradient, encoded = self.critic_gradient(tensors, self.normal_noise(rows))
        others: Metrics = {}
        if self.auxiliary is not None:
            others = self.auxiliary.add_gradient_(gradient, tensors.obs, tensors.action, tensors.next_obs)
        self.critics_optimizer.step(gradient)
        if self.auxiliary is not None:
            self.auxiliary.after_update()

        actor_loss, gradient = self.actor_gradient(encoded, self.normal_noise(rows))
        self.actor_optimizer.step(gradient)

        self.vectors["target_critics"].lerp_(self.vectors["critics"], self.config.tau)
        return {
            "train/critic_loss": critic_loss.item(),
            "train/actor_loss": actor_loss.item(),
            "train/noise_sigma": self.sigma(),
            **others,
        }

    def tensors(self, batch: Batch) -> Tensors:
        """The batch on the agent's device; pictures uint8 [B, C, H, W], each shifted by its own draw."""
        tensors = super().tensors(batch)
        return tensors._replace(obs=self._shifted(tensors.obs), next_obs=self._shifted(tensors.next_obs))

    def _shifted(self, obs: Tensor) -> Tensor:
        """Pictures [B, C, H, W] at random places; the frames of a stack move together."""
        return randomly_shifted(to_channels(obs), self.config.shift, self.rng)

    def critic_gradient(self, batch: Tensors, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss against `target`, its gradient by the weights of encoder and critics, and the features of obs [B, E]."""
        target = self.target(batch, noise)
        encoded = self.encoder(batch.obs)
        loss = dpg.critics_loss(self.critics(encoded, batch.action), target)
        gradient = flat_gradient(loss, self._encoder_and_critics, torch.ones_like(loss))
        return loss.detach(), gradient, encoded.detach()

    @torch.no_grad()
    def target(self, batch: Tensors, noise: Tensor) -> Tensor:
        """What the critics should say, [B], given standard normal noise [B, A]."""
        encoded = self.encoder(batch.next_obs)
        next_action = dpg.smoothed_action(self.actor(encoded), noise, self.sigma(), self.config.noise_clip)
        next_values = self.target_critics(encoded, next_action)  # [2, B]
        return td_target(batch.reward, batch.discount, dpg.clipped_value(next_values))

    def actor_gradient(self, encoded: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Minus the mean of min_k Q_k(f(s), μ(s) + ε), and its gradient by the actor's weights."""
        unit = self.actor(encoded)
        noisy = dpg.smoothed_action(unit.detach(), noise, self.sigma(), self.config.noise_clip)
        # Where noise leads beyond a bound the gradient passes as if it had not, as in the authors' code.
        values = self.critics(encoded, unit + (noisy - unit.detach()))  # [2, B]
        loss = dpg.deterministic_policy_loss(dpg.clipped_value(values))
        return loss.detach(), flat_gradient(loss, self.actor, torch.ones_like(loss))

    def policy_state(self) -> State:
        """Weights of encoder and actor, and the env steps that the noise depends on."""
        return {**super().policy_state(), "env_steps": self._env_steps}

    def load_policy_state(self, state: State) -> None:
        """Restore what `policy_state` returned."""
        super().load_policy_state(state)
        self._env_steps = state["env_steps"]

    def training_state(self) -> State:
        """What every off-policy agent keeps, and the objective beside where there is one."""
        return {**super().training_state(), "auxiliary": None if self.auxiliary is None else self.auxiliary.state()}

    def load_training_state(self, state: State) -> None:
        """Restore what `training_state` returned."""
        super().load_training_state(state)
        if self.auxiliary is not None:
            self.auxiliary.load_state(state["auxiliary"])
