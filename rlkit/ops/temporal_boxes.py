"""Intervals of time as one-dimensional boxes: how much two overlap, and which one a point of a pyramid tells of.

Intervals are (start, stop) in the last axis, in any unit of time, start ≤ stop. P points, E intervals.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """|a ∩ b| / |a ∪ b| of intervals [..., 2], one to one, [...]; zero of two that have no length.

    >>> overlap(torch.tensor([0.0, 4.0]), torch.tensor([2.0, 6.0]))
    tensor(0.3333)
    """
    shared, union, _ = _lengths(a, b)
    return shared / _positive(union)


def generalised_overlap(a: Tensor, b: Tensor) -> Tensor:
    """|a ∩ b| / |a ∪ b| - (|hull| - |a ∪ b|) / |hull| of intervals [..., 2], [...], between -1 and 1.

    Rezatofighi et al. 2019 (https://arxiv.org/abs/1902.09630), algorithm 1: also intervals that are apart have a
    gradient, which brings them together. Where two touch or overlap, their hull is their union, in one dimension, and
    this is `overlap`.

    >>> generalised_overlap(torch.tensor([0.0, 1.0]), torch.tensor([3.0, 4.0]))
    tensor(-0.5000)
    """
    shared, union, hull = _lengths(a, b)
    return shared / _positive(union) - (hull - union) / _positive(hull)


def distance_overlap(a: Tensor, b: Tensor) -> Tensor:
    """|a ∩ b| / |a ∪ b| - (distance of the middles / |hull|)² of intervals [..., 2], [...], between -1 and 1.

    Zheng et al. 2020 (https://arxiv.org/abs/1911.08287), equation 7. Of one interval within another it tells how far
    it is from the middle, which `overlap` does not.

    >>> distance_overlap(torch.tensor([0.0, 4.0]), torch.tensor([0.0, 2.0]))
    tensor(0.4375)
    """
    shared, union, hull = _lengths(a, b)
    apart = (a.sum(-1) - b.sum(-1)) / 2
    return shared / _positive(union) - (apart / _positive(hull)).square()


class Targets(NamedTuple):
    """What points are to tell."""

    is_told: Tensor  # bool [B, P, E], whether a point tells of an interval
    interval: Tensor  # [B, P, 2], the one that it tells of; any where there is none


def centre_targets(
    point: Tensor, stride: Tensor, reach: Tensor, interval: Tensor, is_there: Tensor, radius: float
) -> Targets:
    """Which interval each point tells of: the shortest around it whose middle is near and whose ends are in reach.

    Tian et al. 2019 (https://arxiv.org/abs/1904.01355) with centre sampling, as ActionFormer has it (Zhang et al. 2022,
    https://arxiv.org/abs/2202.07925, section 3.3). Where the same interval is there several times, as with two classes,
    a point tells of all of them.

    Args:
        point: Times [P].
        stride: Time between the points of each one's level, [P].
        reach: Least and greatest distance to the farther end that a point's level tells of, [P, 2], both included.
        interval: [B, E, 2], E ≥ 1.
        is_there: bool [B, E], false where no interval is.
        radius: How far from the middle a point may be, in strides, excluded.
    """
    start, stop = interval[:, None, :, 0], interval[:, None, :, 1]  # [B, 1, E]
    time = point[:, None]  # [P, 1]
    before, after = time - start, stop - time  # [B, P, E]
    farther = torch.maximum(before, after)
    is_near = (time - (start + stop) / 2).abs() < radius * stride[:, None]
    is_in_reach = (farther >= reach[:, :1]) & (farther <= reach[:, 1:])
    fits = (torch.minimum(before, after) > 0) & is_near & is_in_reach & is_there[:, None]
    shortest = torch.where(fits, stop - start, torch.inf).argmin(2)
    chosen = interval.gather(1, shortest[..., None].expand(-1, -1, 2))  # [B, P, 2]
    return Targets(fits & (interval[:, None] == chosen[:, :, None]).all(-1), chosen)


def _lengths(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the intersection, the union and the hull, [...]."""
    shared = (torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])).clamp(min=0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - shared
    hull = torch.maximum(a[..., 1], b[..., 1]) - torch.minimum(a[..., 0], b[..., 0])
    return shared, union, hull


def _positive(length: Tensor) -> Tensor:
    """Lengths to divide by: one where there is none, so that nothing is divided by zero."""
    return torch.where(length > 0, length, 1.0)
