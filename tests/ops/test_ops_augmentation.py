import pytest
import torch

from rlkit.ops.augmentation import shifted_images


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
