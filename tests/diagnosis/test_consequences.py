"""What follows from what, and that the findings' codes may run one after the other."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import initfast
from initfast.repair.repairing import score


def square(y):
    return y.square().mean()


def run_codes(net, report):
    for finding in report.findings:
        exec(finding.code, {"net": net, "report": report, "initfast": initfast, "torch": torch})


def stack(wrap, n):
    return nn.Sequential(*[m for _ in range(n) for m in (wrap(nn.Linear(64, 64)), nn.ReLU())])


class Exponential(nn.Module):
    """A scale that is an exponential of what a weight makes, as in a variational autoencoder."""

    def __init__(self):
        super().__init__()
        self.scale, self.inner, self.out = (nn.Linear(32, 32) for _ in range(3))
        nn.init.normal_(self.scale.weight, 0, 8.0)

    def forward(self, x):
        return torch.sigmoid(self.out(F.relu(self.inner(torch.exp(0.5 * self.scale(x))))))


def exponential():
    torch.manual_seed(0)
    return Exponential(), torch.randn(32, 32)


def test_a_large_weight_before_an_exponential_leads_and_its_code_cures():
    net, x = exponential()
    report = initfast.profile(net, x, loss=square)
    first, *others = [f for f in report.findings if f.severity != "info"]
    assert (first.rule, first.names[0]) == ("weight_scale", "scale")
    assert {"explosion", "saturation"} <= {f.rule for f in others if f.follows}
    run_codes(net, report)
    assert score(initfast.profile(net, x, loss=square)) == (0, 0)
    assert net.out.weight.std() > 0.05


def test_a_repair_changes_the_cause_alone():
    net, x = exponential()
    done = initfast.repair_(net, x, loss=square)
    assert done.is_healthy and done.changed[0] == "scale.weight"
    assert not {"out.weight", "inner.weight"} & {*done.changed}


def test_saturation_behind_an_explosion_follows_from_it():
    torch.manual_seed(0)
    net = nn.Sequential(
        *[m for _ in range(4) for m in (nn.Linear(64, 64), nn.ReLU())], nn.Sigmoid()
    )
    for layer in net[:8:2]:
        nn.init.normal_(layer.weight)
    report = initfast.profile(net, torch.randn(32, 64))
    saturated = next(f for f in report.findings if f.rule == "saturation")
    assert report.findings[0].rule == "explosion" and saturated.follows.startswith("explosion")


class Sums(nn.Module):
    """Layers between which plain code sums over neighbours."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64, bias=False) for _ in range(6))
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x, a):
        for layer in self.layers:
            x = F.relu(layer(a @ x))
        return x


def test_the_codes_of_all_findings_do_not_undo_each_other():
    torch.manual_seed(0)
    net, given = Sums(), (torch.randn(200, 64), (torch.rand(200, 200) < 0.15).float())
    report = initfast.profile(net, given, loss=square)
    assert next(f for f in report.findings if f.rule == "input_scale").follows
    run_codes(net, report)
    assert score(initfast.profile(net, given, loss=square)) == (0, 0)


def test_an_output_that_is_one_number_to_rounding_has_vanished():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32, bias=False), nn.Sigmoid())
    nn.init.normal_(net[2].weight, 0, 1e-24)
    findings = initfast.profile(net, torch.randn(16, 32)).findings
    assert "vanishing" in [f.rule for f in findings if f.severity == "error"]


def test_what_fixes_the_scale_of_a_weight_is_named_and_no_repair_loses_the_signal():
    torch.manual_seed(0)
    net, x = stack(spectral_norm, 20), torch.randn(64, 64)
    done = initfast.repair_(net, x, loss=square)
    assert "spectral norm sets the scale" in done.before.findings[0].advice
    assert done.after[-1].std > 0.1 * done.before[-1].std


def test_code_for_weight_norm_cures():
    torch.manual_seed(0)
    net, x = stack(weight_norm, 10), torch.randn(64, 64)
    for layer in net[::2]:
        layer.parametrizations.weight.original0.data.fill_(8.0)
    report = initfast.profile(net, x)
    assert report.findings[0].code == "initfast.initialize_(net)"
    run_codes(net, report)
    assert score(initfast.profile(net, x)) == (0, 0)


def test_a_tied_embedding_is_named():
    torch.manual_seed(0)
    embedding, head = nn.Embedding(300, 256), nn.Linear(256, 300, bias=False)
    head.weight = embedding.weight
    report = initfast.profile(nn.Sequential(embedding, head), torch.randint(300, (4, 16)))
    assert "embedding '0''s" in report.findings[0].advice
