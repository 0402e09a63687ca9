"""Where the first non-finite value comes from."""

import pytest
import torch
from cases.any_net import Swallowing
from cases.profiles import batch
from torch import nn

from initfast.profiling.profile import profile


def deep_half():
    """Doubles until float16 ends, at 65504."""
    net = nn.Sequential(*[nn.Linear(16, 16, bias=False) for _ in range(30)]).half()
    with torch.no_grad():
        for linear in net:
            linear.weight.copy_(2 * torch.eye(16))
    return net, torch.ones(4, 16, dtype=torch.float16)


@pytest.mark.parametrize("stop", [False, True])
def test_float16_overflows_at_65504(stop):
    net, x = deep_half()
    report = profile(Swallowing(net), x, stop_at_nonfinite=stop)
    first = report.first_nonfinite
    assert first.name == "inner.15" and first.input.max == 2**15 and first.weight.std > 0
    assert "of 'inner.15' (linear); input 3.277e+04 to 3.277e+04; weight 0 to 2" in report.origin
    assert len(report) == (16 if stop else 30) and "already" not in report.origin


class Dividing(nn.Module):
    """Plain code between two layers makes the first NaN."""

    def __init__(self, hide):
        super().__init__()
        self.before, self.after = nn.LayerNorm(4), nn.Linear(4, 4)
        self.hide = hide

    def forward(self, x):
        y = self.before(x)
        if self.hide:  # infinities that a mask means
            y = y + torch.softmax(torch.full((4, 4), -torch.inf).triu(1) + y[0], -1)
        y = y - y
        return self.after(y / y.sum())


@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.parametrize("stop", [False, True])
def test_plain_code_between_layers_is_blamed(stop, hide):
    net = nn.Sequential(nn.Linear(4, 4), Swallowing(Dividing(hide)))
    report = profile(net, batch(4, 4), stop_at_nonfinite=stop)
    plain = ["linear", "LayerNorm", *(["softmax", "add"] if hide else []), "linear", "Dividing"]
    assert [layer.op for layer in report] == (
        [*plain[:-2], "div", "linear"] if stop else [*plain[:-1]]
    )
    first = report.first_nonfinite
    if stop:
        assert (first.name, first.op) == ("1.inner", "div")
        assert len(first.inputs) == 2 and first.input.max == first.further_inputs[0].max == 0
        assert report.layers[-1].name == "1.inner.after" and "already" not in report.origin
    else:
        assert first.name == "1.inner.after" and first.input.nonfinite == 16
        assert "plain code made them, after '1.inner" in report.origin


def test_a_module_of_plain_code_is_blamed_itself():
    class Exp(nn.Module):
        def forward(self, x):
            return torch.exp(x)

    net = nn.Sequential(nn.LayerNorm(4), Exp(), nn.Linear(4, 4))
    for stop in (False, True):
        report = profile(net, 1e4 * torch.eye(4), stop_at_nonfinite=stop)
        assert report.first_nonfinite is None
    net[0] = nn.Identity()
    for stop in (False, True):
        report = profile(net, 1e4 * torch.eye(4), stop_at_nonfinite=stop)
        assert (report.first_nonfinite.name, report.first_nonfinite.op) == ("1", "Exp")
        assert "input 0 to 1.000e+04." in report.origin


@pytest.mark.parametrize(
    "spoil, words",
    [
        (
            lambda net: net[0].weight[0].fill_(torch.nan),
            "in its parameters already: weight",
        ),
        (lambda net: net[0].bias[0].fill_(torch.inf), "in its parameters already: bias"),
        (lambda net: net[1].running_var.fill_(torch.nan), "already: running_var"),
        (lambda net: net[1].weight.fill_(torch.inf), "already: weight"),
        (lambda net: net[3].weight.fill_(torch.inf), "They were in its"),
    ],
)
def test_parameters_that_were_bad_before_are_named(spoil, words):
    net = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 2)).eval()
    with torch.no_grad():
        spoil(net)
    report = profile(net, batch(4, 2, 4))
    assert words in report.origin and words in str(report)


def test_what_the_parameters_are_is_copied_once(monkeypatch):
    """On a card each copy is a wait."""
    copies = []
    for name in ("tolist", "item", "__bool__"):
        method = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            *(torch.Tensor, name),
            lambda t, method=method: copies.append(t.shape) or method(t),
        )
    net = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(4, 4), nn.BatchNorm1d(4))]).eval()
    net[2].weight.data[0, 0] = torch.nan
    net[3].running_mean.fill_(torch.nan)
    report = profile(net, batch(3, 4))
    assert len(copies) == 1
    bad = [layer.nonfinite_parameters for layer in report.layers]
    assert bad == [(), (), ("weight",), ("running_mean",), (), (), (), ()]


def test_a_net_input_that_is_bad_is_named():
    x = batch(4, 2)
    x[1] = torch.nan
    report = profile(nn.Linear(2, 2), x)
    assert report.inputs[0].nonfinite == 2
    assert report.origin.endswith("They were in the net's own input already.")


@pytest.mark.parametrize("stop", [False, True])
def test_a_mask_of_infinities_is_not_the_origin(stop):
    class Logged(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x, mask):
            return self.head(torch.log(self.encode(x, src_mask=mask)))

    mask = nn.Transformer.generate_square_subsequent_mask(4)
    report = profile(Logged(), (batch(2, 4, 8), mask), stop_at_nonfinite=stop)
    if stop:
        assert report.first_nonfinite.op == "log" and "already" not in report.origin
    else:
        assert report.first_nonfinite.name == "head"
        assert "plain code made them, after 'encode" in report.origin
        assert "(log) at test_origin.py:" in report.origin
        untraced = profile(Logged(), (batch(2, 4, 8), mask), trace_nonfinite=False)
        assert "plain code made them, or passed on" in untraced.origin


def test_a_net_input_that_is_scaled_and_reshaped_is_named():
    class Pixels(nn.Sequential):
        def forward(self, x):
            return super().forward((x / 255).flatten(1))

    x = batch(4, 2, 3)
    x[1, 0, 0] = torch.inf
    report = profile(Pixels(nn.Linear(6, 2)), x)
    assert report.origin.endswith("They were in the net's own input already.")


def test_the_function_that_makes_a_modules_output_is_named():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return torch.sqrt(self.a(x))

    for net in (Root(), nn.Sequential(Root(), nn.Linear(4, 4))):
        report = profile(net, batch(8, 4), stop_at_nonfinite=True)
        first = report.first_nonfinite
        assert first.op == "sqrt" and first.input.min < 0
        assert first.input.std == pytest.approx(report.layers[0].std)
        assert "(sqrt)" in report.origin


def test_the_origin_under_autocast():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8))
    with torch.no_grad():
        net[1].weight.fill_(3e38)
    for stop in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            report = profile(Swallowing(net), 1e3 + batch(2, 8), stop_at_nonfinite=stop)
        assert report.first_nonfinite.name == "inner.1"
        assert report.first_nonfinite.dtype is torch.bfloat16 and "already" not in report.origin
