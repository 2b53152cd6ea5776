"""Heads that objectives of learning without labels put on an encoder: projections, predictions, prototypes.

Where they differ is the number of layers, where batches are normalised and where a bias is; `PROJECTIONS` and
`PREDICTIONS` hold each method's with the widths that its paper uses on ImageNet:

- "simclr": Chen et al. 2020, https://arxiv.org/abs/2002.05709, with the normalised output of its code;
- "moco": He et al. 2020 (v1) is the encoder's own linear layer, Chen et al. 2020, https://arxiv.org/abs/2003.04297 (v2)
  this perceptron without any norm;
- "moco-v3": Chen et al. 2021, https://arxiv.org/abs/2104.02057, section 3, for a vision transformer; a ResNet's
  projection has one hidden layer less;
- "byol": Grill et al. 2020, https://arxiv.org/abs/2006.07733, section 3.3;
- "simsiam": Chen and He 2021, https://arxiv.org/abs/2011.10566, section 3; its prediction is narrow in the middle;
- "swav": Caron et al. 2020, https://arxiv.org/abs/2006.09882, with `Prototypes`;
- DINO's is `DINOHead`, Caron et al. 2021, https://arxiv.org/abs/2104.14294, section 3.1.

Deviations: a layer before a batch norm has no bias, which the norm would take away again (BYOL's and SwAV's have one);
a norm without affine part stands for SimCLR's last, which scales but does not shift; weights start as
`rlkit.nn.flat.initialise_uniform` draws them, DINO's as its own, with directions drawn evenly from the sphere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlkit.errors import UsageError
from rlkit.nn.flat import initialise_uniform

Last: TypeAlias = Literal["bias", "no-bias", "norm"]


@dataclass(frozen=True, slots=True)
class HeadDesign:
    """What a head is made of.

    Attributes:
        hidden: Width of each hidden layer, which ReLU follows.
        out_features: Width of the output.
        batch_norm: Whether hidden layers are normalised over the batch, before ReLU and instead of a bias.
        last: "bias" or "no-bias" of a linear output, or "norm" over the batch, with neither scale nor shift.
    """

    hidden: tuple[int, ...] = (2048,)
    out_features: int = 128
    batch_norm: bool = True
    last: Last = "bias"

    def __post_init__(self) -> None:
        if self.last not in get_args(Last):
            raise UsageError(f"last of a head is {self.last!r}, allowed: {', '.join(get_args(Last))}")
        widths = (*self.hidden, self.out_features)
        if min(widths) < 1:
            raise UsageError(f"widths of a head are {widths}, each must be at least 1")

    def head(self, in_features: int, generator: torch.Generator) -> nn.Sequential:
        """A new one, [B, out_features] of [B, in_features].

        >>> head = PROJECTIONS["simsiam"].head(512, torch.Generator().manual_seed(0))
        >>> [type(layer).__name__ for layer in head[-2:]], head[-1].affine
        (['Linear', 'BatchNorm1d'], False)
        """
        layers: list[nn.Module] = []
        for before, after in pairwise((in_features, *self.hidden)):
            layers.append(nn.Linear(before, after, bias=not self.batch_norm))
            layers += [nn.BatchNorm1d(after), nn.ReLU()] if self.batch_norm else [nn.ReLU()]
        before = self.hidden[-1] if self.hidden else in_features
        layers.append(nn.Linear(before, self.out_features, bias=self.last == "bias"))
        if self.last == "norm":
            layers.append(nn.BatchNorm1d(self.out_features, affine=False))
        made = nn.Sequential(*layers)
        initialise_uniform(made, generator)
        return made


PROJECTIONS: dict[str, HeadDesign] = {
    "simclr": HeadDesign((2048,), 128, last="norm"),
    "moco": HeadDesign((2048,), 128, batch_norm=False),
    "moco-v3": HeadDesign((4096, 4096), 256, last="norm"),
    "byol": HeadDesign((4096,), 256, last="no-bias"),
    "simsiam": HeadDesign((2048, 2048), 2048, last="norm"),
    "swav": HeadDesign((2048,), 128),
}
"""From features to where the objective compares."""
PREDICTIONS: dict[str, HeadDesign] = {
    "moco-v3": HeadDesign((4096,), 256, last="norm"),
    "byol": HeadDesign((4096,), 256, last="no-bias"),
    "simsiam": HeadDesign((512,), 2048),
}
"""From one view's projection to the other's; takes and gives as many numbers."""


class Prototypes(nn.Module):
    """Cosines of rows with unit vectors that are learned (SwAV, section 3.1).

    Args:
        in_features: Of the rows.
        count: Number of prototypes, K.
        generator: Source of their directions.
    """

    def __init__(self, in_features: int, count: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, in_features, generator=generator))
        self.normalise_()

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, K] of rows [B, D] of any length but zero."""
        return functional.linear(functional.normalize(x, dim=1), self.weight)

    @torch.no_grad()
    def normalise_(self) -> None:
        """Bring prototypes back to length 1: after each step of an optimiser."""
        self.weight.copy_(functional.normalize(self.weight, dim=1))


class DINOHead(nn.Module):
    """DINO's projection: a perceptron with GELU into a bottleneck of length 1, and cosines with K directions.

    The last layer is a linear one whose weights are normalised and which has no bias. Directions are in `directions`,
    which DINO leaves as they are in the first epoch; `lengths` are all 1 and no parameter, unless they are learned.

    Args:
        in_features: Of the encoder.
        out_features: K, 65,536 in the paper.
        generator: Source of the weights, normal with standard deviation 0.02; biases are zero.
        hidden: Width of each hidden layer.
        bottleneck: Width of the layer whose output is brought to length 1.
        learned_lengths: Whether each direction has a length that is learned.

    >>> head = DINOHead(16, 8, torch.Generator().manual_seed(0), hidden=(32, 32), bottleneck=4)
    >>> bool((head(torch.randn(5, 16)).abs() <= 1).all())
    True
    """

    def __init__(
        self, in_features: int, out_features: int, generator: torch.Generator, *,
        hidden: tuple[int, ...] = (2048, 2048), bottleneck: int = 256, learned_lengths: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((in_features, *hidden)):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else in_features, bottleneck))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02, generator=generator)
                nn.init.zeros_(layer.bias)
        self.directions = nn.Parameter(torch.randn(out_features, bottleneck, generator=generator))
        self.lengths = nn.Parameter(torch.ones(out_features)) if learned_lengths else None

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, K] of features [B, in_features]."""
        inner = functional.normalize(self.layers(x), dim=-1)
        cosines = functional.linear(inner, functional.normalize(self.directions, dim=1))
        return cosines if self.lengths is None else cosines * self.lengths
