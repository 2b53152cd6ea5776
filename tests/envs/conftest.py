from pathlib import Path

import pytest

from rlkit.envs.locate import module_from_file

SAMPLES = Path(__file__).with_name("env_samples.py")


@pytest.fixture(scope="session")
def samples():
    """Module of the sample environments, under the name that `rlkit.envs.locate` gives the file."""

    return module_from_file(SAMPLES)


@pytest.fixture(scope="session")
def sample_ref():
    """`path/to/file.py:ClassName` of a sample environment."""
    return lambda name: f"{SAMPLES}:{name}"
