"""What is said of layers without a gradient: ways that open in training, and ways that are cut."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initfast import profile

WIDTH = 16


class Block(nn.Module):
    """A branch a, b on a stream, by a function of the block and its input."""

    def __init__(self, function, gates=1):
        super().__init__()
        self.a, self.b, self.aux = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.g = nn.ParameterList(torch.zeros(1) for _ in range(gates))
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def found(function, change=lambda block: None, blocks=1, gates=1):
    torch.manual_seed(0)
    made = [Block(function, gates) for _ in range(blocks)]
    for block in made:
        change(block)
    net = made[0] if blocks == 1 else nn.Sequential(*made)
    report = profile(net, torch.randn(32, WIDTH), loss=lambda y: y.square().mean())
    return [f for f in report.findings if f.rule == "no_gradient"]


def low_rank(block):
    nn.init.zeros_(block.b.weight)


def low_rank_on_frozen(block):
    low_rank(block)
    block.aux.requires_grad_(False)


GATED = {
    "rezero": (lambda s, x: x + s.g[0] * F.relu(s.a(x)), lambda block: None),
    "flamingo": (lambda s, x: x + torch.tanh(s.g[0]) * s.b(F.gelu(s.a(x))), lambda block: None),
    "lora": (lambda s, x: F.relu(s.aux(x) + s.b(s.a(x))), low_rank),
    "lora on frozen": (lambda s, x: F.relu(s.aux(x) + s.b(s.a(x))), low_rank_on_frozen),
}


@pytest.mark.parametrize("name", GATED)
def test_a_branch_that_a_zero_parameter_holds_shut_will_open(name):
    assert not found(*GATED[name], blocks=3)


def test_two_zeros_in_a_row_never_open_and_a_slope_of_zero_is_still_told():
    (twice,) = found(lambda s, x: x + s.g[1] * (s.g[0] * s.a(x)), gates=2)
    (flat,) = found(lambda s, x: x + s.g[0] * s.b(x) + s.a(x).round())
    assert twice.names[0] == flat.names[0] == "a"
    assert twice.severity == flat.severity == "error"


def without_graph(s, x):
    with torch.no_grad():
        h = s.a(x).relu()
    return s.b(h)


CUT = {
    "detach": lambda s, x: s.b(F.relu(s.a(x)).detach()),
    "detach, then plain code": lambda s, x: s.b(2 * s.a(x).detach()),
    "no_grad": without_graph,
    "numpy": lambda s, x: s.b(torch.from_numpy(s.a(x).detach().numpy())),
    "argmax": lambda s, x: s.b(F.one_hot(s.a(x).argmax(-1), WIDTH).float()),
}


@pytest.mark.parametrize("how", CUT)
def test_a_trunk_that_is_cut_off_is_told_unless_it_is_frozen(how):
    (finding,) = found(CUT[how])
    assert finding.severity == "error" and set(finding.names) == {"a"}
    assert "require" in finding.measured and "before 'b'" in finding.cause
    assert not found(CUT[how], lambda block: block.a.requires_grad_(False))


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: s.b(x),
        lambda s, x: (s.aux(x), s.b(s.a(x)))[1],
        lambda s, x: (h := s.a(x), s.aux(h), s.b(h))[2],
    ],
)
def test_nothing_is_cut_off_that_does_not_run_or_is_not_used(function):
    assert not found(function)
