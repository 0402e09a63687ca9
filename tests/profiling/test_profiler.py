"""Profiler: calls merged over a loop, while the net trains as it would without."""

import copy
import pickle

import pytest
import torch
from cases.unchanged import attributes
from ranks import launch
from ranks.batches import assert_profiled, check_ranks, check_sharded
from ranks.merge import BATCH, assert_equal, net, whole_batch
from torch import nn

import initfast


class Mixed(nn.Module):
    """Batch norm, dropout, a convolution, in-place activations, a residual sum, a shared layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.shared = nn.Linear(16, 16)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 3))

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x))).flatten(2)
        x = x + torch.tanh(self.shared(self.drop(torch.tanh(self.shared(x)))))
        return self.head(x.flatten(1))


def images(n=6):
    return torch.randn(n, 8, 2, 4, 4, generator=torch.Generator().manual_seed(3))


def trained(every=None, steps=5):
    """A net after some steps, torch's random state, and the report."""
    torch.manual_seed(0)
    net = Mixed()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    targets = torch.arange(8) % 3

    def train():
        for x in images()[:steps]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), targets).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            outputs.append(net(images()[-1]))
            net.train()
            outputs.append(net(images()[-1]))

    outputs = []
    if every is None:
        train()
        return net, outputs, torch.get_rng_state(), None
    with initfast.Profiler(net, every) as p:
        train()
    return net, outputs, torch.get_rng_state(), p.report()


def test_merged_batches_are_the_report_of_all_in_one():
    model = net()
    with initfast.Profiler(model) as p:
        for x in whole_batch().split(5):
            with torch.no_grad():
                model(x)
        inside = p.report()
    assert_profiled(p.report(), net(), whole_batch())
    assert_equal(inside, p.report())
    assert p.calls == 3
    assert p.report().inputs[0].count == whole_batch().numel()


@pytest.mark.parametrize("every, measured", [(1, 7), (3, 3), (7, 1), (100, 1)])
def test_every_nth_call_is_measured(every, measured):
    model = nn.Linear(6, 3, dtype=torch.float64)
    batches = torch.randn(7, 4, 6, dtype=torch.float64)
    with initfast.Profiler(model, every=every) as p:
        for x in batches:
            model(x)
    report = p.report()
    assert report[0].post.count == measured * 4 * 3
    assert_profiled(report, model, batches[::every].flatten(0, 1))


@pytest.mark.parametrize("every", [1, 2])
def test_training_is_the_same_to_the_last_bit(every):
    plain, plain_outputs, plain_state, _ = trained()
    net, outputs, state, report = trained(every)
    assert plain.state_dict().keys() == net.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name
    for name, value in plain.named_parameters():
        assert torch.equal(value.grad, net.get_parameter(name).grad), name
    assert all(map(torch.equal, outputs, plain_outputs))
    assert torch.equal(state, plain_state)
    assert attributes(net) == attributes(plain)
    assert {layer.name for layer in report} >= {"norm", "shared", "head.1", "head.3"}


def test_the_backwards_of_training_fill_the_gradients():
    """Of equal batches each, so that they are those of the whole batch's loss times the count."""
    model, criterion = net(), nn.CrossEntropyLoss()
    targets = torch.arange(BATCH) % 3
    with initfast.Profiler(model) as p:
        for x, y in zip(whole_batch().split(4), targets.split(4), strict=True):
            assert p.report().layers == [] or p.report()[0].grad is not None
            criterion(model(x), y).backward()
    expected = initfast.profile(net(), whole_batch(), loss=criterion, targets=targets)
    for a, b in zip(p.report(), expected, strict=True):
        grad = b.grad.scaled(3.0)
        assert a.grad.count == grad.count
        assert a.grad.mean == pytest.approx(grad.mean, rel=1e-9, abs=1e-12)
        assert a.grad.std == pytest.approx(grad.std, rel=1e-9)
        assert a.weight_grad is None or a.weight_grad.count == 3 * b.weight_grad.count
    assert p.report()[0].weight_grad.count == 3 * 8 * 6


def test_a_backward_that_has_not_run_leaves_no_gradient():
    model = net()
    with initfast.Profiler(model, every=2) as p:
        losses = [model(x).sum() for x in whole_batch().split(6)]
        assert p.report()[0].grad is None
        losses[1].backward()  # of the call that was not measured
        assert p.report()[0].grad is None and p.report()[0].weight_grad is None
        losses[0].backward()
        assert p.report()[0].grad is not None
    before = p.report()[0].grad
    model(whole_batch()).sum().backward()
    assert p.report()[0].grad == before


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_call_that_raises_is_not_merged(error):
    class Fails(nn.Module):
        fails = False

        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = torch.relu(self.first(x))
            if self.fails:
                raise error
            return self.last(x)

    model, x = Fails(), torch.ones(2, 4)
    before = attributes(model)
    with pytest.raises(type(error)), initfast.Profiler(model) as p:
        model(x)
        model.fails = True
        with pytest.raises(type(error)):
            model(x)
        model.fails = False
        model(x)
        model.fails = True
        model(x)
    del model.fails
    assert attributes(model) == before
    assert [layer.post.count for layer in p.report()] == [16, 16]
    assert p.calls == 4
    model(x)
    assert p.calls == 4
    assert torch.overrides._get_current_function_mode() is None


def test_a_profiler_goes_on_where_it_stopped():
    model, x = nn.Linear(4, 4), torch.ones(2, 4)
    p = initfast.Profiler(model)
    assert len(p.report()) == 0
    for _ in range(2):
        with p:
            model(x)
            with pytest.raises(RuntimeError, match="active already"), p:
                pass
    assert p.report()[0].post.count == 16


def test_a_copy_or_a_saved_net_is_not_watched():
    model, x = net(), whole_batch()
    with initfast.Profiler(model) as p:
        copy.deepcopy(model)(x)
        pickle.loads(pickle.dumps(model))(x)
        assert p.calls == 0
        model[0](x)  # a part is not the net
        assert p.calls == 0


def test_the_users_hooks_run_once_and_the_net_may_call_itself():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x, again=True):
            x = self.layer(x)
            return self(x, again=False) if again else x

    model, seen = Twice(), []
    model.register_forward_hook(lambda *_: seen.append(1))
    with initfast.Profiler(model) as p:
        model(torch.ones(2, 4))
    assert len(seen) == 2 and p.calls == 1
    assert [layer.name for layer in p.report()] == ["layer", "layer"]


def test_what_is_kept_does_not_grow():
    model, x = net(), whole_batch()
    with initfast.Profiler(model) as p:
        sizes = []
        for _ in range(4):
            model(x).sum().backward()
            sizes.append(len(pickle.dumps(p.report())))
    assert max(sizes[1:]) - min(sizes[1:]) < 64
    assert not p._recent


def test_a_profile_within_the_context_is_no_call():
    model, x = net(), whole_batch()
    expected = initfast.profile(model, x)
    with initfast.Profiler(model) as p, torch.no_grad():
        model(x)
        assert initfast.profile(model, x).to_dict() == expected.to_dict()
        initfast.profile(nn.Sequential(model), x)
    assert p.calls == 1
    assert_profiled(p.report(), net(), x)


def test_a_net_and_a_part_of_it_are_measured_at_once():
    model, x = net(), whole_batch()
    with initfast.Profiler(model) as p, initfast.Profiler(model[2]) as q, torch.no_grad():
        model(x)
    assert p.calls == q.calls == 1
    whole, part = p.report()["2"], q.report()[0]
    assert (whole.op, part.op) == ("linear + tanh", "linear")  # the activation is no part of it
    assert part.post == whole.pre


def test_what_cannot_be_profiled():
    with pytest.raises(TypeError, match="net is a function; expected a module"):
        initfast.Profiler(lambda x: x)
    with pytest.raises(TypeError, match=r"every is 1.5; expected a whole number"):
        initfast.Profiler(nn.Tanh(), every=1.5)
    with pytest.raises(ValueError, match="every is 0; expected at least 1"):
        initfast.Profiler(nn.Tanh(), every=0)


def test_ranks_reduce_their_reports(tmp_path):
    launch.run([check_ranks, check_sharded], 2, tmp_path)
