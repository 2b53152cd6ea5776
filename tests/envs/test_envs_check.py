import pytest

from rlkit.envs import check
from rlkit.envs.check import check_env
from rlkit.envs.wrapper_names import resolve_wrapper


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(check, "_SPEED_SECONDS", 0.01)


def texts(findings, level):
    return " | ".join(finding.text for finding in findings if finding.level == level)


@pytest.mark.parametrize(
    ("name", "level", "words"),
    [
        ("OldStyle", "error", ["seed and options", "def reset(self, *, seed=None", "def step"]),
        ("FourTuple", "error", ["tuple of 4 values", "def step"]),
        ("ResetWithoutInfo", "error", ["reset returned", "def reset"]),
        ("NoSpaces", "error", ["no observation_space"]),
        ("Raises", "error", ["step 2", "the motor is on fire"]),
        ("RaisesInInit", "error", ["no licence"]),
        ("WrongShape", "error", ["(3,)", "(2,)"]),
        ("WrongDtype", "warning", ["float64", "float32"]),
        ("Outside", "error", ["outside its space"]),
        ("MissingKey", "error", ["'phase'"]),
        ("NotANumber", "error", ["NaN", "[[1]]"]),
        ("VectorReward", "error", ["one number"]),
        ("OneElementReward", "warning", ["return a float"]),
        ("TextTerminated", "error", ["'no'"]),
        ("BothEnds", "info", ["counts that as terminated"]),
        ("Unseeded", "warning", ["same seed", "self.np_random", "restore tier reset"]),
        ("Aliasing", "warning", ["same array"]),
        ("Mutating", "warning", ["changes the action"]),
        ("InfiniteActions", "error", ["infinite bounds"]),
        ("WideActions", "info", ["rescale"]),
        ("TruncationOnly", "info", ["truncation only"]),
        ("Hidden", "warning", ["restore tier reset"]),
        ("Walk", "info", ["restore tier exact", "steps per second"]),
    ],
)
def test_a_fault_is_found_and_explained(sample_ref, name, level, words):
    found = texts(check_env(sample_ref(name)), level)
    for word in words:
        assert word in found


@pytest.mark.parametrize("ref", ["Pendulum-v1", "CartPole-v1", "FrozenLake-v1"])
def test_a_good_environment_has_neither_errors_nor_warnings(ref):
    findings = check_env(ref)
    assert texts(findings, "error") == ""
    assert texts(findings, "warning") == ""


def test_an_environment_without_end_is_a_warning(sample_ref, monkeypatch):
    monkeypatch.setattr(check, "_MAX_STEPS", 500)
    assert "time-limit" in texts(check_env(sample_ref("Endless")), "warning")


def test_two_time_limits_are_a_warning():
    findings = check_env("Pendulum-v1", (resolve_wrapper("time-limit:max_episode_steps=50"),))
    assert "2 time limits" in texts(findings, "warning")


def test_an_unknown_name_is_a_finding_not_an_exception():
    assert "did you mean" in texts(check_env("Pendulun-v1"), "error")
