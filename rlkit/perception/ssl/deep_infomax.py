"""Deep InfoMax: features that hold much information about the picture's places and, if wanted, follow a prior.

Hjelm et al. 2019 (https://arxiv.org/abs/1808.06670), equation 8: α times the information between features and the whole
of the local features, β times that between features and each place, and γ times how far features are from a uniform
prior, which a discriminator judges (equation 7). Information is estimated by scores that tell pairs of one picture from
pairs of two: "jsd" (equation 4), "dv" (equation 2) or "nce" (equation 5). The defaults are the paper's DIM(L), α = 0,
β = 1, γ = 0.1; DIM(G) has α = 1, β = 0, γ = 1.

Deviations
- One optimiser moves all. The discriminator's loss sees features without gradient; what features are to change is
  judged by a discriminator without gradient, in the form whose gradient does not vanish where that is sure, as in the
  authors' code. Both are weighted by γ, and both are in the loss, which therefore need not fall.
- Scores are products of what two networks make of the two sides (the paper's encode-and-dot-product) in both terms, so
  that all pairs cost one product of matrices; the paper's DIM(G) has a network of both sides.
- These networks are 512 wide, 2,048 in the paper, and without the batch norms of the authors' code. Each is a hidden
  layer with ReLU beside a linear one, the local side then normalised over its width.
- The prior is of features through a sigmoid, which the features that are kept have not gone through.
- Step size and batch are those of the other methods for frames (Anand et al. 2019), 1e-4 and 64 in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.func import functional_call

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.flat import initialise_uniform
from rlkit.nn.projection_heads import HeadDesign
from rlkit.nn.ranks import gathered, rank_and_ranks
from rlkit.ops.collapse import collapsed_local_info_nce_loss
from rlkit.ops.mutual_information import (
    donsker_varadhan_loss,
    jensen_shannon_loss,
    local_info_nce_loss,
    local_scores,
    prior_discriminator_loss,
    prior_encoder_loss,
)
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask
from rlkit.types import Metrics

Estimator: TypeAlias = Literal["jsd", "dv", "nce"]
LOSSES: dict[Estimator, Callable[[Tensor], Tensor]] = {
    "jsd": jensen_shannon_loss, "dv": donsker_varadhan_loss, "nce": local_info_nce_loss
}  # fmt: skip


class DeepInfoMaxConfig(MethodConfig):
    """Defaults: Hjelm et al. 2019, unless a field says otherwise."""

    estimator: Estimator = "jsd"
    """of information: jsd (Jensen-Shannon), dv (Donsker-Varadhan, unbounded) or nce (InfoNCE, wants large batches)"""
    global_weight: float = Field(0.0, ge=0)
    """α, of the whole"""
    local_weight: float = Field(1.0, ge=0)
    """β, of the places"""
    prior_weight: float = Field(0.1, ge=0)
    """γ, of the prior"""
    score_width: int = Field(512, ge=1)
    """width of the networks that make scores"""
    discriminator: tuple[int, ...] = (1000, 200)
    """widths of the hidden layers of the discriminator of the prior (appendix A)"""
    batch_size: int = Field(64, ge=2)
    """pictures in one update"""

    @model_validator(mode="after")
    def _wants_information(self) -> Self:
        if self.global_weight == self.local_weight == 0:
            raise ValueError("global_weight and local_weight are both 0, so nothing is learned of pictures; raise one")
        return self


class DeepInfoMax(Objective):
    """Information between features and local features.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.
    """

    Config = DeepInfoMaxConfig

    def __init__(self, config: DeepInfoMaxConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config = config
        (channels, height, width), size = encoder.map_shape, encoder.feature_size
        self.places, weights = height * width, seeding.torch_generator(task.seed, "heads")
        self.of_whole = self.of_places = self.judge = None
        if config.global_weight:
            self.of_whole = Scores(size, channels * self.places, config.score_width, weights)
        if config.local_weight:
            self.of_places = Scores(size, channels, config.score_width, weights)
        if config.prior_weight:
            self.judge = HeadDesign(config.discriminator, 1, batch_norm=False).head(size, weights)

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """Equation 8, of which the adversarial part is split between the discriminator and the encoder."""
        config, estimate = self.config, LOSSES[self.config.estimator]
        maps, features = self.encoder.maps_and_features(batch.first)
        terms: dict[str, tuple[float, Tensor]] = {}
        if self.of_whole is not None:
            terms["global"] = config.global_weight, estimate(self.of_whole(features, maps.flatten(1)[:, None]))
        if self.of_places is not None:
            parts = maps.flatten(2).transpose(1, 2)
            terms["local"] = config.local_weight, estimate(self.of_places(features, parts))
        if self.judge is not None:
            judged, deceived = self._prior_losses(self.judge, torch.sigmoid(features))
            terms["discriminator"] = config.prior_weight, judged
            terms["prior"] = config.prior_weight, deceived
        total = torch.stack([weight * term for weight, term in terms.values()]).sum()
        return total, {f"train/{name}_loss": term.item() for name, (_, term) in terms.items()}

    def _prior_losses(self, judge: nn.Module, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Of the discriminator, and of the encoder that is to deceive it; no gradient of one reaches the other."""
        (rank, ranks), rows = rank_and_ranks(), len(encoded)
        prior = torch.rand(rows * ranks, encoded.shape[1], generator=self.generator)
        prior = prior[rank * rows : (rank + 1) * rows].to(encoded.device)
        judged = prior_discriminator_loss(judge(prior), judge(encoded.detach()))
        unlearned = {name: parameter.detach() for name, parameter in judge.named_parameters()}
        return judged, prior_encoder_loss(functional_call(judge, unlearned, (encoded,)), saturates=False)

    @property
    def uninformed_loss(self) -> float | None:
        """With "nce" ln(1 + (B - 1) L) of B pictures and L places, else 0; unknown where there is a prior."""
        config = self.config
        if config.prior_weight:
            return None
        if config.estimator != "nce":
            return 0.0
        of_places = collapsed_local_info_nce_loss(config.batch_size, self.places)
        of_whole = collapsed_local_info_nce_loss(config.batch_size, 1)
        return config.global_weight * of_whole + config.local_weight * of_places


class Scores(nn.Module):
    """Scores [N, N, L] of a picture's features [B, D] with the places [B, L, E] of each, for the pictures of all ranks.

    Args:
        whole_size: D.
        part_size: E.
        width: Of the networks on both sides.
        generator: Source of the weights.
    """

    def __init__(self, whole_size: int, part_size: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.whole, self.part = _SideNetwork(whole_size, width), _SideNetwork(part_size, width)
        self.norm = nn.LayerNorm(width)
        initialise_uniform(self, generator)

    def forward(self, whole: Tensor, parts: Tensor) -> Tensor:
        """Every rank has those of all: a mean over ranks leaves a loss of them, and its gradient, as they are."""
        return local_scores(gathered(self.whole(whole)), gathered(self.norm(self.part(parts))))


class _SideNetwork(nn.Module):
    """A hidden layer with ReLU, and a linear one beside it."""

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, width))
        self.beside = nn.Linear(in_features, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] of [..., in_features]."""
        found: Tensor = self.hidden(x) + self.beside(x)
        return found
