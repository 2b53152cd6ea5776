"""What DDPG, TD3, SAC and TQC share: noise to explore with, and a memory under their networks where a core is named.

With a core, actor and critics stand each on one of their own and learn from sequences (recurrent replay, Kapturowski et
al. 2019, https://openreview.net/forum?id=r1lyTjAqYX; separate cores, Ni et al. 2022, https://arxiv.org/abs/2110.05038):
`Steps` of sequences then play the part of observations, and the agents' equations stay as they are. Targets come from
target copies of cores and networks.

With the encoder `attention` each network has one of its own, before its core or instead of one; without a core it
learns from single transitions as ever, each a sequence of one step.

Acting carries the memory. What older weights made of an episode is kept until it ends; learning makes it anew.

Deviations from the papers
- A sequence begins with an empty memory, whatever acting remembered there (Kapturowski's "zero state", section 3); the
  `burn_in` steps before those learned from warm it.
- Gradients go through the steps of the burn-in, which have no loss of their own (Kapturowski: none).
- Sequences are drawn uniformly, begin anywhere and may cross the ends of episodes, where memory is emptied (in both
  papers they lie within one episode; Kapturowski: by priority, 40 steps apart).
- Cores see observations, not what was done and gained before (both papers: these too, Ni where they help).
- The true successor of a truncated step, or of one after which the episode was lost, is valued as the step after it in
  its own episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar, cast

import numpy as np
import torch

from rlkit.agents.core_options import EncoderOptions, attention_of, core_of
from rlkit.agents.observations import EncoderName
from rlkit.agents.off_policy import ExplorationNoise, NoiseConfig, OffPolicyAgent, OffPolicyConfig, Tensors, unit_box
from rlkit.agents.picture_control import apart
from rlkit.agents.replayed_steps import SequenceOptions, replayed_steps, require_no, sequence_replay
from rlkit.data.replay import Batch
from rlkit.data.sequence_replay import ReplayedSequences
from rlkit.data.store import TransitionStore
from rlkit.nn.cores import Core, EncoderCore, Memory
from rlkit.nn.ensemble import Ensemble
from rlkit.nn.mlp import MLP
from rlkit.nn.on_core import OnCore
from rlkit.types import Array, Bools, Carry, Obs, Task

NetworkT = TypeVar("NetworkT", MLP, Ensemble)


class SequenceConfig(EncoderOptions, SequenceOptions, NoiseConfig):
    """Options of noise, memory and encoder."""

    encoder: EncoderName = "mlp"
    """what an observation goes through first"""


class VectorConfig(SequenceConfig):
    """Of agents that take no pictures."""

    encoder: Literal["mlp", "attention"] = "mlp"
    """attention: the parts of an observation (of a Dict, entities) attend to each other first"""


class Recollection(NamedTuple):
    """The carry of an agent with a core."""

    noise: Carry
    memory: Memory  # of the actor's core


class SequenceControl(OffPolicyAgent):
    """An off-policy agent that adds noise to its actions, and remembers where its options name a core."""

    actor: MLP

    def __init__(self, config: SequenceConfig, task: Task) -> None:
        self._options = config
        super().__init__(config, task)
        self.noise = ExplorationNoise(config, self.action_size)
        self._attention = attention_of(config, task.observation_space) if config.encoder == "attention" else None
        self.has_core = config.core != "none" or self._attention is not None
        width = config.encoder_width if config.core == "none" else config.core_width
        self.feature_size = width if self.has_core else self.obs_size
        """What networks take beside actions."""

    def remembering(self, network: NetworkT, weights: torch.Generator) -> NetworkT:
        """The network itself, or where there are cores or encoders the network on one of its own."""
        if not self.has_core:
            return network
        core = self._core(weights)
        assert isinstance(core, torch.nn.Module)
        # what it offers is the same, for `Steps` instead of rows
        return cast(NetworkT, OnCore(core.to(self.device), network))

    def _core(self, weights: torch.Generator) -> Core:
        encoder = None if self._attention is None else self._attention.encoder(weights)
        if self._options.core == "none":
            assert encoder is not None
            return EncoderCore(encoder)
        return core_of(self._options, self.obs_size, weights, encoder)

    def new_replay(self, config: OffPolicyConfig, task: Task) -> TransitionStore:
        """An empty store; of sequences where there is a core."""
        options = self._options
        if options.core == "none":
            return super().new_replay(config, task)
        refused = {f"agent.n_step is {options.n_step}, it must be 1": options.n_step > 1}
        require_no(refused | {"agent.her must be off": options.her}, options.core)
        return sequence_replay(
            options, task, unit_box(self.action_size), buffer_size=options.buffer_size, gamma=options.gamma
        )

    def initial_carry(self, num_envs: int) -> Carry:
        """State of the noise; with a core also nothing remembered."""
        noise = self.noise.initial_carry(num_envs)
        return Recollection(noise, self._acting().core.empty(num_envs)) if self.has_core else noise

    def reset_carry(self, carry: Carry, ended: Bools) -> Carry:
        """In a fresh episode noise starts from zero, and nothing is remembered."""
        if not self.has_core:
            return self.noise.reset_carry(carry, ended)
        noise, memory = carry
        memory = self._acting().core.reset(memory, torch.from_numpy(ended).to(self.device))
        return Recollection(self.noise.reset_carry(noise, ended), memory)

    def act(
        self, obs: Obs, carry: Carry, *, explore: bool, rng: np.random.Generator, action_mask: Bools | None = None
    ) -> tuple[Array, Carry, Mapping[str, Array]]:
        """As `OffPolicyAgent.act`; with a core the carry remembers one step more, random ones too."""
        if not self.has_core:
            return self.act_on(self.prepare(obs), carry, explore=explore, rng=rng)
        noise, memory = carry
        features, memory = self._acting().step(self.prepare(obs), memory)
        action, noise, extras = self.act_on(features, noise, explore=explore, rng=rng)
        return action, Recollection(noise, memory), extras

    def _acting(self) -> OnCore[MLP]:
        return cast(OnCore[MLP], self.actor)

    @torch.inference_mode()
    def attention_maps(self, episode: Sequence[Obs]) -> Mapping[str, Array]:
        """What the actor attends to at each of T steps, from their observations [1, *O]; empty if to nothing.

        Weights [T, T] by layer and head, of a step's attention to earlier ones.
        """
        if not self.has_core:
            return {}
        x = torch.from_numpy(np.concatenate([self.prepare(obs) for obs in episode])).to(self.device)
        return {name: weights.cpu().numpy() for name, weights in self._acting().core.attention_maps(x).items()}

    def tensors(self, batch: Batch) -> Tensors:
        """The batch on the agent's device; with a core the steps after the burn-in, as `Steps` of its sequences."""
        if not isinstance(batch, ReplayedSequences):
            found = super().tensors(batch)
            return found._replace(obs=apart(found.obs), next_obs=apart(found.next_obs)) if self.has_core else found
        steps = replayed_steps(batch, self.prepare, self.device)
        action, reward, discount = (steps.kept(part) for part in (batch.action, batch.reward, batch.discount))
        return Tensors(steps.here, action, reward, steps.following, discount)
