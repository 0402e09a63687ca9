"""What torch.nn.init raises and warns, ours raises and warns: held against torch itself."""

import math
import warnings

import pytest
import torch
from torch import nn

from initfast import init

ARGUMENTS = {"constant_": {"val": 0.5}, "sparse_": {"sparsity": 0.3}}
NAMES = [name for name in nn.init.__all__ if name.endswith("_") and hasattr(init, name)]
NAN, INF = math.nan, math.inf
FLOATS = (torch.float16, torch.bfloat16, torch.float64, torch.complex64)

TENSORS = {
    **{
        str(dtype).removeprefix("torch."): lambda shape, dtype=dtype: torch.ones(shape, dtype=dtype)
        for dtype in (torch.int64, torch.int32, torch.uint8, torch.bool, *FLOATS)
    },
    **{
        str(size): lambda shape, size=size: torch.ones(size)
        for size in ((), (0,), (3,), (0, 4), (4, 0), (2, 3, 4), (2, 3, 0), (1,) * 6)
    },
    "expanded": lambda shape: torch.ones([1] * len(shape)).expand(shape),
    "sparse": lambda shape: torch.eye(4).to_sparse(),
}

VALUES = {
    "uniform_": ("a", [1.5, NAN, -INF, -3e38, "x"]),
    "normal_": ("std", [-1.0, NAN, 0.0, INF, "x"]),
    "trunc_normal_": ("a", [3.0, 2.0, NAN, -INF, 4.5]),
    "xavier_uniform_": ("gain", [NAN, -1.0, INF, 0.0]),
    "xavier_normal_": ("gain", [NAN, -1.0, 0.0]),
    "kaiming_uniform_": ("mode", ["fan_sum", "FAN_OUT", 3]),
    "kaiming_normal_": ("nonlinearity", ["sine", "relu"]),
    "orthogonal_": ("gain", [-1.0, 0.0]),
    "sparse_": ("sparsity", [0.0, 1.0, NAN]),
    "dirac_": ("groups", [1, 2, 3]),
}

# Ours do what torch cannot; and refuse what torch takes, though nothing good comes of it.
MORE = {("orthogonal_", tensor) for tensor in ("bfloat16", "float16", "complex64")}
MORE |= {("trunc_normal_", "std=0.0"), ("dirac_", "(2, 3, 0)")}
LESS = {(name, "expanded") for name in ("eye_", "dirac_")}
LESS |= {("trunc_normal_", f"std={value}") for value in (-1.0, NAN, INF)}
LESS |= {("sparse_", f"sparsity={value}") for value in (1.5, -0.5)}
LESS |= {("orthogonal_", f"gain={value}") for value in (NAN, INF)}
LESS |= {("xavier_normal_", "gain=inf"), ("dirac_", "groups=-1")}


def outcome(function, tensor, arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            function(tensor, **arguments)
            error = None
        except Exception as raised:
            error = raised
    return error, [warning.category for warning in caught]


def compare(name, label, make, arguments):
    shape = (4, 4, 3) if name == "dirac_" else (4, 4)
    arguments = ARGUMENTS.get(name, {}) | arguments
    theirs, their_warnings = outcome(getattr(nn.init, name), make(shape), arguments)
    tensor = make(shape)
    version = tensor._version
    ours, our_warnings = outcome(getattr(init, name), tensor, arguments)
    if (name, label) in MORE:
        assert theirs is not None and ours is None
    elif (name, label) in LESS:
        assert theirs is None and isinstance(ours, (ValueError, RuntimeError))
    else:
        assert (ours is None) == (theirs is None), (ours, theirs)
        assert theirs is None or isinstance(ours, type(theirs)), (ours, theirs)
        assert ours is not None or our_warnings == their_warnings
    if ours is not None and tensor.layout == torch.strided:
        assert tensor._version == version and (tensor == make(shape)).all()


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("name", NAMES)
def test_tensors(name, tensor):
    compare(name, tensor, TENSORS[tensor], {})


CASES = [(name, key, value) for name, (key, values) in VALUES.items() for value in values]
CASES += [(n, *label.split("=")) for n, label in sorted(MORE | LESS) if "=" in label]


@pytest.mark.parametrize("name, key, value", CASES)
def test_arguments(name, key, value):
    if (name, f"{key}={value}") in MORE | LESS:
        value = int(value) if key == "groups" else float(value)
    compare(name, f"{key}={value}", torch.ones, {key: value})
