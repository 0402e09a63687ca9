"""Fusion: what the operators leave to torch."""

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import linear, run, same, x_of
from torch import Tensor, nn

from initfast.profiling.profile import profile


def test_gradients_inside_forward():
    layer = linear()

    def function(x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = torch.tanh(layer(x)).sum()
            (g,) = torch.autograd.grad(y, x, create_graph=True)
            (gg,) = torch.autograd.grad(g.square().sum(), x)
            z = layer(x)
            w = F.relu(z * 1, inplace=True)
            (gw,) = torch.autograd.grad(w.sum() + z.sum(), layer.weight)
        return y.detach(), g.detach(), gg, gw

    same(function, x_of(4, 5), ops=["linear + tanh", "linear", "relu"])


def test_a_pending_made_without_gradients_has_none():
    layer = linear()

    def function(x):
        z = layer(x)
        torch.tanh(z)
        with torch.enable_grad():
            assert not (z + 1).requires_grad
            assert not torch.tanh(layer(x).detach()).requires_grad
        return z

    same(function, x_of(4, 5))


def test_autocast():
    layer = linear(64, 64)

    def function(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = torch.tanh(layer(x))
        z = layer(x)
        torch.tanh(z)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            again = z * 1
        return y, again

    report = same(function, x_of(4, 64), ops=["linear + tanh", "linear + tanh"])
    assert [layer.dtype for layer in report] == [torch.bfloat16, torch.float32]


def test_vmap_and_functional_gradients():
    layer = linear()

    def function(x):
        per_row = torch.func.vmap(lambda row: torch.tanh(layer(row)))(x)
        g = torch.func.grad(lambda t: torch.tanh(layer(t)).sum())(x)
        parameters = dict(layer.named_parameters())
        h = torch.func.functional_call(layer, parameters, (x,))
        tangent = torch.func.jvp(lambda t: torch.sigmoid(layer(t)), (x,), (x,))[1]
        return per_row, g, torch.tanh(h), tangent

    same(function, x_of(4, 5))


def test_forward_mode_gradients():
    layer = linear()

    def function(x):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, x)
            y = torch.tanh(layer(dual))
            return tuple(torch.autograd.forward_ad.unpack_dual(y))

    same(function, x_of(4, 5), ops=["linear + tanh"])


def test_dtypes_the_operators_do_not_know():
    def function(z, n):
        return F.linear(z, z).tanh(), torch.relu(n), torch.sigmoid(n)

    z = torch.complex(x_of(3, 3), x_of(3, 3))
    report = same(function, z, torch.arange(4))
    assert [layer.op for layer in report] == ["sigmoid"]


def test_meta_sparse_and_negative_views():
    layer = linear()

    def function(x, sparse):
        meta = torch.tanh(nn.Linear(5, 5, device="meta")(torch.empty(2, 5, device="meta")))
        negative = torch._neg_view(x)
        return (
            tuple(meta.shape),
            torch.tanh(layer(negative)),
            torch.tanh(negative),
            torch.relu(sparse),
        )

    same(function, x_of(4, 5), x_of(4, 5).to_sparse())


class Tagged(Tensor):
    pass


class Refusing(Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return "mine"


def test_other_subclasses_keep_their_own_ways():
    layer = linear()

    def function(x):
        tagged = torch.tanh(layer(x.as_subclass(Tagged)))
        assert type(tagged) is Tagged
        assert F.linear(x.as_subclass(Refusing), layer.weight) == "mine"
        assert torch.tanh(x.as_subclass(Refusing)) == "mine"
        return tagged

    same(function, x_of(4, 5))


def test_inference_mode():
    layer = linear()
    with torch.inference_mode():
        x = x_of(4, 5)

        def function(x):
            y = torch.tanh(layer(x))
            y.mul_(2)
            return F.linear(y, layer.weight.T).relu_()

        expected = function(x)
        actual, report = run(function, x)
    assert torch.allclose(actual, expected, atol=1e-6)
    assert [layer.op for layer in report] == ["linear + tanh", "linear + relu"]
    assert report.layers[1].input.std == pytest.approx(2 * report.layers[0].std, rel=1e-6)


def test_keyword_arguments_of_linear():
    layer = linear()

    def function(x):
        return torch.tanh(F.linear(input=x, weight=layer.weight, bias=None)).sum() + F.linear(
            x, layer.weight, bias=layer.bias
        )

    same(function, x_of(4, 5), ops=["linear + tanh", "linear"])


def test_shapes_that_linear_allows():
    weight = x_of(3, 5)
    for x in (x_of(5), x_of(0, 5), x_of(2, 0, 5), x_of(2, 3, 4, 5), x_of(5, 4).T):
        same(lambda x: torch.tanh(F.linear(x, weight)), x, ops=["linear + tanh"])
    same(lambda x: torch.tanh(F.linear(x, weight[0])), x_of(4, 5), ops=["linear + tanh"])
    same(lambda x: torch.tanh(F.linear(x, weight, torch.ones(()))), x_of(4, 5))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", [None, torch.sum])
def test_a_trace_inside_the_forward(loss):
    class Traced(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.pairs = linear(5, 5), nn.Sequential(linear(5, 5), nn.Tanh())
            self.norm = nn.LayerNorm(5)

        def forward(self, x):
            z = self.before(x)
            traced = torch.jit.trace(nn.Sequential(self.pairs, self.norm), x)
            self.output = traced(z), self.norm(self.pairs(z))
            return self.output[0]

    net = Traced()
    profile(net, x_of(4, 5), loss=loss)
    torch.testing.assert_close(*net.output)
