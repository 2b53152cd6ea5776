"""ST-DIM, spatiotemporal Deep InfoMax: tell what a place shows one step later among what it shows in other clips.

Anand et al. 2019 (https://arxiv.org/abs/1906.08226), section 3: features of the whole picture, and those of each place
in its local features, are compared with the local features of the same place one step later, by bilinear products,
against the same place of the batch's other pictures; the loss is the sum of both terms, L_GL and L_LL. Local features
are those of `Backbone.maps`, the third convolution's of "atari", for frames of 210 x 160, and of "nature", for 84 x 84.

Deviations
- Places are averaged over, as in the authors' code, so that 2 ln B is chance. That code compares the whole with the
  places of the step before, and its products have a bias; here they are as in the paper.
- Clips are drawn anywhere; their code draws an episode first, and its picture before the first of an episode is its
  last.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from rlkit import seeding
from rlkit.nn.backbones import Backbone
from rlkit.nn.flat import initialise_uniform
from rlkit.nn.ranks import gathered, rank_and_ranks
from rlkit.ops.collapse import collapsed_softmax_loss
from rlkit.ops.mutual_information import global_local_loss, local_local_loss
from rlkit.perception.ssl.objective import MethodConfig, Objective, PictureBatch, PretrainTask
from rlkit.types import Metrics


class STDIMConfig(MethodConfig):
    """Defaults: Anand et al. 2019, unless a field says otherwise."""

    batch_size: int = Field(64, ge=2)
    """clips of two pictures in one update"""


class STDIM(Objective):
    """Contrast of the whole and of places with the same places one step later.

    Args:
        config: Its options.
        encoder: Network to learn.
        task: Pictures and seed.
    """

    Config = STDIMConfig

    def __init__(self, config: STDIMConfig, encoder: Backbone, task: PretrainTask) -> None:
        super().__init__(encoder, task)
        self.config, self.clip_length = config, 2
        channels, weights = encoder.map_shape[0], seeding.torch_generator(task.seed, "heads")
        self.of_whole = nn.Linear(encoder.feature_size, channels, bias=False)  # W_g
        self.of_place = nn.Linear(channels, channels, bias=False)  # W_l
        for product in (self.of_whole, self.of_place):
            initialise_uniform(product, weights)

    def loss(self, batch: PictureBatch) -> tuple[Tensor, Metrics]:
        """L_GL + L_LL."""
        maps, whole = self.encoder.maps_and_features(batch.first)
        later = gathered(_places(self.encoder.maps(batch.pictures[:, 1])))
        offset = rank_and_ranks()[0] * len(whole)
        of_whole = global_local_loss(self.of_whole(whole), later, offset)
        of_places = local_local_loss(self.of_place(_places(maps)), later, offset)
        return of_whole + of_places, {
            "train/global_local_loss": of_whole.item(), "train/local_local_loss": of_places.item()
        }  # fmt: skip

    @property
    def uninformed_loss(self) -> float:
        """2 ln B of B clips."""
        return 2 * collapsed_softmax_loss(self.config.batch_size)


def _places(maps: Tensor) -> Tensor:
    """[B, L, C] of local features [B, C, h, w]."""
    return maps.flatten(2).transpose(1, 2)
