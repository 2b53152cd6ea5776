import time

import numpy as np
import pytest
from test_envs_vector import actions, assert_same_step

from rlkit.envs.make import make
from rlkit.envs.process import ProcessVectorEnv
from rlkit.envs.restore import same
from rlkit.errors import EnvironmentFault, UsageError


def test_process_steps_equal_serial_steps_and_continue_from_a_state(sample_ref):
    serial = make(sample_ref("Walk"), 2)
    process = make(sample_ref("Walk"), 2, vector="process")
    rows = actions(2, 40)
    try:
        assert same(serial.reset(3)[0], process.reset(3)[0])
        for action in rows[:20]:
            assert_same_step(serial.step(action), process.step(action))
        assert process.restore_tier == "exact"
        state = process.get_state()
        expected = [serial.step(action) for action in rows[20:]]
        assert same([process.step(a).obs for a in rows[20:]], [step.obs for step in expected])
        assert process.set_state(state) is None
        for action, step in zip(rows[20:], expected, strict=True):
            again = process.step(action)
            assert_same_step(again, step)
            assert (again.obs is again.next_obs) == (not again.ended.any())
    finally:
        process.close()
        process.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Dies", ["environment 0", "SIGKILL"]),
        ("Hangs", ["environment 0", "within 0.5 seconds"]),
        ("RaisesCustom", ["environment 0", "TwoArgumentError", "traceback of the worker"]),
    ],
)
def test_a_fault_in_a_worker_is_told_and_close_returns(sample_ref, name, words):
    env = make(sample_ref(name), vector="process")
    env.reset(0)
    env.timeout = 0.5
    with pytest.raises(EnvironmentFault) as raised:
        env.step(np.zeros((1, 1), np.float32))
    for word in words:
        assert word in str(raised.value)
    start = time.monotonic()
    env.close()
    assert time.monotonic() - start < 5


def test_a_constructor_that_fails_in_a_worker_tells_the_real_cause(sample_ref):
    with pytest.raises(EnvironmentFault, match="no licence"):
        make(sample_ref("RaisesInInit"), vector="process")


def test_a_factory_that_cannot_be_sent_is_explained(samples):
    with pytest.raises(UsageError, match=r"path/to/file\.py:ClassName"):
        ProcessVectorEnv([lambda: samples.Flat()])


def test_a_wrong_name_is_wrong_usage_also_in_a_worker():
    with pytest.raises(UsageError, match="did you mean 'Pendulum-v1'"):
        make("Pendulun-v1", vector="process")
