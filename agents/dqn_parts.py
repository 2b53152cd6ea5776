"""What a deep Q-network is made of, from its options: networks, replay, what values are, and the compiled update."""

from __future__ import annotations

import torch
from gymnasium import spaces

from rlkit.agents.core_options import attention_of, core_of
from rlkit.agents.dqn_config import DQNConfig
from rlkit.agents.observations import ObservationTensors
from rlkit.agents.picture_networks import learned_backbone
from rlkit.agents.replayed_steps import require_no, sequence_replay
from rlkit.data.replays import Replay, UniformReplay, make_replay
from rlkit.errors import UsageError
from rlkit.nn.action_values import ActionValues, ComposedValues, Design, action_values
from rlkit.nn.compiled_td import CompiledTD, compiled_td
from rlkit.nn.optim import Adam
from rlkit.nn.return_heads import CategoricalHead, QuantileHead, ReturnHead, ValueHead
from rlkit.nn.values_on_core import ValuesOnCore
from rlkit.perception.ssl.auxiliary import Auxiliary, AuxiliaryDesign
from rlkit.types import Task


def return_head(config: DQNConfig, device: torch.device) -> ReturnHead:
    """What the outputs of an action say: its value, or a distribution of returns."""
    if config.distribution == "none":
        return ValueHead(config.loss)
    if config.distribution == "categorical":
        return CategoricalHead(config.atoms, config.lowest_return, config.highest_return, device)
    return QuantileHead(config.quantiles, config.quantile_threshold, device)


def value_networks(
    config: DQNConfig, task: Task, prepare: ObservationTensors, outputs: int, weights: torch.Generator
) -> tuple[ActionValues, ActionValues]:
    """The network and its target with so many outputs for each action, on a core of its own each where one is named.

    Raises:
        UsageError: a core is to see pictures.
    """
    assert isinstance(task.action_space, spaces.Discrete)
    attention = attention_of(config, task.observation_space) if config.encoder == "attention" else None
    design = Design(
        actions=int(task.action_space.n), outputs=outputs, hidden=config.hidden, image=prepare.image,
        backbone=learned_backbone(task, prepare, weights),
        attention=attention if config.core == "none" else None, dueling=config.dueling,
        noisy_sigma=config.noisy_sigma if config.noisy else None, implicit=config.distribution == "implicit",
    )  # fmt: skip
    if design.backbone is not None and (attention is not None or config.core != "none"):
        raise UsageError(
            "--encoder and --aux are for the pictures that a network begins with: leave out --agent.encoder attention "
            "and --agent.core"
        )
    if config.core != "none" and design.image is not None:
        raise UsageError("agent.core takes observations as vectors: with pictures choose agent.core none")

    def network() -> ActionValues:
        device = torch.device(task.device)
        if config.core == "none":
            return action_values(design, prepare.shape, device, weights)
        encoder = None if attention is None else attention.encoder(weights)  # what the core then sees
        return ValuesOnCore(core_of(config, prepare.shape[0], weights, encoder), design, device, weights)

    return network(), network()


def auxiliary_of(config: DQNConfig, task: Task, network: ActionValues) -> Auxiliary | None:
    """The objective besides, where there is one."""
    if not isinstance(task.auxiliary, AuxiliaryDesign) or not isinstance(network, ComposedValues):
        return None
    assert network.backbone is not None
    assert isinstance(task.action_space, spaces.Discrete)
    objective = task.auxiliary.objective(
        network.backbone, task, actions=spaces.Discrete(task.action_space.n), pictures=config.buffer_size,
        n_step=config.n_step,
    )  # fmt: skip
    return Auxiliary(task.auxiliary, objective, network.flat, task.total_steps)


def value_replay(config: DQNConfig, task: Task) -> Replay:
    """An empty replay; of sequences where there is a core.

    Raises:
        UsageError: options do not go with a core.
    """
    assert isinstance(task.action_space, spaces.Discrete)
    actions = int(task.action_space.n)
    if config.core == "none":
        return make_replay(
            task.observation_space, task.action_space,
            config.buffer_size if task.total_steps else 0, task.num_envs,
            n_step=config.n_step, gamma=config.gamma, frame_stack=task.frame_stack, action_mask_size=actions,
            alpha=config.priority_alpha if config.prioritized else 0.0,
        )  # fmt: skip
    refused = {f"agent.n_step is {config.n_step}, it must be 1": config.n_step > 1}
    require_no(refused | {"agent.prioritized must be off": config.prioritized}, config.core)
    return UniformReplay(sequence_replay(
        config, task, task.action_space, buffer_size=config.buffer_size, gamma=config.gamma, action_mask_size=actions,
    ))  # fmt: skip


def compiled_update(
    config: DQNConfig, network: ActionValues, target_network: ActionValues, optimizer: Adam
) -> CompiledTD | None:
    """The update of a small network in one call, where the configuration asks for nothing more."""
    if config.distribution != "none" or config.munchausen:
        return None
    return compiled_td(
        network, target_network, optimizer,
        double=config.double, squared=config.loss == "squared", max_grad_norm=config.max_grad_norm,
    )  # fmt: skip
