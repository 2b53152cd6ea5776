"""Networks for control from pixels: the paper's sizes, their initial weights, and the error for small pictures."""

from __future__ import annotations

import pytest
import torch

from rlkit.errors import UnsupportedTaskError
from rlkit.nn.pixel_actor_critic import SMALLEST_PICTURE, PixelActor, PixelCritics, PixelEncoder


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(9, 84, 84), (1, 15, 15), (3, 16, 31), (2, 48, 40)])
def test_the_encoder_has_as_many_features_as_it_says(shape: tuple[int, int, int]) -> None:
    encoder = PixelEncoder(shape, generator())
    assert encoder(torch.zeros(2, *shape, dtype=torch.uint8)).shape == (2, encoder.feature_size)


def test_pixels_go_from_minus_a_half_to_a_half() -> None:
    encoder = PixelEncoder((1, 16, 16), generator())
    for shade, scaled in ((0, -0.5), (255, 0.5)):
        found = encoder(torch.full((1, 1, 16, 16), shade, dtype=torch.uint8))
        torch.testing.assert_close(found, encoder.layers(torch.full((1, 1, 16, 16), scaled)))


def test_smaller_pictures_are_refused() -> None:
    with pytest.raises(UnsupportedTaskError, match="at least 15 x 15 pixels, these are 20 x 14"):
        PixelEncoder((3, 20, SMALLEST_PICTURE - 1), generator())


def test_actions_stay_within_bounds_and_critics_differ() -> None:
    encoded, action = torch.randn(4, 32, generator=generator()), torch.zeros(4, 2)
    unit = PixelActor(32, 10, (16,), 2, generator())(100 * encoded)
    assert unit.shape == (4, 2)
    assert unit.abs().max() <= 1
    values = PixelCritics(32, 10, (16,), 2, generator())(encoded, action)
    assert values.shape == (2, 4)
    assert not torch.allclose(values[0], values[1])


def test_weights_start_orthogonal_and_biases_zero() -> None:
    encoder = PixelEncoder((1, 16, 16), generator())
    rows = encoder.layers[2].weight.reshape(32, -1)
    torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(32), atol=1e-5, rtol=0)
    critics = PixelCritics(32, 10, (16,), 2, generator())
    linear = critics.trunk[0]
    torch.testing.assert_close(linear.weight @ linear.weight.T, torch.eye(10), atol=1e-5, rtol=0)
    weight, bias = critics.members[1].layer_views()[0]
    torch.testing.assert_close(weight.T @ weight, torch.eye(12), atol=1e-5, rtol=0)
    assert not bias.any()
    assert not linear.bias.any()
