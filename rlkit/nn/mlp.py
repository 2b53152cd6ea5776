"""Multilayer perceptron whose parameters are one flat vector and whose gradient is one autograd node.

An update of a small network spends more time between matrix products than in them. With one flat parameter an
optimiser step and a Polyak average are one call each, and with one node autograd has nothing to do in between. To its
user it is an ordinary differentiable module; only second derivatives are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from rlkit.errors import UsageError
from rlkit.nn import linear, numpy_mlp
from rlkit.nn.compiled_mlp import forward_row
from rlkit.types import Floats

Layers: TypeAlias = tuple[tuple[Tensor, Tensor], ...]
Output: TypeAlias = Literal["linear", "tanh", "relu"]
Activation: TypeAlias = Literal["relu", "tanh"]
_OUTPUTS = {"linear": 0, "relu": 1, "tanh": 2}  # as `forward_row` takes them


class MLP(nn.Module):
    """Fully connected layers with ReLU or tanh between them and a linear, tanh or ReLU output.

    Layers start as `torch.nn.Linear` does: weight and bias uniform within 1/sqrt(fan_in); or orthogonal, see
    `final_gain`.

    Args:
        in_features: Width of the input.
        hidden: Width of each hidden layer; empty for a linear map.
        out_features: Width of the output.
        activation: After each hidden layer.
        output: "linear"; "tanh" for outputs within (-1, 1); "relu" for features that another network takes.
        generator: Source of the initial weights, on the CPU.
        final_init: If given, the output layer is uniform within this bound instead (Lillicrap et al. 2016: 3e-3).
        final_gain: If given, weights start orthogonal (Saxe et al. 2014, https://arxiv.org/abs/1312.6120) and biases
            zero: hidden layers with gain sqrt(2), the output layer with this one.

    >>> net = MLP(3, (16, 16), 1, output="tanh", generator=torch.Generator().manual_seed(0))
    >>> net(torch.zeros(5, 3)).shape
    torch.Size([5, 1])
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        *,
        activation: Activation = "relu",
        output: Output = "linear",
        generator: torch.Generator,
        final_init: float | None = None,
        final_gain: float | None = None,
    ) -> None:
        super().__init__()
        for name, found, known in (("output", output, Output), ("activation", activation, Activation)):
            if found not in get_args(known):
                raise UsageError(f"{name} of an MLP is {found!r}, allowed: {', '.join(get_args(known))}")
        if final_init is not None and final_gain is not None:
            raise UsageError("an MLP's output layer is uniform (final_init) or orthogonal (final_gain), not both")
        self.widths = (in_features, *hidden, out_features)
        if min(self.widths) < 1:
            raise UsageError(f"widths of an MLP are {self.widths}, each must be at least 1")
        self.activation: Activation = activation
        self.output: Output = output
        size = sum(fan_out * (fan_in + 1) for fan_in, fan_out in pairwise(self.widths))
        self.flat = nn.Parameter(torch.empty(size))
        self._views = _Views(self.flat, self.widths)
        if final_gain is None:
            self._initialise(generator, final_init)
        else:
            self._initialise_orthogonally(generator, final_gain)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [..., out_features] for inputs [..., in_features]."""
        rows = x if x.dim() == 2 else x.reshape(-1, self.widths[0])
        y = _differentiable(rows, self.flat, self._current_views(), self.activation, self.output)
        return y if x.dim() == 2 else y.reshape(*x.shape[:-1], self.widths[-1])

    def trace(self, x: Tensor) -> Trace:
        """Outputs for rows [B, in_features] with what their gradients need, outside autograd.

        The same numbers as `forward` and `backward`, a tenth faster in an update of 256x256: for a `learn` that knows
        the gradient of its loss and runs under `torch.inference_mode()`.

        >>> net = MLP(3, (16,), 1, generator=torch.Generator().manual_seed(0))
        >>> trace = net.trace(torch.zeros(5, 3))
        >>> trace.weight_gradient(torch.ones_like(trace.output)).shape == net.flat.shape
        True
        """
        views, x = self._current_views(), x.detach()
        return Trace((x, *_activations(x, views, self.activation, self.output)), views, self.activation, self.output)

    def numpy_forward(self, x: Floats) -> Floats:
        """Outputs [N, out_features] for inputs [N, in_features], without torch's dispatcher.

        For acting: one row goes through compiled code, 256x256 in a quarter of torch's time. The arrays are views of
        the parameters, so they follow every optimiser step. Off the CPU it goes through torch. Rounding may differ
        from `forward`, and between one row and several.
        """
        if not self.flat.is_cpu:
            with torch.no_grad():
                outputs: Floats = self(torch.from_numpy(x).to(self.flat.device)).cpu().numpy()
            return outputs
        views = self._current_views()
        if len(x) == 1 and x.dtype == views.array.dtype == np.float32:
            tanh, output = self.activation == "tanh", _OUTPUTS[self.output]
            row: Floats = forward_row(views.array, views.width_array, np.ascontiguousarray(x[0]), tanh, output)
            return row[None]
        *hidden, (last_weight, last_bias) = views.arrays
        for weight, bias in hidden:
            x = x @ weight.T
            x += bias
            if self.activation == "relu":
                np.maximum(x, 0, out=x)
            else:
                np.tanh(x, out=x)
        y = x @ last_weight.T
        y += last_bias
        if self.output == "tanh":
            np.tanh(y, out=y)
        elif self.output == "relu":
            np.maximum(y, 0, out=y)
        return y

    def layer_views(self) -> Layers:
        """Weight [out, in] and bias [out] of each layer, detached views: writing into them changes the network."""
        return self._current_views().layers

    def load_layers(self, layers: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Copy the weight and bias of each layer from another network, e.g. from the Linear layers of a Sequential."""
        given = list(layers)
        wanted = [tuple(weight.shape) for weight, _ in self.layer_views()]
        if [tuple(weight.shape) for weight, _ in given] != wanted:
            raise UsageError(f"weights have shapes {[tuple(w.shape) for w, _ in given]}, this network has {wanted}")
        with torch.no_grad():
            for (weight, bias), (new_weight, new_bias) in zip(self.layer_views(), given, strict=True):
                weight.copy_(new_weight)
                bias.copy_(new_bias)

    def copy_from(self, source: MLP) -> None:
        """Take over the parameters of a network of the same shape."""
        self._require_same_shape(source)
        with torch.no_grad():
            self.flat.copy_(source.flat)

    def polyak_(self, source: MLP, tau: float) -> None:
        """Move the parameters the fraction `tau` of the way to those of `source` (a target network's update)."""
        self._require_same_shape(source)
        with torch.no_grad():
            self.flat.lerp_(source.flat, tau)

    def _initialise(self, generator: torch.Generator, final_init: float | None) -> None:
        layers = self.layer_views()
        for index, (weight, bias) in enumerate(layers):
            is_final = index == len(layers) - 1
            bound = final_init if is_final and final_init is not None else 1 / math.sqrt(weight.shape[1])
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)

    def _initialise_orthogonally(self, generator: torch.Generator, final_gain: float) -> None:
        layers = self.layer_views()
        for index, (weight, bias) in enumerate(layers):
            gain = final_gain if index == len(layers) - 1 else math.sqrt(2)
            nn.init.orthogonal_(weight, gain, generator=generator)
            bias.zero_()

    def _require_same_shape(self, source: MLP) -> None:
        if source.widths != self.widths:
            raise UsageError(f"the other network has widths {source.widths}, this one has {self.widths}")

    def _current_views(self) -> _Views:
        # `.to(device)`, `.double()` and `copy.deepcopy` give the parameter new memory behind the same name.
        if self._views.address != self.flat.data_ptr():
            self._views = _Views(self.flat, self.widths)
        return self._views


def perceptron(x: Tensor, flat: Tensor, widths: Sequence[int], output: Output = "linear") -> Tensor:
    """Outputs [B, out] of an MLP with ReLU whose parameters are computed: `flat` may depend on others.

    >>> perceptron(torch.ones(2, 3), torch.ones(4), (3, 1)).tolist()
    [[4.0], [4.0]]
    """
    return _differentiable(x, flat, _Views(flat, widths), "relu", output)


def _differentiable(x: Tensor, flat: Tensor, views: _Views, activation: Activation, output: Output) -> Tensor:
    if torch.is_grad_enabled() and (flat.requires_grad or x.requires_grad):
        return cast(Tensor, _OneNode.apply(x, flat, views, activation, output))  # type: ignore[no-untyped-call]
    # a copy, so that who keeps it does not keep the other layers' outputs, which may lie in one block with it
    return _activations(x, views, activation, output)[-1].clone()


@dataclass(frozen=True, slots=True)
class Trace:
    """One forward pass of an MLP; gradients are right until its weights change."""

    activations: tuple[Tensor, ...]  # the input, then every layer's output
    views: _Views
    activation: Activation
    kind: Output

    @property
    def output(self) -> Tensor:
        """The network's output, [B, out]."""
        return self.activations[-1]

    def weight_gradient(self, gradient: Tensor, out: Tensor | None = None) -> Tensor:
        """Gradient of a loss in the layout of `MLP.flat`, given its gradient [B, out] by the output.

        Written into `out` where given.

        Raises:
            UsageError: a shape is another one; likewise `input_gradient`.
        """
        flat_gradient = torch.empty_like(self.views.flat) if out is None else out
        if flat_gradient.shape != self.views.flat.shape:
            raise UsageError(f"out has shape {tuple(flat_gradient.shape)}, it must be {tuple(self.views.flat.shape)}")
        self._backward(gradient, flat_gradient, None)
        return flat_gradient

    def input_gradient(self, gradient: Tensor, first_column: int = 0) -> Tensor:
        """Gradient [B, in] of a loss by the input, given its gradient [B, out] by the output.

        Or by the columns of the input from `first_column` on, such as an action.
        """
        return cast(Tensor, self._backward(gradient, None, first_column))

    def _backward(self, gradient: Tensor, flat_gradient: Tensor | None, first_column: int | None) -> Tensor | None:
        if gradient.shape != self.output.shape:  # compiled code would read beyond it
            found, wanted = tuple(gradient.shape), tuple(self.output.shape)
            raise UsageError(f"the gradient has shape {found}, the output {wanted}: they must be alike")
        gradient = _before_activation(gradient.detach(), self.output, self.kind)
        return _backward(gradient, self.activations[:-1], self.views, self.activation, flat_gradient, first_column)


class _Views:
    """Views of one flat parameter, as torch layers and as numpy arrays; they keep that memory alive."""

    def __init__(self, flat: Tensor, widths: Sequence[int]) -> None:
        self.flat = flat.detach()
        self.address = flat.data_ptr()
        self.layers = _split(self.flat, widths)
        self.widths = tuple(widths)
        self.width_array = np.array(widths)
        if flat.is_cpu:
            self.array: Floats = self.flat.numpy()

    @cached_property
    def arrays(self) -> list[tuple[Floats, Floats]]:
        """Weight [out, in] and bias [out] of each layer, for a network on the CPU."""
        return numpy_mlp.layer_arrays(self.array, self.widths)


class _OneNode(torch.autograd.Function):
    """The whole network as one differentiable function of its input and its flat parameter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, flat: Tensor, views: _Views, activation: Activation, output: Output) -> Tensor:
        activations = _activations(x, views, activation, output)
        # `flat` is saved only so that autograd refuses a backward after torch has changed the weights in place.
        ctx.save_for_backward(flat, x, *activations)
        ctx.views, ctx.activation, ctx.output = views, activation, output
        return activations[-1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if torch.is_grad_enabled():  # create_graph=True; without this the second derivative would silently be zero
            raise UsageError("an MLP has no second derivatives (create_graph=True); use torch.nn.Sequential for them")
        flat, x, *hidden, y = ctx.saved_tensors
        wants_x, wants_flat = ctx.needs_input_grad[:2]
        flat_gradient = torch.empty_like(flat) if wants_flat else None
        gradient = _before_activation(gradient, y, ctx.output)
        first_column = 0 if wants_x else None
        inputs = (x.detach(), *hidden)
        x_gradient = _backward(gradient, inputs, ctx.views, ctx.activation, flat_gradient, first_column)
        return x_gradient, flat_gradient, None, None, None


def _activations(x: Tensor, views: _Views, activation: Activation, output: Output) -> list[Tensor]:
    """Output of every layer after its activation; the last is the network's output."""
    if linear.goes_to_openblas(x, views.flat):
        arrays = numpy_mlp.layer_outputs(x.detach().numpy(), views.array, views.width_array, tanh=activation == "tanh")
        activations = [torch.from_numpy(array) for array in arrays]
        if output == "relu":
            activations[-1].relu_()
    else:
        activations = []
        *hidden, last = views.layers
        for weight, bias in hidden:
            x = linear.linear(x, weight, bias, relu=activation == "relu")
            if activation == "tanh":
                _tanh_(x)
            activations.append(x)
        activations.append(linear.linear(x, *last, relu=output == "relu"))
    if output == "tanh":
        activations[-1].tanh_()
    return activations


def _tanh_(x: Tensor) -> None:
    """Take tanh in place; on a CPU by numpy, whose vectorised one takes a tenth of torch's time."""
    if x.is_cpu:
        values = x.numpy()
        np.tanh(values, out=values)
    else:
        x.tanh_()


def _before_activation(gradient: Tensor, y: Tensor, output: Output) -> Tensor:
    """Gradient by what the output's activation was given, for the gradient by the network's output `y`."""
    if output == "linear":
        return gradient
    if output == "tanh":
        return cast(Tensor, torch.ops.aten.tanh_backward(gradient, y))
    return cast(Tensor, torch.ops.aten.threshold_backward(gradient, y, 0))


def _backward(
    gradient: Tensor,
    inputs: Sequence[Tensor],
    views: _Views,
    activation: Activation,
    flat_gradient: Tensor | None,
    first_column: int | None,
) -> Tensor | None:
    """Write each layer's gradient into `flat_gradient` and return that of the network's input from a column on."""
    if linear.goes_to_openblas(gradient, views.flat):
        by_input = numpy_mlp.backward(
            gradient.numpy(),
            [x.numpy() for x in inputs],
            views.arrays,
            None if flat_gradient is None else numpy_mlp.layer_arrays(flat_gradient.numpy(), views.widths),
            tanh=activation == "tanh",
            first_column=first_column,
        )
        return None if by_input is None else torch.from_numpy(by_input)
    layers = views.layers
    gradients = None if flat_gradient is None else _split(flat_gradient, views.widths)
    for index in reversed(range(len(layers))):
        weight = layers[index][0]
        if gradients is not None:
            by_weight, by_bias = gradients[index]
            linear.weight_gradient(gradient, inputs[index], by_weight)
            torch.sum(gradient, 0, out=by_bias)
        if index == 0:
            return None if first_column is None else linear.input_gradient(gradient, weight[:, first_column:])
        gradient = linear.input_gradient(gradient, weight)
        if activation == "tanh":
            torch.ops.aten.tanh_backward.grad_input(gradient, inputs[index], grad_input=gradient)
        else:
            # inputs[index] is a ReLU's output, zero exactly where its gradient is; `gradient` is ours to overwrite.
            torch.ops.aten.threshold_backward.grad_input(gradient, inputs[index], 0, grad_input=gradient)
    return None


def _split(flat: Tensor, widths: Sequence[int]) -> Layers:
    """Views (weight [out, in], bias [out]) of each layer in a flat vector."""
    sizes = [size for fan_in, fan_out in pairwise(widths) for size in (fan_out * fan_in, fan_out)]
    parts = iter(flat.split_with_sizes(sizes))
    return tuple((next(parts).view(fan_out, fan_in), next(parts)) for fan_in, fan_out in pairwise(widths))
