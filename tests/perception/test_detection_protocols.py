"""One constructed file under each protocol: every difference that the notes describe, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlkit.errors import DatasetError, NonFiniteError, UsageError
from rlkit.ops.average_precision import average_precision, calibrated_average_precision
from rlkit.perception.detection.protocols import (
    PROTOCOLS,
    ClassList,
    Protocol,
    class_scores,
    score,
    scored_frames,
)
from rlkit.perception.detection.timeliness import score_delays, score_starts
from rlkit.types import Array

CLASSES = ClassList.named(["background", "jump", "ambiguous"])
PLAIN = ClassList.named(["background", "jump", "throw"])


def labels(length: int, jump: list[int], ambiguous: list[int]) -> Array:
    """Multi-hot labels of the three classes."""
    found = np.zeros((length, 3), np.uint8)
    found[jump, 1] = 1
    found[ambiguous, 2] = 1
    found[:, 0] = ~found[:, 1:].any(axis=1)
    return found


def predictions(length: int, jump: dict[int, float], ambiguous: dict[int, float]) -> Array:
    """Probabilities of the three classes; 0.1 for the jump elsewhere."""
    found = np.zeros((length, 3))
    found[:, 1] = 0.1
    for column, values in ((1, jump), (2, ambiguous)):
        found[list(values), column] = list(values.values())
    found[:, 0] = 1 - found[:, 1:].sum(axis=1)
    return found


# 100 frames, OadTR scores 63 to 90. Jumps at 10 (before), at 70 and 71 (that one ambiguous too), at 95 (after).
TRUTH = {"long": labels(100, [10, 70, 71, 95], [71, 80]), "short": labels(20, [5], [])}
PREDICTIONS = {
    "long": predictions(100, {10: 0.9, 64: 0.5, 70: 0.4, 71: 0.8, 80: 0.85, 95: 0.3}, {70: 0.4}),
    "short": predictions(20, {5: 0.2}, {}),
}


def scores_by(name: str, **changes: object) -> float:
    protocol = replace(PROTOCOLS[name], **changes)
    return score(PREDICTIONS, TRUTH, protocol, CLASSES).average_precision["jump"]


def test_oadtr_scores_the_ends_of_windows_alone() -> None:
    """Frames 63 to 90 but 80, whose only label is ambiguous; 71 is a jump by its first label.

    The softmax without the ambiguous class lifts frame 70 from 0.4 to 0.4/0.6, above the false 0.5 of frame 64.
    """
    found = score(PREDICTIONS, TRUTH, PROTOCOLS["oadtr"], CLASSES)
    assert found.frames == 27
    assert found.left_out == {
        "among the first 63 of a video": 63 + 20, "among the last 9 of a video": 9, "ambiguous": 1,
    }  # fmt: skip
    assert found.videos_left_out == ("short",)
    assert found.average_precision == {"jump": 1.0}


def test_lstr_scores_all_frames_but_ambiguous_ones_and_short_videos() -> None:
    """98 frames. Jumps at 0.9 (rank 1), 0.4 (behind the false 0.5) and 0.3: (1 + 2/3 + 3/4) / 3."""
    found = score(PREDICTIONS, TRUTH, PROTOCOLS["lstr"], CLASSES)
    assert (found.frames, found.left_out) == (98, {"in a video that is too short": 20, "ambiguous": 2})
    assert found.average_precision["jump"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3, abs=1e-12)


def test_miniroad_scores_short_videos_too() -> None:
    """The jump of the short video at 0.2 is fourth of five: (1 + 2/3 + 3/4 + 4/5) / 4."""
    found = score(PREDICTIONS, TRUTH, PROTOCOLS["miniroad"], CLASSES)
    assert (found.frames, found.left_out, found.videos_left_out) == (118, {"ambiguous": 2}, ())
    assert found.average_precision["jump"] == pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 5) / 4, abs=1e-12)


def test_lstr_and_miniroad_agree_where_no_video_is_short() -> None:
    only = {"long": TRUTH["long"]}
    first, second = (
        score({"long": PREDICTIONS["long"]}, only, PROTOCOLS[name], CLASSES) for name in ("lstr", "miniroad")
    )
    assert replace(first, protocol="") == replace(second, protocol="")


def test_each_policy_moves_the_number_alone() -> None:
    """From MiniROAD's: ambiguous frames kept (a true 0.8, a false 0.85), the softmax without them, the prefix cut."""
    assert scores_by("miniroad", ambiguous="keep") == pytest.approx((1 + 2 / 3 + 3 / 5 + 4 / 6 + 5 / 7) / 5, abs=1e-12)
    assert scores_by("miniroad", ambiguous="drop-alone") == pytest.approx(
        (1 + 2 / 2 + 3 / 4 + 4 / 5 + 5 / 6) / 5, abs=1e-12
    )  # fmt: skip
    # 70 is second: (1 + 1 + 3/4 + 4/5) / 4
    assert scores_by("miniroad", softmax="without-ambiguous") == pytest.approx((2 + 3 / 4 + 4 / 5) / 4, abs=1e-12)
    # without frame 10 and the short video: 0.5 false, 0.4, 0.3
    assert scores_by("miniroad", first=63) == pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-12)


def test_ties_go_by_the_protocol() -> None:
    """A constant score of 100 frames, the first of which is positive: 1 as sorted, the prevalence grouped."""
    truth = np.zeros((100, 3), np.uint8)
    truth[0, 1] = truth[50, 2] = 1
    truth[:, 0] = ~truth[:, 1:].any(axis=1)
    constant = {"video": np.full((100, 3), 1 / 3)}
    oadtr = score(constant, {"video": truth}, replace(PROTOCOLS["oadtr"], first=0, last=0), PLAIN)
    lstr = score(constant, {"video": truth}, PROTOCOLS["lstr"], PLAIN)
    assert oadtr.average_precision == pytest.approx({"jump": 1.0, "throw": 1 / 51}, abs=1e-12)
    assert lstr.average_precision == pytest.approx({"jump": 0.01, "throw": 0.01}, abs=1e-12)
    assert lstr.calibrated["jump"] == 1.0, "its cAP is a cumulative sum over sorted frames"
    grouped = score(constant, {"video": truth}, Protocol("own"), PLAIN)
    assert grouped.calibrated == pytest.approx({"jump": 0.5, "throw": 0.5}, abs=1e-12)


def test_softmax_is_over_the_protocols_classes() -> None:
    """Logits (ln 2, ln 3, ln 5): 3/10 over all, 3/5 without the ambiguous; and the same from probabilities."""
    logits = np.log([[2.0, 3.0, 5.0]])
    for protocol, expected in ((PROTOCOLS["lstr"], [0.2, 0.3, 0.5]), (PROTOCOLS["oadtr"], [0.4, 0.6, 0.0])):
        found = class_scores(logits, protocol, CLASSES, "video", are_logits=True)
        assert found == pytest.approx(np.array([expected]), abs=1e-12)
        again = class_scores(np.exp(logits) / 10, protocol, CLASSES, "video")
        assert again == pytest.approx(np.array([expected]), abs=1e-12)
    large = class_scores(np.array([[1e4, 1e4, 0.0]]), PROTOCOLS["lstr"], CLASSES, "video", are_logits=True)
    assert large.tolist() == [[0.5, 0.5, 0.0]]


def test_a_class_that_never_occurs_is_named_and_in_no_mean() -> None:
    truth = {"video": np.eye(3, dtype=np.uint8)[[0, 1, 1, 0]]}
    found = score({"video": np.random.default_rng(0).random((4, 3))}, truth, Protocol("own"), PLAIN)
    assert found.absent == ("throw",)
    assert np.isnan(found.average_precision["throw"])
    assert found.mean_average_precision == found.average_precision["jump"]
    assert found.mean_calibrated == found.calibrated["jump"]
    assert np.isfinite(found.stages).all()
    assert found.record()["AP"]["throw"] is None


def test_scores_are_those_of_the_pooled_frames() -> None:
    rng = np.random.default_rng(3)
    truth = {name: np.eye(3, dtype=np.uint8)[rng.integers(0, 3, length)] for name, length in (("a", 40), ("b", 60))}
    given = {name: rng.dirichlet(np.ones(3), len(truth[name])) for name in ("b", "a")}
    found = score(given, truth, Protocol("own"), PLAIN)
    y, s = np.concatenate([truth["a"], truth["b"]]), np.concatenate([given["a"], given["b"]])
    for k, name in ((1, "jump"), (2, "throw")):
        assert found.average_precision[name] == average_precision(y[:, k], s[:, k])
        assert found.calibrated[name] == calibrated_average_precision(y[:, k], s[:, k])


def test_videos_that_lose_all_frames_leave_no_mark() -> None:
    """First frames are those of the videos that are left."""
    truth = {"a": labels(20, [5], []), "b": labels(100, [70], []), "c": labels(90, [70], [])}
    given = {name: predictions(len(array), {}, {}) for name, array in truth.items()}
    frames = scored_frames(given, truth, PROTOCOLS["oadtr"], CLASSES)
    assert frames.first_frames.tolist() == [0, 28]
    assert (len(frames.truth), frames.videos_left_out) == (28 + 18, ("a",))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda given: given.pop("short"), DatasetError, "1 of 2 videos have no predictions: short"),
        (lambda given: given.update(more=given["short"]), DatasetError, "1 of 3 videos have no labels: more"),
        (lambda given: given.update(short=np.zeros((19, 3))), DatasetError, "has 19 predictions and 20 labels"),
        (lambda given: given.update(short=np.zeros((20, 4))), DatasetError, r"\[20, 4\]: needed is \[frames, 3\]"),
        (lambda given: given.update(short=np.zeros(20)), DatasetError, r"shape \[20\]"),
        (lambda given: given.update(short=np.full((20, 3), np.nan)), NonFiniteError, "'short' has a score"),
        (lambda given: given.update(short=np.full((20, 3), -1.0)), UsageError, "'short' has scores below 0.*--logits"),
    ],
)
def test_what_does_not_fit_is_named(change: object, error: type[Exception], message: str) -> None:
    given = dict(PREDICTIONS)
    assert callable(change)
    change(given)
    with pytest.raises(error, match=message):
        score(given, TRUTH, PROTOCOLS["oadtr"], CLASSES)


def test_labels_that_are_no_labels_are_refused() -> None:
    with pytest.raises(DatasetError, match="not all 0 or 1"):
        score(PREDICTIONS, {**TRUTH, "short": np.full((20, 3), 2)}, PROTOCOLS["lstr"], CLASSES)


def test_a_file_of_which_no_frame_is_scored_is_an_error() -> None:
    short = {"short": TRUTH["short"]}
    for name, reason in (("oadtr", "20 among the first 63 of a video"), ("lstr", "20 in a video that is too short")):
        with pytest.raises(DatasetError, match=reason):
            score({"short": PREDICTIONS["short"]}, short, PROTOCOLS[name], CLASSES)


def test_classes_are_found_by_their_names() -> None:
    assert ClassList.named(["Jump", "Ambiguous", "Background"]) == ClassList(("Jump", "Ambiguous", "Background"), 2, 1)
    assert ClassList.named(["hit", "pause"]).actions == [0, 1]
    assert ClassList.numbered(22).actions == list(range(1, 21))
    assert ClassList.numbered(31).actions == list(range(1, 31))
    with pytest.raises(UsageError, match="jump are named twice"):
        ClassList.named(["jump", "Jump"])


def test_starts_are_claimed_where_the_likeliest_class_changes() -> None:
    """At 2 frames a second, jumps start at 2 s and 6 s; claimed at 3 s, and a throw that never starts."""
    truth = np.zeros((20, 3), np.uint8)
    truth[4:8, 1] = truth[12:14, 1] = 1
    truth[:, 0] = ~truth[:, 1:].any(axis=1)
    given = np.tile([0.6, 0.2, 0.2], (20, 1))
    given[6:9] = [0.2, 0.7, 0.1]
    given[9:10] = [0.1, 0.1, 0.8]
    found = score_starts(
        {"v": given}, {"v": truth}, Protocol("own"), PLAIN, frames_per_second=2.0, offsets=(0.5, 1.0, 5.0)
    )
    assert (found.starts, found.claims) == (2, 2)
    assert {offset: each["jump"] for offset, each in found.average_precision.items()} == {0.5: 0.0, 1.0: 0.5, 5.0: 0.5}
    assert found.means() == {0.5: 0.0, 1.0: 0.5, 5.0: 0.5}, "throws never start, and are in no mean"
    assert found.record()["pAP"]["1"] == {"jump": 0.5, "throw": None}


def test_starts_without_a_background_are_claimed_where_a_score_rises() -> None:
    truth, given = np.zeros((6, 2), np.uint8), np.full((6, 2), 0.1)
    truth[2:4] = 1
    given[2:, 0], given[3:, 1] = 0.9, 0.8
    classes = ClassList.named(["hit", "pause"])
    found = score_starts(
        {"v": given}, {"v": truth}, Protocol("own"), classes, frames_per_second=1.0, offsets=(0.0, 1.0), threshold=0.5
    )  # fmt: skip
    assert found.means() == {0.0: 0.5, 1.0: 1.0}


def test_delay_is_told_at_a_rate_of_false_frames() -> None:
    """A jump of 4 frames told at its third; without any false frame."""
    truth, given = labels(12, [4, 5, 6, 7], []), predictions(12, {6: 0.8, 7: 0.9}, {})
    frames = scored_frames({"v": given}, {"v": truth}, Protocol("own"), CLASSES)
    assert score_delays(frames, CLASSES, 0.0) == {"jump": 2.0}
    assert score_delays(frames, CLASSES, 1.0) == {"jump": 0.0}


def test_protocols_give_the_numbers_of_the_published_codes() -> None:
    """LSTR's `metrics.py` and OadTR's `frame_level_map_n_cap_thumos` on these draws, which have no ties."""
    rng = np.random.default_rng(5)
    truth = np.eye(4, dtype=np.uint8)[np.repeat(rng.integers(0, 4, 40), rng.integers(1, 30, 40))]
    scores = rng.dirichlet(np.ones(4), len(truth)) + 0.2 * truth
    classes = ClassList.named(["background", "a", "b", "c"])
    lstr, oadtr = (score({"v": scores}, {"v": truth}, PROTOCOLS[name], classes) for name in ("lstr", "oadtr"))
    assert (lstr.frames, oadtr.frames) == (562, 562 - 63 - 9)
    expected = (0.41183767986692876, 0.725607858701788)
    assert (lstr.mean_average_precision, lstr.mean_calibrated) == pytest.approx(expected, abs=1e-12)
    expected = (0.406593265225331, 0.7248045676996786)
    assert (oadtr.mean_average_precision, oadtr.mean_calibrated) == pytest.approx(expected, abs=1e-12)
    stages = [
        *(0.721956367029896, 0.764127811464462, 0.7239004837920934, 0.7686155905244014, 0.7521759935466962),
        *(0.8111065723113646, 0.7605935959311031, 0.7092170832039, 0.7444991720768773, 0.7413502145649821),
    ]
    assert lstr.stages == pytest.approx(stages, abs=1e-12)
