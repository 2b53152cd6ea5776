"""Matrix products of a fully connected layer, and the one place that decides which library computes them.

Three libraries serve float32 on a processor. MKL is behind every ordinary torch product; on AMD processors it takes a
256-bit path. oneDNN uses 512-bit registers there and fuses the ReLU (of NaN it makes zero), but torch offers it for one
linear layer only, through a private operator, slow for narrow layers and for the weight's gradient, whose operands it
would copy to transpose them. OpenBLAS, behind numpy and scipy, uses 512-bit registers too unless OPENBLAS_CORETYPE
forbids it; where it wins, whole networks go through `rlkit.nn.numpy_mlp` and not through the functions here. A probe
times the three once per process: on Zen 5 the last two need half of MKL's time, on Zen 4 all are much alike.

The three round differently, so a resumed run must take the path its first part took: save `matmul_backend()` and
restore it with `set_matmul_backend`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
import torch
from threadpoolctl import threadpool_info
from torch import Tensor

from rlkit.errors import UsageError
from rlkit.nn.compiled_mlp import forward

Backend: TypeAlias = Literal["mkl", "onednn", "openblas"]

# Below this width oneDNN falls to slow kernels, and MKL is better with the transposed product (see `weight_gradient`).
THIN = 64
# Wide, so that noise never decides: on Zen 4 the ratio is 1.02 to 1.08 and two runs of one seed must round alike.
PROBE_MARGIN = 1.25

_WIDTH = 256  # of the layer that the probe times

_chosen: dict[bool, Backend] = {}  # by whether torch has one thread


def matmul_backend() -> Backend:
    """Which library computes float32 products on the CPU, with as many threads as torch has now.

    Probes on the first call: half a second, most of which loads compiled code.
    """
    alone = torch.get_num_threads() == 1
    if alone not in _chosen:
        _chosen[alone] = probe()
    return _chosen[alone]


def set_matmul_backend(name: str) -> None:
    """Force the choice, so that a resumed run repeats its bits.

    Raises:
        UsageError: the name is unknown, or this torch build or processor cannot do it.
    """
    allowed = get_args(Backend)
    if name not in allowed:
        raise UsageError(f"matmul backend is {name!r}, allowed: {', '.join(allowed)}")
    if name == "onednn" and not onednn_works():
        raise UsageError(
            f"matmul backend {name!r} does not work with this torch build or processor.\n"
            "Use 'mkl'; results then differ from the first run by rounding."
        )
    _chosen[torch.get_num_threads() == 1] = cast(Backend, name)


def linear(x: Tensor, weight: Tensor, bias: Tensor, *, relu: bool = False) -> Tensor:
    """The layer's output x W^T + b, [B, out], with the ReLU applied where asked."""
    if _goes_to_onednn(x, weight):
        return _onednn(x, weight, bias, "relu" if relu else "none")
    if weight.shape[0] < THIN <= weight.shape[1]:
        # A narrow output is computed transposed: MKL needs half the time with the long side last.
        y = torch.addmm(bias.unsqueeze(1), weight, x.t()).t()
    else:
        y = torch.addmm(bias, x, weight.t())
    return y.relu_() if relu else y


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """Gradient [B, in] of the layer's input, given the gradient [B, out] of its output."""
    if weight.shape[0] == 1:
        return gradient * weight  # an outer product, a third of the time of `mm`
    if _goes_to_onednn(gradient, weight):
        return _onednn(gradient, weight.t(), None, "none")
    if _is_thin(weight):
        return torch.mm(weight.t(), gradient.t()).t()
    return torch.mm(gradient, weight)


def weight_gradient(gradient: Tensor, x: Tensor, out: Tensor) -> None:
    """Write the gradient [out, in] of the layer's weight into `out`."""
    if _goes_to_onednn(x, out):
        out.copy_(_onednn(gradient.t(), x.t(), None, "none"))
    elif _is_thin(out):
        # The same product transposed: MKL needs half to a fifth of the time with the long side last.
        out.copy_(torch.mm(x.t(), gradient).t())
    else:
        torch.mm(gradient.t(), x, out=out)


def probe() -> Backend:
    """The choice for this machine: MKL, unless another library is right and at least `PROBE_MARGIN` times faster.

    OpenBLAS only on one thread: two wait for each other on a busy machine, where a layer took 50 times as long.
    """
    seconds = layer_seconds()
    if any(pool["num_threads"] > 1 for pool in threadpool_info() if pool["user_api"] == "blas"):
        seconds["openblas"] = math.inf
    if seconds["mkl"] < PROBE_MARGIN * min(seconds.values()):
        return "mkl"
    # Where both are, a whole network in one call makes up for products that are a little slower.
    return "openblas" if seconds["openblas"] < PROBE_MARGIN * seconds["onednn"] else "onednn"


def onednn_works() -> bool:
    """Whether torch's private oneDNN linear exists here and gives the right numbers in all three products."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 256, 256, generator=generator)
    bias = torch.randn(256, generator=generator)
    try:
        with torch.inference_mode():
            pairs = (
                (_onednn(x, weight, bias, "relu"), torch.addmm(bias, x, weight.t()).relu_()),
                (_onednn(x, weight.t(), None, "none"), torch.mm(x, weight)),
                (_onednn(x.t(), weight.t(), None, "none"), torch.mm(x.t(), weight)),
            )
    except (AttributeError, RuntimeError, NotImplementedError):  # what torch raises for an absent or unsupported op
        return False
    return all(torch.allclose(found, right, atol=1e-3) for found, right in pairs)


def layer_seconds(repetitions: int = 12) -> dict[Backend, float]:
    """Least seconds of the three products of one 256x256 layer on 256 rows, by backend, taken in turns.

    Infinity where oneDNN does not work. The operands change from turn to turn: in an update no product finds its
    operands in the nearest cache.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, _WIDTH, _WIDTH, generator=generator)
    layers = torch.randn(4, _WIDTH * (_WIDTH + 1), generator=generator)  # weight and bias in one vector
    least: dict[Backend, float] = {"mkl": math.inf, "onednn": math.inf, "openblas": math.inf}
    works: dict[Backend, Callable[[Tensor, Tensor, Tensor], None]] = {"mkl": _by_mkl, "openblas": _by_openblas}
    if onednn_works():
        works["onednn"] = _by_onednn
    with torch.inference_mode():
        out = torch.empty(_WIDTH, _WIDTH)
        for turn in range(repetitions):
            for name, work in works.items():
                x, layer = inputs[turn % len(inputs)], layers[turn % len(layers)]
                start = time.perf_counter()
                work(x, layer, out)
                least[name] = min(least[name], time.perf_counter() - start)
    return least


def _by_mkl(x: Tensor, layer: Tensor, out: Tensor) -> None:
    weight, bias = _weight_and_bias(layer)
    gradient = torch.addmm(bias, x, weight.t()).relu_()
    torch.mm(gradient.t(), x, out=out)
    torch.mm(gradient, weight)


def _by_onednn(x: Tensor, layer: Tensor, out: Tensor) -> None:
    weight, bias = _weight_and_bias(layer)
    gradient = _onednn(x, weight, bias, "relu")
    out.copy_(_onednn(gradient.t(), x.t(), None, "none"))
    _onednn(gradient, weight.t(), None, "none")


def _by_openblas(x: Tensor, layer: Tensor, out: Tensor) -> None:
    memory = np.empty(x.numel(), np.float32)
    gradient = forward(layer.numpy(), np.array([_WIDTH, _WIDTH]), x.numpy(), memory, False)
    np.matmul(gradient.T, x.numpy(), out=out.numpy())
    np.matmul(gradient, _weight_and_bias(layer)[0].numpy())


def _weight_and_bias(layer: Tensor) -> tuple[Tensor, Tensor]:
    return layer[:-_WIDTH].view(_WIDTH, _WIDTH), layer[-_WIDTH:]


def _is_thin(weight: Tensor) -> bool:
    return weight.shape[1] < THIN <= weight.shape[0]


def _goes_to_onednn(x: Tensor, weight: Tensor) -> bool:
    wide = min(*weight.shape, x.shape[0]) >= THIN
    return wide and x.dtype == torch.float32 and x.is_cpu and matmul_backend() == "onednn"


def goes_to_openblas(*tensors: Tensor) -> bool:
    """Whether these rows and parameters go through `rlkit.nn.numpy_mlp`."""
    return all(x.dtype == torch.float32 and x.is_cpu for x in tensors) and matmul_backend() == "openblas"


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], ""))
