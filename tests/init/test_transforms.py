"""Initialisers under what looks at operators: compilers, transforms, traces, dispatch modes.

Right is the eager call's numbers, for the same key or state of the generator.
"""

import io
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from initfast import init

DRAWN = {
    "uniform_": (-1.0, 2.0),
    "normal_": (0.5, 0.02),
    "trunc_normal_": (),
    "xavier_uniform_": (),
    "xavier_normal_": (),
    "kaiming_uniform_": (),
    "kaiming_normal_": (),
    "lecun_uniform_": (),
    "lecun_normal_": (),
    "variance_scaling_": (2.0, "fan_avg", "uniform"),
    "orthogonal_": (2,),
    "delta_orthogonal_": (),
    "sparse_": (0.3,),
}
FIXED = {"constant_": (0.5,), "ones_": (), "zeros_": (), "eye_": (), "identity_": (), "dirac_": ()}
EVERY = {**DRAWN, **FIXED}
KEYS = ("default", "generator", "key")
CASES = [(name, "default") for name in FIXED] + [(name, k) for name in DRAWN for k in KEYS]
each_case = pytest.mark.parametrize("name, how", CASES)


def test_every_initialiser_is_here():
    assert set(EVERY) == {name for name in init.__all__ if name.endswith("_")}


class Call:
    """An initialiser with a key, a generator, or torch's default one, that can start again."""

    def __init__(self, name, how="default"):
        self.function, self.arguments, self.how = getattr(init, name), EVERY[name], how
        self.drawn = name in DRAWN and how != "key"
        self.shape = (5, 4, 3) if name in ("dirac_", "delta_orthogonal_") else (5, 4)
        self.generator = torch.Generator()
        self.keywords = {"key": {"key": 7}, "generator": {"generator": self.generator}}.get(how, {})

    def start(self):
        torch.manual_seed(5)
        self.generator.manual_seed(5)

    def blank(self, *batch):
        return torch.full((*batch, *self.shape), 9.0)

    def __call__(self, t):
        return self.function(t, *self.arguments, **self.keywords)

    def of_clone(self, t):
        return self(t.clone())

    def eager(self):
        """What two calls give, one after the other."""
        self.start()
        return self(self.blank()), self(self.blank())


@each_case
def test_compiled_whole(name, how):
    torch._dynamo.reset()
    call = Call(name, how)
    compiled = torch.compile(lambda t: call(t) * 1, fullgraph=True, backend="aot_eager")
    call.start()
    results = compiled(call.blank()), compiled(call.blank())
    for result, expected in zip(results, call.eager(), strict=True):
        assert torch.equal(result, expected)


def test_another_generator_is_drawn_from_by_the_compiled_function():
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda t, g: init.normal_(t, generator=g), fullgraph=True, backend="aot_eager"
    )
    for seed in (1, 2, 3):
        ours, theirs = (torch.Generator().manual_seed(seed) for _ in range(2))
        assert torch.equal(
            compiled(torch.empty(9), ours), init.normal_(torch.empty(9), generator=theirs)
        )
        assert torch.equal(ours.get_state(), theirs.get_state())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_first_use_in_a_process_may_be_compiled(backend):
    """Dynamo in the quantile tables took minutes, and left wrong ones for all later calls."""
    script = f"""
import torch, sys
from initfast import init
fill = lambda t: init.trunc_normal_(init.normal_(t, 0.0, 0.02, key=7) * 1, std=0.1, key=8)
def with_break(t):
    t = t + 0
    torch._dynamo.graph_break()
    return fill(t)
first = torch.compile(with_break, backend={backend!r})(torch.empty(64, 32))
later = init.normal_(torch.empty(64, 32), 0.0, 0.02, key=7)
torch.save([first, later], sys.stdout.buffer)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=300)
    assert run.returncode == 0, run.stderr.decode()

    first, later = torch.load(io.BytesIO(run.stdout))
    assert torch.equal(first, init.trunc_normal_(torch.empty(64, 32), std=0.1, key=8))
    assert torch.equal(later, init.normal_(torch.empty(64, 32), 0.0, 0.02, key=7))


@each_case
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(name, how, mode):
    call = Call(name, how)
    graph = make_fx(lambda t: call.of_clone(t), tracing_mode=mode)(call.blank())
    expected = call.eager()
    call.start()
    for one in expected:
        assert torch.equal(graph(call.blank()), one)


@each_case
def test_functionalize(name, how):
    call = Call(name, how)
    expected, _ = call.eager()
    call.start()
    assert torch.equal(torch.func.functionalize(call.of_clone)(call.blank()), expected)


@each_case
def test_no_tangent_is_left(name, how):
    call = Call(name, how)
    expected, _ = call.eager()
    call.start()
    x = call.blank()
    y, tangent = torch.func.jvp(lambda x: call(x * 1), (x,), (torch.ones_like(x),))
    assert torch.equal(y, expected) and not tangent.any()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        tangent = forward_ad.unpack_dual(call(dual)).tangent
        assert tangent is None or not tangent.any()


@pytest.mark.parametrize("name, how", [case for case in CASES if case[1] != "generator"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_trace_writes_the_draw_down(name, how):
    call = Call(name, how)
    traced = torch.jit.trace(call.of_clone, (call.blank(),), check_trace=False)
    expected = call.eager()
    call.start()
    for one in expected:
        assert torch.equal(traced(call.blank()), one)


@each_case
def test_vmap_for_ensembles(name, how):
    call = Call(name, how)
    expected, _ = call.eager()
    for randomness in ("same", "different"):
        call.start()
        members = torch.func.vmap(call.of_clone, randomness=randomness)(call.blank(3))
        same = randomness == "same" or not call.drawn
        assert torch.equal(members[0], expected)
        assert torch.equal(members[0], members[1]) == torch.equal(members[1], members[2]) == same
    in_place = call.blank(3)
    call.start()
    torch.func.vmap(call, randomness="same")(in_place)
    assert all(torch.equal(member, expected) for member in in_place)
    if call.drawn:
        with pytest.raises(RuntimeError, match="randomness"):
            torch.func.vmap(call.of_clone)(call.blank(3))


def test_vmap_in_vmap():
    def draw(t):
        return init.normal_(t.clone())

    inner = torch.func.vmap(draw, randomness="different")
    w = torch.func.vmap(inner, randomness="same")(torch.empty(2, 3, 4))
    assert torch.equal(w[0], w[1]) and not torch.equal(w[0, 0], w[0, 1])
    inner = torch.func.vmap(draw, randomness="same")
    w = torch.func.vmap(inner, randomness="different")(torch.empty(2, 3, 4))
    assert not torch.equal(w[0], w[1]) and torch.equal(w[0, 0], w[0, 1])


def test_what_is_no_part_of_the_ensemble_cannot_differ_in_it():
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(lambda _: init.normal_(torch.empty(2)), randomness="different")(
            torch.ones(3)
        )


@each_case
def test_fake_tensor_mode_touches_no_data(name, how):
    call = Call(name, how)
    t = call.blank()
    call.start()
    state = torch.get_rng_state()
    with FakeTensorMode(allow_non_fake_inputs=True):
        call(t)
        fake = torch.empty(call.shape)
        assert call(fake) is fake
    assert (t == 9).all() and torch.equal(torch.get_rng_state(), state)


@each_case
def test_errors_are_raised_all_the_same(name, how):
    call = Call(name, how)
    integers = torch.zeros(call.shape, dtype=torch.int64)
    if name in FIXED:
        return
    with pytest.raises(ValueError, match="int64"):
        make_fx(lambda t: call(t))(integers)


def test_a_slice_of_a_whole_is_drawn_by_the_operator_too():
    whole = init.normal_(torch.empty(6, 4), key=3)
    part = torch.ops.initfast.draw(
        torch.tensor(3), torch.empty(2, 3), "normal", [0.0, 1.0], [1, 1], [6, 4]
    )
    assert torch.equal(part, whole[1:3, 1:4])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64], ids=str)
def test_operators_give_every_dtype(dtype):
    drawn = torch.func.functionalize(lambda t: init.normal_(t.clone(), 1.0, 2.0, key=1))(
        torch.zeros(5, 3, dtype=dtype)
    )
    assert torch.equal(drawn, init.normal_(torch.empty(5, 3, dtype=dtype), 1.0, 2.0, key=1))
