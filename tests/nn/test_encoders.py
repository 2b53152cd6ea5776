"""Picture encoders: layouts, sizes of the papers, and the error for pictures that are too small."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlkit.agents.observations import ObservationTensors
from rlkit.errors import UnsupportedTaskError
from rlkit.nn.encoders import ConvolutionEncoder, image_shape, is_image, to_channels

CPU = torch.device("cpu")


def encoder(kind, shape):
    return ConvolutionEncoder(kind, shape, torch.Generator().manual_seed(0))


def test_nature_has_the_papers_features_for_four_atari_frames():
    net = encoder("nature", (4, 84, 84))
    assert net.feature_size == 3136
    assert sum(p.numel() for p in net.parameters()) == 4 * 32 * 64 + 32 + 32 * 64 * 16 + 64 + 64 * 64 * 9 + 64


def test_impala_halves_each_side_three_times():
    assert encoder("impala", (3, 64, 64)).feature_size == 32 * 8 * 8


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((40, 41), (1, 40, 41)),
        ((40, 41, 3), (3, 40, 41)),
        ((4, 40, 41), (4, 40, 41)),
        ((2, 40, 41, 3), (6, 40, 41)),
        ((40, 41, 12), (12, 40, 41)),
        ((6, 40, 41), (6, 40, 41)),
    ],
)
def test_every_layout_becomes_channels_first(shape, channels):
    assert image_shape(shape) == channels
    images = torch.arange(2 * int(np.prod(shape))).reshape(2, *shape)
    laid_out = to_channels(images)
    assert tuple(laid_out.shape[1:]) == channels
    if shape[-1] == 3 and len(shape) == 3:
        assert torch.equal(laid_out[0, 1], images[0, :, :, 1])
    if len(shape) == 4:
        assert torch.equal(laid_out[0, 4], images[0, 1, :, :, 1])


def test_pixels_are_scaled_to_one():
    net = encoder("impala", (8, 8))
    assert torch.equal(net(torch.full((1, 8, 8), 255, dtype=torch.uint8)), net.layers(torch.ones(1, 1, 8, 8)))


def test_nature_keeps_the_size_of_what_it_is_shown():
    net = encoder("nature", (4, 84, 84))
    pixels = torch.randint(0, 256, (8, 4, 84, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean_square = net(pixels).square().mean() / (pixels / 255).square().mean()
    assert 0.3 < mean_square < 3  # PyTorch's own weights: a sixth after each layer


def test_too_small_pictures_name_the_other_encoder():
    with pytest.raises(UnsupportedTaskError, match="impala"):
        encoder("nature", (3, 20, 20))


def test_auto_takes_nature_for_large_pictures_impala_for_small_ones_and_a_perceptron_for_vectors():
    def chosen(space):
        return ObservationTensors(space, "auto", CPU).image

    def pictures(*shape):
        return spaces.Box(0, 255, shape, np.uint8)

    assert chosen(pictures(4, 84, 84)) == "nature"
    assert chosen(pictures(20, 20, 3)) == "impala"
    assert chosen(spaces.Box(-1, 1, (4,))) is None
    assert not is_image(spaces.Box(0, 255, (20,), np.uint8))
    assert not is_image(spaces.Box(0, 1, (10, 10, 4), np.uint8))  # a board, whose ones must not become 1/255


def test_a_convolution_for_vectors_is_refused():
    with pytest.raises(UnsupportedTaskError, match=r"--agent\.encoder mlp"):
        ObservationTensors(spaces.Box(-1, 1, (4,)), "nature", CPU)


def test_an_action_mask_in_the_observation_is_no_feature():
    space = spaces.Dict(x=spaces.Box(-1, 1, (3,)), action_mask=spaces.MultiBinary(2))
    prepared = ObservationTensors(space, "auto", CPU)
    assert prepared.shape == (3,)
    array = prepared.array({"x": np.ones((2, 3), np.float32), "action_mask": np.zeros((2, 2), np.int8)})
    assert array.shape == (2, 3)
