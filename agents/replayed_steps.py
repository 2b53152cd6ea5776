"""What off-policy agents with a core learn from: options of sequences, and the steps of those that replay drew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from rlkit.agents.core_options import CoreOptions
from rlkit.data.sequence_replay import ReplayedSequences
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


def require_sequences(options: SequenceOptions, buffer_size: int, task: Task, refused: Mapping[str, bool]) -> None:
    """Check that sequences can be learned from.

    Args:
        options: With a core.
        buffer_size: Transitions that replay holds.
        task: Of the agent.
        refused: What other options would have to be, and whether they are not.

    Raises:
        UsageError: they cannot.
    """
    for reason, is_so in refused.items():
        if is_so:
            raise UsageError(f"{reason} with agent.core {options.core}: sequences are learned from as they were met")
    steps = options.burn_in + options.sequence_length
    if task.total_steps and buffer_size // task.num_envs < steps:
        raise UsageError(
            f"agent.buffer_size is {buffer_size}, too small for sequences of {options.burn_in} + "
            f"{options.sequence_length} steps of {task.num_envs} environments: at least {steps * task.num_envs}"
        )


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
