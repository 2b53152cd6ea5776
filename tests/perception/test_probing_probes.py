"""Probes: what features tell is found, what they do not tell is not, and controls are what they are called."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from labelled import dot, features
from torch import Tensor, nn

from rlkit.errors import NonFiniteError, UsageError
from rlkit.perception.probing.frames import LabelledFrames
from rlkit.perception.probing.linear_probe import LinearProbe
from rlkit.perception.probing.majority_probe import MajorityProbe
from rlkit.perception.probing.neighbour_probe import NeighbourProbe
from rlkit.perception.probing.probe import Probe, ProbeTable, probe
from rlkit.perception.probing.supervised_probe import SupervisedProbe
from rlkit.types import Array

SIZES = (1200, 300, 600)


def parts(width: int, seed: int = 0, **labels: Any) -> list[LabelledFrames]:
    """Standard normal features with labels that functions of (features, generator) give."""
    rng = np.random.default_rng(seed)
    found = []
    for size in SIZES:
        x = rng.normal(size=(size, width)).astype(np.float32)
        found.append(features(x, **{name: label(x, rng) for name, label in labels.items()}))
    return found


def encoding(classes: Array, width: int = 24, noise: float = 0.1, seed: int = 0) -> Any:
    """A function that gives features in which each class has a direction of its own."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(len(classes), width))
    return lambda numbers: (directions[numbers] + noise * rng.normal(size=(len(numbers), width))).astype(np.float32)


@pytest.mark.parametrize("by", [LinearProbe(), NeighbourProbe(neighbours=10)], ids=lambda by: type(by).__name__)
def test_a_linearly_encoded_class_is_recovered_perfectly(by: Probe) -> None:
    classes = np.array([0, 3, 7, 17, 90, 91, 128, 200, 254, 255], np.uint8)  # as bytes of RAM are: with gaps
    encode, rng = encoding(classes), np.random.default_rng(1)
    drawn = [rng.integers(0, len(classes), size) for size in SIZES]
    encoded = [features(encode(numbers), byte=classes[numbers]) for numbers in drawn]
    table = probe(*encoded, by)
    assert table.variables["byte"] == {"f1_macro": 1.0, "f1_weighted": 1.0, "accuracy": 1.0}


def test_random_features_give_the_f1_of_the_majority() -> None:
    """Where p of the examples are in that one of four classes, its F1 is 2p/(1+p)."""
    encoded = parts(8, skewed=lambda x, rng: rng.choice(4, len(x), p=[0.7, 0.1, 0.1, 0.1]))
    majority = probe(*encoded, MajorityProbe()).variables["skewed"]
    share = float((encoded[2].labels["skewed"] == 0).mean())
    f1 = 2 * share / (1 + share)
    assert majority == pytest.approx({"f1_macro": f1 / 4, "f1_weighted": share * f1, "accuracy": share}, abs=1e-9)
    for by in (LinearProbe(), NeighbourProbe()):
        found = probe(*encoded, by).variables["skewed"]
        assert found["f1_macro"] == pytest.approx(majority["f1_macro"], abs=0.03)
        assert found["f1_weighted"] == pytest.approx(majority["f1_weighted"], abs=0.03)


def test_the_linear_probe_comes_as_near_as_anyone_can_where_classes_overlap() -> None:
    """Two normal clouds at -1 and 1 along one of 4 directions: the best accuracy is Φ(1)."""
    rng = np.random.default_rng(0)
    encoded = []
    for size in (8000, 2000, 20_000):
        cloud = rng.integers(0, 2, size)
        x = rng.normal(size=(size, 4))
        x[:, 2] += 2 * cloud - 1
        encoded.append(features(x.astype(np.float32), cloud=cloud))
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert probe(*encoded, LinearProbe()).variables["cloud"]["accuracy"] == pytest.approx(best, abs=0.012)


def test_a_probe_does_not_depend_on_what_else_is_probed() -> None:
    encoded = parts(
        6, first=lambda x, rng: (x[:, 0] > 0.3).astype(int), second=lambda x, rng: rng.integers(0, 5, len(x)),
        depth=lambda x, rng: x[:, 1] + rng.normal(size=len(x)),
    )  # fmt: skip
    train, validation, test = encoded
    together = LinearProbe().predictions(train, validation, test.inputs)
    for name in train.labels:
        alone = LinearProbe().predictions(*(part.labelled_by([name]) for part in (train, validation)), test.inputs)
        assert np.array_equal(alone[name], together[name]), name


def test_linear_probes_do_not_see_the_scale_and_offset_of_features() -> None:
    train, validation, test = parts(
        6, side=lambda x, rng: (x[:, 0] + x[:, 1] > 0).astype(int), depth=lambda x, rng: x[:, 1] ** 3
    )
    scale, offset = np.array([1e3, 1e-3, 1, 7, 1, 1], np.float32), np.array([5, 0, -3, 0, 0, 1], np.float32)
    moved = [part.encoded(part.inputs * scale + offset) for part in (train, validation, test)]
    found = LinearProbe().predictions(train, validation, test.inputs)
    again = LinearProbe().predictions(*moved[:2], moved[2].inputs)
    assert (found["side"] == again["side"]).mean() > 0.995
    np.testing.assert_allclose(again["depth"], found["depth"], rtol=0, atol=1e-3)


def test_the_same_seed_gives_the_same_predictions_and_no_global_generator_is_drawn_from() -> None:
    train, validation, test = parts(6, noisy=lambda x, rng: (x[:, 0] + rng.normal(size=len(x)) > 0).astype(int))
    state = torch.get_rng_state()
    first, again, other = (LinearProbe(seed=seed).predictions(train, validation, test.inputs) for seed in (3, 3, 4))
    assert np.array_equal(first["noisy"], again["noisy"])
    assert not np.array_equal(first["noisy"], other["noisy"])
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_decides_which_epoch_is_taken() -> None:
    """Where no validation label can be predicted, no epoch is better than the first."""
    train, validation, test = parts(4, side=lambda x, rng: (x[:, 0] + rng.normal(size=len(x)) > 0).astype(int))
    unknown = validation.encoded(validation.inputs)
    unknown.labels["side"][:] = 9  # type: ignore[index]
    once = LinearProbe(max_epochs=1).predictions(train, validation, test.inputs)
    many = LinearProbe(max_epochs=30).predictions(train, unknown, test.inputs)
    assert np.array_equal(once["side"], many["side"])


def test_classes_that_training_never_saw_are_missed() -> None:
    classes = np.arange(4)
    encode, rng = encoding(classes), np.random.default_rng(1)
    train, validation, test = (
        rng.integers(low, high, size) for low, high, size in ((0, 3, 900), (0, 3, 200), (1, 4, 300))
    )
    encoded = [features(encode(numbers), place=numbers) for numbers in (train, validation, test)]
    for by in (LinearProbe(), NeighbourProbe(neighbours=5)):
        scores = probe(*encoded, by).variables["place"]
        assert scores["accuracy"] == pytest.approx((test < 3).mean(), abs=1e-9)


def test_a_linear_quantity_is_recovered_and_noise_is_not() -> None:
    encoded = parts(10, height=lambda x, rng: x @ np.arange(10) + 3.0, noise=lambda x, rng: rng.normal(size=len(x)))
    found = probe(*encoded, LinearProbe()).variables
    assert found["height"]["r_squared"] == pytest.approx(1.0, abs=1e-6)
    assert abs(found["noise"]["r_squared"]) < 0.03
    assert abs(probe(*encoded, MajorityProbe()).variables["height"]["r_squared"]) < 0.01


def test_half_of_the_variance_told_is_an_r_squared_of_half() -> None:
    encoded = parts(3, depth=lambda x, rng: x[:, 1] + rng.normal(size=len(x)))
    assert probe(*encoded, LinearProbe()).variables["depth"]["r_squared"] == pytest.approx(0.5, abs=0.06)


def test_the_penalty_is_chosen_for_each_quantity_so_that_many_features_do_no_harm() -> None:
    """300 features for 120 examples: least squares would fit noise, and its R² would be far below 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(620, 300)).astype(np.float32)
    told, noise = 5 * x[:, 0], rng.normal(size=620)
    cuts = (slice(0, 120), slice(120, 320), slice(320, 620))
    few = [features(x[cut], noise=noise[cut]) for cut in cuts]
    assert probe(*few, LinearProbe()).variables["noise"]["r_squared"] > -0.1
    assert probe(*few, LinearProbe(penalties=(1e-6,))).variables["noise"]["r_squared"] < -0.3
    both = [features(x[cut, :20], noise=noise[cut], told=told[cut]) for cut in cuts]
    assert probe(*both, LinearProbe()).variables["told"]["r_squared"] > 0.999


def test_features_that_never_change_in_training_are_ignored() -> None:
    train, validation, test = parts(4, side=lambda x, rng: (x[:, 0] > 0).astype(int), depth=lambda x, rng: x[:, 1])
    still = [np.full((len(part), 1), 1e4, np.float32) for part in (train, validation, test)]
    still[2][:] = -1e4  # only the test has another value
    moved = [
        part.encoded(np.hstack((part.inputs, more)))
        for part, more in zip((train, validation, test), still, strict=True)
    ]
    with_it, without = probe(*moved, LinearProbe()), probe(train, validation, test, LinearProbe())
    assert with_it.variables["depth"]["r_squared"] == pytest.approx(without.variables["depth"]["r_squared"], abs=1e-9)
    assert with_it.variables["side"]["accuracy"] > 0.97


def test_features_that_are_not_finite_are_refused() -> None:
    train, validation, test = parts(3, side=lambda x, rng: (x[:, 0] > 0).astype(int))
    train.inputs[5, 1] = np.nan
    for by in (LinearProbe(), NeighbourProbe()):
        with pytest.raises(NonFiniteError, match="NaN"):
            probe(train, validation, test, by)


def test_neighbours_vote_as_a_loop_over_all_of_them_does() -> None:
    train, validation, test = parts(
        5, noisy=lambda x, rng: np.array([4, 8, 15])[rng.integers(0, 3, len(x))], depth=lambda x, rng: x[:, 1]
    )
    k, temperature = 7, 0.1
    found = NeighbourProbe(neighbours=k, temperature=temperature, batch_size=100).predictions(
        train, validation, test.inputs
    )
    unit = train.inputs.astype(np.float64) / np.linalg.norm(train.inputs.astype(np.float64), axis=1, keepdims=True)
    for row in range(0, len(test), 25):
        query = test.inputs[row].astype(np.float64)
        similarity = unit @ query / np.linalg.norm(query)
        nearest = np.argsort(-similarity)[:k]
        weight = np.exp(similarity[nearest] / temperature)
        votes = {label: weight[train.labels["noisy"][nearest] == label].sum() for label in (4, 8, 15)}
        assert found["noisy"][row] == max(votes, key=lambda label: votes[label])
        right = (weight * train.labels["depth"][nearest]).sum() / weight.sum()
        assert found["depth"][row] == pytest.approx(right, abs=1e-5)


def test_the_nearest_neighbour_of_a_training_feature_is_itself_whatever_its_length() -> None:
    train, validation, _ = parts(5, place=lambda x, rng: rng.integers(0, 200, len(x)))
    found = NeighbourProbe(neighbours=1).predictions(train, validation, 30 * train.inputs[:50])
    assert found["place"].tolist() == train.labels["place"][:50].tolist()


def test_more_neighbours_than_frames_are_refused() -> None:
    train, validation, test = parts(3, place=lambda x, rng: rng.integers(0, 2, len(x)))
    with pytest.raises(UsageError, match="neighbours is 1201, allowed: 1 … 1200"):
        probe(train, validation, test, NeighbourProbe(neighbours=1201))


class Dots(nn.Module):
    """A small encoder of pictures [B, 8, 8] of bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU())

    def forward(self, frames: Tensor) -> Tensor:
        found: Tensor = self.layers(frames.flatten(1) * (1 / 255))
        return found


def dots() -> list[LabelledFrames]:
    rng = np.random.default_rng(0)
    places = [rng.integers(0, 64, size) for size in (512, 100, 100)]
    return [
        features(np.stack([dot(place) for place in drawn]), row=drawn // 8, edge=(drawn % 8 == 0), column=drawn % 8 / 8)
        for drawn in places
    ]


def test_an_encoder_that_sees_the_labels_learns_all_variables_together_and_stays_as_it_was() -> None:
    encoder = Dots()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    frames = dots()
    by = SupervisedProbe(encoder, learning_rate=1e-2, max_epochs=12)
    table = probe(*frames, by)
    assert table.variables["row"]["accuracy"] == 1.0
    assert table.variables["edge"]["f1_macro"] == 1.0
    assert table.variables["column"]["r_squared"] > 0.98
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    again = by.predictions(frames[0], frames[1], frames[2].inputs)
    assert probe(*frames, by) == table
    assert again["edge"].dtype == np.bool_


def test_the_supervised_probe_takes_the_epoch_that_is_best_on_validation() -> None:
    """Labels of validation are turned round: the least trained encoder is the best for them."""
    train, validation, test = dots()
    train, test = train.labelled_by(["edge"]), test.labelled_by(["edge"])
    turned = features(validation.inputs, edge=~validation.labels["edge"])
    encoder = Dots()
    short = SupervisedProbe(encoder, learning_rate=1e-2, max_epochs=1).predictions(train, turned, test.inputs)
    long = SupervisedProbe(encoder, learning_rate=1e-2, max_epochs=8).predictions(train, turned, test.inputs)
    assert np.array_equal(short["edge"], long["edge"])
    assert (long["edge"] == test.labels["edge"]).mean() < 1.0


def test_categories_are_means_over_their_variables_and_the_overall_score_one_over_categories() -> None:
    table = ProbeTable(
        {
            "agent/x": {"f1_macro": 0.2, "f1_weighted": 0.4, "accuracy": 0.5},
            "agent/y": {"f1_macro": 0.6, "f1_weighted": 0.8, "accuracy": 0.9},
            "display/score": {"f1_macro": 1.0, "f1_weighted": 1.0, "accuracy": 1.0},
            "agent/angle": {"r_squared": 0.25},
            "lone": {"r_squared": 0.75},
        }
    )
    categories = table.categories()
    assert categories["agent"] == pytest.approx(
        {"f1_macro": 0.4, "f1_weighted": 0.6, "accuracy": 0.7, "r_squared": 0.25}
    )
    assert categories["display"] == {"f1_macro": 1.0, "f1_weighted": 1.0, "accuracy": 1.0}
    assert categories["miscellaneous"] == {"r_squared": 0.75}
    expected = {"f1_macro": 0.7, "f1_weighted": 0.8, "accuracy": 0.85, "r_squared": 0.5}
    assert table.overall() == pytest.approx(expected)


def test_parts_with_other_variables_or_nothing_in_them_are_refused() -> None:
    train, validation, test = parts(3, side=lambda x, rng: (x[:, 0] > 0).astype(int))
    with pytest.raises(UsageError, match="the same variables"):
        probe(train, validation, features(test.inputs, other=test.labels["side"]), MajorityProbe())
    with pytest.raises(UsageError, match="the same variables"):
        probe(train, validation, features(test.inputs, side=test.labels["side"].astype(float)), MajorityProbe())
    with pytest.raises(UsageError, match="a part is empty: 1200 frames to train, 0 and 600"):
        probe(train, validation.rows(np.zeros(len(validation), bool)), test, MajorityProbe())


def test_the_majority_is_the_most_frequent_class_of_training() -> None:
    train, validation, test = parts(
        2, byte=lambda x, rng: rng.choice([7, 9], len(x), p=[0.3, 0.7]).astype(np.uint8), depth=lambda x, rng: x[:, 0]
    )
    found = MajorityProbe().predictions(train, validation, test.inputs)
    assert set(found["byte"].tolist()) == {9}
    assert np.allclose(found["depth"], train.labels["depth"].mean(dtype=np.float64), rtol=0, atol=1e-9)
