"""The offline detector: its loss by loops, what padding must not change, and that it finds intervals it has learned."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlkit.errors import UsageError
from rlkit.perception.detection.detector import DetectionTask
from rlkit.perception.detection.offline import Claims, IntervalBatch, OfflineConfig, OfflineDetector
from rlkit.types import Array, Floats

FEATURES, CLASSES, CPU = 4, ("background", "jump", "run"), torch.device("cpu")
Rows = list[tuple[float, float, int]]


def small_detector(ambiguous: int | None = None, **changes: object) -> OfflineDetector:
    options = {"width": 16, "heads": 2, "levels": 3, "stem": 1, "neighbours": 3, **changes}
    config = OfflineConfig.model_validate(options)
    return OfflineDetector(config, DetectionTask(FEATURES, CLASSES, ambiguous, seed=3)).eval()


def stream_with(intervals: Rows, length: int, rng: np.random.Generator) -> Floats:
    """Noise, and a feature for each class that is large while it goes on."""
    features = rng.normal(scale=0.3, size=(length, FEATURES)).astype(np.float32)
    for start, stop, label in intervals:
        features[int(start) : int(stop), label] += 2.0
    return features


def suppressed(intervals: Array, scores: Array) -> tuple[Array, Array]:
    """The best of those that overlap by half, by loops."""
    kept: list[int] = []
    for row in np.argsort(-scores):
        if all(tiou(intervals[row], intervals[other]) < 0.5 for other in kept):
            kept.append(int(row))
    return np.array(kept, np.int64), scores[kept]


def everything(intervals: Array, scores: Array) -> tuple[Array, Array]:
    return np.arange(len(scores)), scores


def tiou(a: Array, b: Array) -> float:
    shared = max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)
    return float(shared / ((a[1] - a[0]) + (b[1] - b[0]) - shared))


@torch.no_grad()
def test_what_is_padded_behind_a_stream_does_not_matter() -> None:
    detector, rng = small_detector(), np.random.default_rng(0)
    short, long = (rng.normal(size=(length, FEATURES)).astype(np.float32) for length in (13, 22))
    both = IntervalBatch.of([short, long], [[], []], CPU)
    filled = both.features + 5.0 * (torch.arange(22) >= both.length[:, None])[..., None]
    together: Claims = detector(filled, both.length)
    assert together.is_there.sum(1).tolist() == [13 + 7 + 4, 22 + 11 + 6]
    for row, stream in enumerate((short, long)):
        alone: Claims = detector(torch.from_numpy(stream)[None], torch.tensor([len(stream)]))
        there = together.is_there[row]
        assert alone.is_there.all()
        torch.testing.assert_close(together.logits[row, there], alone.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.interval[row, there], alone.interval[0], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(together.point[there], alone.point)


@torch.no_grad()
def test_points_stand_in_the_middle_of_frames_and_reach_twice_as_far_with_each_level() -> None:
    claims: Claims = small_detector(reach=4.0)(torch.zeros(1, 6, FEATURES), torch.tensor([6]))
    assert claims.point.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 0.5, 2.5, 4.5, 0.5, 4.5]
    assert claims.stride.tolist() == [1] * 6 + [2] * 3 + [4] * 2
    assert claims.reach[[0, 6, 9]].tolist() == [[0, 4], [4, 8], [8, math.inf]]
    assert (claims.interval[0, :, 0] < claims.point).all()
    assert (claims.interval[0, :, 1] > claims.point).all()


@torch.no_grad()
def test_before_it_learns_every_score_is_about_the_prior() -> None:
    claims: Claims = small_detector(prior=0.02)(torch.zeros(1, 6, FEATURES), torch.tensor([6]))
    assert claims.logits.sigmoid().mean().item() == pytest.approx(0.02, abs=0.02)


@torch.no_grad()
def test_it_sees_the_future() -> None:
    detector, x = small_detector(), torch.randn(1, 20, FEATURES, generator=torch.Generator().manual_seed(0))
    changed = torch.cat((x[:, :-1], x[:, -1:] + 1), 1)
    before, after = (detector(each, torch.tensor([20])).logits[0] for each in (x, changed))
    assert (before[15] - after[15]).abs().max() > 1e-4


def loss_by_loops(claims: Claims, intervals: list[Rows], told: tuple[int, ...]) -> tuple[float, float]:
    """Losses of classes and ends, where intervals of classes that are not told hide what happens within them."""
    of_classes, of_ends, number = 0.0, 0.0, 0
    for row, own in enumerate(intervals):
        for p, point in enumerate(claims.point.tolist()):
            if not claims.is_there[row, p]:
                continue
            stride, (least, most) = claims.stride[p].item(), claims.reach[p].tolist()
            fitting = [
                (stop - start, start, stop, label) for start, stop, label in own
                if label in told and start < point < stop and abs(point - (start + stop) / 2) < 1.5 * stride
                and least <= max(point - start, stop - point) <= most
            ]  # fmt: skip
            labels = [0.0] * len(told)
            if fitting:
                _, start, stop, _ = min(fitting, key=lambda each: each[0])
                for _, first, last, label in fitting:
                    if (first, last) == (start, stop):
                        labels[told.index(label)] = 1.0
                ends = claims.interval[row, p].double().numpy()
                of_ends += 1 - tiou(ends, np.array([start, stop]))
                number += 1
            elif any(label not in told and start <= point <= stop for start, stop, label in own):
                continue
            for logit, label in zip(claims.logits[row, p].tolist(), labels, strict=True):
                p_t = 1 / (1 + math.exp(-logit if label else logit))
                of_classes -= (0.25 if label else 0.75) * (1 - p_t) ** 2 * math.log(p_t)
    assert number > 5
    return of_classes / number, of_ends / number


@pytest.mark.parametrize("ambiguous", [None, 2])
def test_the_loss_is_that_of_classes_and_of_ends(ambiguous: int | None) -> None:
    detector, rng = small_detector(ambiguous, prior=0.3, end_weight=0.7), np.random.default_rng(0)
    intervals: list[Rows] = [[(1, 4, 1), (2, 12, 2), (13, 15, 1), (13, 15, 2)], [(3, 20, 1), (10, 30, 2)], []]
    streams = [rng.normal(size=(length, FEATURES)).astype(np.float32) for length in (16, 31, 7)]
    batch = IntervalBatch.of(streams, intervals, CPU)
    loss, metrics = detector.loss(batch)
    with torch.no_grad():
        of_classes, of_ends = loss_by_loops(detector(batch.features, batch.length), intervals, detector.told)
    assert detector.told == ((1, 2) if ambiguous is None else (1,))
    assert metrics["train/loss_classes"] == pytest.approx(of_classes, rel=1e-5)
    assert metrics["train/loss_ends"] == pytest.approx(of_ends, rel=1e-5)
    assert loss.item() == pytest.approx(of_classes + 0.7 * of_ends, rel=1e-5)


def test_streams_without_intervals_have_a_finite_loss() -> None:
    detector = small_detector()
    loss, metrics = detector.loss(IntervalBatch.of([np.zeros((5, FEATURES), np.float32)], [[]], CPU))
    loss.backward()  # type: ignore[no-untyped-call]
    assert metrics["train/loss_ends"] == 0.0
    assert all(parameter.grad.isfinite().all() for parameter in detector.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("overlap", ["generalised", "distance"])
def test_it_finds_the_intervals_of_streams_that_it_has_learned(overlap: str) -> None:
    rng = np.random.default_rng(1)
    intervals: list[Rows] = [[(3, 6, 1), (12, 26, 2)], [(5, 21, 1), (30, 34, 2)], [(8, 11, 2), (18, 25, 1)]]
    streams = [stream_with(rows, length, rng) for rows, length in zip(intervals, (32, 40, 30), strict=True)]
    batch, detector = IntervalBatch.of(streams, intervals, CPU), small_detector(overlap=overlap).train()
    optimizer = torch.optim.Adam(detector.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        detector.loss(batch)[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    detector.eval()
    for stream, rows in zip(streams, intervals, strict=True):
        found = detector.intervals(torch.from_numpy(stream), suppressed)
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
        best = found[: len(rows)]
        for start, stop, label in rows:
            overlaps = [tiou(np.array(each[:2]), np.array([start, stop])) for each in best if each.label == label]
            assert max(overlaps, default=0.0) > 0.5


def test_intervals_are_within_the_stream_and_no_more_than_asked_for() -> None:
    detector = small_detector(prior=0.5, intervals=7)
    found = detector.intervals(torch.zeros(9, FEATURES), everything)
    assert len(found) == 7
    assert all(0 <= each.start < each.stop <= 9 and each.label in (1, 2) for each in found)
    assert small_detector(least_score=0.9).intervals(torch.zeros(9, FEATURES), everything) == []


@pytest.mark.parametrize("interval", [(4, 4, 1), (5, 3, 1), (-1, 3, 1), (3, 9, 1)])
def test_intervals_that_cannot_be_are_refused(interval: tuple[float, float, int]) -> None:
    with pytest.raises(UsageError, match=r"stream 1 .* 8 frames"):
        IntervalBatch.of([np.zeros((8, FEATURES), np.float32)] * 2, [[(1, 8, 1)], [interval]], CPU)


@pytest.mark.parametrize("label", [0, 3])
def test_classes_that_are_not_told_are_refused(label: int) -> None:
    batch = IntervalBatch.of([np.zeros((8, FEATURES), np.float32)], [[(1, 8, label)]], CPU)
    with pytest.raises(UsageError, match=rf"class {label}.*1 \(jump\), 2 \(run\)"):
        small_detector().loss(batch)


def test_other_features_are_refused() -> None:
    with pytest.raises(UsageError, match=r"5 features a frame.*built for 4"):
        small_detector().intervals(torch.zeros(9, 5), everything)
