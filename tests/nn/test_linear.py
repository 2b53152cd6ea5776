import pytest

from rlkit.errors import UsageError
from rlkit.nn import linear


def test_the_backend_is_measured_once_and_can_be_forced():
    chosen = linear.matmul_backend()
    assert chosen in ("mkl", "onednn", "onednn+openblas")
    linear.set_matmul_backend("mkl")
    assert linear.matmul_backend() == "mkl"
    linear.set_matmul_backend(chosen)
    assert linear.matmul_backend() == chosen


def test_an_unknown_backend_is_refused():
    with pytest.raises(UsageError, match=r"'blas', allowed: mkl, onednn, onednn\+openblas"):
        linear.set_matmul_backend("blas")


def test_both_backends_are_timed():
    if not linear.onednn_works():
        pytest.skip("this torch build has no oneDNN linear")
    assert all(0 < seconds < 1 for seconds in linear.layer_seconds(repetitions=2).values())


@pytest.mark.parametrize(
    ("seconds", "kernels", "backend"),
    [
        ({"mkl": 1.2, "onednn": 1.0}, "SkylakeX", "mkl"),
        ({"mkl": 1.3, "onednn": 1.0}, "SkylakeX", "onednn+openblas"),
        ({"mkl": 1.3, "onednn": 1.0}, "Haswell", "onednn"),
        ({"mkl": 1.3, "onednn": 1.0}, None, "onednn"),
    ],
)
def test_openblas_helps_only_where_onednn_wins_and_its_kernels_are_wide(monkeypatch, seconds, kernels, backend):
    monkeypatch.setattr(linear, "onednn_works", lambda: True)
    monkeypatch.setattr(linear, "layer_seconds", lambda: seconds)
    monkeypatch.setattr(linear, "numpy_kernels", lambda: kernels)
    assert linear.probe() == backend


def test_the_kernels_are_those_of_numpys_own_library(monkeypatch):
    scipys = {"filepath": "/lib/scipy.libs/libopenblas.so", "architecture": "Barcelona"}
    own = {"filepath": "/lib/numpy.libs/libopenblas.so", "architecture": "SkylakeX"}
    monkeypatch.setattr(linear, "threadpool_info", lambda: [{"filepath": "/lib/libgomp.so"}, scipys, own])
    assert linear.numpy_kernels() == "SkylakeX"
    monkeypatch.setattr(linear, "threadpool_info", lambda: [scipys])
    assert linear.numpy_kernels() is None
