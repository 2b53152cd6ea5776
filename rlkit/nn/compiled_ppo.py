"""Losses of PPO and their gradient in compiled code, for small perceptrons on a CPU.

The equations of the ordinary path (`rlkit.ops.policy_gradient`, `rlkit.nn.action_heads`) over the memory of the torch
parameters, in arrays that are kept from one minibatch to the next; a test compares the two.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from rlkit.nn.action_heads import CategoricalHead
from rlkit.nn.actor_critic import ActorCritic
from rlkit.nn.compiled_mlp import WIDEST, backward, compiled, forward
from rlkit.nn.mlp import MLP
from rlkit.types import Array, Bools, Floats


class Steps(Protocol):
    """B steps of a rollout, see `rlkit.data.rollout.RolloutBatch`."""

    @property
    def obs(self) -> Floats:
        """[B, O]."""

    @property
    def action(self) -> Array:
        """[B, K] raw."""

    @property
    def log_prob(self) -> Floats:
        """[B] when the actions were taken."""

    @property
    def advantage(self) -> Floats:
        """[B]."""

    @property
    def target(self) -> Floats:
        """[B] for the values."""

    @property
    def value(self) -> Floats:
        """[B] when the rollout ended."""

    @property
    def action_mask(self) -> Bools | None:
        """[B, A]."""


class Weights(NamedTuple):
    """What the terms of the loss count, and how far policy and value may move."""

    clip_range: float
    value_clip_range: float  # infinite for no limit
    value: float
    entropy: float
    normalize_advantage: bool


class Losses(NamedTuple):
    """Terms of PPO's loss and how far the policy has moved."""

    policy: float
    value: float
    entropy: float
    approximate_kl: float
    clip_fraction: float


class CompiledPPO:
    """Losses and gradient of one actor-critic; the gradient is overwritten by the next call."""

    def __init__(self, network: ActorCritic) -> None:
        self._network = network
        self._gradient = torch.zeros_like(network.flat)
        self._policy, self._value = _Perceptron(network.policy), _Perceptron(network.value)
        self._ends = network.head.ends if isinstance(network.head, CategoricalHead) else None
        self._rows = -1

    def losses_and_gradient(self, batch: Steps, weights: Weights) -> tuple[Losses, Tensor]:
        """Losses of a minibatch, and the gradient of their weighted sum in the layout of `ActorCritic.flat`."""
        self._allocate(len(batch.obs))
        policy, log_std, value = self._parts(self._network.flat.numpy())
        by_policy, by_log_std, by_value = self._parts(self._gradient.numpy())
        obs = np.ascontiguousarray(batch.obs)

        outputs = self._policy.forward(policy, obs)
        entropy = self._log_prob(outputs, log_std, batch)
        policy_loss, kl, clipped = _surrogate(
            self._log_prob_now, batch.log_prob, batch.advantage, weights.clip_range, weights.normalize_advantage,
            self._by_log_prob,
        )  # fmt: skip
        self._policy_gradient(outputs, log_std, batch, -weights.entropy / len(batch.obs), by_log_std)
        self._policy.backward(policy, obs, by_policy)

        values = self._value.forward(value, obs)
        value_loss = _value_loss(
            values, batch.target, batch.value, weights.value_clip_range, weights.value, self._value.by_output
        )
        self._value.backward(value, obs, by_value)
        return Losses(policy_loss, value_loss, entropy, kl, clipped), self._gradient

    def _allocate(self, rows: int) -> None:
        """Memory for minibatches of this size."""
        if rows != self._rows:
            self._rows = rows
            self._log_prob_now, self._by_log_prob = np.zeros((2, rows), np.float32)
            self._log_p = np.zeros((rows, self._network.head.size), np.float32)
            self._policy.allocate(rows)
            self._value.allocate(rows)

    def _parts(self, flat: Floats) -> tuple[Floats, Floats, Floats]:
        """Parameters of the policy, log stds and parameters of the value."""
        first = self._policy.size
        second = first + self._network.head.log_stds
        return flat[:first], flat[first:second], flat[second:]

    def _log_prob(self, outputs: Floats, log_std: Floats, batch: Steps) -> float:
        """Note the log-probability of each action; the mean entropy."""
        if self._ends is None:
            return float(_gaussian(outputs, log_std, batch.action, self._log_prob_now))
        mask = np.ones((1, outputs.shape[1]), np.bool_) if batch.action_mask is None else batch.action_mask
        return float(_choices(outputs, self._ends, batch.action, mask, self._log_p, self._log_prob_now))

    def _policy_gradient(
        self, outputs: Floats, log_std: Floats, batch: Steps, by_entropy: float, by_log_std: Floats
    ) -> None:
        """Note the gradient by each output, and by the log stds."""
        given = (batch.action, self._by_log_prob, by_entropy, self._policy.by_output)
        if self._ends is None:
            _gaussian_gradient(outputs, log_std, *given, by_log_std)
        else:
            _choices_gradient(self._log_p, self._ends, *given)


class _Perceptron:
    """One network's memory for a pass over some rows."""

    def __init__(self, net: MLP) -> None:
        self.size = net.flat.numel()
        self._widths = np.array(net.widths)
        self._tanh = net.activation == "tanh"

    def allocate(self, rows: int) -> None:
        self._memory = np.zeros(rows * int(self._widths[1:].sum()), np.float32)
        self._scratch = np.zeros((2, rows * int(self._widths.max())), np.float32)
        self.by_output = np.zeros((rows, self._widths[-1]), np.float32)

    def forward(self, flat: Floats, x: Floats) -> Floats:
        outputs: Floats = forward(flat, self._widths, x, self._memory, self._tanh)
        return outputs

    def backward(self, flat: Floats, x: Floats, gradient: Floats) -> None:
        backward(flat, self._widths, x, self._memory, self.by_output, self._scratch, gradient, self._tanh)


def compiled_ppo(network: ActorCritic) -> CompiledPPO | None:
    """The compiled gradient where it is the faster one, for small perceptrons in float32 on a CPU; else None."""
    widest = max(*network.policy.widths, *network.value.widths)
    if not network.flat.is_cpu or network.flat.dtype != torch.float32 or widest > WIDEST:
        return None
    return CompiledPPO(network)


@compiled
def _choices(outputs, ends, raw, mask, log_p, log_prob):  # type: ignore[no-untyped-def]
    """Write the log-probability of every choice and of the actions taken; the mean entropy."""
    rows, entropy = len(outputs), 0.0
    for row in range(rows):
        allowed = mask[row % len(mask)]
        log_prob[row] = 0.0
        for part in range(len(ends) - 1):
            highest, total = -math.inf, 0.0
            for choice in range(ends[part], ends[part + 1]):
                if allowed[choice]:
                    highest = max(highest, outputs[row, choice])
            for choice in range(ends[part], ends[part + 1]):
                if allowed[choice]:
                    total += math.exp(outputs[row, choice] - highest)
            normaliser = highest + math.log(total)
            for choice in range(ends[part], ends[part + 1]):
                log_p[row, choice] = -np.inf
                if allowed[choice]:
                    log_p[row, choice] = outputs[row, choice] - normaliser
                    entropy -= math.exp(log_p[row, choice]) * log_p[row, choice]
            log_prob[row] += log_p[row, ends[part] + raw[row, part]]
    return entropy / rows


@compiled
def _choices_gradient(log_p, ends, raw, by_log_prob, by_entropy, by_output):  # type: ignore[no-untyped-def]
    """Write the gradient by every output: of log-probabilities, chosen - p, and of entropies H, -p (log p + H)."""
    for row in range(len(log_p)):
        for part in range(len(ends) - 1):
            chosen, entropy = ends[part] + raw[row, part], 0.0
            for choice in range(ends[part], ends[part + 1]):
                if log_p[row, choice] > -np.inf:
                    entropy -= math.exp(log_p[row, choice]) * log_p[row, choice]
            for choice in range(ends[part], ends[part + 1]):
                slope = 0.0
                if log_p[row, choice] > -np.inf:
                    p = math.exp(log_p[row, choice])
                    slope = -p * (by_log_prob[row] + by_entropy * (log_p[row, choice] + entropy))
                if choice == chosen:
                    slope += by_log_prob[row]
                by_output[row, choice] = slope


@compiled
def _gaussian(mean, log_std, raw, log_prob):  # type: ignore[no-untyped-def]
    """Write the log-density of the actions; the entropy, the same in every row."""
    rows, dimensions = mean.shape
    constant = 0.5 * math.log(2.0 * math.pi) * dimensions
    for dimension in range(dimensions):
        constant += log_std[dimension]
    inverse_std = np.exp(-log_std)
    for row in range(rows):
        squares = 0.0
        for dimension in range(dimensions):
            z = (raw[row, dimension] - mean[row, dimension]) * inverse_std[dimension]
            squares += z * z
        log_prob[row] = -0.5 * squares - constant
    return constant + 0.5 * dimensions


@compiled
def _gaussian_gradient(mean, log_std, raw, by_log_prob, by_entropy, by_output, by_log_std):  # type: ignore[no-untyped-def]
    """Write the gradient by means, z / std, and by log stds, z² - 1; the entropy's by each log std is 1."""
    rows, dimensions = mean.shape
    inverse_std = np.exp(-log_std)
    for dimension in range(dimensions):
        total = rows * by_entropy
        for row in range(rows):
            z = (raw[row, dimension] - mean[row, dimension]) * inverse_std[dimension]
            by_output[row, dimension] = by_log_prob[row] * z * inverse_std[dimension]
            total += by_log_prob[row] * (z * z - 1.0)
        by_log_std[dimension] = total


@compiled
def _surrogate(log_prob, old_log_prob, advantage, clip_range, normalize, by_log_prob):  # type: ignore[no-untyped-def]
    """Write the gradient by each log-probability; the clipped loss, the divergence and the part that is clipped."""
    rows = len(log_prob)
    loss, divergence, clipped, mean, scale = 0.0, 0.0, 0.0, 0.0, 1.0
    if normalize and rows > 1:
        for row in range(rows):
            mean += advantage[row] / rows
        squares = 0.0
        for row in range(rows):
            squares += (advantage[row] - mean) ** 2
        scale = 1.0 / (math.sqrt(squares / (rows - 1)) + 1e-8)
    for row in range(rows):
        gain = (advantage[row] - mean) * scale
        log_ratio = float(log_prob[row]) - old_log_prob[row]
        ratio = math.exp(log_ratio)
        loss -= min(gain * ratio, gain * min(max(ratio, 1.0 - clip_range), 1.0 + clip_range)) / rows
        beyond = ratio > 1.0 + clip_range if gain > 0.0 else ratio < 1.0 - clip_range
        by_log_prob[row] = 0.0 if beyond else -gain * ratio / rows
        divergence += (math.expm1(log_ratio) - log_ratio) / rows
        clipped += (abs(ratio - 1.0) > clip_range) / rows
    return loss, divergence, clipped


@compiled
def _value_loss(values, target, old_value, clip_range, weight, by_value):  # type: ignore[no-untyped-def]
    """Write the gradient by each value, times `weight`; the mean squared error."""
    rows, loss = len(target), 0.0
    for row in range(rows):
        moved = values[row, 0] - old_value[row]
        value = values[row, 0]
        if abs(moved) > clip_range:
            value = old_value[row] + math.copysign(clip_range, moved)
        error = value - target[row]
        loss += error * error / rows
        by_value[row, 0] = 0.0 if abs(moved) > clip_range else 2.0 * weight * error / rows
    return loss
