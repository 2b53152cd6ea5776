"""MAE: an encoder that sees few patches, a decoder that knows where all are, and a loss of hidden ones."""

from __future__ import annotations

import pytest
import torch
from ssl_samples import SPACE, sampler_of, small_learner, task_of, wandering_square
from torch import Tensor, nn

from rlkit.config import ConfigTree
from rlkit.errors import ConfigError, UsageError
from rlkit.nn.backbones import build_backbone
from rlkit.perception.ssl.learner import EncoderLearner
from rlkit.perception.ssl.mae import MAE, Decoder, MAEConfig
from rlkit.perception.ssl.objective import PictureBatch
from rlkit.pretraining import config_of

RECORDING = wandering_square(episodes=2)


def mae(**options: object) -> tuple[EncoderLearner, MAE, PictureBatch]:
    learner = small_learner("mae", RECORDING, **{"decoder_width": 16, "decoder_heads": 2, **options})
    assert isinstance(learner.objective, MAE)
    return learner, learner.objective, PictureBatch.of(next(sampler_of(learner, RECORDING)), learner.device)


def order_of_patches(objective: MAE, rows: int, draws: Tensor) -> Tensor:
    """Patches [B, 64] of 2 x 2 pixels, the 16 that are seen first."""
    return torch.rand(rows, 64, generator=torch.Generator().set_state(draws)).argsort(dim=1)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_of_hidden_pixels_in_units_of_their_patch(normalised: bool) -> None:
    _, objective, batch = mae(normalised=normalised)
    painted: list[Tensor] = []
    objective.decoder.register_forward_hook(lambda _module, _inputs, output: painted.append(output))
    order = order_of_patches(objective, 4, objective.generator.get_state())
    loss, _ = objective.loss(batch)
    errors = []
    for row, picture in enumerate(batch.first[:, 0].double() / 255):
        for patch in order[row, 16:].tolist():
            down, right = 2 * (patch // 8), 2 * (patch % 8)
            pixels = picture[down : down + 2, right : right + 2].flatten()
            if normalised:
                pixels = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
            errors.append((painted[0][row, patch] - pixels).square().mean())
    assert len(errors) == 4 * 48
    torch.testing.assert_close(loss.double(), torch.stack(errors).mean())


def test_the_encoder_sees_visible_patches_alone() -> None:
    _, objective, batch = mae()
    seen: list[Tensor] = []
    objective.transformer.transformer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    draws = objective.generator.get_state()
    order = order_of_patches(objective, 4, draws)
    objective.loss(batch)
    pictures = batch.first.clone()
    for row in range(4):
        for patch in order[row, 16:].tolist():
            pictures[row, 0, 2 * (patch // 8) : 2 * (patch // 8) + 2, 2 * (patch % 8) : 2 * (patch % 8) + 2] += 77
    assert not torch.equal(pictures, batch.first)
    objective.generator.set_state(draws)
    objective.loss(PictureBatch(pictures[:, None], batch.index, None))
    assert seen[0].shape == (4, 16, 192)
    assert torch.equal(seen[0], seen[1])


def test_the_decoder_puts_tokens_where_they_belong_and_tells_where_that_is() -> None:
    decoder = Decoder(8, 8, (2, 3), MAEConfig(decoder_width=8, decoder_heads=1), torch.Generator().manual_seed(0))
    decoder.embed, decoder.norm, decoder.paint = nn.Identity(), nn.Identity(), nn.Identity()  # type: ignore[assignment]
    decoder.blocks = nn.ModuleList()
    tokens = torch.arange(16.0).view(1, 2, 8)
    shuffle = torch.tensor([[4, 1, 0, 2, 3, 5]])  # patches 4 and 1 are seen
    found = decoder(tokens, shuffle.argsort(dim=1))[0] - decoder.places
    torch.testing.assert_close(found[4], tokens[0, 0])
    torch.testing.assert_close(found[1], tokens[0, 1])
    for hidden in (0, 2, 3, 5):
        torch.testing.assert_close(found[hidden], decoder.hidden_token.detach())
    assert len(decoder.places.unique(dim=0)) == 6


def test_other_backbones_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"method\.backbone: 'impala' is not allowed: input should be 'vit'"):
        config_of(ConfigTree({"method": {"name": "mae", "backbone": "impala"}}))
    impala = build_backbone("impala", SPACE.shape, torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match=r"ConvolutionBackbone: choose --method\.backbone vit"):
        MAE(MAEConfig(), impala, task_of(RECORDING))


@pytest.mark.parametrize(("hidden", "sees"), [(0.999, 0), (0.001, 63)])
def test_an_encoder_that_would_see_nothing_is_refused(hidden: float, sees: int) -> None:
    if sees:
        assert mae(hidden=hidden)[1].visible == sees
        return
    with pytest.raises(UsageError, match="sees 0 of 64 patches"):
        mae(hidden=hidden)


def test_features_are_of_whole_pictures() -> None:
    learner, objective, batch = mae()
    tokens = objective.transformer.tokens(batch.first)
    torch.testing.assert_close(learner.features(batch.first), tokens.mean(dim=1), rtol=1e-4, atol=1e-5)
