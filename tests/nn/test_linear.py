import pytest

from rlkit.errors import UsageError
from rlkit.nn import linear


def test_the_backend_is_measured_once_and_can_be_forced():
    chosen = linear.matmul_backend()
    assert chosen in ("mkl", "onednn")
    linear.set_matmul_backend("mkl")
    assert linear.matmul_backend() == "mkl"
    linear.set_matmul_backend(chosen)
    assert linear.matmul_backend() == chosen


def test_an_unknown_backend_is_refused():
    with pytest.raises(UsageError, match="'blas', allowed: mkl, onednn"):
        linear.set_matmul_backend("blas")


def test_both_backends_are_timed():
    if not linear.onednn_works():
        pytest.skip("this torch build has no oneDNN linear")
    assert all(0 < seconds < 1 for seconds in linear.layer_seconds(repetitions=2).values())
