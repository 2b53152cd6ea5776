"""What off-policy agents with a core learn from: sequences, their options, and the steps of those that replay drew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from torch import Tensor

from rlkit.agents.core_options import CoreName, CoreOptions
from rlkit.data.sequence_replay import ReplayedSequences, SequenceReplay
from rlkit.data.sequences import with_successors
from rlkit.errors import UsageError
from rlkit.nn.on_core import Steps
from rlkit.nn.recurrent_actor_critic import Sequences
from rlkit.types import Array, Obs, Task


class SequenceOptions(CoreOptions):
    """Options of a core and of the sequences that it learns from."""

    sequence_length: int = Field(64, ge=1)
    """with a core: env steps in a row, of one environment, that are learned from together (Ni 2022; Kapturowski: 80)"""
    burn_in: int = Field(16, ge=0)
    """with a core: env steps before them that only warm the memory (Kapturowski 2019: 40; Ni 2022: none)"""


def require_no(refused: Mapping[str, bool], core: CoreName) -> None:
    """Check options that a core excludes: what each would have to be, and whether it is not.

    Raises:
        UsageError: one of them is not.
    """
    for reason, is_so in refused.items():
        if is_so:
            raise UsageError(f"{reason} with agent.core {core}: sequences are learned from as they were met")


def sequence_replay(
    options: SequenceOptions,
    task: Task,
    action_space: spaces.Space[Any],
    *,
    buffer_size: int,
    gamma: float,
    action_mask_size: int = 0,
) -> SequenceReplay:
    """An empty replay for an agent with a core, of the smallest size where it only acts.

    Raises:
        UsageError: it would not hold one sequence.
    """
    steps = options.burn_in + options.sequence_length
    if task.total_steps and buffer_size // task.num_envs < steps:
        raise UsageError(
            f"agent.buffer_size is {buffer_size}, too small for sequences of {options.burn_in} + "
            f"{options.sequence_length} steps of {task.num_envs} environments: at least {steps * task.num_envs}"
        )
    return SequenceReplay(
        task.observation_space, action_space, buffer_size if task.total_steps else 2 * task.num_envs, task.num_envs,
        gamma=gamma, action_mask_size=action_mask_size, sequence_length=options.sequence_length,
        burn_in=options.burn_in,
    )  # fmt: skip


class ReplayedSteps(NamedTuple):
    """The B steps after the burn-in of M sequences, one sequence after the other."""

    here: Steps
    following: Steps  # their true successors
    shape: tuple[int, int]  # M and T, steps with the burn-in
    burn_in: int

    def kept(self, array: Array) -> Tensor:
        """Of something [M · T, ...] that steps have, what belongs to the B steps, on their device."""
        after = array.reshape(*self.shape, *array.shape[1:])[:, self.burn_in :]
        return torch.from_numpy(np.ascontiguousarray(after)).to(self.here.place.device).flatten(0, 1)


def replayed_steps(batch: ReplayedSequences, prepare: Callable[[Obs], Array], device: torch.device) -> ReplayedSteps:
    """The steps of a batch on the device, observations prepared as vectors."""
    shape = batch.is_first.shape
    obs, next_obs = (prepare(part).reshape(*shape, -1) for part in (batch.obs, batch.next_obs))
    longer = with_successors(obs, next_obs, batch.is_first, batch.terminated.reshape(shape))
    sequences = Sequences(torch.from_numpy(longer.obs).to(device), torch.from_numpy(longer.is_first).to(device), None)
    row = longer.is_first.shape[1] * np.arange(shape[0])[:, None]

    def steps(place: Array) -> Steps:
        return Steps(sequences, torch.from_numpy((row + place)[:, batch.burn_in :].reshape(-1)).to(device))

    return ReplayedSteps(steps(longer.place), steps(longer.next_place), (shape[0], shape[1]), batch.burn_in)
