"""Losses of frames with labels."""

from __future__ import annotations

import math

import torch

from rlkit.ops.detection_losses import binary_cross_entropy, shared_cross_entropy


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes() -> None:
    logits, labels = torch.zeros(3, 4), torch.eye(4)[:3]
    assert math.isclose(shared_cross_entropy(logits, labels, torch.ones(3)), math.log(4), rel_tol=1e-6)
    assert math.isclose(binary_cross_entropy(logits, labels, torch.ones(3)), math.log(2), rel_tol=1e-6)


def test_two_classes_share_a_frame() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0]], dtype=torch.float64)
    total = math.log(math.exp(2) + math.exp(1) + math.exp(-1))
    found = shared_cross_entropy(logits, torch.tensor([[1, 1, 0]]), torch.ones(1))
    assert math.isclose(found, total - 1.5, rel_tol=1e-12)


def test_weights_and_frames_without_labels() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0], [5.0, 5.0]], dtype=torch.float64)
    labels = torch.tensor([[1, 0], [1, 0], [0, 0]])
    first, second = math.log(1 + math.exp(-2)), math.log(1 + math.exp(3))
    found = shared_cross_entropy(logits, labels, torch.tensor([3.0, 1.0, 100.0], dtype=torch.float64))
    assert math.isclose(found, (3 * first + second) / 4, rel_tol=1e-12)
    assert shared_cross_entropy(logits, labels, torch.zeros(3)) == 0.0


def test_an_excluded_class_has_no_gradient() -> None:
    logits = torch.tensor([[1.0, 0.5, -torch.inf]], requires_grad=True)
    shared_cross_entropy(logits, torch.tensor([[0, 1, 0]]), torch.ones(1)).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 2], torch.tensor(0.0))
    torch.testing.assert_close(logits.grad[0, 0], torch.tensor([1.0, 0.5]).softmax(0)[0])


def test_classes_by_themselves_count_alike() -> None:
    logits = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    wanted = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert math.isclose(binary_cross_entropy(logits, torch.tensor([[1, 0]]), torch.ones(1)), wanted, rel_tol=1e-12)
