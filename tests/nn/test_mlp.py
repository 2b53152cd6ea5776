import copy

import numpy as np
import pytest
import torch
from torch import nn

from rlkit.errors import UsageError
from rlkit.nn import linear, numpy_mlp
from rlkit.nn.mlp import MLP


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(net, dtype=torch.float32):
    """The same network as an ordinary Sequential."""
    layers = []
    for weight, bias in net.layer_views():
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype)
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers += [layer, nn.Tanh() if net.activation == "tanh" else nn.ReLU()]
    ends = {"tanh": nn.Tanh(), "relu": nn.ReLU(), "linear": nn.Identity()}
    layers[-1] = ends[net.output]
    return nn.Sequential(*layers)


@pytest.fixture(params=["mkl", "onednn", "openblas"])
def backend(request):
    if request.param == "onednn" and not linear.onednn_works():
        pytest.skip("this torch build has no oneDNN linear")
    before = linear.matmul_backend()
    linear.set_matmul_backend(request.param)
    yield request.param
    linear.set_matmul_backend(before)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("output", ["linear", "tanh", "relu"])
@pytest.mark.parametrize("widths", [(5, (256, 256), 1), (17, (64, 128), 6), (3, (), 2), (100, (80,), 70)])
def test_outputs_and_gradients_equal_those_of_a_sequential(backend, activation, output, widths):
    net = MLP(*widths, activation=activation, output=output, generator=generator())
    same = plain(net)
    x = torch.randn(128, widths[0], generator=generator(1))
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, right = net(mine), same(theirs)
    torch.testing.assert_close(y, right, atol=1e-6, rtol=1e-5)
    weights = torch.randn(y.shape, generator=generator(2))
    (y * weights).mean().backward()
    (right * weights).mean().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-6, rtol=1e-5)
    flat = torch.cat([parameter.grad.reshape(-1) for parameter in same.parameters()])
    torch.testing.assert_close(net.flat.grad, flat, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("output", ["linear", "tanh", "relu"])
def test_gradients_pass_gradcheck_in_float64(activation, output):
    net = MLP(3, (7, 5), 2, activation=activation, output=output, generator=generator()).double()
    x = torch.randn(4, 3, generator=generator(1), dtype=torch.float64, requires_grad=True)
    # gradcheck changes the weights in place, and `net` reads them there
    assert torch.autograd.gradcheck(lambda x, flat: net(x), (x, net.flat))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("output", ["linear", "tanh", "relu"])
@pytest.mark.parametrize("inference", [False, True])
def test_a_trace_gives_the_same_numbers_as_autograd(backend, activation, output, inference):
    net = MLP(5, (256, 128), 3, activation=activation, output=output, generator=generator())
    x = torch.randn(64, 5, generator=generator(1), requires_grad=True)
    gradient = torch.randn(64, 3, generator=generator(2))
    y = net(x)
    by_x, by_weights = torch.autograd.grad(y, (x, net.flat), gradient)
    with torch.inference_mode(inference):
        trace = net.trace(x.detach())
        assert torch.equal(trace.output, y)
        assert torch.equal(trace.weight_gradient(gradient), by_weights)
        assert torch.equal(trace.input_gradient(gradient), by_x)
        torch.testing.assert_close(trace.input_gradient(gradient, 3), by_x[:, 3:], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_what_is_not_a_number_is_not_hidden(backend, activation):
    if backend == "onednn":
        pytest.skip("oneDNN's ReLU makes zero of NaN")
    net = MLP(5, (96, 80), 3, activation=activation, generator=generator())
    x = torch.randn(70, 5, generator=generator(1))
    x[7, 2] = torch.nan
    with torch.inference_mode():
        trace = net.trace(x)
        assert trace.output[7].isnan().all()
        assert not trace.output[8:].isnan().any()
        assert trace.weight_gradient(torch.ones(70, 3)).isnan().any()
        assert trace.input_gradient(torch.ones(70, 3))[7].isnan().all() == (activation == "tanh")


def test_a_gradient_of_another_shape_is_refused(backend):
    net = MLP(5, (96,), 3, generator=generator())
    with torch.inference_mode():
        trace = net.trace(torch.randn(4, 5, generator=generator(1)))
        for shape in ((400, 3), (4, 1), (3,)):
            with pytest.raises(UsageError, match=r"the gradient has shape .* the output \(4, 3\)"):
                trace.input_gradient(torch.ones(shape))
            with pytest.raises(UsageError, match=r"the gradient has shape .* the output \(4, 3\)"):
                trace.weight_gradient(torch.ones(shape))
        with pytest.raises(UsageError, match=r"out has shape \(100,\)"):
            trace.weight_gradient(torch.ones(4, 3), out=torch.zeros(100))


@pytest.mark.parametrize("rows", [1, 2, 70])
@pytest.mark.parametrize("layout", ["columns", "strided", "expanded"])
def test_inputs_and_gradients_may_lie_in_memory_as_they_like(backend, rows, layout):
    net = MLP(5, (96, 80), 3, generator=generator())

    def laid_out(values):
        if layout == "columns":
            return values.t().contiguous().t()
        if layout == "strided":
            return torch.stack([values, values], dim=2).flatten(1)[:, ::2]
        return values[:1].expand(rows, -1)

    x = laid_out(torch.randn(rows, 5, generator=generator(1)))
    gradient = laid_out(torch.randn(rows, 3, generator=generator(2)))
    with torch.inference_mode():
        trace, same = net.trace(x), net.trace(x.contiguous())
        torch.testing.assert_close(trace.output, same.output, atol=1e-6, rtol=1e-5)
        plainly = gradient.contiguous()
        torch.testing.assert_close(trace.weight_gradient(gradient), same.weight_gradient(plainly), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(trace.input_gradient(gradient), same.input_gradient(plainly), atol=1e-6, rtol=1e-5)


def test_an_output_that_is_kept_keeps_nothing_else(backend):
    net = MLP(5, (96, 80), 3, generator=generator())
    with torch.no_grad():
        y = net(torch.ones(70, 5))
    owner = y.numpy()
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert owner.size == 70 * 3


def test_a_network_and_rows_of_other_types_are_refused(backend):
    net = MLP(5, (96,), 3, generator=generator()).double()
    with pytest.raises(RuntimeError, match="dtype"), torch.no_grad():
        net(torch.ones(70, 5))


def test_openblas_takes_both_passes_and_only_where_it_is_chosen(backend, monkeypatch):
    """Else every comparison above would hold too, by another library's products."""
    taken = []
    for name in ("layer_outputs", "backward"):
        work = getattr(numpy_mlp, name)
        monkeypatch.setattr(numpy_mlp, name, lambda *a, _n=name, _w=work, **k: (taken.append(_n), _w(*a, **k))[1])
    net = MLP(5, (96,), 3, generator=generator())
    with torch.inference_mode():
        net.trace(torch.ones(70, 5)).weight_gradient(torch.ones(70, 3))
    net(torch.ones(70, 5)).sum().backward()
    assert taken == (["layer_outputs", "backward"] * 2 if backend == "openblas" else [])


def test_gradients_accumulate_over_two_backward_calls():
    net = MLP(3, (8,), 1, generator=generator())
    x = torch.randn(4, 3, generator=generator(1))
    net(x).sum().backward()
    once = net.flat.grad.clone()
    net(x).sum().backward()
    torch.testing.assert_close(net.flat.grad, 2 * once)


def test_changing_weights_between_forward_and_backward_is_refused():
    net = MLP(3, (8,), 1, generator=generator())
    loss = net(torch.ones(2, 3)).sum()
    net.polyak_(MLP(3, (8,), 1, generator=generator(1)), 0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_second_derivative_is_refused():
    net = MLP(3, (8,), 1, generator=generator())
    x = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(UsageError, match="second derivatives"):
        torch.autograd.grad(net(x).sum(), x, create_graph=True)


def test_leading_axes_are_kept():
    net = MLP(3, (8,), 2, generator=generator())
    x = torch.randn(4, 5, 3, generator=generator(1))
    torch.testing.assert_close(net(x)[2], net(x[2]))


def test_initial_weights_follow_torch_and_final_init():
    net = MLP(100, (400,), 50, generator=generator(), final_init=3e-3)
    (first, first_bias), (last, last_bias) = net.layer_views()
    assert 0.099 < first.abs().max() <= 0.1
    assert first_bias.abs().max() <= 0.1
    assert 0.0029 < last.abs().max() <= 3e-3
    assert last_bias.abs().max() <= 3e-3


def test_orthogonal_layers_keep_lengths_up_to_their_gain():
    net = MLP(64, (64, 32), 8, final_gain=0.01, generator=generator())
    for (weight, bias), gain in zip(net.layer_views(), (2**0.5, 2**0.5, 0.01), strict=True):
        torch.testing.assert_close(weight @ weight.t(), gain**2 * torch.eye(len(weight)), atol=1e-5, rtol=0)
        assert (bias == 0).all()
    again = MLP(64, (64, 32), 8, final_gain=0.01, generator=generator())
    assert torch.equal(net.flat, again.flat)


def test_the_same_generator_gives_the_same_network():
    first, second = (MLP(3, (8,), 2, generator=generator(7)) for _ in range(2))
    assert torch.equal(first.flat, second.flat)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("output", ["linear", "tanh", "relu"])
@pytest.mark.parametrize("rows", [5, 1])
def test_numpy_forward_equals_torch(activation, output, rows):
    net = MLP(3, (64, 64), 2, activation=activation, output=output, generator=generator())
    x = np.random.default_rng(0).standard_normal((rows, 6), dtype=np.float32)[:, ::2]  # not contiguous
    before = x.copy()
    np.testing.assert_allclose(net.numpy_forward(x), net(torch.from_numpy(x)).detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(x, before)


def test_numpy_forward_of_one_row_keeps_to_float64():
    net = MLP(3, (8,), 2, generator=generator()).double()
    x = np.ones((1, 3))
    np.testing.assert_allclose(net.numpy_forward(x), net(torch.ones(1, 3, dtype=torch.float64)).detach(), atol=1e-12)


@pytest.mark.parametrize("change", ["optimiser", "load_state_dict", "assign", "deepcopy", "dtype"])
def test_numpy_forward_follows_the_parameters(change):
    net = MLP(3, (8,), 2, generator=generator())
    other = MLP(3, (8,), 2, generator=generator(1))
    x = np.ones((1, 3), np.float32)
    net.numpy_forward(x)
    if change == "optimiser":
        net(torch.ones(1, 3)).sum().backward()
        torch.optim.SGD(net.parameters(), 0.5).step()
    elif change == "dtype":
        net = net.double().float()
        net.copy_from(other)
    elif change == "deepcopy":
        net = copy.deepcopy(net)
        net.copy_from(other)
    else:
        net.load_state_dict(other.state_dict(), assign=change == "assign")
    np.testing.assert_allclose(net.numpy_forward(x), net(torch.ones(1, 3)).detach().numpy(), atol=1e-6)
    if change != "optimiser":
        assert torch.equal(net.flat, other.flat)


def test_a_deep_copy_shares_nothing():
    net = MLP(3, (8,), 2, generator=generator())
    twin = copy.deepcopy(net)
    twin.layer_views()[0][0].zero_()
    assert net.layer_views()[0][0].abs().min() > 0
    assert twin.flat[:24].abs().max() == 0


def test_layers_load_from_another_network_and_shapes_are_checked():
    net, other = MLP(3, (8,), 2, generator=generator()), MLP(3, (8,), 2, generator=generator(1))
    net.load_layers(other.layer_views())
    assert torch.equal(net.flat, other.flat)
    with pytest.raises(UsageError, match=r"\(9, 3\)"):
        net.load_layers(MLP(3, (9,), 2, generator=generator()).layer_views())


def test_polyak_moves_a_fraction_of_the_way():
    net, other = MLP(3, (8,), 2, generator=generator()), MLP(3, (8,), 2, generator=generator(1))
    expected = 0.75 * net.flat.detach() + 0.25 * other.flat.detach()
    net.polyak_(other, 0.25)
    torch.testing.assert_close(net.flat.detach(), expected)
    with pytest.raises(UsageError, match="widths"):
        net.polyak_(MLP(3, (9,), 2, generator=generator()), 0.25)


def test_impossible_networks_are_refused():
    with pytest.raises(UsageError, match="sigmoid"):
        MLP(3, (8,), 2, output="sigmoid", generator=generator())
    with pytest.raises(UsageError, match="gelu"):
        MLP(3, (8,), 2, activation="gelu", generator=generator())
    with pytest.raises(UsageError, match="not both"):
        MLP(3, (8,), 2, final_init=0.1, final_gain=0.1, generator=generator())
    with pytest.raises(UsageError, match="at least 1"):
        MLP(3, (0,), 2, generator=generator())
