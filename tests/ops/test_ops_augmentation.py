import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from rlkit.ops.augmentation import blurred_images, crop_boxes, flipped_images, resized_crops, shifted_images


def pictures(count: int = 6, channels: int = 3, height: int = 7, width: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def cropped(images: torch.Tensor, offsets: torch.Tensor, pad: int) -> torch.Tensor:
    """The paper's words one by one: repeat the edge on each side, then cut a window at the offset."""
    _, _, height, width = images.shape
    padded = torch.nn.functional.pad(images.float(), (pad,) * 4, mode="replicate").to(images.dtype)
    windows = [
        picture[:, pad + down : pad + down + height, pad + right : pad + right + width]
        for picture, (down, right) in zip(padded, offsets.tolist(), strict=True)
    ]
    return torch.stack(windows)


def test_a_shift_by_nothing_changes_nothing():
    images = pictures()
    assert torch.equal(shifted_images(images, torch.zeros(6, 2, dtype=torch.int64)), images)


@pytest.mark.parametrize("pad", [1, 4])
def test_shifts_are_crops_of_padded_pictures(pad):
    images = pictures(count=(2 * pad + 1) ** 2)
    side = torch.arange(-pad, pad + 1)
    offsets = torch.cartesian_prod(side, side)
    found = shifted_images(images, offsets)
    assert found.dtype == torch.uint8
    assert torch.equal(found, cropped(images, offsets, pad))


def test_a_shift_beyond_the_picture_shows_its_edge():
    images = pictures(count=1)
    found = shifted_images(images, torch.tensor([[0, 100]]))
    assert torch.equal(found, images[:, :, :, -1:].expand_as(images))


def test_each_picture_has_its_own_shift_and_its_channels_share_it():
    image = torch.arange(5, dtype=torch.uint8).expand(2, 3, 4, 5)
    found = shifted_images(image, torch.tensor([[0, 1], [0, -1]]))
    assert found[0].unique(dim=0).tolist() == [[[1, 2, 3, 4, 4]] * 4]
    assert found[1].unique(dim=0).tolist() == [[[0, 0, 1, 2, 3]] * 4]


def test_a_crop_of_the_whole_picture_changes_nothing():
    images = pictures()
    assert torch.equal(resized_crops(images, torch.tensor([[0, 0, 7, 9]]).repeat(6, 1), (7, 9)), images)


def test_a_crop_of_its_own_size_is_a_slice():
    images = pictures(count=2)
    found = resized_crops(images, torch.tensor([[1, 2, 4, 5], [3, 0, 4, 5]]), (4, 5))
    assert torch.equal(found, torch.stack((images[0, :, 1:5, 2:7], images[1, :, 3:7, 0:5])))


def test_a_crop_is_stretched_between_the_middles_of_pixels():
    image = torch.tensor([[[[9, 9, 9, 9], [9, 0, 40, 9], [9, 80, 160, 9]]]], dtype=torch.uint8)
    found = resized_crops(image, torch.tensor([[1, 1, 2, 2]]), (2, 4))
    # a quarter, three quarters of the way; rows 1 and 2 keep their places, and what is around the box is not seen
    assert found[0, 0].tolist() == [[0, 10, 30, 40], [80, 100, 140, 160]]


@pytest.mark.parametrize("size", [(5, 6), (11, 13), (3, 20)])
def test_crops_are_torchs_bilinear_resizing_of_slices(size):
    images = pictures().double()
    boxes = torch.tensor([[0, 0, 7, 9], [1, 1, 3, 3], [6, 8, 1, 1], [0, 4, 7, 2], [2, 0, 5, 8], [3, 3, 1, 6]])
    for image, found, (top, left, rows, columns) in zip(
        images, resized_crops(images, boxes, size), boxes.tolist(), strict=True
    ):
        box = image[None, :, top : top + rows, left : left + columns]
        torch.testing.assert_close(found[None], functional.interpolate(box, size, mode="bilinear"))


def test_boxes_have_the_area_ratio_and_place_that_are_asked_for():
    shares, ratios = torch.tensor([[0.25], [0.5], [0.02]]), torch.tensor([[1.0], [2.0], [0.5]])
    places = torch.tensor([[0.0, 0.0], [0.5, 0.999], [0.999, 0.5]])
    # 20 x 10 pixels: areas 50, 100 and 4; 4 and 7, 8 and 20 places to choose from
    boxes = crop_boxes(shares, ratios, places, height=10, width=20)
    assert boxes.tolist() == [[0, 0, 7, 7], [2, 6, 7, 14], [7, 10, 3, 1]]


def test_the_first_box_that_fits_counts_and_without_one_it_is_the_whole_picture():
    shares, places = torch.ones(2, 3), torch.full((2, 2), 0.7)
    ratios = torch.tensor([[4.0, 1.0, 0.1], [4.0, 0.1, 5.0]])
    assert crop_boxes(shares, ratios, places, 8, 8).tolist() == [[0, 0, 8, 8], [0, 0, 8, 8]]
    shares[0, 1] = 0.25
    assert crop_boxes(shares, ratios, places, 8, 8)[0].tolist() == [3, 3, 4, 4]


def test_every_box_lies_in_the_picture_and_reaches_its_edges():
    generator = torch.Generator().manual_seed(0)
    shares = torch.empty(4000, 10).uniform_(0.08, 1, generator=generator)
    ratios = torch.empty(4000, 10).uniform_(-0.29, 0.29, generator=generator).exp()
    boxes = crop_boxes(shares, ratios, torch.rand(4000, 2, generator=generator), 21, 16)
    first, last = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    assert first.amin(0).tolist() == [0, 0]
    assert last.amax(0).tolist() == [21, 16]
    assert boxes[:, 2:].amin() >= 1


def test_flips_mirror_only_the_pictures_they_are_for_and_twice_is_never():
    images, flipped = pictures(), torch.tensor([True, False] * 3)
    found = flipped_images(images, flipped)
    assert torch.equal(found[1::2], images[1::2])
    assert torch.equal(found[0, :, :, 0], images[0, :, :, -1])
    assert torch.equal(flipped_images(found, flipped), images)


def test_blurring_a_constant_gives_the_constant():
    images = torch.full((3, 2, 6, 5), 201, dtype=torch.uint8)
    assert torch.equal(blurred_images(images, torch.tensor([0.1, 1.0, 50.0]), 4), images)


def test_a_blur_spreads_a_point_as_the_weights_say():
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 1, 1] = 16.0
    sigma = torch.tensor([(1 / (2 * torch.tensor(2.0).log())).sqrt()])  # exp(-1 / 2σ²) = 1/2: weights 1/4, 1/2, 1/4
    assert torch.allclose(blurred_images(image, sigma, 1)[0, 0], torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]))


def test_a_blur_is_scipys_gaussian_filter_with_each_pictures_own_width():
    images, sigmas = pictures().double(), torch.linspace(0.3, 2.5, 6, dtype=torch.float64)
    found = blurred_images(images, sigmas, 4)
    for image, sigma, blurred in zip(images, sigmas.tolist(), found, strict=True):
        expected = gaussian_filter(image.numpy(), sigma, mode="nearest", radius=(0, 4, 4))
        torch.testing.assert_close(blurred, torch.from_numpy(expected))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_geometry_keeps_the_type_the_range_and_the_argument(dtype):
    images = pictures(count=3).to(dtype)
    before = images.clone()
    boxes = torch.tensor([[1, 1, 5, 3]]).repeat(3, 1)
    changed = [
        resized_crops(images, boxes, (7, 9)),
        flipped_images(images, torch.tensor([True, False, True])),
        blurred_images(images, torch.tensor([0.5, 1.0, 2.0]), 2),
    ]
    for found in changed:
        assert found.dtype == dtype
        assert found.shape == images.shape
        assert found.min() >= images.min()
        assert found.max() <= images.max()
    assert torch.equal(images, before)


def test_the_channels_of_a_picture_move_together():
    frame = pictures(count=2, channels=1)
    for change in (
        lambda images: resized_crops(images, torch.tensor([[1, 2, 4, 3], [0, 0, 5, 5]]), (6, 6)),
        lambda images: flipped_images(images, torch.tensor([True, False])),
        lambda images: blurred_images(images, torch.tensor([0.5, 2.0]), 2),
    ):
        assert torch.equal(change(frame.expand(-1, 4, -1, -1)), change(frame).expand(-1, 4, -1, -1))
