"""Signs of collapse: known values are those that the losses take, ranks and spreads by hand and in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rlkit.ops import collapse, contrastive, mutual_information, noise_contrastive, predictive_coding

EXACT = {"rtol": 0, "atol": 1e-10}


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def alike(*shape: int) -> Tensor:
    """The same features everywhere."""
    return double(3).expand(*shape, 3)


def test_known_values_are_those_that_users_saw() -> None:
    assert collapse.collapsed_softmax_loss(4096) == pytest.approx(8.3177652, abs=1e-6)  # dinov2#407
    assert collapse.collapsed_softmax_loss(512) == pytest.approx(6.2383, abs=1e-4)  # lightly#736
    assert collapse.collapsed_softmax_loss(3000) == pytest.approx(8.006, abs=1e-3)  # swav#12
    assert collapse.collapsed_momentum_contrast_loss(65536) == pytest.approx(math.log(65537))
    assert collapse.collapsed_nt_xent(4096) == pytest.approx(math.log(8191))
    assert collapse.collapsed_nt_xent(1) == 0.0


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_contrastive_losses_of_features_alike_have_their_known_value(temperature: float) -> None:
    found = contrastive.nt_xent(alike(2, 5), temperature)
    assert found.item() == pytest.approx(collapse.collapsed_nt_xent(5), abs=1e-10)

    similar = torch.tensor([True, False, False, False, True])
    found = contrastive.margin_pair_loss(alike(5), alike(5), similar, margin=3.0)
    assert found.item() == pytest.approx(collapse.collapsed_margin_loss(3.0, similar=0.4), abs=1e-10)

    logits = contrastive.momentum_contrast_logits(alike(5), alike(5), alike(31), temperature)
    found = contrastive.info_nce(logits, 0).mean()
    assert found.item() == pytest.approx(collapse.collapsed_momentum_contrast_loss(31), abs=1e-10)

    found = contrastive.symmetric_contrast_loss((alike(5), alike(5)), (alike(10), alike(10)), temperature)
    assert found.item() == pytest.approx(collapse.collapsed_symmetric_contrast_loss(10, temperature), abs=1e-10)

    logits = contrastive.bilinear_logits(alike(5), alike(5), double(3, 3, seed=1))
    found = contrastive.info_nce(logits, contrastive.own_columns(logits)).mean()
    assert found.item() == pytest.approx(collapse.collapsed_softmax_loss(5), abs=1e-10)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_losses_over_banks_of_features_alike_have_their_known_value(temperature: float) -> None:
    bank = torch.nn.functional.normalize(alike(20), dim=1)
    index = torch.arange(40).view(5, 8) % 20
    logits = noise_contrastive.bank_logits(alike(5), bank, index, temperature)
    log_z = noise_contrastive.log_partition(logits, 20)
    found = noise_contrastive.noise_contrastive_loss(logits, log_z, 20)
    torch.testing.assert_close(
        found, torch.full((5,), collapse.collapsed_noise_contrastive_loss(7), dtype=torch.float64), **EXACT
    )
    found = noise_contrastive.multiview_noise_contrastive_loss((logits, logits), (log_z, log_z), 20)
    assert found[0].item() == pytest.approx(2 * collapse.collapsed_noise_contrastive_loss(7), abs=1e-10)
    found = noise_contrastive.instance_softmax_loss(alike(5), bank, index[:, 0], temperature)
    assert found[0].item() == pytest.approx(collapse.collapsed_softmax_loss(20), abs=1e-10)


def test_losses_of_places_and_sequences_alike_have_their_known_value() -> None:
    scores = mutual_information.local_scores(alike(4), alike(4, 6))
    found = mutual_information.local_info_nce_loss(scores)
    assert found.item() == pytest.approx(collapse.collapsed_local_info_nce_loss(4, 6), abs=1e-10)
    found = mutual_information.local_local_loss(alike(4, 6), alike(4, 6))
    assert found.item() == pytest.approx(collapse.collapsed_softmax_loss(4), abs=1e-10)
    starts = torch.zeros(4, 5, dtype=torch.bool)
    losses, _ = predictive_coding.predictive_coding_losses(alike(2, 4, 5), alike(4, 5), starts)
    assert losses.tolist() == pytest.approx([collapse.collapsed_softmax_loss(4)] * 2, abs=1e-10)


@pytest.mark.parametrize("width", [8, 128, 2048])
def test_uniform_directions_spread_by_one_over_the_root_of_the_width(width: int) -> None:
    spread = collapse.feature_spread(double(400, width)).item()
    assert spread == pytest.approx(1 / math.sqrt(width), rel=0.02)
    assert spread <= 1 / math.sqrt(width)


def test_the_spread_of_the_axes_is_the_largest() -> None:
    axes = torch.cat([torch.eye(4), -torch.eye(4)]).double()
    assert collapse.feature_spread(axes).item() == pytest.approx(0.5, abs=1e-12)  # 1/√4


def test_features_that_differ_in_length_alone_do_not_spread() -> None:
    z = torch.arange(1, 6)[:, None] * alike(5)
    assert collapse.feature_spread(z).item() == pytest.approx(0.0, abs=1e-12)
    assert collapse.feature_spread(3 * double(9, 4)).item() == pytest.approx(
        collapse.feature_spread(double(9, 4)).item(), abs=1e-12
    )


def test_the_spread_is_a_loop_over_features() -> None:
    z = double(6, 3)
    rows = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in z.tolist()]
    deviations = []
    for column in zip(*rows, strict=True):
        mean = sum(column) / 6
        deviations.append(math.sqrt(sum((x - mean) ** 2 for x in column) / 6))
    assert collapse.feature_spread(z).item() == pytest.approx(sum(deviations) / 3, abs=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_equal_directions_are_counted(rank: int) -> None:
    values = (torch.arange(5) < rank).double() * 7.0
    basis, _ = torch.linalg.qr(double(9, 9))
    z = basis[:, :5] * values @ torch.linalg.qr(double(5, 5, seed=1))[0]
    assert collapse.effective_rank(z).item() == pytest.approx(rank, abs=1e-9)
    assert collapse.rank_me(z).item() == pytest.approx(rank, abs=1e-4)


def test_unequal_directions_count_by_their_entropy() -> None:
    """Shares 3/4 and 1/4."""
    z = torch.diag(torch.tensor([3.0, 1.0])).double()
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert collapse.effective_rank(z).item() == pytest.approx(math.exp(entropy), abs=1e-12)
    shares = [0.75 + 1e-7, 0.25 + 1e-7]
    right = math.exp(-sum(p * math.log(p) for p in shares))
    assert collapse.rank_me(z).item() == pytest.approx(right, abs=1e-12)
    assert collapse.rank_me(z).item() != pytest.approx(math.exp(entropy), abs=1e-8)


def test_ranks_ignore_scale_rotation_and_the_order_of_rows() -> None:
    z = double(12, 4) * torch.tensor([5.0, 2.0, 1.0, 0.1])
    rotation, _ = torch.linalg.qr(double(4, 4, seed=1))
    for rank in (collapse.effective_rank, collapse.rank_me):
        for other in (1e-3 * z, z @ rotation, z.flip(0)):
            torch.testing.assert_close(rank(other), rank(z), **EXACT)
        assert 1 < rank(z).item() < 4


def test_features_alike_have_one_direction_and_zeros_are_no_error() -> None:
    assert collapse.effective_rank(alike(50)).item() == pytest.approx(1.0, abs=1e-6)
    for dtype in (torch.float32, torch.float64):
        assert collapse.effective_rank(torch.zeros(6, 3, dtype=dtype)).item() == 1.0
        assert collapse.rank_me(torch.zeros(6, 3, dtype=dtype)).isfinite()


def test_a_rank_is_at_most_the_number_of_rows_or_of_features() -> None:
    assert collapse.effective_rank(double(3, 50)).item() <= 3
    assert 49 < collapse.effective_rank(double(20_000, 50)).item() <= 50
