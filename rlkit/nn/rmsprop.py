"""RMSProp on one flat parameter vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlkit.errors import CheckpointError


class RMSProp:
    """RMSProp (Tieleman and Hinton 2012, lecture 6.5) without momentum, the numbers of `torch.optim.RMSprop`.

    Args:
        parameter: The vector to change in place.
        learning_rate: Step size; may be assigned at any time (schedules).
        decay: Decay of the squared mean of the gradient.
        eps: Added to the root of the squared mean (TensorFlow adds it under the root).
    """

    def __init__(self, parameter: Tensor, learning_rate: float, *, decay: float = 0.99, eps: float = 1e-5) -> None:
        self.parameter = parameter
        self.learning_rate = learning_rate
        self.decay = decay
        self.eps = eps
        self.square = torch.zeros_like(parameter, requires_grad=False)

    def step(self, gradient: Tensor) -> None:
        """Move the parameter once against `gradient`."""
        with torch.no_grad():
            self.square.mul_(self.decay).addcmul_(gradient, gradient, value=1.0 - self.decay)
            self.parameter.addcdiv_(gradient, self.square.sqrt().add_(self.eps), value=-self.learning_rate)

    def state(self) -> dict[str, Any]:
        """A copy of the squared mean, for a checkpoint."""
        return {"square": self.square.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        if state["square"].shape != self.square.shape:
            found, wanted = tuple(state["square"].shape), tuple(self.square.shape)
            raise CheckpointError(f"the optimiser's state has shape {found}, the network needs {wanted}")
        self.square.copy_(state["square"])
