"""Hiding and predicting: round trips, counts, numbers by hand, and float64 loops written from the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlkit.errors import UsageError
from rlkit.ops import masked_modelling as ops

SIZES = st.integers(1, 5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=generator(seed))


# --- patches -------------------------------------------------------------------------------------------------------


def test_patches_go_row_by_row_and_keep_the_channels_of_a_pixel_together() -> None:
    """Pixel (row, column) of channel c is 100 c + 10 row + column."""
    row, column = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    image = torch.stack([100 * channel + 10 * row + column for channel in range(2)])[None]
    patches = ops.patchify(image, 2)
    assert patches.shape == (1, 6, 8)
    assert patches[0, 0].tolist() == [0, 100, 1, 101, 10, 110, 11, 111]
    assert patches[0, 1].tolist() == [2, 102, 3, 103, 12, 112, 13, 113]
    assert patches[0, 3].tolist() == [20, 120, 21, 121, 30, 130, 31, 131]


@settings(max_examples=30, deadline=None)
@given(rows=SIZES, channels=SIZES, down=SIZES, across=SIZES, patch=SIZES)
def test_patches_equal_loops_and_give_the_picture_back(
    rows: int, channels: int, down: int, across: int, patch: int
) -> None:
    images = double(rows, channels, down * patch, across * patch)
    patches = ops.patchify(images, patch)
    wanted = np.zeros((rows, down * across, patch * patch * channels))
    for b, c, h, w in np.ndindex(*images.shape):
        within = (h % patch * patch + w % patch) * channels + c
        wanted[b, h // patch * across + w // patch, within] = images[b, c, h, w]
    assert (patches.numpy() == wanted).all()
    assert torch.equal(ops.unpatchify(patches, patch, down * patch, across * patch), images)


def test_bytes_stay_bytes() -> None:
    assert ops.patchify(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 2).dtype == torch.uint8


def test_a_patch_that_does_not_divide_the_picture_is_refused() -> None:
    with pytest.raises(UsageError, match="6 x 4 pixels cannot be cut into patches of 4 x 4"):
        ops.patchify(torch.zeros(1, 1, 6, 4), 4)
    with pytest.raises(UsageError, match="patches of 4 x 4"):
        ops.unpatchify(torch.zeros(1, 1, 16), 4, 4, 6)


def test_normalised_patches_have_mean_zero_and_unbiased_variance_one() -> None:
    patches = ops.normalised_patches(3 + 5 * double(2, 6, 12))
    torch.testing.assert_close(patches.mean(dim=-1), torch.zeros(2, 6, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(patches.var(dim=-1), torch.ones(2, 6, dtype=torch.float64), rtol=0, atol=1e-6)
    by_hand = ops.normalised_patches(torch.tensor([1.0, 2.0, 3.0]), epsilon=0.0)
    torch.testing.assert_close(by_hand, torch.tensor([-1.0, 0.0, 1.0]))  # by P it would be 1.22


def test_a_patch_of_one_colour_becomes_zeros() -> None:
    assert (ops.normalised_patches(torch.full((1, 2, 9), 0.25)) == 0).all()


# --- which patches are hidden --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(rows=SIZES, patches=st.integers(1, 200), percent=st.integers(0, 100), seed=st.integers(0, 1000))
def test_every_row_hides_all_but_the_whole_part_of_its_visible_share(
    rows: int, patches: int, percent: int, seed: int
) -> None:
    mask = ops.random_patch_mask(uniform(rows, patches, seed=seed), percent / 100)
    hidden = patches - (100 - percent) * patches // 100  # in whole numbers
    assert mask.hidden.sum(dim=1).tolist() == [hidden] * rows
    identity = torch.arange(patches).expand(rows, patches)
    assert torch.equal(mask.shuffle.gather(1, mask.restore), identity)
    assert torch.equal(mask.restore.gather(1, mask.shuffle), identity)
    visible = ops.visible_patches(patches, percent / 100)
    assert not mask.hidden.gather(1, mask.shuffle[:, :visible]).any()
    assert mask.hidden.gather(1, mask.shuffle[:, visible:]).all()


@pytest.mark.parametrize(("patches", "ratio", "visible"), [(196, 0.75, 49), (10, 0.9, 1), (10, 0.95, 0), (7, 0.5, 3)])
def test_rounding_does_not_lose_a_visible_patch(patches: int, ratio: float, visible: int) -> None:
    """(1 - 0.9) * 10 is 0.9999999999999998."""
    assert ops.visible_patches(patches, ratio) == visible


def test_the_usual_mask_of_196_patches_hides_147() -> None:
    assert ops.random_patch_mask(uniform(4, 196)).hidden.sum(dim=1).tolist() == [147] * 4


def test_visible_patches_and_mask_tokens_come_back_into_the_order_of_the_picture() -> None:
    x = double(3, 8, 2)
    mask = ops.random_patch_mask(uniform(3, 8), 0.75)
    seen = ops.rows_at(x, mask.shuffle[:, :2])
    put_back = ops.rows_at(torch.cat((seen, torch.zeros(3, 6, 2, dtype=x.dtype)), dim=1), mask.restore)
    assert torch.equal(put_back, x.masked_fill(mask.hidden[..., None], 0.0))


def test_every_patch_is_hidden_equally_often_and_rows_differ() -> None:
    hidden = ops.random_patch_mask(uniform(4000, 16), 0.75).hidden
    share = hidden.float().mean(dim=0)
    assert (share - 0.75).abs().max() < 5 * math.sqrt(0.75 * 0.25 / 4000)
    assert len(hidden.unique(dim=0)) > 1000  # of 1820


# --- regression ----------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_square_over_what_was_hidden_by_hand() -> None:
    prediction = torch.tensor([[[1.0, 2.0], [9.0, 9.0]], [[0.0, 0.0], [1.0, 1.0]]])
    target = torch.tensor([[[0.0, 4.0], [0.0, 0.0]], [[3.0, 0.0], [1.0, 1.0]]])
    chosen = torch.tensor([[True, False], [True, True]])
    loss = ops.masked_regression_loss(prediction, target, chosen)
    torch.testing.assert_close(loss, torch.tensor((1 + 4 + 9 + 0 + 0 + 0) / 6))
    valid = torch.tensor([[True, True], [False, True]])
    loss = ops.masked_regression_loss(prediction, target, chosen, valid)
    torch.testing.assert_close(loss, torch.tensor((1 + 4 + 0 + 0) / 4))


@settings(max_examples=30, deadline=None)
@given(rows=SIZES, length=SIZES, width=SIZES, padded=st.booleans(), seed=st.integers(0, 1000))
def test_the_regression_loss_equals_loops_in_float64(
    rows: int, length: int, width: int, padded: bool, seed: int
) -> None:
    prediction, target = double(rows, length, width, seed=seed), double(rows, length, width, seed=seed + 5000)
    chosen, valid = uniform(rows, length, seed=seed) < 0.5, uniform(rows, length, seed=seed + 1) < 0.7
    found = ops.masked_regression_loss(prediction, target, chosen, valid if padded else None)
    squares = []
    for b, t in np.ndindex(rows, length):
        if chosen[b, t] and (valid[b, t] or not padded):
            squares += [float(prediction[b, t, d] - target[b, t, d]) ** 2 for d in range(width)]
    assert found.item() == pytest.approx(math.fsum(squares) / max(len(squares), 1), abs=1e-10)


def test_maes_loss_is_the_mean_over_hidden_patches_of_their_mean_squares() -> None:
    images = double(2, 3, 8, 8)
    target = ops.normalised_patches(ops.patchify(images, 2))
    prediction, hidden = double(2, 16, 12, seed=1), ops.random_patch_mask(uniform(2, 16)).hidden
    of_patches = []
    for b, patch in hidden.nonzero().tolist():
        rows, columns = slice(patch // 4 * 2, patch // 4 * 2 + 2), slice(patch % 4 * 2, patch % 4 * 2 + 2)
        pixels = images[b, :, rows, columns].permute(1, 2, 0).reshape(-1).numpy()
        pixels = (pixels - pixels.mean()) / math.sqrt(pixels.var(ddof=1) + 1e-6)
        of_patches.append(np.mean((prediction[b, patch].numpy() - pixels) ** 2))
    assert len(of_patches) == 24
    found = ops.masked_regression_loss(prediction, target, hidden).item()
    assert found == pytest.approx(np.mean(of_patches), abs=1e-10)


def test_what_stands_at_visible_patches_and_padding_changes_neither_loss_nor_gradient() -> None:
    prediction, target = double(3, 6, 2), double(3, 6, 2, seed=1)
    chosen, valid = uniform(3, 6) < 0.6, uniform(3, 6, seed=1) < 0.7
    counts = chosen & valid
    assert 0 < counts.sum() < chosen.sum() < 18

    def loss_and_gradient(garbage: float) -> tuple[Tensor, Tensor]:
        there = torch.where(counts[..., None], prediction, garbage).requires_grad_()
        elsewhere = torch.where(counts[..., None], target, -garbage)
        loss = ops.masked_regression_loss(there, elsewhere, chosen, valid)
        return loss.detach(), torch.autograd.grad(loss, there)[0]

    loss, gradient = loss_and_gradient(0.0)
    assert (gradient[~counts] == 0).all()
    assert gradient[counts].abs().min() > 0
    for garbage in (7.0, math.inf, math.nan):
        assert torch.equal(loss_and_gradient(garbage)[0], loss)
        assert torch.equal(loss_and_gradient(garbage)[1], gradient)


def test_targets_have_no_gradient_and_predictions_the_right_one() -> None:
    prediction, target = double(2, 3, 4).requires_grad_(), double(2, 3, 4, seed=1).requires_grad_()
    chosen = uniform(2, 3) < 0.7
    loss = ops.masked_regression_loss(prediction, target, chosen)
    assert torch.autograd.grad(loss, (prediction, target), allow_unused=True)[1] is None
    assert torch.autograd.gradcheck(lambda x: ops.masked_regression_loss(x, target.detach(), chosen), (prediction,))


def test_nothing_hidden_costs_nothing() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    x = double(2, 3, 4).requires_grad_()
    for loss in (
        ops.masked_regression_loss(x, double(2, 3, 4, seed=1), nothing),
        ops.masked_cross_entropy(x, torch.zeros(2, 3, dtype=torch.int64), nothing),
    ):
        assert loss.item() == 0
        assert (torch.autograd.grad(loss, x)[0] == 0).all()


# --- tokens --------------------------------------------------------------------------------------------------------


def test_of_the_chosen_tokens_four_fifths_are_masked_and_a_tenth_each_random_and_kept() -> None:
    """Word 7 everywhere: a random word is another one in 29 of 30 cases."""
    tokens, vocabulary, mask = torch.full((400, 500), 7), 30, 30
    chosen = ops.chosen_places(torch.ones_like(tokens, dtype=torch.bool), 0.15, generator())
    seen = ops.corrupted_tokens(tokens, chosen, vocabulary=vocabulary, mask_token=mask, generator=generator(1))
    count = chosen.sum().item()
    assert count / tokens.numel() == pytest.approx(0.15, abs=5 * math.sqrt(0.15 * 0.85 / tokens.numel()))
    is_mask, is_kept = seen[chosen] == mask, seen[chosen] == 7
    for found, wanted in (
        (is_mask, 0.8),
        (is_kept, 0.1 + 0.1 / vocabulary),
        (~is_mask & ~is_kept, 0.1 * (1 - 1 / vocabulary)),
    ):
        assert found.float().mean().item() == pytest.approx(wanted, abs=5 * math.sqrt(wanted * (1 - wanted) / count))
    words = seen[chosen][~is_mask & ~is_kept].bincount(minlength=vocabulary)
    assert words.nonzero().flatten().tolist() == [word for word in range(vocabulary) if word != 7]
    assert (seen[~chosen] == 7).all()


def test_padding_and_special_tokens_are_never_chosen() -> None:
    eligible = uniform(50, 40) < 0.5
    chosen = ops.chosen_places(eligible, 0.4, generator(1))
    assert not chosen[~eligible].any()
    assert chosen[eligible].float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert torch.equal(ops.chosen_places(eligible, 1.0, generator(2)), eligible)
    assert not ops.chosen_places(eligible, 0.0, generator(3)).any()


def test_the_same_generator_hides_the_same_tokens() -> None:
    tokens = torch.arange(60).view(3, 20)
    chosen = ops.chosen_places(tokens >= 0, 0.5, generator(1))
    assert torch.equal(ops.chosen_places(tokens >= 0, 0.5, generator(1)), chosen)
    first, again, other = (
        ops.corrupted_tokens(tokens, chosen, vocabulary=60, mask_token=99, generator=generator(seed))
        for seed in (2, 2, 3)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first == 99, other == 99)
    assert first.dtype == tokens.dtype
    assert torch.equal(tokens, torch.arange(60).view(3, 20))  # not changed in place


def test_the_cross_entropy_is_over_chosen_tokens_by_hand() -> None:
    logits = torch.tensor([[[math.log(3.0), 0.0], [0.0, 0.0], [5.0, -5.0]]])  # 3/4, 1/4; 1/2, 1/2; …
    chosen = torch.tensor([[True, True, False]])
    loss = ops.masked_cross_entropy(logits, torch.tensor([[1, 0, 1]]), chosen)
    torch.testing.assert_close(loss, torch.tensor((math.log(4) + math.log(2)) / 2))


@settings(max_examples=30, deadline=None)
@given(rows=SIZES, length=SIZES, words=SIZES, seed=st.integers(0, 1000))
def test_the_cross_entropy_equals_loops_in_float64(rows: int, length: int, words: int, seed: int) -> None:
    logits, chosen = 3 * double(rows, length, words, seed=seed), uniform(rows, length, seed=seed) < 0.5
    tokens = torch.randint(words, (rows, length), generator=generator(seed))
    terms = []
    for b, t in np.ndindex(rows, length):
        if chosen[b, t]:
            of_place = logits[b, t].tolist()
            terms.append(math.log(math.fsum(math.exp(x) for x in of_place)) - of_place[tokens[b, t]])
    found = ops.masked_cross_entropy(logits, tokens, chosen).item()
    assert found == pytest.approx(math.fsum(terms) / max(len(terms), 1), abs=1e-10)


@pytest.mark.parametrize("words", [2, 30, 30_522])
def test_where_nothing_is_known_the_loss_is_the_logarithm_of_the_vocabulary(words: int) -> None:
    logits = torch.zeros(2, 3, words, dtype=torch.float64)
    tokens = torch.randint(words, (2, 3), generator=generator())
    found = ops.masked_cross_entropy(logits, tokens, torch.ones(2, 3, dtype=torch.bool)).item()
    assert found == pytest.approx(math.log(words), abs=1e-10)


def test_tokens_and_logits_of_places_not_chosen_do_not_matter() -> None:
    logits, chosen = double(3, 5, 4), uniform(3, 5) < 0.5
    tokens = torch.randint(4, (3, 5), generator=generator())
    loss = ops.masked_cross_entropy(logits, tokens, chosen)
    for elsewhere in (-100, 0, 99):
        found = ops.masked_cross_entropy(
            torch.where(chosen[..., None], logits, 50.0), torch.where(chosen, tokens, elsewhere), chosen
        )
        assert torch.equal(found, loss)
    assert not torch.equal(ops.masked_cross_entropy(logits, (tokens + 1) % 4, chosen), loss)


def test_the_gradient_of_the_cross_entropy_is_right_and_zero_elsewhere() -> None:
    logits, chosen = double(2, 4, 3).requires_grad_(), uniform(2, 4) < 0.5
    tokens = torch.randint(3, (2, 4), generator=generator())
    (gradient,) = torch.autograd.grad(ops.masked_cross_entropy(logits, tokens, chosen), logits)
    assert (gradient[~chosen] == 0).all()
    one_hot = torch.nn.functional.one_hot(tokens, 3)
    wanted = (logits.detach().softmax(dim=-1) - one_hot)[chosen] / chosen.sum()
    torch.testing.assert_close(gradient[chosen], wanted, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: ops.masked_cross_entropy(x, tokens, chosen), (logits,))


# --- devices -------------------------------------------------------------------------------------------------------


def test_nothing_is_made_on_another_device_than_the_arguments() -> None:
    """Draws come from the generator's device and are sent on."""
    images, tokens = torch.empty(2, 3, 4, 4, device="meta"), torch.empty(2, 4, dtype=torch.int64, device="meta")
    patches = ops.patchify(images, 2)
    mask = ops.random_patch_mask(torch.empty(2, 4, device="meta"))
    chosen = ops.chosen_places(tokens > 0, 0.15, generator())
    found = [
        *mask,
        ops.unpatchify(patches, 2, 4, 4),
        ops.rows_at(patches, mask.shuffle),
        ops.masked_regression_loss(patches, ops.normalised_patches(patches), mask.hidden, tokens > 0),
        ops.corrupted_tokens(tokens, chosen, vocabulary=5, mask_token=5, generator=generator()),
        ops.masked_cross_entropy(patches, tokens, chosen),
    ]
    assert {tensor.device.type for tensor in found} == {"meta"}
