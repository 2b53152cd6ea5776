import colorsys

import pytest
import torch

from rlkit.ops.colour import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    SATURATION,
    grey_images,
    hue_shifted,
    jittered_images,
    luma,
    solarised_images,
)

ORDER = torch.arange(4)[None]


def pictures(count: int = 6, channels: int = 3, side: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def pixel(*colour: float) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.float64).view(1, -1, 1, 1)


def one_change(column: int, value: float, count: int = 1) -> torch.Tensor:
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64).repeat(count, 1)
    factors[:, column] = value
    return factors


def jittered_alone(image: torch.Tensor, factors: list[float], order: list[int]) -> torch.Tensor:
    """One picture [3, H, W] of floats, change by change in the papers' words."""
    for change in order:
        factor = factors[change]
        grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        if change == HUE:
            for row in range(image.shape[1]):
                for column in range(image.shape[2]):
                    hue, saturation, value = colorsys.rgb_to_hsv(*(image[:, row, column] / 255).tolist())
                    turned = colorsys.hsv_to_rgb((hue + factor) % 1, saturation, value)
                    image[:, row, column] = 255 * torch.tensor(turned, dtype=image.dtype)
        else:
            towards = {BRIGHTNESS: torch.zeros(()), CONTRAST: grey.mean(), SATURATION: grey}[change]
            image = (factor * image + (1 - factor) * towards).clamp(0, 255)
    return image


def test_luma_weighs_the_colours_as_the_eye_does():
    assert luma(pixel(100, 0, 0)).item() == pytest.approx(29.9)
    assert luma(pixel(0, 100, 0)).item() == pytest.approx(58.7)
    assert luma(pixel(0, 0, 100)).item() == pytest.approx(11.4)
    assert luma(torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)).item() == pytest.approx(18.15)


def test_grey_pictures_have_their_luma_in_every_colour_of_each_frame():
    images = torch.tensor([200, 100, 50, 0, 0, 255], dtype=torch.uint8).view(1, 6, 1, 1)
    # 59.8 + 58.7 + 5.7 and 29.07
    assert grey_images(images).flatten().tolist() == [124, 124, 124, 29, 29, 29]


def test_grey_pictures_stay_grey():
    grey = grey_images(pictures())
    assert torch.equal(grey_images(grey), grey)


def test_each_change_alone_gives_what_its_formula_says():
    image = torch.tensor([[200.0, 0.0], [100.0, 0.0], [40.0, 0.0]], dtype=torch.float64).view(1, 3, 1, 2)
    bright, contrast, saturated = (
        jittered_images(image, one_change(column, 1.5), ORDER).view(3, 2)
        for column in (BRIGHTNESS, CONTRAST, SATURATION)
    )
    torch.testing.assert_close(bright, torch.tensor([[255, 0], [150, 0], [60, 0]], dtype=torch.float64))
    mean = (0.299 * 200 + 0.587 * 100 + 0.114 * 40) / 2  # of one pixel and a black one: 61.53
    expected = [[255, 0], [150 - mean / 2, 0], [60 - mean / 2, 0]]
    torch.testing.assert_close(contrast, torch.tensor(expected, dtype=torch.float64))
    # away from the pixel's own luma 123.06: 238.47, 88.47, and below zero
    torch.testing.assert_close(saturated[:, 0], torch.tensor([238.47, 88.47, 0], dtype=torch.float64))
    assert saturated[:, 1].tolist() == [0, 0, 0]


def test_jitter_of_no_strength_changes_nothing():
    images, factors = pictures(count=24), one_change(HUE, 0.0, count=24).float()
    order = torch.stack([torch.randperm(4, generator=torch.Generator().manual_seed(seed)) for seed in range(24)])
    assert torch.equal(jittered_images(images, factors, order), images)


def test_jitter_takes_each_pictures_own_factors_in_its_own_order():
    generator = torch.Generator().manual_seed(1)
    images = pictures().double()
    factors = torch.empty(6, 4, dtype=torch.float64).uniform_(0.2, 1.8, generator=generator)
    factors[:, HUE] = torch.linspace(-0.5, 0.5, 6)
    order = torch.rand(6, 4, generator=generator).argsort(dim=1)
    found = jittered_images(images, factors, order)
    for image, factor, changes, jittered in zip(images, factors.tolist(), order.tolist(), found, strict=True):
        torch.testing.assert_close(jittered, jittered_alone(image.clone(), factor, changes))


def test_the_order_matters_where_something_is_clipped():
    image, factors = pixel(200, 150, 100), torch.tensor([[2.0, 1.0, 0.5, 0.0]], dtype=torch.float64)
    bright_first = jittered_images(image, factors, torch.tensor([[0, 2, 1, 3]]))
    saturated_first = jittered_images(image, factors, torch.tensor([[2, 0, 1, 3]]))
    assert bright_first[0, 0].item() == 0.5 * 255 + 0.5 * luma(pixel(255, 255, 200)).item()
    assert saturated_first[0, 0].item() == 255


def test_the_frames_of_a_stack_change_alike():
    images, other = pictures(count=3), pictures(count=6)[3:]
    factors, order = torch.tensor([[0.7, 1.4, 0.5, 0.2]]).repeat(3, 1), torch.tensor([[3, 1, 0, 2]]).repeat(3, 1)
    alone = jittered_images(images, factors, order)
    assert torch.equal(jittered_images(torch.cat((images, images), 1), factors, order), torch.cat((alone, alone), 1))
    # a pixel that does not move keeps one colour, whatever goes on elsewhere in one of the frames
    other[:, :, 0, 0] = images[:, :, 0, 0]
    found = jittered_images(torch.cat((images, other), 1), factors, order)
    assert torch.equal(found[:, :3, 0, 0], found[:, 3:, 0, 0])


def test_frames_without_colours_change_in_brightness_and_contrast():
    image = torch.tensor([[10, 20], [30, 60]], dtype=torch.uint8).view(1, 4, 1, 1)
    contrast = jittered_images(image, torch.tensor([[1.0, 0.5]]), torch.tensor([[0, 1]]))
    assert contrast.flatten().tolist() == [20, 25, 30, 45]  # halfway to the mean, 30
    bright = jittered_images(image, torch.tensor([[5.0, 0.5]]), torch.tensor([[0, 1]]))
    # 50, 100, 150 and 255, mean 138.75
    assert bright.flatten().tolist() == [94, 119, 144, 197]


def test_a_hue_shift_is_that_of_the_python_library():
    images = pictures().double()
    images[:, :, 0, 0] = 77.0  # grey has no hue
    turns = torch.tensor([-0.5, -0.3, 0.0, 0.1, 1 / 3, 0.5], dtype=torch.float64)
    found = hue_shifted(images, turns)
    for image, turn, shifted in zip(images, turns.tolist(), found, strict=True):
        torch.testing.assert_close(shifted, jittered_alone(image.clone(), [1, 1, 1, turn], [HUE]))


def test_a_hue_shift_there_and_back_changes_nothing():
    images, turns = pictures().double(), torch.linspace(-0.5, 0.5, 6, dtype=torch.float64)
    torch.testing.assert_close(hue_shifted(hue_shifted(images, turns), -turns), images)


def test_solarising_mirrors_the_bright_half():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    expected = [value if value < 128 else 255 - value for value in range(256)]
    assert solarised_images(images).flatten().tolist() == expected
    assert solarised_images(images.float()).flatten().tolist() == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_colours_keep_the_type_the_range_and_the_argument(dtype):
    images = pictures().to(dtype)
    before = images.clone()
    factors, order = torch.tensor([[1.9, 1.9, 1.9, 0.4]]).repeat(6, 1), ORDER.repeat(6, 1)
    changed = [
        grey_images(images),
        jittered_images(images, factors, order),
        jittered_images(images, factors[:, :2], order[:, :2]),
        hue_shifted(images, factors[:, 3]),
        solarised_images(images),
    ]
    for found in changed:
        assert found.dtype == dtype
        assert found.shape == images.shape
        assert found.min() >= 0
        assert found.max() <= 255
    assert torch.equal(images, before)
