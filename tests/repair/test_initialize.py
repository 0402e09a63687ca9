"""initialize_: which initialiser each parameter gets, keys by name, and nothing half done."""

import math
import signal

import pytest
import torch
from cases.small_nets import Decoder, ResNet
from torch import nn
from torch.nn.utils import parametrizations

import initfast
from initfast.errors import ArgumentError


def mlp(act, depth=3, width=256):
    return nn.Sequential(
        *[m for _ in range(depth) for m in (nn.Linear(width, width), act())],
        nn.Linear(width, 10),
    )


class Written(nn.Module):
    """Activations are functions, so that only a run shows them."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(256, 256), nn.Linear(256, 256)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


def stds(net, *args, **kwargs):
    done = initfast.initialize_(net, *args, **kwargs)
    return {change.name: change.std for change in done.changes}


@pytest.mark.parametrize(
    ("act", "square"),
    [
        (nn.ReLU, 2.0),
        (nn.Tanh, 1.0),
        (nn.SELU, 1.0),
        (lambda: nn.LeakyReLU(0.5), 1.6),
        (nn.ELU, 1.2451983007**2),
        (nn.GELU, 1.98305825743755),
        (nn.SiLU, 1.98800467826949),
    ],
)
@pytest.mark.parametrize("with_x", [True, False])
def test_weights_by_the_activation_that_follows(act, square, with_x):
    found = stds(mlp(act), torch.randn(8, 256) if with_x else None)
    assert found["0.weight"] == pytest.approx(math.sqrt(square / 256), rel=1e-9)
    assert found["6.weight"] == pytest.approx(1 / 16)


def test_biases_of_the_half_stable_pair():
    net = mlp(nn.GELU)
    found = stds(net, seed=0)
    assert found["0.bias"] == pytest.approx(math.sqrt(0.172922390756067), rel=1e-9)
    assert found["6.bias"] == 0 and (net[6].bias == 0).all()
    without = nn.Sequential(nn.Linear(64, 64, bias=False), nn.GELU())
    assert stds(without)["0.weight"] == pytest.approx(1.5335304412 / 8, rel=1e-9)


def test_what_follows_is_seen_as_the_net_runs():
    assert stds(Written())["a.weight"] == pytest.approx(1 / 16)
    assert stds(Written(), torch.randn(4, 256))["a.weight"] == pytest.approx(math.sqrt(2) / 16)


def test_a_net_that_holds_garbage_is_run_all_the_same():
    net = Written()
    with torch.no_grad():
        net.a.weight.fill_(math.nan)
    assert stds(net, torch.randn(4, 256))["a.weight"] == pytest.approx(math.sqrt(2) / 16)
    assert net.a.weight.isfinite().all()


def test_deep_nets_hold_their_scale():
    for act in (nn.ReLU, nn.Tanh, nn.GELU):
        net, x = mlp(act, depth=30), torch.randn(64, 256)
        initfast.initialize_(net, x, seed=0)
        report = initfast.profile(net, x)
        assert 0.1 < report[29].std < 5, (act, report[29].std)
        assert not [f for f in report.findings if f.severity == "error"]


def test_recurrent_weights_are_orthogonal_gate_by_gate():
    net = nn.LSTM(8, 16, 2)
    initfast.initialize_(net, seed=0)
    for gate in net.weight_hh_l1.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(16), atol=1e-5, rtol=0)
    assert net.bias_ih_l0.tolist() == [0.0] * 16 + [1.0] * 16 + [0.0] * 32
    assert (net.bias_hh_l0 == 0).all()


def test_a_tied_head_has_the_first_name_and_the_scale_of_both():
    net = Decoder(tied=True)
    done = initfast.initialize_(net, seed=0)
    assert "lm_head.weight" not in [change.name for change in done.changes]
    assert net.lm_head.weight is net.tok_embeddings.weight
    assert done.changes[0].std == pytest.approx(1 / 8)


def same(a, b):
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def test_values_follow_from_the_seed_and_the_name_alone():
    a, b, other = Decoder(), Decoder(), Decoder()
    initfast.initialize_(a, seed=3)
    torch.manual_seed(99)
    initfast.initialize_(b, seed=3)
    assert same(a, b)
    initfast.initialize_(other, seed=4)
    assert not torch.equal(a.lm_head.weight, other.lm_head.weight)
    wrapped = torch.compile(Decoder())
    initfast.initialize_(wrapped, seed=3)
    assert same(a, wrapped._orig_mod)
    wrapped = nn.Module()
    wrapped.module = Decoder()
    initfast.initialize_(wrapped, seed=3)
    assert same(a, wrapped.module)


def test_a_part_gets_what_the_whole_gets():
    whole, part = Decoder(), Decoder()
    initfast.initialize_(whole, seed=3)
    before = part.layers[0].attention.q_proj.weight.detach().clone()
    rules = {"layers.1.*": lambda p: None, "*": None}
    initfast.initialize_(part, seed=3, rules=rules)
    assert torch.equal(part.layers[0].attention.q_proj.weight, before)
    order = nn.ModuleDict({"b": nn.Linear(4, 4), "a": nn.Linear(4, 4)})
    turned = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    for net in (order, turned):
        initfast.initialize_(net, seed=1)
    assert torch.equal(order["a"].weight, turned["a"].weight)


def test_without_a_seed_torchs_generator_governs():
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    for net in (a, b):
        torch.manual_seed(7)
        initfast.initialize_(net)
    assert torch.equal(a.weight, b.weight)


def test_rules_by_name_and_type_the_first_wins():
    net = ResNet()
    rules = {
        "blocks.0.*": None,
        "*.bias": nn.init.zeros_,
        nn.Conv2d: lambda w: nn.init.normal_(w, std=0.5),
        "fc.*": initfast.init.ones_,
    }
    kept = net.blocks[0].conv1.weight.detach().clone()
    state = torch.get_rng_state()
    done = initfast.initialize_(net, rules=rules, scheme=None, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(net.blocks[0].conv1.weight, kept)
    assert (net.fc.weight == 1).all() and (net.fc.bias == 0).all()
    assert (net.stem.bias == 0).all() and abs(net.stem.weight.std() - 0.5) < 0.05
    reasons = {left.name: left.reason for left in done.left}
    assert reasons["blocks.0.conv1.weight"] == "rule 'blocks.0.*'"
    assert reasons["blocks.1.norm1.weight"] == "no rule matches it"
    again = ResNet()
    torch.manual_seed(5)
    initfast.initialize_(again, rules=rules, scheme=None, seed=0)
    assert torch.equal(again.stem.weight, net.stem.weight)


def test_parameters_on_the_meta_device_are_made():
    with torch.device("meta"):
        net = Decoder(tied=True)
    real = Decoder(tied=True)
    initfast.initialize_(real, seed=3)
    initfast.initialize_(net, torch.randint(80, (2, 8)), seed=3, device="cpu")
    assert net.lm_head.weight is net.tok_embeddings.weight
    assert same(net, real) is False  # the run shows what the names do not: SiLU after w1
    with torch.device("meta"):
        resnet = ResNet()
    initfast.initialize_(resnet, seed=3, device="cpu")
    assert (resnet.blocks[0].norm1.running_var == 1).all()
    resnet(torch.randn(2, 3, 8, 8))


def test_what_stays_is_listed():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[0].weight.requires_grad_(False)
    net.scale = nn.Parameter(torch.ones(3, 3))
    net.codes = nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False)
    net.none = nn.Parameter(torch.empty(0, 3))
    left = {item.name: item.reason for item in initfast.initialize_(net).left}
    assert left == {
        "scale": "scheme 'auto' says nothing of 'scale' of a Sequential",
        "codes": "it is torch.int8: quantised",
        "none": "it has no elements",
        "0.weight": "it is frozen",
    }


def test_parametrized_weights():
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(256, 256)), nn.ReLU())
    initfast.initialize_(net, seed=0)
    assert abs(net[0].weight.std() - math.sqrt(2) / 16) < 0.002
    hooked = nn.utils.weight_norm(nn.Linear(4, 4))
    left = [item.name for item in initfast.initialize_(hooked).left]
    assert left == ["weight_g", "weight_v"]


def test_a_parametrization_that_takes_no_value_is_named():
    class Square(nn.Module):
        def forward(self, x):
            return x * x

    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    nn.utils.parametrize.register_parametrization(net[1], "weight", Square())
    before = net[0].weight.detach().clone()
    with pytest.raises(ArgumentError, match=r"1\.weight is computed by a parametrization"):
        initfast.initialize_(net)
    assert torch.equal(net[0].weight, before)


@pytest.mark.parametrize(
    ("make", "kwargs", "message"),
    [
        (lambda: nn.ReLU(), {}, "has no parameters"),
        (lambda: nn.Linear(3, 3), {"scheme": "gpt-2"}, "expected None or one of auto, torch"),
        (lambda: nn.Linear(3, 3), {"rules": {"head.*": None}}, "stands for no parameter"),
        (lambda: nn.Linear(3, 3), {"rules": {"*": None, nn.Linear: None}}, "stands for no param"),
        (lambda: nn.LazyLinear(3), {}, "has no shape yet"),
        (lambda: nn.Linear(3, 3, device="meta"), {}, "expected device="),
        (
            lambda: nn.ParameterDict({"a": nn.Parameter(torch.empty(3, device="meta"))}),
            {"device": "cpu"},
            "expected a rule for it",
        ),
    ],
)
def test_bad_input_is_named(make, kwargs, message):
    with pytest.raises(ArgumentError, match=message):
        initfast.initialize_(make(), **kwargs)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [RuntimeError("no"), Stop()])
def test_nothing_is_half_changed_whatever_raises(error):
    def fails(p):
        p.fill_(9)
        raise error

    net = ResNet()
    before = [t.clone() for t in net.state_dict().values()]
    state = torch.get_rng_state()
    with pytest.raises(type(error)):
        initfast.initialize_(net, rules={"fc.weight": fails}, seed=0)
    assert all(map(torch.equal, before, net.state_dict().values()))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.device("meta"):
        empty = Decoder()
    with pytest.raises(type(error)):
        initfast.initialize_(empty, rules={"lm_head.weight": fails}, device="cpu")
    assert all(p.is_meta for p in empty.parameters())


def test_nothing_is_half_changed_by_an_interrupt():
    net = Decoder()
    before = [t.clone() for t in net.state_dict().values()]
    found = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    ended = 0
    try:
        for i in range(1, 12):
            for old, t in zip(before, net.state_dict().values(), strict=True):
                t.copy_(old)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 * i)
                initfast.initialize_(net, seed=0)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                ended += 1
                assert all(map(torch.equal, before, net.state_dict().values()))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, found)
    assert ended


def test_the_result_prints_and_is_a_dict():
    done = initfast.initialize_(Decoder(), seed=0)
    text = str(done)
    assert "layers.*.attention.q_proj.weight (3)  64x64" in text and "scheme auto, seed 0" in text
    assert done.to_dict()["changes"][0]["name"] == "tok_embeddings.weight"
