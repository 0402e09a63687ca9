"""profile(): the net is left as it was, and errors name the layer."""

import copy

import pytest
import torch
from cases.profiles import WIDTH, Loop, batch, output_of
from cases.unchanged import Stateful, equal, notes, state
from torch import nn

from initfast.profiling.profile import profile

# ---- the net as it was ----


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [None, ValueError("no"), KeyboardInterrupt()])
def test_the_net_is_left_as_it_was(training, fails):
    net, x = Stateful(fails).train(training), batch(8, WIDTH)
    hook = net.last.register_forward_hook(lambda *_: None)
    net.first.weight.grad = torch.ones(WIDTH, WIDTH)
    before, grad_mode = state(net), torch.is_grad_enabled()
    if fails is None:
        profile(net, x)
    else:
        with pytest.raises(type(fails)):
            profile(net, x)
    assert equal(state(net), before)
    assert torch.is_grad_enabled() == grad_mode
    assert torch.overrides._get_current_function_mode() is None
    hook.remove()


def test_train_and_eval_mode_are_honoured():
    net, x = Stateful(), batch(64, WIDTH)
    assert profile(net.train(), x)["norm"].std == pytest.approx(1.0, abs=0.02)
    assert profile(net.eval(), x)["norm"].std < 0.9


def test_users_hooks_run_and_change_outputs():
    net, x = Loop(torch.tanh), batch(3, WIDTH)
    net.linears[1].register_forward_hook(lambda module, args, output: output * 2)
    with torch.no_grad():
        expected = net(x)
    output, report = output_of(net, x)
    torch.testing.assert_close(output, expected)
    assert [layer.op for layer in report][1:4] == ["linear", "hook", "tanh"]


def test_a_graph_made_before_can_still_run_backward():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
    x = batch(8, 4)
    twin = copy.deepcopy(net)
    twin(x).sum().backward()
    y = net(x)
    profile(net, x)
    y.sum().backward()
    for parameter, expected in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad)


def test_an_expanded_buffer_in_training_mode():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("mask", torch.ones(1, 1).expand(4, 4))

        def forward(self, x):
            return self.linear(x) * self.mask

    net = Masked()
    assert profile(net, batch(4, 4)).layers[0].op == "linear"
    assert net.mask.stride() == (0, 0)


class Rope(nn.Module):
    """Keeps a table, as long as the longest input, and notes how long it is."""

    def __init__(self, persistent):
        super().__init__()
        self.cached, self.persistent = 0, persistent
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        if len(x) > self.cached:
            self.cached, self.notes = len(x), "grown"
            table = torch.arange(len(x)).float()[:, None].cos()
            self.register_buffer("cos", table, persistent=self.persistent)
        return self.linear(x) * self.cos[: len(x)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("length", [None, 3])
def test_a_buffer_that_grows_and_the_attribute_that_says_so(training, persistent, length):
    rope = Rope(persistent)
    net, x = nn.Sequential(rope).train(training), batch(8, WIDTH)
    if length is not None:
        net(x[:length])
    before, kept = state(net), dict(vars(rope))
    hidden = set(rope._non_persistent_buffers_set)
    report = profile(net, x)
    assert equal(state(net), before)
    assert vars(rope) == kept and rope._non_persistent_buffers_set == hidden
    assert report["0"].post.mean == pytest.approx(net(x).mean().item(), abs=1e-6)
    assert rope.cached == 8


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_weight_or_bias_that_is_no_parameter(name):
    linear = nn.Linear(4, 4)
    value = getattr(linear, name).detach()
    delattr(linear, name)
    linear.register_buffer(name, value)
    net, x = nn.Sequential(linear, nn.ReLU()), batch(3, 4)
    report = profile(net, x)
    assert report.layers[-1].max == pytest.approx(net(x).max().item(), rel=1e-5)


def test_scripted_modules_run_unmeasured():
    net = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Tanh()), nn.Linear(4, 4))
    assert [layer.name for layer in profile(net, batch(3, 4))] == ["0", "2"]
    profile(torch.jit.script(nn.Linear(4, 4)), batch(2, 4))


# ---- errors ----


@pytest.mark.parametrize(
    "x, words",
    [
        (batch(3, WIDTH + 1), ["[3, 13]", "[..., 12]"]),
        (batch(3, WIDTH).double(), ["torch.float64", "torch.float32"]),
        (torch.ones(3, WIDTH, dtype=torch.long), ["torch.int64", "torch.float32"]),
        (torch.ones(3, WIDTH, device="meta"), ["meta", "cpu"]),
    ],
)
def test_a_wrong_input_names_the_layer_the_value_and_the_expected(x, words):
    net = nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(WIDTH, 4), nn.Tanh()))
    with pytest.raises(Exception) as plain:
        net(x)
    with pytest.raises(type(plain.value)) as raised:
        profile(net, x)
    text = notes(raised.value)
    for word in ["'1.0'", *words]:
        assert word in text
    assert text.count("initfast.profile: raised in layer") == 1
    assert str(plain.value).splitlines()[0] in text


def test_an_error_in_forward_keeps_its_type_and_names_the_module():
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(a, b)

    class Raises(nn.Module):
        def forward(self, x):
            raise Odd(1, "two")

    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Raises()))
    with pytest.raises(Odd) as raised:
        profile(net, batch(2, 4))
    assert raised.value.args[0] == 1
    assert "raised in layer '1.0': in Raises" in notes(raised.value)


def test_what_cannot_be_called():
    with pytest.raises(TypeError, match="net is a Tensor; expected a module or a callable"):
        profile(torch.zeros(3), torch.zeros(3))


def test_an_input_that_fits_no_call_blames_no_layer():
    with pytest.raises(TypeError, match="keywords must be strings") as raised:
        profile(nn.Linear(4, 4), {0: batch(2, 4)})
    assert "raised in" not in notes(raised.value)


def hooked(at, hook, kind=nn.ReLU):
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(3) for m in (nn.Linear(WIDTH, WIDTH), kind())])
    net[at].register_forward_hook(hook)
    return net


def writes(module, args, output):
    with torch.no_grad():
        output.mul_(100)


HOOKS = {
    "returns": lambda module, args, output: 100 * output,
    "returns a new one": lambda module, args, output: 1 + 0 * output,
    "writes": writes,
    "looks": lambda module, args, output: output.std().item() and None,
    "does nothing": lambda module, args, output: None,
}
LOSSES = (None, lambda y: y.square().mean())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("name", HOOKS)
def test_what_a_hook_passes_on_is_measured(name, at, loss):
    if name == "writes" and at % 2 and loss is not None:
        return  # torch's backward of ReLU needs what the hook overwrites
    net, x = hooked(at, HOOKS[name]), batch(16, WIDTH)
    made = {}
    handles = [
        m.register_forward_hook(lambda m, args, y, key=key: made.update({key: y.std().item()}))
        for key, m in net.named_children()
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    report = profile(net, x, loss=loss)
    changes = name not in ("looks", "does nothing")
    assert [layer.name for layer in report if layer.op == "hook"] == [str(at)] * changes
    for key, std in made.items():
        layer = report[key]
        is_fused = layer.name == key and layer.op == "linear + relu"
        assert (layer.pre if is_fused else layer.post).std == pytest.approx(std, rel=1e-4)
    if changes:
        assert report[str(at)].op == "hook"


def test_hooks_of_all_modules_are_seen_too():
    net, x = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()), batch(16, WIDTH)
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, y: y + 1 if isinstance(module, nn.Linear) else None
    )
    try:
        report = profile(net, x)
    finally:
        handle.remove()
    assert [layer.op for layer in report] == ["linear", "hook", "relu"]
    assert report[1].mean == pytest.approx(report[0].mean + 1, rel=1e-5)
