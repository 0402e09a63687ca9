"""Bad input: one clear error, the same from the kernels, from the reference and without data."""

import re

import pytest
import torch

from initfast import ops
from initfast.ops import reference

OPS = torch.ops.initfast


def bad_calls():
    f, i, meta = torch.randn(4, 3), torch.ones(4, 3, dtype=torch.int64), torch.device("meta")
    w, b = torch.randn(5, 3), torch.randn(5)
    rest = ("tanh", 0.0, 0.0, False)
    tail = ("tanh", 0.0, 0.0)
    return {
        "moments of integers": ("moments", (i,), "x has an unsupported dtype"),
        "moments of booleans": ("moments", (f > 0,), "expected float32, float64, bfloat16 or"),
        "moments of complex": ("moments", (f + 1j,), "x has an unsupported dtype"),
        "act of integers": ("act", (i, *tail, -1), "act: z has an unsupported dtype"),
        "act without a name": ("act", (f, "", 0.0, 0.0, -1), "unknown activation ''; expected one"),
        "act unknown": ("act", (f, "ReLU", 0.0, 0.0, -1), "unknown activation 'ReLU'.*identity, "),
        "unit_dim too large": ("act", (f, *tail, 2), r"unit_dim is 2 but z has shape \[4, 3\]"),
        "unit_dim too small": ("act", (f, *tail, -3), "unit_dim is -3 but"),
        "celu of width 0": ("act", (f, "celu", 0.0, 0.0, -1), "celu.* alpha is 0.*expected"),
        "celu below 0": ("act", (f, "celu", -1.0, 0.0, -1), "celu.* alpha is -1.*expected"),
        "hardtanh inverted": ("act", (f, "hardtanh", 1.0, -1.0, -1), "hardtanh.* expected"),
        "backward of integers": ("act_backward", (i, i, *tail), "z has an unsupported dtype"),
        "backward dtypes": ("act_backward", (f.double(), f, *tail), "expected one dtype"),
        "backward shapes": (
            "act_backward",
            (f[:3], f, *tail),
            r"grad_y has shape \[3, 3\] but z has shape \[4, 3\]",
        ),
        "backward unknown": (
            "act_backward",
            (f, f, "gelu2", 0.0, 0.0),
            "unknown activation 'gelu2'",
        ),
        "backward devices": ("act_backward", (f.to(meta), f, *tail), "one device"),
        "linear of integers": ("linear_act", (i, i, None, *rest), "x has an unsupported dtype"),
        "weight of integers": ("linear_act", (f, i, None, *rest), "weight is .*expected one dtype"),
        "weight dtype": ("linear_act", (f, w.double(), None, *rest), "weight is .*one dtype"),
        "bias dtype": ("linear_act", (f, w, b.half(), *rest), "bias is .*one dtype"),
        "weight on meta": ("linear_act", (f, w.to(meta), None, *rest), "weight is .*one device"),
        "x on meta": ("linear_act", (f.to(meta), w, None, *rest), "weight is .*one device"),
        "bias on meta": ("linear_act", (f, w, b.to(meta), *rest), "bias is .*one device"),
        "weight 1-d": ("linear_act", (f, b, None, *rest), r"weight has shape \[5\].*out_features"),
        "weight 3-d": ("linear_act", (f, w[None], None, *rest), r"weight has shape \[1, 5, 3\]"),
        "x 0-d": ("linear_act", (f[0, 0], w, None, *rest), r"x has shape \[\]"),
        "in_features": (
            "linear_act",
            (torch.randn(2, 4), w, None, *rest),
            r"x has shape \[2, 4\] but weight has shape \[5, 3\]; .*last dimension to be 3",
        ),
        "bias length": (
            "linear_act",
            (f, w, b[:4], *rest),
            r"bias has shape \[4\]; expected \[5\]",
        ),
        "bias 2-d": ("linear_act", (f, w, b[None], *rest), r"bias has shape \[1, 5\]"),
        "linear unknown": (
            "linear_act",
            (f, w, b, "softmax", 0.0, 0.0, False),
            "unknown activation 'softmax'",
        ),
    }


BAD = bad_calls()


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
