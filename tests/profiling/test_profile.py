"""profile(): the same forward, every layer measured."""

import copy
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from cases.profiles import WIDTH, Loop, Returns, batch, close, output_of
from torch import nn

from initfast.profiling.profile import profile

# ---- the styles in which people write nets ----


class Checking(nn.Module):
    """Prints and breaks, as in the classic notebooks."""

    def __init__(self):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(5))

    def forward(self, x):
        for i, linear in enumerate(self.linears):
            x = linear(x)
            x = torch.relu(x)
            print(f"layer {i}: std {x.std()}, mean {x.mean().item():.3f}")
            if torch.isnan(x.std()):
                print(f"NaN at layer {i}")
                break
        return x


def sequential(act):
    return nn.Sequential(*[m for _ in range(5) for m in (nn.Linear(WIDTH, WIDTH), act())])


STYLES = {
    "Sequential": (lambda: sequential(nn.Tanh), "tanh", "{}", 2),
    "Sequential in place": (lambda: sequential(lambda: nn.ReLU(inplace=True)), "relu", "{}", 2),
    "torch.tanh(linear(x))": (lambda: Loop(torch.tanh), "tanh", "linears.{}", 1),
    "F.relu": (lambda: Loop(F.relu), "relu", "linears.{}", 1),
    ".tanh()": (lambda: Loop(lambda z: z.tanh()), "tanh", "linears.{}", 1),
    ".relu_()": (lambda: Loop(lambda z: z.relu_()), "relu", "linears.{}", 1),
    "F.relu in place": (lambda: Loop(lambda z: F.relu(z, inplace=True)), "relu", "linears.{}", 1),
    "module attribute": (lambda: Loop(nn.Sigmoid()), "sigmoid", "linears.{}", 1),
    "prints and breaks": (Checking, "relu", "linears.{}", 1),
}


@pytest.mark.parametrize("style", STYLES)
def test_every_style(style, capsys):
    make, act, name, step = STYLES[style]
    net, x = make(), batch(16, WIDTH)
    with torch.no_grad():
        expected = net(x)
    plain_prints = capsys.readouterr().out
    output, report = output_of(net, x)
    torch.testing.assert_close(output, expected)
    assert capsys.readouterr().out.split("std")[0] == plain_prints.split("std")[0]
    assert [layer.op for layer in report.layers] == [f"linear + {act}"] * 5
    assert [layer.name for layer in report.layers] == [name.format(step * i) for i in range(5)]
    reference = x.double()
    linears = [m for m in net.modules() if isinstance(m, nn.Linear)]
    for layer, linear in zip(report, linears, strict=True):
        weight = linear.weight.detach().double()
        close(layer.input, reference)
        z = reference @ weight.T + linear.bias.detach().double()
        reference = getattr(torch, act)(z)
        close(layer.pre, z)
        close(layer.post, reference)
        assert layer.input_shape == layer.shape == (16, WIDTH)
        assert layer.dtype is torch.float32
        assert layer.weight.std == pytest.approx(weight.std().item(), rel=1e-6)
        assert (layer.weight.fan_in, layer.weight.fan_out) == (WIDTH, WIDTH)
        assert layer.gain == pytest.approx(layer.post.std / layer.input.std)


def test_plain_callables_and_methods():
    first, second = nn.Linear(WIDTH, 5), nn.Linear(5, 3)
    report = profile(lambda x: second(torch.tanh(first(x))).relu() + 1, batch(4, WIDTH))
    assert [(layer.name, layer.op) for layer in report] == [
        ("first", "linear + tanh"),
        ("second", "linear + relu"),
    ]
    net = Loop(torch.tanh)
    net.encode = net.forward
    assert [layer.name for layer in profile(net.encode, batch(4, WIDTH))][:2] == [
        "linears.0",
        "linears.1",
    ]


class Inputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(WIDTH, 4)
        self.b = nn.Linear(WIDTH, 4)

    def forward(self, first, second, *, scale=1.0):
        return torch.tanh(self.a(first)) + scale * self.b(second)


def test_inputs_as_tuple_and_dict():
    net, x = Inputs(), batch(3, WIDTH)
    with torch.no_grad():
        expected = net(x, 2 * x, scale=3.0)
    given_as_dict = {"first": x, "second": 2 * x, "scale": 3.0}
    report = profile(net, given_as_dict)
    assert [(layer.name, layer.op) for layer in report] == [
        ("a", "linear + tanh"),
        ("b", "linear"),
        ("", "Inputs"),
    ]
    close(report[""].post, expected.double())
    assert [layer.op for layer in profile(net, (x, x))] == ["linear + tanh", "linear", "Inputs"]


def test_functional_activation_that_stands_alone_is_named_by_its_module():
    class Inner(nn.Module):
        def forward(self, x):
            return F.relu(x + 1)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(Inner(), nn.Tanh())

        def forward(self, x):
            return self.block(torch.sigmoid(x)).tanh()

    report = profile(Outer(), batch(3, 4))
    assert [(layer.name, layer.op) for layer in report] == [
        ("", "sigmoid"),
        ("block.0", "relu"),
        ("block.1", "tanh"),
        ("", "tanh"),
    ]
    assert report.layers[2].input == report.layers[2].pre
    assert report.layers[1].gain == pytest.approx(report.layers[1].std / report.layers[1].pre.std)


def test_shared_modules_show_each_call():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)
            self.norm = nn.LayerNorm(WIDTH)
            self.twin = nn.Linear(WIDTH, WIDTH)
            self.twin.weight = self.linear.weight

        def forward(self, x):
            for _ in range(3):
                x = self.norm(torch.tanh(self.linear(x)))
            return self.twin(x)

    report = profile(Shared(), batch(8, WIDTH))
    assert [layer.name for layer in report] == ["linear", "norm"] * 3 + ["twin"]
    assert report["linear"] is report.layers[0]
    assert report["linear", 2] is report.layers[4]
    assert report["norm", -1] is report.layers[5]
    assert report["twin"].weight.std == pytest.approx(report["linear"].weight.std, rel=1e-6)


def test_weights_under_other_names():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.w1 = nn.Parameter(torch.randn(5, WIDTH))
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))

        def forward(self, x):
            return self.normed(torch.tanh(F.linear(x, self.w1)))

    report = profile(Own(), batch(3, WIDTH))
    assert [(layer.name, layer.op) for layer in report if "linear" in layer.op] == [
        ("w1", "linear + tanh"),
        ("normed", "linear"),
    ]


# ---- the outputs of other modules ----

Pair = namedtuple("Pair", "left right")


@dataclass
class Output:
    logits: torch.Tensor
    extra: dict


@pytest.mark.parametrize(
    "wrap, ops",
    [
        (lambda x: x * 2, ["Returns"]),
        (lambda x: (x * 2, x + 1), ["Returns[0]", "Returns[1]"]),
        (lambda x: [x * 2, (x > 0), x.long()], ["Returns"]),
        (lambda x: {"a": x * 2, "b": [x + 1]}, ["Returns['a']", "Returns['b'][0]"]),
        (lambda x: Pair(x * 2, x + 1), ["Returns.left", "Returns.right"]),
        (lambda x: Output(x * 2, {"k": x + 1}), ["Returns.logits", "Returns.extra['k']"]),
        (lambda x: OrderedDict(a=x * 2), ["Returns"]),
        (lambda x: x.long(), []),
        (lambda x: None, []),
        (lambda x: x, ["Returns"]),
    ],
)
def test_outputs_of_every_kind(wrap, ops):
    x = batch(3, 4)
    report = profile(Returns(wrap), x)
    assert [layer.op for layer in report] == ops
    if ops and wrap(x) is not x:
        close(report.layers[0].post, 2 * x.double())
        assert report.layers[0].gain == pytest.approx(2.0, rel=1e-6)


def test_an_output_is_measured_once():
    net = nn.Sequential(
        nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)),
        Returns(lambda x: x),
        nn.Identity(),
        nn.Dropout(0.5).eval(),
    )
    report = profile(net, batch(3, WIDTH))
    assert [layer.op for layer in report] == ["linear", "LayerNorm"]


def test_common_modules_are_measured():
    net = nn.Sequential(
        nn.Conv1d(3, 8, 3),
        nn.BatchNorm1d(8),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(32, 10),
        nn.Dropout(0.5),
    )
    x = batch(5, 3, 20)
    report = profile(net, x)
    ops = "Conv1d, BatchNorm1d + relu, AdaptiveAvgPool1d, Flatten, linear, Dropout"
    assert ", ".join(layer.op for layer in report) == ops
    assert [layer.name for layer in report] == ["0", "1", "3", "4", "5", "6"]
    reference, outputs = x.double(), []
    with torch.no_grad():
        for module in copy.deepcopy(net)[:6].double():
            reference = module(reference)
            outputs.append(reference.clone())
    for layer, i in zip(report.layers[:5], (0, 2, 3, 4, 5), strict=True):
        close(layer.post, outputs[i])


def test_embedding_has_no_gain_and_lstm_gives_three():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(10, 6)
            self.lstm = nn.LSTM(6, 4, batch_first=True)

        def forward(self, tokens):
            return self.lstm(self.embedding(tokens))[0]

    report = profile(Words(), torch.arange(6).reshape(2, 3))
    assert report["embedding"].gain is None
    assert report["embedding"].input_shape == (2, 3)
    assert [layer.op for layer in report][:2] == ["Embedding", "LSTM[0]"]
