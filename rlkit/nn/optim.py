"""Adam and momentum on one flat parameter vector, and the clipping of its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlkit.errors import CheckpointError, UsageError
from rlkit.nn.compiled_mlp import adam_step

LARGEST = 2**18
"""Parameters up to which compiled code is the faster one on a CPU; torch's kernel may take several threads."""


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1), the same numbers as `torch.optim.Adam` up to rounding.

    It takes the gradient as an argument, because an agent has it from `torch.autograd.grad`: nothing is accumulated
    and nothing has to be zeroed. A step of 70,000 parameters costs a fifth of `torch.optim.Adam`'s.

    Args:
        parameter: The vector to change in place.
        learning_rate: Step size; may be assigned at any time (schedules).
        betas: Decay of the mean and of the squared mean of the gradient.
        eps: Added to the denominator.
        weight_decay: L2 penalty, added to the gradient (not decoupled).
    """

    def __init__(
        self,
        parameter: Tensor,
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameter = parameter
        self.learning_rate = learning_rate
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.exp_avg = torch.zeros_like(parameter, requires_grad=False)
        self.exp_avg_sq = torch.zeros_like(parameter, requires_grad=False)
        self.steps = 0
        fits = parameter.dim() == 1 and parameter.numel() <= LARGEST
        self._is_compiled = fits and parameter.is_cpu and parameter.dtype == torch.float32

    def step(self, gradient: Tensor) -> None:
        """Move the parameter once against `gradient`.

        Raises:
            UsageError: the gradient has another shape or type than the parameter.
        """
        if gradient.shape != self.parameter.shape or gradient.dtype != self.parameter.dtype:
            found, wanted = (f"{tuple(x.shape)} {x.dtype}" for x in (gradient, self.parameter))
            raise UsageError(f"the gradient is {found}, the parameter {wanted}: they must be alike")
        self.steps += 1
        if self._is_compiled:
            flat, moments = self.parameter.detach().numpy(), (self.exp_avg.numpy(), self.exp_avg_sq.numpy())
            settings = (float(self.learning_rate), *self.betas, self.eps, self.weight_decay, math.inf)
            adam_step(flat, np.ascontiguousarray(gradient.detach().numpy()), *moments, self.steps, *settings)
            return
        # on the parameter's device, because the fused kernel reads it there
        steps = torch.full((), self.steps, dtype=torch.float32, device=self.parameter.device)
        with torch.no_grad():
            # What torch.optim.Adam(fused=True) calls, without its 40 us of bookkeeping.
            torch._fused_adam_(
                [self.parameter],
                [gradient],
                [self.exp_avg],
                [self.exp_avg_sq],
                [],
                [steps],
                lr=self.learning_rate,
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=self.weight_decay,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
            )

    def state(self) -> dict[str, Any]:
        """Copies of the moments and the step count, for a checkpoint."""
        return {"exp_avg": self.exp_avg.clone(), "exp_avg_sq": self.exp_avg_sq.clone(), "steps": self.steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        if state["exp_avg"].shape != self.exp_avg.shape:
            found, wanted = tuple(state["exp_avg"].shape), tuple(self.exp_avg.shape)
            raise CheckpointError(f"the optimiser's state has shape {found}, the network needs {wanted}")
        self.exp_avg.copy_(state["exp_avg"])
        self.exp_avg_sq.copy_(state["exp_avg_sq"])
        self.steps = state["steps"]


class Momentum:
    """Stochastic gradient descent with momentum, v ← m v + g, w ← w - γ v, as `torch.optim.SGD` has it.

    Args:
        parameter: The vector to change in place.
        learning_rate: γ; may be assigned at any time (schedules).
        momentum: m.
    """

    def __init__(self, parameter: Tensor, learning_rate: float, *, momentum: float = 0.9) -> None:
        self.parameter, self.learning_rate, self.momentum = parameter, learning_rate, momentum
        self.velocity = torch.zeros_like(parameter, requires_grad=False)

    def step(self, gradient: Tensor) -> None:
        """Move the parameter once against `gradient`."""
        with torch.no_grad():
            self.velocity.mul_(self.momentum).add_(gradient)
            self.parameter.sub_(self.velocity, alpha=self.learning_rate)

    def state(self) -> dict[str, Any]:
        """A copy of the velocity, for a checkpoint."""
        return {"velocity": self.velocity.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        if state["velocity"].shape != self.velocity.shape:
            found, wanted = tuple(state["velocity"].shape), tuple(self.velocity.shape)
            raise CheckpointError(f"the optimiser's state has shape {found}, the network needs {wanted}")
        self.velocity.copy_(state["velocity"])


def clip_norm(gradient: Tensor, longest: float) -> None:
    """Shorten a gradient in place to the Euclidean length `longest`, as `torch.nn.utils.clip_grad_norm_` does."""
    scale = longest / (float(torch.linalg.vector_norm(gradient)) + 1e-6)
    if scale < 1.0:
        gradient.mul_(scale)
