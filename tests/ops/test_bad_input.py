"""Bad input: one clear error, the same from the kernels, from the reference and without data."""

import re

import pytest
import torch

from initfast import ops
from initfast.ops import reference

OPS = torch.ops.initfast


META = torch.device("meta")
X, INTEGERS = torch.randn(4, 3), torch.ones(4, 3, dtype=torch.int64)
WEIGHT, BIAS = torch.randn(5, 3), torch.randn(5)
TANH = ("tanh", 0.0, 0.0)


def bad_moments():
    return {
        "moments of integers": ((INTEGERS,), "x has an unsupported dtype"),
        "moments of booleans": ((X > 0,), "expected float32, float64, bfloat16 or"),
        "moments of complex": ((X + 1j,), "x has an unsupported dtype"),
    }


def bad_unit_moments():
    return {
        "units of integers": ((INTEGERS, -1, True), "unit_moments: x has an unsupported dtype"),
        "no such units": ((X, 2, False), r"unit_dim is 2 but x has shape \[4, 3\]"),
        "nor such": ((X, -3, True), "unit_moments: unit_dim is -3 but"),
    }


def bad_act():
    return {
        "act of integers": ((INTEGERS, *TANH, -1), "act: z has an unsupported dtype"),
        "act without a name": ((X, "", 0.0, 0.0, -1), "unknown activation ''; expected one"),
        "act unknown": ((X, "ReLU", 0.0, 0.0, -1), "unknown activation 'ReLU'.*identity, "),
        "unit_dim too large": ((X, *TANH, 2), r"unit_dim is 2 but z has shape \[4, 3\]"),
        "unit_dim too small": ((X, *TANH, -3), "unit_dim is -3 but"),
        "celu of width 0": ((X, "celu", 0.0, 0.0, -1), "celu.* alpha is 0.*expected"),
        "celu below 0": ((X, "celu", -1.0, 0.0, -1), "celu.* alpha is -1.*expected"),
        "hardtanh inverted": ((X, "hardtanh", 1.0, -1.0, -1), "hardtanh.* expected"),
    }


def bad_act_backward():
    shapes = r"grad_y has shape \[3, 3\] but z has shape \[4, 3\]"
    return {
        "backward of integers": ((INTEGERS, INTEGERS, *TANH), "z has an unsupported dtype"),
        "backward dtypes": ((X.double(), X, *TANH), "expected one dtype"),
        "backward shapes": ((X[:3], X, *TANH), shapes),
        "backward unknown": ((X, X, "gelu2", 0.0, 0.0), "unknown activation 'gelu2'"),
        "backward devices": ((X.to(META), X, *TANH), "one device"),
    }


def bad_dtypes_and_devices():
    rest = (*TANH, False)
    return {
        "linear of integers": ((INTEGERS, INTEGERS, None, *rest), "x has an unsupported dtype"),
        "weight of integers": ((X, INTEGERS, None, *rest), "weight is .*expected one dtype"),
        "weight dtype": ((X, WEIGHT.double(), None, *rest), "weight is .*one dtype"),
        "bias dtype": ((X, WEIGHT, BIAS.half(), *rest), "bias is .*one dtype"),
        "weight on meta": ((X, WEIGHT.to(META), None, *rest), "weight is .*one device"),
        "x on meta": ((X.to(META), WEIGHT, None, *rest), "weight is .*one device"),
        "bias on meta": ((X, WEIGHT, BIAS.to(META), *rest), "bias is .*one device"),
    }


def bad_shapes_and_activations():
    rest = (*TANH, False)
    in_features = r"x has shape \[2, 4\] but weight has shape \[5, 3\]; .*last dimension to be 3"
    unknown = (X, WEIGHT, BIAS, "softmax", 0.0, 0.0, False)
    return {
        "weight 1-d": ((X, BIAS, None, *rest), r"weight has shape \[5\].*out_features"),
        "weight 3-d": ((X, WEIGHT[None], None, *rest), r"weight has shape \[1, 5, 3\]"),
        "x 0-d": ((X[0, 0], WEIGHT, None, *rest), r"x has shape \[\]"),
        "in_features": ((torch.randn(2, 4), WEIGHT, None, *rest), in_features),
        "bias length": ((X, WEIGHT, BIAS[:4], *rest), r"bias has shape \[4\]; expected \[5\]"),
        "bias 2-d": ((X, WEIGHT, BIAS[None], *rest), r"bias has shape \[1, 5\]"),
        "linear unknown": (unknown, "unknown activation 'softmax'"),
    }


BAD = {
    what: (operator, *case)
    for operator, cases in (
        ("moments", bad_moments()),
        ("unit_moments", bad_unit_moments()),
        ("act", bad_act()),
        ("act_backward", bad_act_backward()),
        ("linear_act", bad_dtypes_and_devices()),
        ("linear_act", bad_shapes_and_activations()),
    )
    for what, case in cases.items()
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_error(what):
    name, arguments, message = BAD[what]
    with pytest.raises(RuntimeError, match=message):
        getattr(OPS, name)(*arguments)
    with pytest.raises(RuntimeError, match=message):
        getattr(reference, name)(*arguments)


@pytest.mark.parametrize("what", [what for what in BAD if not re.search("meta|devices", what)])
def test_bad_input_is_seen_without_data(what):
    name, arguments, message = BAD[what]
    there = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments]
    with pytest.raises(RuntimeError, match=message):
        getattr(OPS, name)(*there)


def test_the_functions_refuse_unknown_activations_too():
    with pytest.raises(RuntimeError, match="unknown activation 'swish'; expected one of identity"):
        ops.act(torch.ones(2), "swish")
    with pytest.raises(RuntimeError, match="unknown activation 'swish'"):
        ops.linear_act(torch.ones(2, 2), torch.ones(2, 2), act="swish")


def test_sparse_tensors_are_refused_and_not_misread():
    with pytest.raises((RuntimeError, NotImplementedError)):
        OPS.moments(torch.eye(3).to_sparse())


def test_memory_that_is_not_there_is_said():
    """2^50 bytes, which no address space of a process has."""
    x = torch.zeros(1, 1).expand(2**24, 1)
    with pytest.raises(
        RuntimeError, match=r"no memory for .* \[16777216, 16777216\]|allocate memory"
    ):
        torch.ops.initfast.linear_act(x, x, None, "relu", 0.0, 0.0, False)
