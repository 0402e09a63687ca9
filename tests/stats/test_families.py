"""Families, cuts and hashes told from numbers of known laws."""

import math

import pytest
import torch
from cases.switches import times

from initfast import init
from initfast.repair.bit_hash import COLUMNS, ROWS, bit_hash
from initfast.stats.cut_normal import cut_kurtosis, cut_std
from initfast.stats.families import eps_of, family
from initfast.stats.moments import Moments


def family_of(w):
    return family(Moments.of(w), eps_of(w.dtype))


def drawn(law, shape, key, dtype=torch.float32):
    w = torch.empty(shape, dtype=dtype)
    if law == "uniform":
        return init.uniform_(w, -0.3, 0.3, key=key)
    if law == "normal":
        return init.normal_(w, std=0.02, key=key)
    return init.trunc_normal_(w, std=0.02, a=-law * 0.02, b=law * 0.02, key=key)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("law", ["uniform", "normal", 1.0, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("n", [8192, 60_000])
def test_a_law_is_told_from_its_numbers(law, n, dtype):
    for key in range(times(2)):
        found = family_of(drawn(law, n, key, dtype))
        if isinstance(law, float):
            assert (found.name, found.cut) == ("truncated normal", law)
        else:
            assert found.name == law and found.cut == math.inf


@pytest.mark.parametrize("cut", [1.5, 2.0])
def test_of_several_cuts_that_few_numbers_allow_the_nearest_is_told(cut):
    found = [family_of(drawn(cut, 2000, key)).cut for key in range(30)]
    assert found.count(cut) >= 25, found


def test_a_cut_that_never_cuts_is_none():
    w = torch.nn.init.trunc_normal_(torch.empty(50_000), std=0.02)  # at 100 sigma
    found = family_of(w)
    assert found.name == "normal" and "never cut: largest 4" in str(found)


def test_many_numbers_are_told_by_a_sample():
    for key in range(5):
        assert family_of(drawn("normal", 3 << 20, key)).name == "normal"
        assert family_of(drawn("uniform", 3 << 20, key)).name == "uniform"


def test_few_numbers_are_rarely_mistaken():
    """Of 64 numbers a law is told, or not; a uniform one is no normal one and the reverse."""
    names = {law: [family_of(drawn(law, 64, k)).name for k in range(200)] for law in LAWS}
    for law, other in zip(LAWS, LAWS[::-1], strict=True):
        assert names[law].count(law) > 150, law
        assert names[law].count(other) < 10, law


LAWS = ("uniform", "normal")


def test_zeros_beside_a_law_are_left_out():
    w = drawn("normal", (1000, 64), 1)
    w[:100] = 0
    found = family_of(w)
    assert found.name == "normal" and found.zeros == 0.1
    assert abs(found.std / 0.02 - 1) < 0.02


@pytest.mark.parametrize(
    "w, words",
    [
        (torch.zeros(9), "all 0"),
        (torch.ones(9), "all 1.000"),
        (torch.empty(0), "empty"),
        (torch.full((9,), math.nan), "nowhere finite"),
        (torch.eye(40), "no known family"),
        (torch.randn(10), "too few to tell"),
    ],
)
def test_what_is_drawn_from_no_law(w, words):
    assert str(family_of(w)).startswith(words)


def test_two_laws_in_one_are_no_family():
    w = torch.cat([drawn("normal", 10_000, 1), 10 * drawn("normal", 10_000, 2)])
    assert family_of(w).name == "other"
    assert family_of(torch.randn(10_000).exp()).name == "other"


def test_what_is_left_of_a_cut_normal():
    assert math.isclose(cut_std(2.0), 0.87962566103424, rel_tol=1e-12)
    assert math.isclose(cut_kurtosis(2.0), 2.36553671713, rel_tol=1e-10)
    assert math.isclose(cut_std(3.0), 0.98657839255811, rel_tol=1e-12)


# ---- the hash ----

SIZES = [0, 1, 7, 8, COLUMNS * 2 + 3, COLUMNS * ROWS * 2 + 2 * COLUMNS + 5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("size", SIZES)
def test_a_hash_is_of_bits_in_their_order(size, dtype):
    x = torch.randint(100, (size + 1,), generator=torch.Generator().manual_seed(1)).to(dtype)[1:]
    h = bit_hash(x)
    assert 0 <= h < 1 << 64 and h == bit_hash(x.clone())
    spread = torch.zeros(size, 3, dtype=dtype)
    spread[:, 1] = x
    assert bit_hash(spread[:, 1]) == h
    for place in {0, size // 2, size - 1} if size else ():
        y = x.clone()
        y[place] += 1
        assert bit_hash(y) != h


def test_hashes_are_told_apart():
    x = torch.randn(3 * COLUMNS * ROWS + 10)
    others = [x.flip(0), x.roll(1), x.roll(2 * COLUMNS), -x, x[:-1], torch.cat([x, x[:0] + 0])]
    hashes = [bit_hash(y) for y in others]
    assert hashes[-1] == bit_hash(x) and len(set(hashes)) == len(hashes)
    zeros = [bit_hash(torch.zeros(n)) for n in range(50)]
    assert len(set(zeros)) == 50
    single = [bit_hash(torch.eye(40)[i]) for i in range(40)]
    assert len(set(single)) == 40


def test_a_hash_is_the_same_for_views_and_layouts():
    x = torch.randn(6, 8, 3, 3)
    assert bit_hash(x) == bit_hash(x.to(memory_format=torch.channels_last))
    assert bit_hash(x) == bit_hash(x.flatten())


def test_a_hash_is_what_it_was():
    """Ranks of two releases, and audits that were kept, compare by it."""
    assert bit_hash(torch.arange(5, dtype=torch.int64)) == KNOWN
    assert bit_hash(torch.arange(5, dtype=torch.int64).view(torch.uint8)) != KNOWN


KNOWN = 0xDC8A50D8F3ABE809
