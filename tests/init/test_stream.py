"""The stream: which bits, and that nothing but key and index decides them."""

import math
import os
import subprocess
import sys

import pytest
import torch
from cases.streams import DTYPES, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from initfast import init, ops
from initfast.ops import reference_sampling
from initfast.ops.library import load
from initfast.ops.quantile_tables import truncated_normal

INFINITY = math.inf

# Name: the interval of a standard normal distribution, or None for the uniform distribution.
DISTRIBUTIONS = {
    "uniform": None,
    "normal": (-INFINITY, INFINITY),
    "symmetric": (-2.0, 2.0),
    "skewed": (-1.0, 3.0),
    "one-sided": (2.0, 3.0),
    "far tail": (-INFINITY, -8.0),
}


def arguments(name, dtype, scale=1.0, location=0.0):
    """What sample_ takes after `out`, as far as the distribution goes."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    if DISTRIBUTIONS[name] is None:
        scale *= 2.0 ** -torch.finfo(wide).bits
        return "uniform", None, scale, location, -INFINITY, INFINITY
    table = truncated_normal(*DISTRIBUTIONS[name], wide)
    return table.shape, table.coefficients, scale, location, -INFINITY, INFINITY


def contiguous(shape):
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))


def native(out, distribution, key, offset=0, strides=None):
    strides = contiguous(out.shape) if strides is None else strides
    ops.sample_(out, *distribution, key, offset, strides)
    return out


def expected(out, distribution, key, offset=0, strides=None):
    out = out.clone()
    strides = contiguous(out.shape) if strides is None else strides
    reference_sampling.sample_(out, *distribution, key, offset, strides)
    return out


# ---- known answers ----

# Of the Random123 distribution (Salmon et al. 2011): counter, key, result.
KNOWN_ANSWERS = [
    ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize("counter, key, words", KNOWN_ANSWERS)
def test_philox_known_answers(counter, key, words):
    assert reference_sampling.philox(counter, key[0] | key[1] << 32) == words
    tensors = [torch.tensor([c]) for c in counter]
    assert tuple(int(w) for w in reference_sampling.philox(tensors, key[0] | key[1] << 32)) == words


def raw_words(key, offset, count):
    """The operator's own 64-bit words, rounded to float64."""
    out = torch.empty(count, dtype=torch.float64)
    unbounded = ("uniform", None, 1.0, 0.0, -INFINITY, INFINITY)
    return native(out, unbounded, key, offset)


@pytest.mark.parametrize("key", [0, 1, -1, 0x299F31D0A4093822, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("offset", [0, 1, 2**33 - 5, 2**34 + 7, 2**40 - 3, 2**62])
def test_operator_draws_philox(key, offset):
    values = raw_words(key, offset, 40).tolist()
    for i, value in enumerate(values):
        block, half = divmod(offset + i, 2)
        words = reference_sampling.philox((block & 0xFFFFFFFF, block >> 32, 0, 0), key)
        word = words[2 * half] | words[2 * half + 1] << 32
        assert value == float(word - 2**64 if word >= 2**63 else word)


UNIFORM_42 = ["0x1.ceaf080000000p-4", "0x1.efea920000000p-1", "0x1.257ea20000000p-1"]
NORMAL_42 = ["-0x1.25ee380000000p-2", "0x1.42dc8e0000000p-4", "0x1.73bf3a0000000p+0"]


def test_first_values():
    """The stream never changes: these are the values of key 42."""
    uniform = init.uniform_(torch.empty(3), key=42)
    normal = init.normal_(torch.empty(3), key=42)
    assert [x.hex() for x in uniform.tolist()] == UNIFORM_42
    assert [x.hex() for x in normal.tolist()] == NORMAL_42


# ---- native and reference, every layout ----


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_reference_bits(name, dtype):
    distribution = arguments(name, dtype, 0.37, -0.11)
    for shape, offset in [((), 3), ((0,), 0), ((1,), 5), ((70_001,), 2), ((3, 5, 7), 2**34 - 50)]:
        out = torch.empty(shape, dtype=dtype)
        assert same_bits(
            native(out, distribution, 7, offset), expected(out, distribution, 7, offset)
        )


@st.composite
def slices(draw):
    """A shape, the order of its dimensions and gaps in memory, a place in a global tensor."""
    dims = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(dims))
    order = draw(st.permutations(range(dims)))
    step = tuple(draw(st.integers(1, 3)) for _ in range(dims))
    whole = tuple(size + draw(st.integers(0, 5)) for size in shape)
    start = tuple(draw(st.integers(0, w - size)) for w, size in zip(whole, shape, strict=True))
    base = draw(st.sampled_from([0, 1, 2**32 - 17, 2**34 - 100, 2**36 + 3, 2**55]))
    return shape, order, step, whole, start, base


@settings(max_examples=150, deadline=None)
@given(
    slices(),
    st.sampled_from(sorted(DISTRIBUTIONS)),
    st.sampled_from(DTYPES),
    st.integers(-(2**63), 2**63 - 1),
)
def test_any_slice_in_any_layout(place, name, dtype, key):
    shape, order, step, whole, start, base = place
    memory = torch.full([shape[d] * step[d] for d in order], 99.0, dtype=dtype)
    back = [order.index(d) for d in range(len(shape))]
    out = memory.permute(back)[tuple(slice(None, None, s) for s in step)]
    distribution = arguments(name, dtype, 1.7, 0.3)
    strides = contiguous(whole)
    offset = base + sum(a * b for a, b in zip(start, strides, strict=True))
    native(out, distribution, key, offset, strides)
    assert same_bits(out, expected(out, distribution, key, offset, strides))
    everything = native(torch.empty(whole, dtype=dtype), distribution, key, base)
    window = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
    assert same_bits(out, everything[window])
    assert (memory == 99).sum() >= memory.numel() - out.numel()  # nothing beside it was written


def test_large_run_is_the_same_in_pieces():
    distribution = arguments("normal", torch.float32)
    whole = native(torch.empty(300_000), distribution, 5, 2**34 - 150_000)
    pieces = [
        native(torch.empty(n), distribution, 5, 2**34 - 150_000 + start)
        for start, n in [(0, 1), (1, 4095), (4096, 70_000), (74_096, 225_904)]
    ]
    assert same_bits(whole, torch.cat(pieces))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape, order",
    [
        ((1, 2000), (1, 0)),
        ((500, 401), (1, 0)),
        ((7, 130, 9), (0, 2, 1)),  # as channels_last
        ((3, 50, 21, 19), (3, 0, 2, 1)),
        ((20_000, 3), (1, 0)),
    ],
)
def test_layouts_of_many_boxes(shape, order, dtype):
    """The dimension that is adjacent in memory is not the last one: drawn and stored in boxes."""
    distribution = arguments("skewed", dtype, 1.3, 0.1)
    memory = torch.empty([shape[d] for d in order], dtype=dtype)
    out = memory.permute([order.index(d) for d in range(len(shape))])
    plain = native(torch.empty(shape, dtype=dtype), distribution, 6, 2**32 - 77)
    assert same_bits(native(out, distribution, 6, 2**32 - 77), plain)
    out[1:] = 0
    start = 2**32 - 77 + contiguous(shape)[0]
    native(out[1:], distribution, 6, start, contiguous(shape))
    assert same_bits(out, plain)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_do_not_matter(threads):
    torch.set_num_threads(1)
    one = init.normal_(torch.empty(301, 1007), key=9)
    torch.set_num_threads(threads)
    assert same_bits(one, init.normal_(torch.empty(301, 1007), key=9))
    assert same_bits(one, init.normal_(torch.empty(1007, 301).t(), key=9))


def test_sixteen_bits_are_rounded_float32():
    exact = init.normal_(torch.empty(10_000), 0.1, 3.0, key=1)
    for dtype in (torch.bfloat16, torch.float16):
        assert same_bits(
            init.normal_(torch.empty(10_000, dtype=dtype), 0.1, 3.0, key=1), exact.to(dtype)
        )


def test_every_instruction_set_draws_the_same(tmp_path):
    """In processes of their own: the set is chosen when the library is loaded."""
    if load().backend != "native":
        pytest.skip("the reference runs on no instruction set")
    script = (
        "import sys, torch, initfast.init as init\n"
        "from initfast.ops.library import load\n"
        "dtypes = (torch.float32, torch.float64, torch.bfloat16)\n"
        "w = [torch.empty(70_003, dtype=d) for d in dtypes]\n"
        "f = [init.uniform_, init.normal_, init.trunc_normal_,\n"
        "     lambda x, key: init.trunc_normal_(x, 0, 1, -1, 3, key=key),\n"
        "     lambda x, key: init.trunc_normal_(x, 0, 1, 2, 3, key=key),\n"
        "     lambda x, key: init.sparse_(x[:70_000].view(700, 100), 0.3, key=key)]\n"
        "torch.save([load().isa, *(g(x, key=3).clone() for g in f for x in w)], sys.argv[1])\n"
    )
    results = {}
    for isa in ("baseline", "avx2", "avx512"):
        path = tmp_path / f"{isa}.pt"
        run = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            env={**os.environ, "INITFAST_ISA": isa},
            capture_output=True,
            text=True,
        )
        if run.returncode == 0:
            chosen, *results[isa] = torch.load(path)
            assert chosen == isa
        else:
            assert "lacks" in run.stderr or "expected one of" in run.stderr, run.stderr
    assert "baseline" in results
    for other in results.values():
        assert all(same_bits(a, b) for a, b in zip(results["baseline"], other, strict=True))


# ---- the operators ----


def test_opcheck():
    table = truncated_normal(-2.0, 2.0, torch.float32)
    out = torch.empty(5, 7)
    samples = (out, table.shape, table.coefficients, 1.0, 0.0, -2.0, 2.0, 3, 0, [7, 1])
    torch.library.opcheck(torch.ops.initfast.sample_, samples)
    torch.library.opcheck(torch.ops.initfast.zero_rows_, (torch.ones(5, 7), 2, 3, 9, 1, 4))


def test_operator_refuses():
    out = torch.empty(6)
    table = truncated_normal(-2.0, 2.0, torch.float32).coefficients
    good = ("symmetric", table, 1.0, 0.0, -2.0, 2.0, 3, 0, (1,))
    with pytest.raises(RuntimeError, match="dtype"):
        ops.sample_(torch.empty(6, dtype=torch.int64), *good)
    with pytest.raises(RuntimeError, match="shape"):
        ops.sample_(out, "round", *good[1:])
    with pytest.raises(RuntimeError, match="table"):
        ops.sample_(out, "symmetric", None, *good[2:])
    with pytest.raises(RuntimeError, match="table"):
        ops.sample_(out.double(), *good)
    with pytest.raises(RuntimeError, match="strides"):
        ops.sample_(out, *good[:-1], (1, 2))
    cases = [(4, 3, 0, 0), (-1, 3, 0, 0), (1, 2, 0, 0), (1, 5, 3, 0), (1, 5, -1, 0), (1, 3, 0, -1)]
    for count, rows, *first in cases:
        for zero_rows_ in (torch.ops.initfast.zero_rows_, reference_sampling.zero_rows_):
            with pytest.raises(RuntimeError, match="no more zeros than rows"):
                zero_rows_(torch.ones(3, 3), count, 0, rows, *first)
    with pytest.raises(RuntimeError, match=r"expected a part of a matrix"):
        ops.zero_rows_(torch.ones(3), 1, 0)
