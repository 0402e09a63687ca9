"""Tensors whose memory was given away, in part or whole: an error at every operator's door."""

import math
import random

import pytest
import torch
from cases.switches import times

from initfast import init, ops

OPS = torch.ops.initfast
TANH = ("tanh", 0.0, 0.0)
TANHS = [[argument] for argument in TANH]
GIVEN_AWAY = "memory.*its storage has"


def robbed(*shape, keep=0):
    """A tensor of which `keep` bytes are left."""
    t = torch.randn(shape)
    t.untyped_storage().resize_(keep)
    return t


def calls(bad):
    """Every operator, with `bad` in the place of one of its arguments after the other."""
    x, w = torch.randn(4, 6), torch.randn(6, 6)
    yield lambda: OPS.moments(bad(4, 6))
    yield lambda: OPS.act(bad(4, 6), *TANH, -1)
    yield lambda: OPS.act_(bad(4, 6), *TANH, -1)
    yield lambda: OPS.act_backward(bad(4, 6), x, *TANH)
    yield lambda: OPS.act_backward(x, bad(4, 6), *TANH)
    for arguments in ((bad(4, 6), w, None), (x, bad(6, 6), None), (x, w, bad(6))):
        yield lambda a=arguments: OPS.linear_act(*a, *TANH, False)
        yield lambda a=arguments: OPS.linear_act_chain(a[0], [a[1]], [a[2]], *TANHS)
    for i in range(4):
        grad_y, inputs, weight, z = [bad(4, 6) if i == j and j != 2 else x for j in range(4)]
        weight = bad(6, 6) if i == 2 else w
        yield lambda a=(grad_y, [inputs], [weight], [z]): OPS.linear_act_chain_backward(
            *a, *TANHS, [False], True, [2], [True]
        )
    yield lambda: ops.sample_(bad(4, 6), "uniform", None, 1.0, 0.0, 0.0, 1.0, 7, 0, (6, 1))
    yield lambda: ops.zero_rows_(bad(4, 6), 2, 7)
    yield lambda: OPS.householder_q_(bad(6, 4))


@pytest.mark.parametrize("keep", [0, 20])
def test_every_operator_refuses_what_has_no_memory(keep):
    for call in calls(lambda *shape: robbed(*shape, keep=keep)):
        with pytest.raises(RuntimeError, match=GIVEN_AWAY):
            call()


FILLED = {"constant_": (0.5,), "sparse_": (0.5,), "dirac_": (), "delta_orthogonal_": ()}


@pytest.mark.parametrize("keep", [0, 20])
@pytest.mark.parametrize("name", [n for n in init.__all__ if n.endswith("_")])
def test_every_initialiser_refuses_what_has_no_memory(name, keep):
    shape = (4, 4, 3) if name in ("dirac_", "delta_orthogonal_") else (4, 4)
    t = torch.nn.Parameter(robbed(*shape, keep=keep))
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match=GIVEN_AWAY):
        getattr(init, name)(t, *FILLED.get(name, ()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", range(times(20)))
def test_any_view_is_read_while_its_storage_holds_it_and_refused_when_it_does_not(seed):
    rng = random.Random(seed)
    shape = [rng.choice((1, 2, 3, 5)) for _ in range(rng.randint(0, 4))]
    order, strides, step = rng.sample(range(len(shape)), len(shape)), [0] * len(shape), 1
    for d in order:
        strides[d] = step * rng.choice((1, 1, 2))
        step = strides[d] * shape[d]
    offset = rng.randint(0, 3)
    needed = 1 + offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    storage = torch.randn(needed)
    t = storage.as_strided(shape, strides, offset)
    assert math.isfinite(ops.moments(t)[4]) and torch.isfinite(init.normal_(t)).all()
    storage.untyped_storage().resize_(4 * needed - 1)
    for call in (ops.moments, init.normal_, init.zeros_):
        with pytest.raises(RuntimeError, match=GIVEN_AWAY):
            call(t)


def test_a_tensor_without_elements_needs_no_memory():
    t = robbed(3, 0)
    assert ops.moments(t)[0] == 0
    init.normal_(t)
