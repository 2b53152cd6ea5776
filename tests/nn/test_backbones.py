"""Backbones: sizes of the papers, local features and vectors that belong together, layouts, and clear refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rlkit.errors import UnknownNameError, UnsupportedTaskError, UsageError
from rlkit.nn.backbones import Backbone, BackboneOptions, VisionBackbone, build_backbone
from rlkit.nn.encoders import ConvolutionEncoder
from rlkit.nn.resnet import resnet_layers
from rlkit.nn.vit import VisionOptions

VISION = VisionOptions(patch=20, width=24, depth=1, heads=3)
OPTIONS = BackboneOptions(feature_size=32, width=16, vision=VISION)
SHAPE = (80, 80, 3)
KINDS = ("nature", "atari", "impala", "resnet", "vit")


def backbone(kind: str, shape: tuple[int, ...] = SHAPE, options: BackboneOptions = OPTIONS, seed: int = 0) -> Backbone:
    return build_backbone(kind, shape, torch.Generator().manual_seed(seed), options)  # type: ignore[arg-type]


def pictures(*shape: int, count: int = 3) -> Tensor:
    size = (count, *(shape or SHAPE))
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def vision(**options: object) -> BackboneOptions:
    return BackboneOptions(vision=VisionOptions(**{"patch": 20, "width": 24, "depth": 1, "heads": 3} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_pooled_from_the_maps(kind: str) -> None:
    net, obs = backbone(kind), pictures()
    maps, features = net.maps(obs), net(obs)
    assert maps.shape == (3, *net.map_shape)
    assert features.shape == (3, net.feature_size)
    assert torch.equal(features, net.pooled(maps))
    together = net.maps_and_features(obs)
    assert torch.equal(together[0], maps)
    assert torch.equal(together[1], features)


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_of_a_picture_gives_the_same_features(kind: str) -> None:
    obs = pictures()
    first = obs.permute(0, 3, 1, 2)
    expected = backbone(kind)(obs)
    assert torch.equal(backbone(kind)(first.contiguous()), expected)
    assert torch.equal(backbone(kind, (3, 80, 80))(first), expected)
    assert torch.equal(backbone(kind)(first.float()), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_draws_every_weight(kind: str) -> None:
    first, again, other = (backbone(kind, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].unique().numel() > 1]  # norms start at ones and zeros
    assert drawn
    assert [name for name in drawn if torch.equal(first[name], other[name])] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_has_the_same_features_alone_and_in_a_batch(kind: str) -> None:
    net, obs = backbone(kind).eval(), pictures()
    torch.testing.assert_close(torch.cat([net(obs[row : row + 1]) for row in range(3)]), net(obs), rtol=0, atol=1e-5)


def test_batch_norm_sees_the_batch_in_training_only() -> None:
    net, obs = backbone("resnet", options=BackboneOptions(width=16, norm="batch")), pictures()
    assert not torch.allclose(net(obs)[:1], net(obs[:1]), atol=1e-3)
    net.eval()
    torch.testing.assert_close(net(obs)[:1], net(obs[:1]), rtol=0, atol=1e-5)


def test_building_a_network_leaves_its_statistics_at_zero() -> None:
    net = backbone("resnet", options=BackboneOptions(width=16, norm="batch"))
    assert net.training
    assert all((module.running_mean == 0).all() for module in net.modules() if isinstance(module, nn.BatchNorm2d))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind: str) -> None:
    net = backbone(kind)
    net(pictures()).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("kind", "shape", "map_shape", "feature_size"),
    [
        ("nature", (4, 84, 84), (64, 7, 7), 256),
        ("nature", (210, 160, 3), (64, 22, 16), 256),
        ("atari", (210, 160, 3), (128, 11, 8), 256),
        ("impala", (64, 64, 3), (32, 8, 8), 256),
        ("resnet", (84, 84, 3), (512, 3, 3), 512),
        ("resnet", (32, 32), (512, 4, 4), 512),
        ("vit", (4, 84, 84), (192, 7, 7), 192),
        ("vit", (210, 160, 3), (192, 21, 16), 192),
    ],
)
def test_sizes_are_those_of_the_papers(
    kind: str, shape: tuple[int, ...], map_shape: tuple[int, int, int], feature_size: int
) -> None:
    net = backbone(kind, shape, BackboneOptions())
    assert (net.map_shape, net.feature_size) == (map_shape, feature_size)


def test_parameters_are_counted_by_hand() -> None:
    def count(kind: str, shape: tuple[int, ...]) -> int:
        return sum(p.numel() for p in backbone(kind, shape, BackboneOptions()).parameters())

    two = 3 * 32 * 64 + 32 + 32 * 64 * 16 + 64
    assert count("nature", (84, 84, 3)) == two + 64 * 64 * 9 + 64 + 64 * 7 * 7 * 256 + 256
    third_and_fourth = 64 * 128 * 16 + 128 + 128 * 64 * 9 + 64
    assert count("atari", (210, 160, 3)) == two + third_and_fourth + 64 * 9 * 6 * 256 + 256  # Anand et al.: 64 x 9 x 6
    # torchvision's ResNet-18 has 11,689,512, of which 513,000 are those of its classifier
    assert sum(p.numel() for p in resnet_layers(3, 64, "batch", small=False).parameters()) == 11_689_512 - 513_000


def test_nature_is_the_encoder_and_a_linear_layer() -> None:
    net, encoder = backbone("nature"), ConvolutionEncoder("nature", SHAPE, torch.Generator().manual_seed(0))
    assert torch.equal(net.maps(pictures()).flatten(1), encoder(pictures()))


def test_atari_takes_local_features_before_its_last_convolution() -> None:
    net = backbone("atari")
    maps = net.maps(pictures())
    assert (maps >= 0).all()
    last, _, flatten, linear = net.get_submodule("summary").children()
    expected = linear(flatten(torch.relu(nn.functional.conv2d(maps, last.weight, last.bias))))
    torch.testing.assert_close(net(pictures()), expected)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_small_crops_go_through_backbones_of_any_size(kind: str) -> None:
    net = backbone(kind)
    assert net.any_size
    assert net(pictures(3, 40, 40)).shape == (3, net.feature_size)


def test_pictures_of_another_shape_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\['B', 80, 80, 3\] or \[B, 3, 80, 80\], these are \[3, 3, 40, 40\]"):
        backbone("nature")(pictures(3, 40, 40))
    with pytest.raises(UsageError, match=r"\[B, 3, any height, any width\]"):
        backbone("resnet")(pictures(4, 80, 80))
    with pytest.raises(UsageError, match=r"\[B, 3, 80, 80\]"):
        backbone("vit", options=vision(positions="learned"))(pictures(3, 40, 40))


@pytest.mark.parametrize(("kind", "smallest"), [("nature", 36), ("atari", 76), ("resnet", 8)])
def test_pictures_have_to_be_large_enough(kind: str, smallest: int) -> None:
    assert backbone(kind, (smallest, smallest)).feature_size > 0
    with pytest.raises(UnsupportedTaskError, match=f"the {kind} backbone .* at least {smallest} x {smallest} pixels"):
        backbone(kind, (smallest - 1, 90))


def test_impala_and_vit_take_the_smallest_pictures() -> None:
    assert backbone("impala", (7, 7, 3), BackboneOptions()).map_shape == (32, 1, 1)
    assert backbone("vit", (7, 7, 3), BackboneOptions()).map_shape == (192, 7, 7)


def test_wrong_names_are_told() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'nature'"):
        backbone("natura")
    with pytest.raises(UnsupportedTaskError, match=r"observations are \[4\]"):
        backbone("nature", (4,))
    with pytest.raises(UsageError, match="multiple of 16"):
        backbone("resnet", options=BackboneOptions(width=20))
    with pytest.raises(UsageError, match="allowed: group, batch"):
        backbone("resnet", options=BackboneOptions(norm="layer"))  # type: ignore[arg-type]


def test_a_class_token_is_the_features_and_maps_go_without_it() -> None:
    net = backbone("vit", options=vision(class_token=True))
    assert isinstance(net, VisionBackbone)
    tokens = net.tokens(pictures())
    maps, features = net.maps_and_features(pictures())
    assert torch.equal(features, tokens[:, 0])
    assert torch.equal(maps.flatten(2).transpose(1, 2), tokens[:, 1:])
    assert torch.equal(net(pictures()), features)
    with pytest.raises(UsageError, match="class token"):
        net.pooled(maps)


def test_a_few_patches_are_encoded_as_the_transformer_does() -> None:
    net, keep = backbone("vit"), torch.tensor([[3, 0], [1, 2], [15, 7]])
    assert isinstance(net, VisionBackbone)
    found = net.tokens(pictures(), keep)
    assert found.shape == (3, 2, 24)
    assert torch.equal(found, net.transformer(net.pixels(pictures()), keep))


def test_maps_lie_as_the_picture_does() -> None:
    net, obs = backbone("vit"), pictures(count=1)
    changed = obs.clone()
    changed[:, 20:40, 60:] = 0  # row 1, column 3 of the patches
    distance = (net.maps(changed) - net.maps(obs)).norm(dim=1)[0]
    assert distance.flatten().argmax().item() == 4 * 1 + 3
