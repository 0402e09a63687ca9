"""The initialisers keep torch.nn.init's promises, and their own."""

import inspect
import math
from typing import ClassVar

import pytest
import torch
from torch import nn

from initfast import init

RANDOM = {
    "uniform_": (),
    "normal_": (),
    "trunc_normal_": (),
    "xavier_uniform_": (),
    "xavier_normal_": (),
    "kaiming_uniform_": (),
    "kaiming_normal_": (),
    "lecun_uniform_": (),
    "lecun_normal_": (),
    "variance_scaling_": (),
    "orthogonal_": (),
    "sparse_": (0.3,),
}
FIXED = {"constant_": (0.7,), "ones_": (), "zeros_": (), "eye_": (), "identity_": ()}
EVERY = RANDOM | FIXED
REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def call(name, tensor, **options):
    return getattr(init, name)(tensor, *EVERY[name], **options)


# ---- what all have in common ----


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_fills_and_returns_the_tensor(name, dtype):
    w = torch.full((40, 30), math.nan, dtype=dtype)
    version = w._version
    assert call(name, w) is w
    assert torch.isfinite(w).all()
    assert w._version == version + 1


@pytest.mark.parametrize("name", EVERY)
def test_parameters_need_no_gradient(name):
    w = nn.Parameter(torch.empty(6, 5))
    assert call(name, w) is w
    assert w.requires_grad and w.is_leaf and w.grad_fn is None


@pytest.mark.parametrize("name", EVERY)
def test_every_layout_holds_the_same_values(name):
    options = {"key": 11} if name in RANDOM else {}
    plain = call(name, torch.empty(24, 18), **options)
    for other in (
        torch.empty(18, 24).t(),
        torch.empty(48, 54)[::2, ::3],
        torch.empty(24 * 18 + 1)[1:].view(24, 18),
    ):
        assert torch.equal(call(name, other, **options), plain)


@pytest.mark.parametrize("name", sorted(EVERY.keys() - {"eye_", "sparse_"}))
def test_channels_last(name):
    options = {"key": 3} if name in RANDOM else {}
    plain = call(name, torch.empty(8, 6, 3, 5), **options)
    last = torch.empty(8, 6, 3, 5).to(memory_format=torch.channels_last)
    assert torch.equal(call(name, last, **options), plain)
    assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", EVERY)
def test_meta_tensors_stay(name):
    w = torch.empty(4, 4, device="meta")
    state = torch.get_rng_state()
    assert call(name, w) is w
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", RANDOM)
def test_generator_and_seed_govern(name):
    first = call(name, torch.empty(20, 20), generator=torch.Generator().manual_seed(42))
    torch.manual_seed(42)
    assert torch.equal(call(name, torch.empty(20, 20)), first)
    assert not torch.equal(call(name, torch.empty(20, 20)), first)
    generator = torch.Generator().manual_seed(42)
    state = torch.get_rng_state()
    assert torch.equal(call(name, torch.empty(20, 20), generator=generator), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(call(name, torch.empty(20, 20), generator=generator), first)


@pytest.mark.parametrize("name", RANDOM)
def test_key(name):
    w = call(name, torch.empty(20, 20), key=7)
    assert torch.equal(call(name, torch.empty(20, 20), key=7), w)
    assert not torch.equal(call(name, torch.empty(20, 20), key=8), w)
    assert torch.equal(call(name, torch.empty(20, 20), key=2**64 - 1), call(name, w, key=-1))
    for bad in (2**64, -(2**63) - 1, "7", 1.5):
        with pytest.raises(ValueError, match="key"):
            call(name, torch.empty(4, 4), key=bad)
    with pytest.raises(ValueError, match="generator and a key"):
        call(name, torch.empty(4, 4), key=1, generator=torch.Generator())


@pytest.mark.parametrize("name", sorted(set(torch.nn.init.__all__) & set(init.__all__)))
def test_signatures_extend_torchs(name):
    theirs = getattr(torch.nn.init, name)
    ours = list(inspect.signature(getattr(init, name)).parameters.values())
    for mine, yours in zip(ours, inspect.signature(theirs).parameters.values(), strict=False):
        assert (mine.name, mine.kind, mine.default) == (yours.name, yours.kind, yours.default)
    rest = ours[len(inspect.signature(theirs).parameters) :]
    assert all(p.kind == p.KEYWORD_ONLY for p in rest)


def test_all_of_torchs_functions_are_there():
    deprecated = {name.removesuffix("_") for name in torch.nn.init.__all__ if name.endswith("_")}
    assert set(torch.nn.init.__all__) - deprecated <= set(init.__all__)


class Logged(torch.Tensor):
    """A subclass that torch.nn.init would hand its calls to."""

    seen: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.seen.append(getattr(function, "__name__", ""))
        return super().__torch_function__(function, types, args, kwargs or {})


def test_overrides_are_asked_first():
    Logged.seen.clear()
    w = torch.empty(3, 3).as_subclass(Logged)
    init.kaiming_uniform_(w, key=1)
    assert Logged.seen[0] == "kaiming_uniform_"
    assert torch.equal(w.as_subclass(torch.Tensor), init.kaiming_uniform_(torch.empty(3, 3), key=1))


# ---- bad input: an error that names it, the tensor untouched ----

BAD = [
    ("uniform_", {"a": 1.0, "b": 0.0}, "expected a <= b"),
    ("uniform_", {"a": math.nan}, "a is nan"),
    ("uniform_", {"b": math.inf}, "b is inf"),
    ("uniform_", {"a": -3e38, "b": 3e38}, "b - a"),
    ("normal_", {"std": -1.0}, "std is -1"),
    ("normal_", {"std": math.nan}, "std is nan"),
    ("trunc_normal_", {"a": 2.0, "b": 1.0}, "a is 2.0 and b is 1.0"),
    ("trunc_normal_", {"a": math.nan}, "a is nan"),
    ("trunc_normal_", {"std": -1.0}, "std is -1"),
    ("trunc_normal_", {"std": math.nan}, "std is nan"),
    ("trunc_normal_", {"mean": math.inf}, "mean is inf"),
    ("trunc_normal_", {"a": math.inf, "b": math.inf}, "interval"),
    ("xavier_uniform_", {"gain": math.nan}, "std is nan"),
    ("xavier_normal_", {"gain": -1.0}, "not negative"),
    ("kaiming_uniform_", {"mode": "fan_sum"}, "Mode fan_sum not supported"),
    ("kaiming_normal_", {"nonlinearity": "sine"}, "Unsupported nonlinearity sine"),
    ("kaiming_normal_", {"groups": 3}, "groups is 3"),
    ("variance_scaling_", {"mode": "fan_sum"}, "mode is 'fan_sum'"),
    ("variance_scaling_", {"scale": -1.0}, "scale is -1"),
    ("variance_scaling_", {"distribution": "cauchy"}, "distribution is 'cauchy'"),
    ("orthogonal_", {"gain": math.inf}, "gain is inf"),
    ("sparse_", {"sparsity": 1.5}, "sparsity is 1.5"),
    ("sparse_", {"sparsity": -0.5}, "sparsity is -0.5"),
    ("sparse_", {"sparsity": math.nan}, "sparsity is nan"),
    ("sparse_", {"sparsity": 0.5, "std": -1.0}, "std is -1"),
]


@pytest.mark.parametrize("name, options, message", BAD)
def test_bad_arguments(name, options, message):
    w = torch.full((4, 5), 9.0)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        getattr(init, name)(w, **options)
    assert (w == 9).all() and w._version == 0
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", RANDOM)
def test_bad_tensors(name):
    integers = torch.full((4, 4), 9)
    with pytest.raises(RuntimeError, match="int64"):
        call(name, integers)
    assert (integers == 9).all()
    with pytest.raises(RuntimeError, match="share memory"):
        call(name, torch.empty(1, 4).expand(4, 4))
    with pytest.raises(RuntimeError, match="sparse"):
        call(name, torch.eye(4).to_sparse())


def test_generator_of_another_device():
    class Elsewhere:
        device = torch.device("cuda")

    with pytest.raises(RuntimeError, match="generator is on cuda"):
        init.normal_(torch.empty(3), generator=Elsewhere())


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize(
    "name", [n for n in RANDOM if n not in ("uniform_", "normal_", "trunc_normal_")]
)
def test_too_few_dimensions(name, shape):
    with pytest.raises(ValueError, match="dimensions"):
        call(name, torch.empty(shape))


@pytest.mark.parametrize("name, dims", [("eye_", (1, 3)), ("sparse_", (1, 3))])
def test_matrices_only(name, dims):
    for d in dims:
        with pytest.raises(ValueError, match="Only tensors with 2 dimensions are supported"):
            call(name, torch.empty([3] * d))


def test_convolutions_only():
    for function in (init.dirac_, init.delta_orthogonal_):
        for d in (1, 2, 6):
            with pytest.raises(ValueError, match="Only tensors with 3, 4, or 5 dimensions"):
                function(torch.empty([3] * d))
    with pytest.raises(ValueError, match="dim 0 must be divisible by groups"):
        init.dirac_(torch.empty(4, 2, 3), groups=3)
    with pytest.raises(ValueError, match="no more inputs than outputs"):
        init.delta_orthogonal_(torch.empty(2, 4, 3))


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_", "lecun_normal_"])
def test_no_elements(name):
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op") as caught:
        call(name, torch.empty(0, 5))
    assert caught[0].filename == __file__


def test_no_elements_elsewhere():
    for name in ("uniform_", "normal_", "trunc_normal_", "orthogonal_", "sparse_"):
        assert call(name, torch.empty(0, 5)).shape == (0, 5)


# ---- complex numbers ----


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex(dtype):
    w = init.normal_(torch.empty(300, 300, dtype=dtype), 2.0, 3.0, key=1)
    assert w._version == 1
    centred = w - 2.0
    assert abs(centred.abs().square().mean() - 9) < 0.15
    assert abs((centred * centred).mean()) < 0.15  # circular: no pseudo-variance
    assert abs(centred.mean()) < 0.06
    assert torch.equal(init.normal_(torch.empty(300, 300, dtype=dtype).t(), 2.0, 3.0, key=1), w)
    u = torch.view_as_real(init.uniform_(torch.empty(100, 100, dtype=dtype), -1, 3))
    assert u.min() >= -1 and u.max() < 3 and abs(u.mean() - 1) < 0.05
    init.kaiming_normal_(w)
    with pytest.raises(ValueError, match="expected a real one"):
        init.trunc_normal_(w)
