"""The vision transformer: it sees the patches it is told to, where they are, and nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlkit.attention.mask import AttentionMask
from rlkit.attention.rope import axial_angles
from rlkit.errors import UnsupportedTaskError, UsageError
from rlkit.nn.vit import VisionOptions, VisionTransformer, patch_places, patch_side, sincos_positions

SMALL = VisionOptions(patch=4, width=24, depth=2, heads=3)
EVERY = [replace(SMALL, positions=positions) for positions in ("rotary", "sincos", "learned")]


def transformer(options: VisionOptions = SMALL, seed: int = 0) -> VisionTransformer:
    return VisionTransformer(3, 12, 16, options, torch.Generator().manual_seed(seed))


def pictures(count: int = 2, height: int = 12, width: int = 16) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", EVERY, ids=lambda options: options.positions)
@pytest.mark.parametrize("class_token", [False, True])
def test_all_patches_in_another_order_give_the_same_tokens_in_that_order(
    options: VisionOptions, class_token: bool
) -> None:
    net = transformer(replace(options, class_token=class_token))
    order = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(seed)) for seed in range(2)])
    full, shuffled = net(pictures()), net(pictures(), order)
    assert full.shape == (2, 12 + class_token, 24)
    first = int(class_token)
    torch.testing.assert_close(shuffled[:, :first], full[:, :first])
    torch.testing.assert_close(shuffled[:, first:], full[:, first:].gather(1, order[..., None].expand(-1, -1, 24)))


def test_a_subset_is_encoded_as_all_patches_are_where_attention_sees_only_it() -> None:
    net, images = transformer(), pictures()
    low, high = 3, 8
    found = net(images, torch.arange(low, high).expand(2, -1))
    tokens = net.embed(images).flatten(2).transpose(1, 2)
    mask = AttentionMask(start=torch.full((2, 12), low), stop=torch.full((2, 12), high))
    for block in net.blocks:
        tokens = block(tokens, mask, axial_angles(*patch_places(3, 4), 8)[None])
    torch.testing.assert_close(found, net.norm(tokens)[:, low:high])
    assert not torch.allclose(found, net(images)[:, low:high], atol=1e-3)


def test_rows_of_a_batch_can_keep_different_patches() -> None:
    net, images, keep = transformer(), pictures(), torch.tensor([[0, 5, 7], [11, 2, 3]])
    found = net(images, keep)
    for row in range(2):
        torch.testing.assert_close(found[row : row + 1], net(images[row : row + 1], keep[row : row + 1]))


def test_what_is_hidden_does_not_reach_the_tokens() -> None:
    net, images, keep = transformer(), pictures(), torch.tensor([[0, 1, 2, 3]] * 2)
    changed = images.clone()
    changed[:, :, 4:] = 0.0  # all but the first row of patches
    assert torch.equal(net(changed, keep), net(images, keep))


@pytest.mark.parametrize("options", EVERY, ids=lambda options: options.positions)
def test_where_a_patch_lies_matters(options: VisionOptions) -> None:
    net, image = transformer(options), pictures(1)
    moved = net(image.roll((4, 8), (2, 3))).view(3, 4, 24)  # by one patch down, two to the right
    assert not torch.allclose(moved, net(image).view(3, 4, 24).roll((1, 2), (0, 1)), atol=1e-3)


def test_rotary_positions_count_distances_only() -> None:
    net = transformer()
    image = torch.zeros(1, 3, 12, 16)
    pair = pictures(1, 4, 8)
    at_start, moved = image.clone(), image.clone()
    at_start[:, :, :4, :8], moved[:, :, 8:, 8:] = pair, pair
    torch.testing.assert_close(net(at_start, torch.tensor([[0, 1]])), net(moved, torch.tensor([[10, 11]])))
    assert not torch.allclose(net(at_start, torch.tensor([[0, 1]])), net(at_start, torch.tensor([[1, 0]])), atol=1e-3)


def test_pictures_of_another_size_have_tokens_unless_positions_were_learned() -> None:
    for options in EVERY[:2]:
        assert transformer(options)(pictures(1, 8, 8)).shape == (1, 4, 24)
    with pytest.raises(UsageError, match="learned for 3 x 4 patches, here are 2 x 2"):
        transformer(EVERY[2])(pictures(1, 8, 8))


def test_waves_are_a_quarter_each_of_sines_and_cosines_of_row_and_column() -> None:
    found = sincos_positions(torch.tensor([2]), torch.tensor([3]), 8)[0].tolist()
    slow = 10_000**-0.5
    angles = [2, 2 * slow, 3, 3 * slow]
    assert found == pytest.approx([*map(math.sin, angles), *map(math.cos, angles)])


def test_a_frozen_projection_stays_and_all_else_learns() -> None:
    net = transformer(replace(SMALL, frozen_patches=True, class_token=True, positions="learned"))
    net(pictures()).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == ["embed.weight", "embed.bias"]
    assert all(p.grad.abs().sum() > 0 for p in net.parameters() if p.grad is not None)


def test_deit_tiny_has_its_parameters() -> None:
    # Touvron et al. 2021, table 1: 5 million, of which the linear classifier of 1,000 classes is not here
    options = VisionOptions(patch=16, width=192, depth=12, heads=3, positions="learned", class_token=True)
    net = VisionTransformer(3, 224, 224, options, torch.Generator().manual_seed(0))
    block = 4 * 192 * 192 + 4 * 192 + 2 * 4 * 192 * 192 + 5 * 192 + 4 * 192
    # their 197 positions have one for the class token
    expected = 12 * block + 16 * 16 * 3 * 192 + 192 + 196 * 192 + 192 + 2 * 192
    assert sum(p.numel() for p in net.parameters()) == expected == 5_717_416 - 1000 * 193 - 192


def test_the_generator_draws_every_weight() -> None:
    options = replace(SMALL, class_token=True, positions="learned")
    first, again, other = (transformer(options, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert [name for name in first if torch.equal(first[name], other[name]) and "norm" not in name] == []


def test_patches_that_do_not_fit_are_told() -> None:
    with pytest.raises(UnsupportedTaskError, match=r"patches of 5 x 5 pixels do not divide .* a divisor of 4"):
        transformer(replace(SMALL, patch=5))
    with pytest.raises(UnsupportedTaskError, match=r"6889 patches of 1 x 1"):
        patch_side(83, 83)
    with pytest.raises(UsageError, match="must be a multiple of 4"):
        transformer(replace(SMALL, heads=4))
