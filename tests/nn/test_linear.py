import math

import pytest
from threadpoolctl import threadpool_limits

from rlkit.assembly import limited_threads
from rlkit.errors import UsageError
from rlkit.nn import linear


def test_the_backend_is_measured_once_and_can_be_forced():
    chosen = linear.matmul_backend()
    assert chosen in ("mkl", "onednn", "openblas")
    linear.set_matmul_backend("mkl")
    assert linear.matmul_backend() == "mkl"
    linear.set_matmul_backend(chosen)
    assert linear.matmul_backend() == chosen


def test_an_unknown_backend_is_refused():
    with pytest.raises(UsageError, match=r"'blas', allowed: mkl, onednn, openblas"):
        linear.set_matmul_backend("blas")


def test_every_backend_is_timed():
    seconds = linear.layer_seconds(repetitions=2)
    assert set(seconds) == {"mkl", "onednn", "openblas"}
    assert all(0 < value < 1 for name, value in seconds.items() if name != "onednn" or linear.onednn_works())


@pytest.mark.parametrize(
    ("seconds", "backend"),
    [
        ({"mkl": 1.2, "onednn": 1.0, "openblas": 1.0}, "mkl"),
        ({"mkl": 1.0, "onednn": 2.0, "openblas": 2.0}, "mkl"),
        ({"mkl": 1.3, "onednn": 1.0, "openblas": 1.2}, "openblas"),
        ({"mkl": 1.3, "onednn": 1.0, "openblas": 1.3}, "onednn"),
        ({"mkl": 1.3, "onednn": math.inf, "openblas": 1.0}, "openblas"),
        ({"mkl": 1.3, "onednn": math.inf, "openblas": 1.3}, "mkl"),
    ],
)
def test_another_library_is_chosen_only_where_it_is_clearly_faster(monkeypatch, seconds, backend):
    monkeypatch.setattr(linear, "layer_seconds", lambda: dict(seconds))
    with threadpool_limits(1):
        assert linear.probe() == backend


@pytest.mark.parametrize(
    ("pools", "backend"),
    [
        ([{"user_api": "blas", "num_threads": 2}], "onednn"),
        ([{"user_api": "openmp", "num_threads": 2}, {"user_api": "blas", "num_threads": 1}], "openblas"),
        ([], "openblas"),  # a BLAS that threadpoolctl does not know
    ],
)
def test_openblas_is_not_chosen_for_several_threads(monkeypatch, pools, backend):
    monkeypatch.setattr(linear, "layer_seconds", lambda: {"mkl": 2.0, "onednn": 1.5, "openblas": 1.0})
    monkeypatch.setattr(linear, "threadpool_info", lambda: pools)
    assert linear.probe() == backend


def test_another_number_of_threads_has_a_choice_of_its_own(monkeypatch):
    monkeypatch.setattr(linear, "_chosen", {True: "openblas"})
    monkeypatch.setattr(linear, "probe", lambda: "mkl")
    with limited_threads(2):
        assert linear.matmul_backend() == "mkl"
    with limited_threads(1):
        assert linear.matmul_backend() == "openblas"
