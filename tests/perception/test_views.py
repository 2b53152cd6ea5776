"""Views: what the policies hold, and that every picture's draws are its own and the generator's alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlkit.errors import ConfigError, UnknownNameError, UsageError
from rlkit.ops.augmentation import shifted_images
from rlkit.ops.colour import grey_images, solarised_images
from rlkit.perception import views
from rlkit.perception.views import POLICIES, Augmentation, ViewPolicy, augmented, is_coloured, view_policy

FULL = Augmentation(
    shift=2, crop=(0.3, 1.0), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2,
    blur=0.5, solarise=0.2,
)  # fmt: skip


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 8, channels: int = 3, height: int = 24, width: int = 20) -> Tensor:
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=source(7))


def one(images: Tensor, augmentation: Augmentation, *, coloured: bool = True, seed: int = 0) -> Tensor:
    return augmented(images, augmentation, source(seed), coloured=coloured)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("coloured", [True, False])
def test_views_of_every_policy_are_bytes_and_the_generator_fixes_them(name: str, coloured: bool) -> None:
    images = pictures(channels=6 if coloured else 4)
    before = images.clone()
    policy = view_policy(name, coloured=coloured, small_views=2, small_side=0.5)
    generator = source()
    first, second = policy.views(images, generator), policy.views(images, generator)
    for view, again, augmentation in zip(first, policy.views(images, source()), policy.augmentations, strict=True):
        height, width = (24, 20) if augmentation.side == 1 else (12, 10)
        assert view.dtype == torch.uint8
        assert view.shape == (8, images.shape[1], height, width)
        assert torch.equal(view, again)
    assert torch.equal(images, before)
    assert name == "none" or not torch.equal(first[0], second[0])
    assert name == "none" or not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    "augmentation", [replace(FULL, **{name: 0}) for name in ("blur", "jitter", "grey", "solarise")]
)
def test_a_view_depends_on_its_own_picture_and_its_own_draws(augmentation: Augmentation) -> None:
    images = pictures(count=1).repeat(8, 1, 1, 1)
    found = one(images, augmentation)
    assert len(found.flatten(1).unique(dim=0)) == 8
    other = images.clone()
    other[3] = 255 - other[3]
    same = (one(other, augmentation) == found).flatten(1).all(dim=1)
    assert same.tolist() == [True] * 3 + [False] + [True] * 4


def test_where_pictures_are_cut_into_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = one(pictures(), FULL)
    monkeypatch.setattr(views, "CHUNK", 3 * 3 * 24 * 20)
    assert torch.equal(one(pictures(), FULL), whole)
    monkeypatch.setattr(views, "CHUNK", 1)
    assert torch.equal(one(pictures(), FULL), whole)


def test_no_change_gives_the_pictures_and_a_certain_one_the_function() -> None:
    images = pictures()
    assert torch.equal(one(images, Augmentation()), images)
    assert torch.equal(one(images, Augmentation(crop=(1, 1), ratio=(1, 1))), images)
    assert torch.equal(one(images, Augmentation(flip=1)), images.flip(3))
    assert torch.equal(one(images, Augmentation(grey=1)), grey_images(images))
    assert torch.equal(one(images, Augmentation(solarise=1)), solarised_images(images))
    assert torch.equal(one(images, Augmentation(jitter=1)), images)
    assert torch.equal(one(images, Augmentation(blur=1, sigma=(1e-3, 1e-3))), images)


def test_shifts_reach_as_far_as_they_may_each_way_and_no_further() -> None:
    image = torch.arange(7 * 7, dtype=torch.uint8).view(1, 1, 7, 7)
    found = one(image.repeat(2000, 1, 1, 1), Augmentation(shift=1), coloured=False).unique(dim=0)
    side = torch.arange(-1, 2)
    expected = shifted_images(image.repeat(9, 1, 1, 1), torch.cartesian_prod(side, side))
    assert torch.equal(found, expected.unique(dim=0))


def test_probabilities_are_those_of_each_picture() -> None:
    images = torch.tensor([10, 200], dtype=torch.uint8).view(1, 1, 1, 2).repeat(4000, 1, 1, 1)
    for change in (Augmentation(flip=0.2), Augmentation(solarise=0.2)):
        changed = (one(images, change, coloured=False) != images).flatten(1).any(dim=1)
        assert changed.float().mean().item() == pytest.approx(0.2, abs=0.03)  # five standard deviations


def test_jitter_draws_factors_up_to_its_strength() -> None:
    images = torch.full((4000, 3, 1, 1), 100, dtype=torch.uint8)
    found = one(images, Augmentation(jitter=1, brightness=0.4)).float()
    assert found.min() == 60
    assert found.max() == 140
    assert found.mean().item() == pytest.approx(100, abs=2)


def test_frames_of_a_stack_move_and_change_colour_together() -> None:
    frame = pictures()
    stack = one(frame.repeat(1, 4, 1, 1), FULL).unflatten(1, (4, 3))
    assert all(torch.equal(stack[:, 0], stack[:, index]) for index in range(1, 4))
    grey = one(frame[:, :1].repeat(1, 4, 1, 1), FULL.without_colours(), coloured=False)
    assert torch.equal(grey, grey[:, :1].expand(-1, 4, -1, -1))


def test_pictures_of_floats_stay_floats_with_the_same_views() -> None:
    found = one(pictures().float(), FULL)
    assert found.dtype == torch.float32
    assert torch.equal(found.round().byte(), one(pictures(), FULL))


def test_multi_crop_has_two_large_views_and_as_many_small_ones_as_asked_for() -> None:
    policy = view_policy("dino", coloured=True, small_views=3)
    assert [view.shape[2:] for view in policy.views(pictures(height=84, width=84), source())] == [
        (84, 84), (84, 84), (36, 36), (36, 36), (36, 36),
    ]  # fmt: skip
    assert [each.crop for each in policy.augmentations] == [(0.4, 1.0)] * 2 + [(0.05, 0.4)] * 3
    assert [each.blur for each in policy.augmentations] == [1.0, 0.1, 0.5, 0.5, 0.5]


def test_frames_without_colours_keep_brightness_and_contrast() -> None:
    first, second = view_policy("simclr", coloured=False).augmentations
    assert first == second
    assert (first.jitter, first.brightness, first.contrast, first.blur) == (0.8, 0.8, 0.8, 0.5)
    assert (first.saturation, first.hue, first.grey) == (0, 0, 0)


@pytest.mark.parametrize(
    ("shape", "coloured"),
    [((84, 84), False), ((84, 84, 3), True), ((3, 84, 84), True), ((4, 84, 84), False), ((4, 84, 84, 3), True),
     ((4, 84, 84, 1), False), ((84, 84, 1), False)],
)  # fmt: skip
def test_colours_are_three_channels_of_a_frame(shape: tuple[int, ...], coloured: bool) -> None:
    assert is_coloured(shape) is coloured


def test_mistakes_are_told_before_anything_is_drawn() -> None:
    with pytest.raises(ConfigError, match=r"flip is 2, allowed: 0 to 1(.|\n)*shift is -1(.|\n)*side is 0\.5"):
        Augmentation(flip=2, shift=-1, side=0.5)
    with pytest.raises(ConfigError, match=r"the smaller one first"):
        Augmentation(crop=(0.5, 0.1))
    with pytest.raises(ConfigError, match=r"hue is 0\.6"):
        Augmentation(hue=0.6)
    with pytest.raises(ConfigError, match="larger than the picture"):
        Augmentation(crop=(0.5, 1.5))
    with pytest.raises(UnknownNameError, match="did you mean 'simclr'"):
        view_policy("simcrl", coloured=True)
    with pytest.raises(UsageError, match="no colours"):
        ViewPolicy((FULL,), coloured=False)
    with pytest.raises(UsageError, match="multiple of 3"):
        one(pictures(channels=4), FULL)
