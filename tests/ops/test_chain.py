"""linear_act_chain: the same bits as linear_act after linear_act, in one call."""

import pytest
import torch
from cases.operators import DTYPES, layers
from torch import nn

from initfast.ops.schemas import LIBRARY
from initfast.profiling.profile import profile

NATIVE = LIBRARY.backend == "native"

OPS = torch.ops.initfast


def one_by_one(x, weights, biases, acts, alphas, betas):
    rows, live, units = [], [], []
    for layer in zip(weights, biases, acts, alphas, betas, strict=True):
        x, _, moments, is_live = OPS.linear_act(x, *layer, False)
        rows.append(moments)
        live.append(is_live)
        units.append(OPS.unit_moments(x, -1, False)[1].flatten())
    return x, torch.stack(rows), torch.cat(live), torch.cat(units)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("leading", [(), (1,), (3, 5), (0,), (65,), (512,), (600,)], ids=str)
def test_same_bits_as_one_by_one(leading, dtype):
    widths = [33, 64, 1, 65, 130, 7] * 4
    chain = layers(widths, dtype)
    x = torch.randn(*leading, widths[0]).to(dtype)
    for got, expected in zip(OPS.linear_act_chain(x, *chain), one_by_one(x, *chain), strict=True):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        assert torch.equal(got.nan_to_num(7.0), expected.nan_to_num(7.0))


def test_layers_without_units_and_layouts_of_every_operand():
    weights, biases, *calls = layers([12, 20, 0, 4, 9])
    weights[0] = torch.randn(12, 20).t()
    weights[3] = torch.randn(18, 8)[::2, ::2]
    x = torch.randn(12, 6, 3).transpose(0, 2)
    expected = one_by_one(x, weights, biases, *calls)
    for got, wanted in zip(OPS.linear_act_chain(x, weights, biases, *calls), expected, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.skipif(not NATIVE, reason="plain PyTorch's own sums depend on its threads")
def test_same_bits_at_any_number_of_threads():
    """Equal layers, large enough for threads, take turns in two pieces of memory."""
    chain = layers([256] * 9 + [192] * 4)
    x = torch.randn(70, 256)
    expected = one_by_one(x, *chain)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            for _ in range(3):
                results = OPS.linear_act_chain(x, *chain)
                assert all(map(torch.equal, results, expected)), count
    finally:
        torch.set_num_threads(threads)


def test_opcheck():
    torch.library.opcheck(OPS.linear_act_chain.default, (torch.randn(3, 8), *layers([8, 9, 5])))


def test_refuses():
    x, chain = torch.randn(3, 8), layers([8, 9, 5])
    with pytest.raises(RuntimeError, match="2 weights, 1 biases, 2 activations"):
        OPS.linear_act_chain(x, chain[0], chain[1][:1], *chain[2:])
    with pytest.raises(RuntimeError, match="expected as many of each, and at least one"):
        OPS.linear_act_chain(x, [], [], [], [], [])
    with pytest.raises(RuntimeError, match="last dimension to be 8"):
        OPS.linear_act_chain(x[:, 1:], *chain)
    with pytest.raises(RuntimeError, match=r"x has shape \[3, 9\] but weight has shape \[5, 8\]"):
        OPS.linear_act_chain(x, [chain[0][0], torch.randn(5, 8)], *chain[1:])
    with pytest.raises(RuntimeError, match="unknown activation 'swish'"):
        OPS.linear_act_chain(x, *chain[:2], ["tanh", "swish"], *chain[3:])
    with pytest.raises(NotImplementedError, match=r"linear_act_chain has no gradient.*linear_act"):
        OPS.linear_act_chain(x.requires_grad_(), *chain)[0].sum().backward()


@pytest.mark.parametrize("stop", [False, True])
def test_a_sequential_reports_what_its_modules_called_one_by_one_do(stop):
    modules = []
    for width in (20, 30, 7):
        modules += [nn.Linear(20 if not modules else modules[-2].out_features, width), nn.ReLU()]
    net, x = nn.Sequential(*modules, nn.Linear(7, 3)), torch.randn(5, 20)

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = net

        def forward(self, x):
            for module in self.layers:
                x = module(x)
            return x

    ours = profile(net, x, stop_at_nonfinite=stop)
    theirs = profile(Loop(), x, stop_at_nonfinite=stop)
    assert len(ours) == len(theirs) == 4
    for a, b in zip(ours, theirs, strict=True):
        one, other = a.to_dict(), b.to_dict()
        for path in ("name", "parameter"):
            assert other.pop(path) == f"layers.{one.pop(path)}"
        one["also"] = [f"layers.{name}" if name else name for name in one["also"]]
        kinds = one["also_types"]  # the net itself is of another type
        one["also_types"] = ["Loop" if kind == "Sequential" else kind for kind in kinds]
        one["bases"] = ["" if base == "Sequential" else base for base in one["bases"]]
        assert one == other


def test_stop_at_nonfinite_ends_within_a_chain():
    net = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(6, 6), nn.Tanh())])
    with torch.no_grad():
        net[4].weight[0, 0] = torch.inf
    report = profile(net, torch.randn(3, 6), stop_at_nonfinite=True)
    assert [layer.name for layer in report] == ["0", "2", "4"]
    assert report.first_nonfinite.name == "4"
