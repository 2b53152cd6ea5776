"""Heads of learning without labels: the layers of each paper, their norms, and where their gradients go."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rlkit.errors import UsageError
from rlkit.nn.projection_heads import PREDICTIONS, PROJECTIONS, DINOHead, HeadDesign, Prototypes


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(count: int = 16, width: int = 12) -> Tensor:
    return torch.randn(count, width, generator=source(1))


def layers(head: nn.Module) -> list[str]:
    """Linear layers with "b" where they have a bias, norms with "a" where they have an affine part."""
    names = {nn.Linear: "linear", nn.BatchNorm1d: "norm", nn.ReLU: "relu", nn.GELU: "gelu"}
    marks = [
        "b" if isinstance(layer, nn.Linear) and layer.bias is not None
        else "a" if isinstance(layer, nn.BatchNorm1d) and layer.affine
        else ""
        for layer in head.children()
    ]  # fmt: skip
    return [f"{names[type(layer)]}{mark}" for layer, mark in zip(head.children(), marks, strict=True)]


HIDDEN = ["linear", "norma", "relu"]


@pytest.mark.parametrize(
    ("design", "expected"),
    [
        (PROJECTIONS["simclr"], [*HIDDEN, "linear", "norm"]),
        (PROJECTIONS["moco"], ["linearb", "relu", "linearb"]),
        (PROJECTIONS["moco-v3"], [*HIDDEN, *HIDDEN, "linear", "norm"]),
        (PREDICTIONS["moco-v3"], [*HIDDEN, "linear", "norm"]),
        (PROJECTIONS["byol"], [*HIDDEN, "linear"]),
        (PREDICTIONS["byol"], [*HIDDEN, "linear"]),
        (PROJECTIONS["simsiam"], [*HIDDEN, *HIDDEN, "linear", "norm"]),
        (PREDICTIONS["simsiam"], [*HIDDEN, "linearb"]),
        (PROJECTIONS["swav"], [*HIDDEN, "linearb"]),
        (HeadDesign((), 8), ["linearb"]),
    ],
)
def test_heads_have_the_layers_of_their_papers(design: HeadDesign, expected: list[str]) -> None:
    assert layers(design.head(12, source())) == expected


def test_predictions_take_and_give_what_projections_give() -> None:
    assert all(design.out_features == PROJECTIONS[name].out_features for name, design in PREDICTIONS.items())


@pytest.mark.parametrize("design", [*PROJECTIONS.values(), *PREDICTIONS.values()])
def test_the_generator_draws_every_weight(design: HeadDesign) -> None:
    small = HeadDesign(tuple(8 for _ in design.hidden), 6, design.batch_norm, design.last)
    first, again, other = (small.head(12, source(seed)).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].unique().numel() > 1]
    assert len(drawn) >= 1 + len(small.hidden)
    assert [name for name in drawn if torch.equal(first[name], other[name])] == []


def test_a_head_computes_what_its_layers_say() -> None:
    head, x = HeadDesign((8,), 6, last="norm").head(12, source()).double(), rows().double()
    first, last = (layer.weight for layer in head.children() if isinstance(layer, nn.Linear))

    def normed(y: Tensor) -> Tensor:
        return (y - y.mean(0)) / (y.var(0, correction=0) + 1e-5).sqrt()

    torch.testing.assert_close(head(x), normed(normed(x @ first.T).relu() @ last.T))


def test_an_output_norm_leaves_neither_mean_nor_scale() -> None:
    found = HeadDesign((8,), 6, last="norm").head(12, source())(rows())
    torch.testing.assert_close(found.mean(0), torch.zeros(6), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(6), rtol=0, atol=1e-3)


def test_prototypes_score_cosines_whatever_the_length_of_rows() -> None:
    prototypes, x = Prototypes(12, 5, source()), rows()
    expected = torch.cosine_similarity(x[:, None], prototypes.weight[None], dim=2)
    torch.testing.assert_close(prototypes(x), expected)
    torch.testing.assert_close(prototypes(7 * x), expected)
    torch.testing.assert_close(prototypes.weight.norm(dim=1), torch.ones(5))
    with torch.no_grad():
        prototypes.weight.mul_(3.0)
    prototypes.normalise_()
    torch.testing.assert_close(prototypes(x), expected)


def test_dinos_head_is_a_weight_normalised_layer_on_a_bottleneck_of_length_one() -> None:
    head, x = DINOHead(12, 7, source(), hidden=(10, 9), bottleneck=4), rows()
    assert layers(head.layers) == ["linearb", "gelu", "linearb", "gelu", "linearb"]
    last = nn.utils.parametrizations.weight_norm(nn.Linear(4, 7, bias=False))
    last.parametrizations.weight.original0.data.fill_(1.0)
    last.parametrizations.weight.original1.data.copy_(head.directions)
    inner = head.layers(x)
    torch.testing.assert_close(head(x), last(inner / inner.norm(dim=1, keepdim=True)))
    assert sum(p.numel() for p in head.parameters()) == 12 * 10 + 10 + 10 * 9 + 9 + 9 * 4 + 4 + 4 * 7


def test_dinos_head_starts_narrow_and_can_learn_lengths() -> None:
    head = DINOHead(12, 7, source(), hidden=(300,), bottleneck=200, learned_lengths=True)
    assert head.lengths is not None
    for layer in head.layers:
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not layer.bias.any()
    fixed = DINOHead(12, 7, source(), hidden=(300,), bottleneck=200)
    assert fixed.lengths is None
    torch.testing.assert_close(head(rows()), fixed(rows()))
    with torch.no_grad():
        head.lengths[2] = 3.0
    torch.testing.assert_close(head(rows())[:, 2], 3 * fixed(rows())[:, 2])


@pytest.mark.parametrize(
    "head",
    [
        HeadDesign((8, 8), 6, last="norm").head(12, source()),
        HeadDesign((8,), 6, last="no-bias").head(12, source()),
        HeadDesign((8,), 6, batch_norm=False).head(12, source()),
        Prototypes(12, 5, source()),
        DINOHead(12, 7, source(), hidden=(10, 9), bottleneck=4, learned_lengths=True),
    ],
)
def test_gradients_reach_every_parameter(head: nn.Module) -> None:
    (head(rows()) ** 3).sum().backward()
    assert all(p.grad is not None and math.isfinite(p.grad.sum()) and p.grad.abs().sum() > 0 for p in head.parameters())


def test_wrong_designs_are_told() -> None:
    with pytest.raises(UsageError, match="allowed: bias, no-bias, norm"):
        HeadDesign(last="affine")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="each must be at least 1"):
        HeadDesign((8, 0))
