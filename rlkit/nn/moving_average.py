"""A teacher: a module whose parameters are the exponential moving average of another's."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from rlkit.errors import UsageError

BufferRule: TypeAlias = Literal["own", "copied", "averaged"]


class MovingAverage:
    """The moving average of a module's parameters, θ̄ ← m θ̄ + (1 - m) θ, as a module of its own.

    Buffers are no parameters: an average of parameters alone leaves the running statistics of batch normalisation where
    they were, and in evaluation mode the teacher normalises by those of an untrained network. `buffers` says what
    happens to them:

    - "averaged": floating-point buffers follow as the parameters do, others are copied. The teacher is put into
      evaluation mode: one row's output does not depend on the rest of the batch.
    - "copied": they are the student's of this moment; the teacher is put into evaluation mode.
    - "own": they are left alone. The teacher stays in the mode of the source; in training mode it normalises by its own
      batches, and its own passes move its statistics, as in MoCo, BYOL and DINO.

    Args:
        source: Module to start from; it is copied, on its device, and not kept.
        buffers: "own", "copied" or "averaged".

    Attributes:
        module: The teacher. No parameter of it asks for a gradient; call it under `torch.no_grad` all the same.

    >>> student = nn.Linear(1, 1, bias=False)
    >>> teacher = MovingAverage(student, buffers="copied")
    >>> before = teacher.module.weight.item()
    >>> _ = student.weight.data.add_(1.0)
    >>> teacher.update(student, 0.75)
    >>> round(teacher.module.weight.item() - before, 6)
    0.25
    """

    def __init__(self, source: nn.Module, *, buffers: BufferRule) -> None:
        if buffers not in ("own", "copied", "averaged"):
            raise UsageError(f"buffers is {buffers!r}, it must be 'own', 'copied' or 'averaged'")
        self.module = copy.deepcopy(source).requires_grad_(False)
        self.buffers = buffers
        if buffers != "own":
            self.module.eval()

    def update(self, source: nn.Module, momentum: float) -> None:
        """Move the parameters towards those of `source`: not at all with a momentum of 1, all the way with 0.

        Raises:
            UsageError: `source` has parameters or buffers of other shapes.
        """
        weight = 1.0 - momentum
        with torch.no_grad():
            parameters = _alike(self.module.parameters(), source.parameters())
            if parameters[0]:
                torch._foreach_lerp_(*parameters, weight)
            for mine, theirs in zip(*_alike(self.module.buffers(), source.buffers()), strict=True):
                if self.buffers == "averaged" and mine.is_floating_point():
                    mine.lerp_(theirs, weight)
                elif self.buffers != "own":
                    mine.copy_(theirs)


def _alike(mine: Iterable[Tensor], theirs: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Both as lists, of the same shapes: a lerp would broadcast others."""
    averages, sources = list(mine), list(theirs)
    if [x.shape for x in averages] != [x.shape for x in sources]:
        raise UsageError(
            f"the source has tensors of shapes {[tuple(x.shape) for x in sources]}, its moving average "
            f"{[tuple(x.shape) for x in averages]}; update it from the module it was made of"
        )
    return averages, sources
