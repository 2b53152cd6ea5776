import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from rlkit.envs.make import make, make_single
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import EnvironmentFault, MissingExtraError, UsageError


def test_a_gymnasium_id_is_made_with_its_time_limit():
    env = make_single("Pendulum-v1")
    assert isinstance(env, TimeLimit)
    assert make("Pendulum-v1", 2).reset(0)[0].shape == (2, 3)


def test_a_module_before_the_id_is_imported():
    assert make_single("gymnasium.envs.classic_control:Pendulum-v1").spec.id == "Pendulum-v1"


def test_a_file_is_imported_once(samples, sample_ref):
    assert type(make_single(sample_ref("Flat"))) is samples.Flat
    assert type(make_single(sample_ref("Flat"))) is samples.Flat


def test_a_file_is_found_relative_to_the_working_directory(samples, monkeypatch):
    monkeypatch.chdir(samples.__file__.rpartition("/")[0])
    assert type(make_single("env_samples.py:Flat")) is samples.Flat


def test_a_class_and_a_function_are_taken_as_they_are(samples):
    assert type(make_single(samples.Flat)) is samples.Flat
    assert type(make_single(lambda: samples.Flat(3, 4))) is samples.Flat


def test_arguments_reach_the_constructor(sample_ref):
    assert make_single(sample_ref("Flat"), env_kwargs={"longest": 9}).longest == 9
    assert make_single("Pendulum-v1", env_kwargs={"g": 1.5}).unwrapped.g == 1.5


def test_a_vector_environment_is_adapted(samples):
    env = make(SyncVectorEnv([samples.Flat] * 2))
    assert env.num_envs == 2
    with pytest.raises(UsageError, match="has 2"):
        make(SyncVectorEnv([samples.Flat] * 2), num_envs=3)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("Pendulun-v1", "did you mean 'Pendulum-v1'"),
        ("pendulum-v1", "did you mean 'Pendulum-v1'"),
        ("Pendulum-v7", "did you mean 'Pendulum-v1'"),
        ("zzzz", "rlkit list envs"),
        ("no_such_module:Env-v0", "there is no module 'no_such_module'"),
        ("nowhere.py:Env", "there is no file nowhere.py"),
    ],
)
def test_an_unknown_name_is_answered_in_short(ref, words):
    with pytest.raises(UsageError) as raised:
        make(ref)
    assert words in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_missing_class_names_the_nearest_and_those_there(sample_ref):
    with pytest.raises(UsageError, match=r"did you mean 'Flat'.*Walk"):
        make(sample_ref("Flet"))


def test_a_file_without_a_class_lists_its_environments(samples):
    with pytest.raises(UsageError, match=r"env_samples\.py:MyEnv.*Flat"):
        make(samples.__file__)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    for module in [name for name in sys.modules if name.startswith("gymnasium.envs.mujoco")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MissingExtraError, match=r"\.\[mujoco\]"):
        make("HalfCheetah-v5")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import gym\n", "import gymnasium as gym"),
        ("import beside\n", "PYTHONPATH"),
        ("def f(:\n", "line 1"),
        ("1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_explained(tmp_path, source, words):
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "broken.py").write_text(source)
    with pytest.raises(EnvironmentFault) as raised:
        make(f"{tmp_path}/broken.py:Env")
    assert words in str(raised.value)


def test_a_class_that_is_no_environment_is_explained(tmp_path):
    (tmp_path / "thing.py").write_text("class Thing:\n    pass\n")
    with pytest.raises(EnvironmentFault, match=r"not a gymnasium\.Env"):
        make(f"{tmp_path}/thing.py:Thing")


def test_vector_level_wrappers_come_last():
    time_limit, normalize = resolve_wrapper("time-limit:max_episode_steps=5"), resolve_wrapper("normalize-observation")
    assert make("Pendulum-v1", wrappers=[time_limit, normalize]).env.num_envs == 1
    with pytest.raises(UsageError, match="after the other"):
        make("Pendulum-v1", wrappers=[normalize, time_limit])
    with pytest.raises(UsageError, match="use make"):
        make_single("Pendulum-v1", [normalize])


def test_wrong_numbers_and_kinds_are_wrong_usage():
    with pytest.raises(UsageError, match="at least 1"):
        make("Pendulum-v1", 0)
    with pytest.raises(UsageError, match="serial, process"):
        make("Pendulum-v1", vector="threads")


def test_making_changes_no_global_generator():
    before = np.random.get_state()[1].copy()
    make("Pendulum-v1", 2).reset(0)
    assert np.array_equal(before, np.random.get_state()[1])
    assert "Pendulum-v1" in gym.registry
