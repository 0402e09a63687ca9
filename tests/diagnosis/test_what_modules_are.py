"""Modules are judged by what they are and did: subclasses, computed weights, names with numbers."""

import torch
import torch.nn.functional as F
from torch import nn

import initfast
from initfast import profile
from initfast.diagnosis import topology


def serious(report):
    return [f for f in report.findings if f.severity != "info"]


class NormAct(nn.BatchNorm2d):
    """A batch norm with an activation, and a forward of its own."""

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        x = F.batch_norm(x, mean, var, self.weight, self.bias, self.training, 0.1, self.eps)
        return F.relu(x)


def test_a_batch_norm_of_ones_own_that_has_seen_no_data_is_told():
    torch.manual_seed(0)
    layers = [m for _ in range(10) for m in (nn.Conv2d(8, 8, 3, padding=1), NormAct(8))]
    net, x = nn.Sequential(*layers), torch.randn(4, 8, 8, 8)
    report = profile(net.eval(), x)
    assert not serious(report)
    assert any("seen no data" in s.reason for s in report.skipped_checks)
    assert report["1"].bases == ("BatchNorm2d",)
    report = profile(net.train(), x)
    assert not any("seen no data" in s.reason for s in report.skipped_checks)


class Scaled(nn.Linear):
    """Weights of N(0, 1), and the output times 1 / √fan_in."""

    def forward(self, x):
        return F.linear(x, 1.0 * self.weight) * self.in_features**-0.5


def test_a_weight_that_is_computed_is_no_parameter_to_fill():
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(3) for m in (Scaled(64, 64), nn.Tanh())])
    for layer in net[::2]:
        nn.init.normal_(layer.weight)
    report = profile(net, torch.randn(64, 64))
    assert not serious(report)
    assert {x.parameter for x in report if x.op == "linear"} == {""}


class Standardised(nn.Conv2d):
    """Its weight is standardised before it is used."""

    def forward(self, x):
        w = self.weight
        w = (w - w.mean()) / (w.std() * w[0].numel() ** 0.5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


def test_nothing_is_said_of_a_convolutions_weight_that_is_not_what_it_uses():
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(4) for m in (Standardised(8, 8, 3), nn.Tanh())])
    for layer in net[::2]:
        nn.init.normal_(layer.weight, std=100.0)
    report = profile(net, torch.randn(2, 8, 20, 20))
    assert not serious(report) and report["0"].weight is None


def roles_of(net, x):
    report = profile(net, x)
    return {tuple(report[i].name for i in role) for role in topology.roles(report.layers)}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(3))

    def forward(self, x):
        x = x + self.parts[0](self.norm1(x)) + self.parts[1](self.norm1(x))
        return x + 0.001 * self.parts[2](self.norm2(x))


def test_parts_of_a_block_are_no_stack():
    torch.manual_seed(0)
    found = roles_of(nn.Sequential(*[Block() for _ in range(3)]), torch.randn(16, 8))
    assert ("0.norm2", "1.norm2", "2.norm2") in found
    assert ("0.parts.2.0", "1.parts.2.0", "2.parts.2.0") in found


def test_blocks_within_stages_are_one_stack():
    torch.manual_seed(0)
    stage = [nn.Sequential(*[nn.Sequential(nn.Linear(8, 8)) for _ in range(2)]) for _ in range(2)]
    found = roles_of(nn.Sequential(*stage), torch.randn(16, 8))
    assert ("0.0.0", "0.1.0", "1.0.0", "1.1.0") in found


def test_findings_of_one_net_agree_on_what_to_draw():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    net.append(nn.Linear(64, 4))
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight.mul_(100)
    report = profile(net, torch.randn(64, 16))
    stds = []
    for finding in serious(report):
        if finding.code:
            exec(finding.code, {"net": net, "report": report, "initfast": initfast})
            stds.append(torch.stack([layer.weight.std() for layer in net[::2]]))
    assert len(stds) > 1
    for std in stds[1:]:
        assert torch.allclose(std, stds[0], rtol=0.2)
