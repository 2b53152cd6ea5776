"""Transformer layers written out in float64, for tests of what detectors compute."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

Weights = dict[str, Tensor]


def weights_of(module: torch.nn.Module) -> Weights:
    """Everything it learned, by name, in float64."""
    return {name: value.double() for name, value in module.state_dict().items()}


def under(weights: Weights, prefix: str) -> Weights:
    """Those whose name begins with `prefix`, without it."""
    return {name.removeprefix(f"{prefix}."): w for name, w in weights.items() if name.startswith(f"{prefix}.")}


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def normed(x: Tensor, weights: Weights, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def heads_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, seen: Tensor | None = None) -> Tensor:
    """Of queries [T, D], keys and values [S, D]; `seen` is bool [T, S]."""
    size, out = q.shape[1] // heads, []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        logits = q[:, part] @ k[:, part].T / size**0.5
        if seen is not None:
            logits = torch.where(seen, logits, -torch.inf)
        out.append(logits.softmax(-1) @ v[:, part])
    return torch.cat(out, -1)


def self_attended(x: Tensor, w: Weights, heads: int, seen: Tensor | None = None) -> Tensor:
    q, k, v = linear(x, w, "project").chunk(3, -1)
    return linear(heads_attention(q, k, v, heads, seen), w, "merge")


def cross_attended(x: Tensor, context: Tensor, w: Weights, heads: int, seen: Tensor | None = None) -> Tensor:
    k, v = linear(context, w, "key_value").chunk(2, -1)
    return linear(heads_attention(linear(x, w, "query"), k, v, heads, seen), w, "merge")


def perceptron(x: Tensor, w: Weights) -> Tensor:
    hidden = linear(normed(x, w, "perceptron_norm"), w, "widen")
    return linear(functional.gelu(hidden), w, "narrow")


def block(x: Tensor, w: Weights, heads: int, seen: Tensor | None = None) -> Tensor:
    """Of tokens [T, width]."""
    x = x + self_attended(normed(x, w, "attention_norm"), under(w, "attention"), heads, seen)
    return x + perceptron(x, w)


def decoded(
    x: Tensor, context: Tensor, w: Weights, layers: int, heads: int, among: Tensor | None, seen: Tensor | None = None
) -> Tensor:
    """Tokens [T, width] after a `Decoder` over a context [S, width]."""
    for layer in range(layers):
        of = under(w, f"blocks.{layer}")
        x = x + self_attended(normed(x, of, "attention_norm"), under(of, "attention"), heads, among)
        x = x + cross_attended(normed(x, of, "cross_norm"), context, under(of, "cross"), heads, seen)
        x = x + perceptron(x, of)
    return normed(x, w, "norm")
