"""Dtypes, layouts and views that are rare: torch's answer, or one clear error."""

import itertools
import random

import pytest
import torch
from cases.switches import times
from torch import nn

from initfast import init

# ---- [a, b) in every dtype ----

INTERVALS = [(0, 1), (-1, 1), (0.1, 0.7), (-3, -1), (0, 1e-3), (1, 1.5), (-1e-4, 1e-4), (100, 200)]


@pytest.mark.parametrize("a, b", INTERVALS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex32], ids=str)
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_a_16_bit_uniform_never_gives_its_upper_bound(a, b, dtype):
    w = init.uniform_(torch.empty(1 << 18, dtype=dtype), a, b, key=1)
    kept = torch.view_as_real(w).flatten() if dtype.is_complex else w
    wide = init.uniform_(
        torch.empty(w.shape, dtype=torch.promote_types(dtype, torch.float32)), a, b, key=1
    )
    rounded = (torch.view_as_real(wide).flatten() if dtype.is_complex else wide).to(kept.dtype)
    top = torch.tensor(b, dtype=torch.float32).to(kept.dtype)
    assert (kept < top).all()
    below = torch.nextafter(top, torch.tensor(-float("inf"), dtype=kept.dtype))
    assert torch.equal(kept, torch.where(rounded >= top, below, rounded))  # no other number moves


def test_an_interval_between_two_numbers_of_the_dtype_is_one_number():
    assert (init.uniform_(torch.empty(9, dtype=torch.bfloat16), 1.0, 1.0001) == 1).all()
    assert (init.uniform_(torch.empty(9, dtype=torch.float16), 2.0, 2.0) == 2).all()
    assert torch.isfinite(
        init.uniform_(torch.empty(9, dtype=torch.float16), 1e-13, 1.0001e-13)
    ).all()


# ---- dtypes ----

EVERY = {"constant_": (0.5,), "sparse_": (0.3,)}
NAMES = [n for n in nn.init.__all__ if n.endswith("_") and hasattr(init, n)]
DTYPES = [torch.complex32, torch.float8_e4m3fn, torch.float8_e5m2]


def outcome(function, t, arguments):
    try:
        function(t, *arguments)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_dtypes_that_torch_fills_are_filled(name, dtype):
    shape = (4, 4, 3) if name == "dirac_" else (4, 4)
    theirs = outcome(getattr(nn.init, name), torch.empty(shape, dtype=dtype), EVERY.get(name, ()))
    ours = outcome(getattr(init, name), torch.empty(shape, dtype=dtype), EVERY.get(name, ()))
    if theirs is None:
        assert ours is None
    elif ours is not None:
        assert isinstance(ours, (ValueError, RuntimeError)) and len(str(ours)) < 300


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_complex32_is_complex64_rounded():
    half = init.normal_(torch.empty(50, 40, dtype=torch.complex32), 1.0, 2.0, key=1)
    whole = init.normal_(torch.empty(50, 40, dtype=torch.complex64), 1.0, 2.0, key=1)
    difference = torch.view_as_real(half).float() - torch.view_as_real(whole)
    assert difference.abs().max() < 1e-2


# ---- nested ----


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
@pytest.mark.parametrize("name", ["normal_", "uniform_", "trunc_normal_", "constant_", "zeros_"])
def test_nested_tensors_are_filled_component_by_component(name, layout):
    t = torch.nested.nested_tensor(
        [torch.full((2, 3), 9.0), torch.full((4, 3), 9.0)], layout=layout
    )
    arguments = EVERY.get(name, ())
    torch.manual_seed(1)
    assert getattr(init, name)(t, *arguments) is t
    torch.manual_seed(1)
    whole = getattr(init, name)(torch.empty(18), *arguments)
    assert torch.equal(torch.cat([c.flatten() for c in t.unbind()]), whole)


def test_what_asks_for_one_shape_refuses_nested_tensors():
    t = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)])
    for name in ("kaiming_normal_", "orthogonal_", "eye_", "xavier_uniform_"):
        with pytest.raises(ValueError, match=f"{name}: the tensor is nested"):
            getattr(init, name)(t)


def test_an_empty_tensor_has_no_xavier():
    for name in ("xavier_uniform_", "xavier_normal_"):
        for shape in ((0, 0), (2, 3, 0)):
            with pytest.raises(ZeroDivisionError, match="expected inputs or outputs"):
                getattr(init, name)(torch.empty(shape))


# ---- views ----


def overlap(t):
    """By going to each element."""
    places = itertools.product(*map(range, t.shape))
    at = [sum(i * s for i, s in zip(place, t.stride(), strict=True)) for place in places]
    return len(set(at)) < len(at)


@pytest.mark.parametrize("seed", range(times(60)))
def test_views_are_refused_where_two_elements_share_memory_and_nowhere_else(seed):
    rng = random.Random(seed)
    shape = [rng.randint(1, 4) for _ in range(rng.randint(1, 4))]
    strides = [rng.randint(0 if seed % 3 == 0 else 1, 9) for _ in shape]
    t = torch.full((200,), 9.0).as_strided(shape, strides)
    state = torch.get_rng_state()
    if overlap(t):
        for initialiser in (init.normal_, init.uniform_):
            with pytest.raises(ValueError, match="share memory"):
                initialiser(t)
        assert torch.equal(torch.get_rng_state(), state) and (t == 9).all()
    else:
        assert torch.equal(init.normal_(t, key=1), init.normal_(torch.empty(shape), key=1))


def test_overlapping_windows_are_refused():
    with pytest.raises(ValueError, match="overlapping"):
        init.normal_(torch.zeros(1 << 20).unfold(0, 4, 1))
    init.normal_(torch.zeros(64).unfold(0, 4, 4))
