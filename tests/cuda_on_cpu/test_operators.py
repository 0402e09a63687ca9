"""The CUDA operators, from their arguments to their results, without a card.

What they compute is tested by the CPU operators' own tests; see plugin.py.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from cuda_on_cpu.builds import or_skip
from cuda_on_cpu.card import Card

import initfast

ACT = ("tanh", 0.0, 0.0)


@pytest.fixture(scope="module")
def emulated():
    card = or_skip(Card)
    with card.in_place_of_the_cpu():
        yield card


@pytest.fixture(autouse=True)
def card(emulated):
    """A card of compute capability 9.0; no operator leaves a device guard behind."""
    emulated.reset()
    yield emulated
    assert emulated.guards == 0


def calls(dtype=torch.float32):
    """One call of every operator, by name."""
    x, weight = torch.ones(4, 6, dtype=dtype), torch.ones(5, 6, dtype=dtype)
    return {
        "moments": (x,),
        "unit_moments": (x, -1, False),
        "act": (x, *ACT, -1),
        "act_": (x.clone(), *ACT, -1),
        "act_backward": (x, x, *ACT),
        "linear_act": (x, weight, None, *ACT, False),
        "linear_act_chain": (x, [weight], [None], *([each] for each in ACT)),
        "sample_": (x, "uniform", None, 1.0, 0.0, 0.0, 1.0, 1, 0, [6, 1]),
        "zero_rows_": (x, 1, 1, len(x), 0, 0),
    }


# ---- launches ----


@pytest.mark.parametrize("name", calls())
def test_an_operator_is_one_launch(card, name):
    """But a chain has another for each layer's units."""
    card.call(name, *calls()[name])
    assert card.launches == (2 if name == "linear_act_chain" else 1)


@pytest.mark.parametrize("name", calls())
def test_a_failed_launch_is_named(card, name):
    card.reset(failing_launch=0)
    kernel = name.strip("_").removesuffix("_chain")
    message = rf"initfast::{name}: the launch of {kernel}.* failed on cuda:.*: unspecified"
    with pytest.raises(RuntimeError, match=message):
        card.call(name, *calls()[name])
    assert card.last_error == 0  # torch would blame its own next launch


@pytest.mark.parametrize("dims", [(1, 0), (0, 1)])
def test_a_strided_tensor_is_measured_without_a_copy(card, dims):
    x = torch.randn(30, 50).permute(dims)[1:, ::2]
    with torch.profiler.profile() as seen:
        row = card.call("moments", x)
    assert not {event.name for event in seen.events()} & {"aten::empty_like", "aten::copy_"}
    assert row[[0, 6, 7]].tolist() == [x.numel(), x.min(), x.max()]


def test_a_failed_launch_after_the_matrix_product_is_named(card):
    card.reset(failing_launch=1)  # the weight is measured before
    x = torch.ones(100, 6)
    with pytest.raises(RuntimeError, match=r"linear_act: the launch of act after the matrix"):
        card.call("linear_act", x, torch.ones(5, 6), None, *ACT, False)


def test_nothing_is_launched_for_nothing_to_sample(card):
    card.call("sample_", torch.ones(0), "uniform", None, 1.0, 0.0, 0.0, 1.0, 1, 0, [1])
    card.call("zero_rows_", torch.ones(3, 0), 1, 1, 3, 0, 0)
    card.call("zero_rows_", torch.ones(3, 4), 0, 1, 3, 0, 0)
    assert card.launches == 0


@pytest.mark.parametrize(
    ("dtype", "rows", "small"),
    [
        (torch.float32, 32, True),
        (torch.float32, 33, False),
        (torch.bfloat16, 64, True),
        (torch.bfloat16, 65, False),
        (torch.float64, 1, False),
    ],
)
def test_small_batches_have_a_kernel_of_their_own(card, dtype, rows, small):
    """The library's matrix product is a call of aten; our kernel is none."""
    x, weight = torch.ones(rows, 6, dtype=dtype), torch.ones(5, 6, dtype=dtype)
    with torch.profiler.profile() as seen:
        card.call("linear_act", x, weight, None, *ACT, False)
    assert ("aten::linear" not in {event.name for event in seen.events()}) == small
    assert card.launches == (1 if small else 2)


def chained(x, weights, biases, act):
    """linear_act after linear_act, and what a chain returns of all."""
    rows, live, units = [], [], []
    for weight, bias in zip(weights, biases, strict=True):
        x, _, moments, is_live = torch.ops.initfast.linear_act(x, weight, bias, *act, False)
        rows.append(moments)
        live.append(is_live)
        units.append(torch.ops.initfast.unit_moments(x, -1, False)[1].flatten())
    return x, torch.stack(rows), torch.cat(live), torch.cat(units)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rows", [0, 3, 70])
def test_a_chain_is_one_layer_after_another(card, rows, dtype):
    """In one call: of small batches two launches a layer, one of which is of the units."""
    widths = [5, 7, 16, 1, 8, 12]  # the flags of a layer's units lie anywhere
    weights = [torch.randn(m, n).to(dtype) for n, m in itertools.pairwise(widths)]
    biases = [torch.randn(len(w)).to(dtype) if i % 2 else None for i, w in enumerate(weights)]
    x = torch.randn(rows, 5).to(dtype)
    acts = [[each] * len(weights) for each in ("relu", 0.0, 0.0)]
    results = card.call("linear_act_chain", x, weights, biases, *acts)
    small = 0 < rows <= 32 and dtype != torch.float64
    assert card.launches == len(weights) * ((1 if small else 2) + (rows > 0))
    for got, expected in zip(results, chained(x, weights, biases, ("relu", 0.0, 0.0)), strict=True):
        assert torch.equal(got, expected)


def backward_call(dtype=torch.float32):
    """The way back through two layers, of which the first's weight gradient is only measured."""
    x, z, y, grad_y = (torch.ones(4, n, dtype=dtype) for n in (6, 5, 5, 3))
    weights = [torch.ones(5, 6, dtype=dtype), torch.ones(3, 5, dtype=dtype)]
    calls = ["relu"] * 2, [0.0] * 2, [0.0] * 2, [False, True]
    return grad_y, [x, y], weights, [z, grad_y], *calls, False, [1, 2], [True, False]


def test_the_way_back_through_a_chain_is_two_launches_a_layer(card):
    card.call("linear_act_chain_backward", *backward_call())
    assert card.launches == 4


@pytest.mark.parametrize(("failing", "kernel"), [(2, "act_backward"), (3, "moments")])
def test_a_failed_launch_on_the_way_back_is_named(card, failing, kernel):
    card.reset(failing_launch=failing)
    message = rf"initfast::linear_act_chain_backward: the launch of {kernel} failed on cuda:"
    with pytest.raises(RuntimeError, match=message):
        card.call("linear_act_chain_backward", *backward_call())
    assert card.last_error == 0


def test_the_way_back_launches_nothing_after_a_failed_check(card):
    for at in range(4):
        arguments = list(backward_call())
        bad = arguments[at].to("meta") if at == 0 else [t.to("meta") for t in arguments[at]]
        with pytest.raises(RuntimeError, match=r"initfast::linear_act.*expected one device"):
            card.call("linear_act_chain_backward", *arguments[:at], bad, *arguments[at + 1 :])
    card.reset(capability=70)
    with pytest.raises(RuntimeError, match=r"linear_act_chain_backward: cuda:.* expected 7\.5"):
        card.call("linear_act_chain_backward", *backward_call())
    assert card.launches == 0


# ---- in place ----


def views():
    """Tensors of 7 x 12 numbers in memory of 200, by name."""
    lie = {
        "contiguous": ((12, 1), 0),
        "unaligned": ((12, 1), 1),
        "transposed": ((1, 7), 3),
        "with gaps": ((16, 1), 4),
        "strided": ((26, 2), 1),
    }
    memory = torch.arange(200).sub(100).div(40)
    return {name: (memory, strides, offset) for name, (strides, offset) in lie.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", views())
def test_an_activation_in_place_changes_its_tensor_alone(card, name, dtype):
    memory, strides, offset = views()[name]
    memory = memory.to(dtype)
    z = memory.as_strided((7, 12), strides, offset)
    y, expected, live = card.call("act", z, "relu", 0.0, 0.0, 0)
    outside = memory.clone()
    outside.as_strided((7, 12), strides, offset).zero_()
    moments, live_too = card.call("act_", z, "relu", 0.0, 0.0, 0)
    assert torch.equal(z, y) and torch.equal(moments, expected) and torch.equal(live, live_too)
    assert card.launches == 2
    z.zero_()
    assert torch.equal(memory, outside)


# ---- bad input ----


@pytest.mark.parametrize("name", calls())
def test_a_card_that_is_too_old_is_refused(card, name):
    card.reset(capability=70)
    message = rf"initfast::{name}: cuda:.* has compute capability 7\.0; expected 7\.5 or later"
    with pytest.raises(RuntimeError, match=message):
        card.call(name, *calls()[name])
    assert card.launches == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_card_without_tensor_cores_for_16_bits_uses_the_library(card, dtype):
    card.reset(capability=75)
    with torch.profiler.profile() as seen:
        y = card.call("linear_act", *calls(dtype)["linear_act"])[0]
    assert "aten::linear" in {event.name for event in seen.events()}
    assert torch.equal(y, torch.full((4, 5), 6.0).tanh().to(dtype))


@pytest.mark.parametrize("name", calls())
def test_nothing_is_launched_after_a_failed_check(card, name):
    def spoiled(arguments):
        """Each tensor in turn on another device, then all of an unsupported dtype."""
        for i, argument in enumerate(arguments):
            if isinstance(argument, torch.Tensor):
                yield (*arguments[:i], argument.to("meta"), *arguments[i + 1 :])
        yield [a.long() if isinstance(a, torch.Tensor) else a for a in arguments]

    checked = name.removesuffix("_chain")
    for arguments in spoiled(calls()[name]):
        with pytest.raises(RuntimeError, match=rf"initfast::{checked}.*: .*expected"):
            card.call(name, *arguments)
    assert card.launches == 0


@pytest.mark.parametrize("name", calls())
def test_memory_that_runs_out_is_said_and_later_calls_work(card, name):
    """At whichever of an operator's tensors: room for statistics and scratch, or its result."""
    expected = card.call(name, *calls()[name])
    for number in range(card.allocations):
        card.reset(failing_allocation=number)
        with pytest.raises(RuntimeError, match=r"initfast: torch has no memory for .* shape \["):
            card.call(name, *calls()[name])
        assert card.guards == 0 and card.last_error == 0
    card.reset()
    for got, wanted in zip(
        as_tuple(card.call(name, *calls()[name])), as_tuple(expected), strict=True
    ):
        assert torch.equal(got, wanted)


def as_tuple(results):
    """What an operator returns: nothing, a tensor or several."""
    return () if results is None else (results,) if torch.is_tensor(results) else results


@pytest.mark.parametrize("name", calls())
def test_a_destroyed_stream_is_one_error_and_later_calls_work(card, name):
    card.reset(stream_is_destroyed=True)
    message = rf"initfast::{name}: (zeroing memory|the launch of .*) failed on cuda:.*: invalid res"
    with pytest.raises(RuntimeError, match=message):
        card.call(name, *calls()[name])
    assert card.last_error == 0
    card.reset()
    card.call(name, *calls()[name])
    assert card.launches == (2 if name == "linear_act_chain" else 1)  # the units of its layer, too


# ---- profile ----


def test_a_profile_is_the_cpu_s(card):
    torch.manual_seed(0)
    layers = [m for _ in range(5) for m in (torch.nn.Linear(40, 40), torch.nn.GELU())]
    net = torch.nn.Sequential(*layers, torch.nn.LayerNorm(40))
    x = torch.randn(16, 40)
    report = initfast.profile(net, x)
    assert card.launches > 0
    for layer, y in zip(report.layers, outputs(net, x), strict=True):
        assert layer.post.count == y.numel()
        assert layer.post.std == pytest.approx(y.double().std().item(), rel=1e-5)


def outputs(net, x):
    """What each linear layer's activation, and the last module, return."""
    for i, module in enumerate(net):
        x = module(x)
        if i % 2 == 1 or i == len(net) - 1:
            yield x.detach()
