"""Filling tensors at the ends of the range, and through every kind of view."""

import math

import pytest
import torch

from initfast import init

# ---- the ends of the range ----


@pytest.mark.parametrize("width", [1e-28, 1e-36, 1e-40])
def test_a_narrow_uniform_keeps_its_resolution(width):
    w = init.uniform_(torch.empty(10_000), 0, width, key=1)
    whole = init.uniform_(torch.empty(10_000), key=1)
    assert torch.all((w >= 0) & (w < width))
    torch.testing.assert_close(w.double(), whole.double() * width, rtol=1e-6, atol=1.5e-45)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.filterwarnings("error", "ignore:mean is more than 2 std")
def test_bounds_that_are_far_away(dtype):
    def draw(*arguments):
        return init.trunc_normal_(torch.empty(1000, dtype=dtype), *arguments, key=1)

    assert torch.equal(draw(0, 1, -1e300, 1e300), draw(0, 1, -math.inf, math.inf))
    assert torch.equal(draw(0, 1, -1e300, 2), draw(0, 1, -math.inf, 2))
    assert draw(0, 1e-320, 1, 2).unique().tolist() == [1]
    assert draw(3, 1e-320, 1, 2).unique().tolist() == [2]
    assert draw(0, 1e-320, -2, 2).abs().max().item() < 1e-318


# ---- tensors that torch can fill too ----


@pytest.mark.parametrize("view", ["conj", "neg", "deep", "deep complex"])
def test_views_with_bits_and_many_dimensions(view):
    w = torch.empty((3, 5), dtype=torch.complex64).conj()
    if view == "neg":
        w = w.imag
    elif view.startswith("deep"):
        dtype = torch.float32 if view == "deep" else torch.complex64
        w = torch.empty([2] * 17, dtype=dtype).permute(*reversed(range(17)))
    version = w._version
    init.normal_(w, key=1)
    assert w._version == version + 1
    assert torch.equal(w.resolve_conj(), init.normal_(torch.empty(w.shape, dtype=w.dtype), key=1))


def test_an_inference_tensor_is_refused_outside():
    with torch.inference_mode():
        w = init.normal_(torch.zeros(4), key=1)
    for initialiser in (init.normal_, init.uniform_, init.zeros_):
        with pytest.raises(RuntimeError, match="inference mode"):
            initialiser(w)


def test_sparse_through_a_negative_view():
    w = init.sparse_(torch.empty(6, 4, dtype=torch.complex64).conj().imag, 0.5, key=1)
    assert torch.equal(w, init.sparse_(torch.empty(6, 4), 0.5, key=1))


def test_identity_refuses_what_cannot_hold_it():
    with pytest.raises(ValueError, match="int64"):
        init.identity_(torch.zeros(2, 4, dtype=torch.int64))
    w = torch.zeros(2, 4)
    with pytest.raises(ValueError, match="gain is nan"):
        init.identity_(w, gain=math.nan)
    assert not w.any()


def test_what_is_no_generator():
    with pytest.raises(TypeError, match="expected a torch Generator"):
        init.normal_(torch.empty(3), generator=5)
