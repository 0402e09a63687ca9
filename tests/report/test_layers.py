"""What the layers of a report tell, and what is refused or fails."""

import pytest
import torch
from cases.profiles import batch
from cases.unchanged import equal, notes, state
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from initfast.profiling.profile import profile


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Linear(4, 4), nn.GELU())
        self.two = nn.Linear(4, 4)

    def forward(self, x):
        x = x + self.one(x)
        return x + self.two(x)


def test_units_are_channels_after_convolutions_and_norms():
    net = nn.Sequential(
        *(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(2)),
        *(nn.LayerNorm(36), nn.ReLU()),
    ).eval()
    with torch.no_grad():
        net[0].bias[2:4] = -100
        net[2].weight[0] = 0
        net[5].bias.fill_(10)
        net[5].bias[7] = -10
    report = profile(net, batch(2, 3, 8, 8))
    assert [layer.op.split(" ")[0] for layer in report] == [
        *("Conv2d", "BatchNorm2d", "Flatten", "LayerNorm")
    ]
    assert [layer.dead_units for layer in report] == [2, 3, None, 1]


@pytest.mark.parametrize(
    "module, x, fans",
    [
        (nn.Conv2d(4, 6, 3, groups=2), batch(1, 4, 5, 5), (18, 27)),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), batch(1, 4, 5), (6, 9)),
        (nn.Conv1d(4, 6, 3), batch(4, 5), (12, 18)),
        (nn.Embedding(7, 5), torch.arange(3), (1, 5)),
        (nn.EmbeddingBag(7, 5), torch.arange(6).view(2, 3), (1, 5)),
        (nn.LayerNorm((5, 5)), batch(2, 5, 5), None),
        (weight_norm(nn.Conv2d(4, 6, 3)), batch(1, 4, 5, 5), (36, 54)),
        (spectral_norm(nn.Conv1d(4, 6, 3)).eval(), batch(2, 4, 5), (12, 18)),
        (weight_norm(nn.Linear(4, 6)), batch(2, 4), (4, 6)),
        (nn.utils.spectral_norm(nn.Conv1d(4, 6, 3)).eval(), batch(2, 4, 5), (12, 18)),
        (nn.LayerNorm(5), batch(2, 5), None),
        (nn.Linear(4, 6), batch(2, 4), (4, 6)),
    ],
)
def test_weights_and_their_fans(module, x, fans):
    report = profile(module, x)
    layer = report.layers[-1]
    assert len(report) == 1  # what computes a weight is no layer
    assert (layer.weight and (layer.weight.fan_in, layer.weight.fan_out)) == fans
    if fans:
        assert layer.weight.std == pytest.approx(module.weight.double().std().item(), rel=1e-6)


def test_what_is_not_measured_is_listed_with_its_reason():
    class Odd(nn.Module):
        def forward(self, x):
            return x > 0, x.argmax(-1), x * 2, torch.complex(x, x), x.to(torch.float8_e4m3fn)

    net = nn.Sequential(Odd())
    report = profile(net, batch(2, 3))
    assert [layer.op for layer in report] == ["Odd[2]"]
    reasons = {item.op: item.reason for item in report.skipped if item.name == "0"}
    assert reasons == {
        "Odd[0]": "torch.bool",
        "Odd[1]": "torch.int64",
        "Odd[3]": "torch.complex64",
        "Odd[4]": "torch.float8_e4m3fn",
    }
    assert "Not measured: Odd[0] at '0' (torch.bool) and" in str(report)
    scripted = nn.Sequential(torch.jit.script(nn.Tanh()))
    assert "scripted" in profile(scripted, batch(2, 3)).skipped[0].reason


def test_layers_know_the_types_of_their_modules():
    report = profile(nn.Sequential(Residual(), nn.Linear(4, 2)), batch(3, 4))
    assert {layer.type for layer in report.select("0")} == {"Residual"}
    assert [layer.op for layer in report.select(type="Residual")] == ["add", "add"]
    assert report["1"].type == "Linear" and report[""] is report["1"]
    assert report["0.one.1"].op == "linear + gelu"


# ---- nets and inputs that cannot run ----


@pytest.mark.parametrize(
    "net, words",
    [
        (nn.Sequential(nn.LazyLinear(3)), "layer '0' (LazyLinear): its weight is not initialised"),
        (
            nn.Sequential(nn.Tanh(), nn.Linear(2, 2, device="meta")),
            "'1' (Linear): its weight is on",
        ),
        (nn.Linear(2, 2, device="meta"), "'the net' (Linear): its weight is on the meta device"),
    ],
)
def test_a_net_without_values(net, words):
    with pytest.raises(ValueError) as raised:
        profile(net, batch(3, 2))
    assert words in str(raised.value) and "expected" in str(raised.value)
    assert not any(m._forward_hooks for m in net.modules() if "Lazy" not in type(m).__name__)


def failing_nets():
    def bad_hook(module, *args):
        raise RuntimeError("from the user's hook")

    hooked = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(), nn.Linear(3, 3)))
    hooked[1][1].register_forward_hook(bad_hook)
    before = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(), nn.Linear(3, 3)))
    before[1][0].register_forward_pre_hook(bad_hook)
    conv = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(), nn.Conv1d(4, 2, 1)))
    return {
        "forward hook": (hooked, batch(4, 3), ["'1.1'", "user's hook"]),
        "pre-hook": (before, batch(4, 3), ["'1.0'", "user's hook"]),
        "channels": (conv, batch(4, 3, 5), ["'1.1'", "shape [4, 3, 5]", "shape [2, 4, 1]"]),
        "device": (conv, batch(4, 3, 5).to("meta"), ["'0'", "meta", "cpu"]),
    }


@pytest.mark.parametrize("what", failing_nets())
def test_whatever_raises_names_the_layer_and_leaves_the_net_as_it_was(what):
    net, x, words = failing_nets()[what]
    next(net.parameters()).grad = torch.ones(3)
    before = state(net)
    with pytest.raises(Exception) as raised:
        profile(net, x)
    assert equal(before, state(net))
    assert all(word in notes(raised.value) for word in words), notes(raised.value)


@pytest.mark.parametrize(
    "module, arguments, fans",
    [
        (
            nn.LSTM(4, 6, bidirectional=True),
            [(3, 2, 4)],
            {"weight_ih_l0": (4, 24), "weight_hh_l0_reverse": (6, 24)},
        ),
        (
            nn.LSTM(4, 6, proj_size=2),
            [(3, 2, 4)],
            {"weight_hr_l0": (6, 2), "weight_hh_l0": (2, 24)},
        ),
        (nn.GRU(4, 6, 2, bias=False), [(3, 2, 4)], {"weight_ih_l1": (6, 18)}),
        (nn.RNNCell(4, 6), [(3, 4)], {"weight_ih": (4, 6), "weight_hh": (6, 6)}),
        (
            nn.MultiheadAttention(4, 2),
            [(3, 2, 4)] * 3,
            {"in_proj_weight": (4, 12), "out_proj.weight": (4, 4)},
        ),
        (
            nn.MultiheadAttention(4, 2, kdim=6, vdim=2),
            [(3, 2, 4), (3, 2, 6), (3, 2, 2)],
            {"k_proj_weight": (6, 4), "v_proj_weight": (2, 4)},
        ),
    ],
)
def test_each_weight_of_modules_that_have_several(module, arguments, fans):
    arguments = tuple(batch(*shape) for shape in arguments)
    report = profile(module, arguments, loss=lambda output: first(output).square().sum())
    layer = next(layer for layer in report if layer.weights)
    assert layer.weight is None
    matrices = {n for n, p in module.named_parameters() if p.dim() == 2}
    assert set(layer.weights) == set(layer.weight_grads) == matrices >= set(fans)
    for name, expected in fans.items():
        weight = layer.weights[name]
        assert (weight.fan_in, weight.fan_out) == expected
        parameter = module.get_parameter(name)
        assert weight.std == pytest.approx(parameter.double().std().item(), rel=1e-6)
        (grad,) = torch.autograd.grad(first(module(*arguments)).square().sum(), parameter)
        assert layer.weight_grads[name].std == pytest.approx(grad.std().item(), rel=1e-4)
    again = type(layer).from_dict(layer.to_dict())
    assert again.weights == layer.weights and again.weight_grads == layer.weight_grads


def first(output):
    return output[0] if isinstance(output, tuple) else output


def test_a_weight_that_is_computed_has_its_gradient_and_changes_no_buffer():
    net = nn.Sequential(spectral_norm(nn.Conv1d(4, 6, 3)), nn.ReLU())
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    report = profile(net, batch(2, 4, 5), loss=lambda y: y.square().sum())
    assert [layer.op for layer in report] == ["ParametrizedConv1d + relu"]
    assert report.layers[0].weight_grad.std > 0
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())


@pytest.mark.parametrize("training, masked", [(False, True), (False, False), (True, True)])
def test_padding_that_is_measured_is_noted(training, masked):
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    net = nn.TransformerEncoder(layer, 2).train(training)
    mask = torch.tensor([[False] * 4, [False, False, True, True]]) if masked else None
    report = profile(net, {"src": batch(2, 4, 8), "src_key_padding_mask": mask})
    padding = [note for note in report.notes if "padding is measured too" in note]
    fast = [note for note in report.notes if "fast path" in note]
    assert len(padding) == (masked and not training)
    assert len(fast) == (not training)
    assert len(report.notes) == len(padding) + len(fast)


def test_what_has_no_fast_path_is_not_noted():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=False)
    assert not profile(layer.eval(), batch(2, 4, 8)).notes


def test_an_output_that_a_layer_took_before_is_one_all_the_same():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, maps):
            low = maps[0][..., ::2, ::2]
            maps.append(low)
            return self.conv(low), low, maps[0]

    x = torch.randn(2, 3, 8, 8)
    report = profile(Pyramid(), [x])
    assert [layer.op for layer in report] == ["Conv2d", "Pyramid[1]"]
    assert report[1].shape == (2, 3, 4, 4)
