"""Injected faults against a twin of the environment without them: labels are exact, and each fault is what it says."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlkit.envs.events import event_classes_of
from rlkit.envs.injected_faults import FAULTS, InjectedFaults
from rlkit.envs.make import make, make_single
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import UnknownNameError, UnsupportedTaskError, UsageError

SHORT: dict[str, Any] = {"pause": (3, 9), "length": (4, 8)}


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the actions that reached the environment, the force behind them, and what it observed."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.actions: list[Any] = []
        self.seen: list[Any] = []
        self.forces: list[Any] = []

    def step(self, action: Any) -> Any:
        self.actions.append(np.array(action))
        self.forces.append(vars(self.env.unwrapped).get("force_mag"))
        result = self.env.step(action)
        self.seen.append(np.array(result[0]))
        return result


def walk(
    name: str, faults: tuple[str, ...], steps: int = 150, seed: int = 0, **options: Any
) -> tuple[Recorder, list[Any], list[Any], list[str]]:
    """What the environment met, the actions chosen, the observations told (the reset's first), and the labels."""
    inner = Recorder(gym.make(name, disable_env_checker=True))
    env = InjectedFaults(inner, faults, **{**SHORT, **options})
    env.action_space.seed(seed)
    seen, chosen, labels = [np.array(env.reset(seed=seed)[0])], [], []
    for _ in range(steps):
        chosen.append(np.array(env.action_space.sample()))
        obs, _, terminated, truncated, info = env.step(chosen[-1])
        seen.append(np.array(obs))
        present = [fault for fault in faults if info[f"events/{fault}"]]
        assert len(present) <= 1
        assert env.observation_space.contains(obs)
        labels.append(present[0] if present else "background")
        if terminated or truncated:
            break
    return inner, chosen, seen, labels


def test_a_weak_actuator_multiplies_exactly_the_labelled_actions() -> None:
    inner, chosen, seen, labels = walk("Pendulum-v1", ("gain",))
    assert {"gain", "background"} == set(labels)
    for label, wanted, done in zip(labels, chosen, inner.actions, strict=True):
        factor = 0.7 if label == "gain" else 1.0
        assert np.allclose(done, factor * wanted, rtol=1e-6, atol=0)
    assert np.array_equal(seen[1:], inner.seen)


def test_the_force_behind_a_discrete_action_is_weaker_in_exactly_the_labelled_steps() -> None:
    inner, chosen, _, labels = walk("CartPole-v1", ("gain",), seed=3, pause=(1, 2))
    assert labels.count("gain") > 3
    assert inner.forces == [7.0 if label == "gain" else 10.0 for label in labels]
    assert np.array_equal(inner.actions, chosen)
    assert inner.unwrapped.force_mag == 10.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_delayed_actions_are_those_of_two_steps_before(name: str) -> None:
    inner, chosen, _, labels = walk(name, ("delay",), seed=3)
    assert "delay" in labels
    for step, label in enumerate(labels):
        assert np.array_equal(inner.actions[step], chosen[step - 2 if label == "delay" else step])


def test_a_biased_sensor_is_off_by_one_scale_in_one_component_through_an_interval() -> None:
    scale = (1.0, 2.0, 4.0)
    inner, _, seen, labels = walk("Pendulum-v1", ("bias",), scale=scale)
    errors = np.array(seen[1:]) - np.array(inner.seen)
    components = set()
    step = 0
    for label, run in groupby(labels):
        length = len(list(run))
        rows = errors[step : step + length]
        step += length
        if label == "background":
            assert not rows.any()
            continue
        (place,) = np.flatnonzero(np.abs(rows[0]) > 0.5)
        assert np.allclose(np.abs(rows[:, place]), scale[place], atol=1e-5)
        assert np.allclose(np.delete(rows, place, axis=1), 0)
        assert len(set(np.sign(rows[:, place]))) == 1
        components.add(place)
    assert len(components) > 1


def test_noise_has_half_a_scale_of_deviation_and_only_where_it_is_labelled() -> None:
    inner, _, seen, labels = walk("Pendulum-v1", ("noise",), 200, scale=(1.0, 2.0, 4.0), length=(30, 40))
    errors = np.array(seen[1:]) - np.array(inner.seen)
    is_noisy = np.array(labels) == "noise"
    assert not errors[~is_noisy].any()
    deviation = errors[is_noisy].std(axis=0)
    assert np.allclose(deviation, [0.5, 1.0, 2.0], rtol=0.2)
    assert np.allclose(errors[is_noisy].mean(axis=0), 0, atol=3 * deviation / np.sqrt(is_noisy.sum()))


def test_a_frozen_sensor_repeats_what_it_told_last() -> None:
    inner, _, seen, labels = walk("Pendulum-v1", ("freeze",))
    assert "freeze" in labels
    for step, label in enumerate(labels):
        expected = seen[step] if label == "freeze" else inner.seen[step]
        assert np.array_equal(seen[step + 1], expected)


def test_lengths_and_pauses_stay_within_their_bounds_and_all_faults_come() -> None:
    inner = InjectedFaults(gym.make("Pendulum-v1", max_episode_steps=3000), **SHORT)
    inner.reset(seed=0)
    labels = []
    for _ in range(3000):
        info = inner.step(np.zeros(1, np.float32))[4]
        labels.append(next((fault for fault in FAULTS if info[f"events/{fault}"]), "background"))
    runs = [(label, len(list(run))) for label, run in groupby(labels)][:-1]
    assert [label == "background" for label, _ in runs] == [place % 2 == 0 for place in range(len(runs))]
    assert {length for label, length in runs if label == "background"} == set(range(3, 10))
    assert {length for label, length in runs if label != "background"} == set(range(4, 9))
    assert {label for label, _ in runs} == {"background", *FAULTS}
    assert event_classes_of(inner) == ("background", *FAULTS)


def test_severity_scales_what_a_fault_does() -> None:
    inner, chosen, _, labels = walk("Pendulum-v1", ("gain",), severity=2.0)
    weak = [step for step, label in enumerate(labels) if label == "gain"]
    assert np.allclose([inner.actions[step] for step in weak], [0.4 * chosen[step] for step in weak], rtol=1e-5)
    inner, chosen, _, labels = walk("Pendulum-v1", ("delay",), severity=2.0)
    late = [step for step, label in enumerate(labels) if label == "delay" and step >= 4]
    assert np.array_equal([inner.actions[step] for step in late], [chosen[step - 4] for step in late])


def test_faults_depend_on_the_seed_alone_and_leave_the_environment_s_chance_alone() -> None:
    runs = [walk("Pendulum-v1", FAULTS, seed=seed) for seed in (5, 5, 6)]
    assert runs[0][3] == runs[1][3] != runs[2][3]
    assert np.array_equal(runs[0][2], runs[1][2])
    plain, _ = gym.make("Pendulum-v1").reset(seed=5)
    assert np.array_equal(runs[0][2][0], plain)


def test_mujoco_and_acrobot_take_every_fault() -> None:
    inner, _, _, labels = walk("Acrobot-v1", ("gain",))
    assert "gain" in labels
    assert inner.unwrapped.AVAIL_TORQUE == [-1.0, 0.0, 1.0]  # type: ignore[attr-defined]
    pytest.importorskip("mujoco")
    assert len(set(walk("InvertedPendulum-v5", FAULTS, seed=1, pause=(1, 2), length=(1, 2))[3])) > 1


def test_wrong_arguments_are_explained() -> None:
    pendulum = gym.make("Pendulum-v1")
    with pytest.raises(UnknownNameError, match="did you mean 'delay'"):
        InjectedFaults(pendulum, ("delayed",))
    for wrong in ({"pause": (0, 3)}, {"length": (5, 4)}, {"length": 5}, {"pause": (1.5, 2)}):
        with pytest.raises(UsageError, match="two whole numbers"):
            InjectedFaults(pendulum, **wrong)  # type: ignore[arg-type]
    for wrong in ({"scale": 0.0}, {"scale": (1.0, 2.0)}):
        with pytest.raises(UsageError, match="one for each component"):
            InjectedFaults(pendulum, **wrong)
    for severity in (0.0, 4.0):
        with pytest.raises(UsageError, match="severity"):
            InjectedFaults(pendulum, severity=severity)
    with pytest.raises(UsageError, match="each once"):
        InjectedFaults(pendulum, ("delay", "delay"))
    with pytest.raises(UnsupportedTaskError, match="Box of floats"):
        InjectedFaults(gym.make("FrozenLake-v1"))
    box2d = gym.make("CartPole-v1")
    box2d.unwrapped.action_space = gym.spaces.MultiBinary(2)  # type: ignore[assignment]
    with pytest.raises(UnsupportedTaskError, match="Box or Discrete"):
        InjectedFaults(box2d)
    with pytest.raises(UnsupportedTaskError, match="leave it out: faults="):
        InjectedFaults(make_single("rlkit/MountainCar-v0"))


def test_faults_are_restored_exactly() -> None:
    wrapper = resolve_wrapper("injected-faults:pause=[2,4],length=[2,4]")
    for name in ("CartPole-v1", "Pendulum-v1"):
        assert make(name, wrappers=[wrapper]).restore_tier == "exact"


def test_it_is_among_the_wrappers_by_name() -> None:
    wrapper = resolve_wrapper('injected-faults:faults=["delay","noise"],pause=[5,9],scale=[1,1,8]')
    env = make_single("Pendulum-v1", [wrapper])
    assert event_classes_of(env) == ("background", "delay", "noise")
    assert env.spec is not None
    again = gym.make(env.spec)
    assert event_classes_of(again) == ("background", "delay", "noise")
