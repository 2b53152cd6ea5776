"""In which number format a network learns: float32, or half of it for the products, and float32 for all that adds up.

What stays float32 whatever the setting: parameters, optimiser states, target networks and their averages, log-
probabilities, returns, advantages and targets. In bfloat16, with 8 bits of mantissa, a target network with τ = 0.005
would hardly ever move (w + 0.005 d rounds to w for every d below 0.4 w), and probabilities near 1 would be 1.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rlkit.errors import UsageError
from rlkit.types import State

PrecisionName: TypeAlias = Literal["fp32", "bf16", "fp16"]
_TYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """One setting for a network's forward and backward pass.

    float16 cannot hold gradients below 6e-8: they are multiplied before the backward pass and divided after it
    (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740, section 3.2), by a scale that is halved when a gradient
    is not finite and doubled after `growth_interval` that were.

    Args:
        name: "fp32", "bf16" or "fp16".
        device: Where the network is.
        growth_interval: Updates with finite gradients before the scale is doubled.

    Raises:
        UsageError: the device cannot do it.
    """

    def __init__(self, name: PrecisionName, device: torch.device, *, growth_interval: int = 2000) -> None:
        if name == "fp16" and device.type == "cpu":
            raise UsageError("precision is fp16, which is for GPUs; on a processor use fp32, or bf16 where it is fast")
        self.name, self._device, self._growth_interval = name, device, growth_interval
        self.scale = 2.0**16 if name == "fp16" else 1.0
        self._finite_updates = 0

    def products(self) -> AbstractContextManager[object]:
        """Within it matrix products are made in the format, whatever the dtype of their operands."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self._device.type, _TYPES[self.name])

    def scaled(self, gradient: Tensor) -> Tensor:
        """A gradient by outputs, as it enters the backward pass."""
        return gradient if self.scale == 1.0 else gradient * self.scale

    def unscale_(self, gradient: Tensor) -> bool:
        """Bring a gradient by parameters to its size, in place; False where it is not finite: skip that update."""
        if self.name != "fp16":
            return True
        gradient.div_(self.scale)
        is_finite = bool(gradient.isfinite().all())
        self._finite_updates = self._finite_updates + 1 if is_finite else 0
        if not is_finite:
            self.scale /= 2
        elif self._finite_updates == self._growth_interval:
            self.scale, self._finite_updates = self.scale * 2, 0
        return is_finite

    def state(self) -> State:
        """The scale, and how long it has held."""
        return {"scale": self.scale, "finite_updates": self._finite_updates}

    def load_state(self, state: State) -> None:
        """Restore `state`."""
        self.scale, self._finite_updates = state["scale"], state["finite_updates"]
