"""The operators called by their kernels' dispatch key, and which tensors those take."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import Parameter

from initfast import ops  # noqa: F401  (registers the operators)
from initfast.ops.checks import DTYPES, bytes_needed
from initfast.ops.library import measure_function

LINEAR_ACT = torch.ops.initfast.linear_act.default.redispatch
LINEAR_ACT_CHAIN = torch.ops.initfast.linear_act_chain.default.redispatch
CHAIN_BACKWARD = torch.ops.initfast.linear_act_chain_backward.default.redispatch
ACT = torch.ops.initfast.act.default.redispatch
ACT_IN_PLACE = torch.ops.initfast.act_.default.redispatch
MOMENTS = torch.ops.initfast.moments.default.redispatch
UNIT_MOMENTS = torch.ops.initfast.unit_moments.default.redispatch
MEASURE = measure_function()
"""Writes moments of numbers in the CPU's memory past the dispatcher; None on the reference."""

_keys_of = torch._C._dispatch_keys
_STRIDED = torch.strided
_NEGATIVE = torch._C.DispatchKey.Negative
OF_THE_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
"""The dispatch key set of the CPU's kernels, for what they read as it lies in memory."""
_kernels: dict[int, Any] = {}
_key_sets: dict[Any, Any] = {torch._C.DispatchKey.CPU: OF_THE_CPU}


def kernels_of(t: Tensor) -> Any:
    """The dispatch key of the kernels for t; None where they do not take it."""
    if t.dtype not in DTYPES:
        return None
    if type(t) is Parameter and t.is_cpu and t.layout is _STRIDED and not t.is_neg():
        return OF_THE_CPU
    return plain_kernels(t) or _kernels_of_negative(t)


def _kernels_of_negative(t: Tensor) -> Any:
    """Those of a view whose numbers torch negates when they are read: its own fallback runs first.

    Such are the imaginary parts of conjugates. None where t is no such view, or not plain else.
    """
    keys = _keys_of(t)
    if not keys.has(_NEGATIVE):
        return None
    raw = keys.remove(_NEGATIVE).raw_repr()
    kernels = _kernels.get(raw) or _find_kernels(t.device, raw)
    return None if kernels is None else kernels.add(_NEGATIVE)


def plain_kernels(t: Tensor) -> Any:
    """The dispatch key set of the kernels for t, or None where t is not a plain dense tensor.

    Plain is what has the dispatch keys of a freshly made tensor: no subclass, no functorch
    wrapper, not sparse, quantised, nested, lazily conjugated, fake or on the meta device. Calling
    an operator by this key skips autograd, which is off, and halves the cost of the call.
    """
    raw = _keys_of(t).raw_repr()
    found = _kernels.get(raw)
    return found if found is not None else _find_kernels(t.device, raw)


def _find_kernels(device: torch.device, raw: int) -> Any:
    key = getattr(torch._C.DispatchKey, device.type.upper(), None)
    if key is None or device.type == "meta":
        return None
    # Neither another profile nor a transform sees these made, nor a tool that watches operators.
    with (
        torch._C.DisableTorchFunction(),
        torch._C._DisableTorchDispatch(),
        torch._C._DisableFuncTorch(),
    ):
        plain = [torch.empty(0, device=device)]
        with torch.inference_mode():
            plain.append(torch.empty(0, device=device))
    if raw not in [_keys_of(t).raw_repr() for t in plain]:
        return None
    _kernels[raw] = _key_sets.setdefault(key, torch._C.DispatchKeySet(key))
    return _kernels[raw]


def has_memory(t: Tensor) -> bool:
    """Whether a strided tensor has all its memory; it may be given away and made or fetched anew.

    What the net itself reads has. Of what it need not read any more, somebody must ask.
    """
    held = t.untyped_storage().nbytes()
    if held == t.nbytes and t.storage_offset() == 0:  # the usual one, in half the time
        return True
    return held >= bytes_needed(t)


def linear_kernels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
    """The dispatch key of the kernels for a linear layer, or None where they do not do it."""
    kernels = plain_kernels(x)
    if kernels is None or x.dtype not in DTYPES or x.dim() == 0:
        return None
    return kernels if fits(weight, bias, x, x.shape[-1], kernels) else None


def fits(weight: Tensor, bias: Tensor | None, x: Tensor, width: int, kernels: Any) -> bool:
    """Whether the kernels do a linear layer of inputs like x, but of this width."""
    fans, dtype = weight.shape, x.dtype
    if len(fans) != 2 or fans[1] != width or weight.dtype is not dtype:
        return False
    if not _matches(weight, x, kernels):
        return False
    if bias is None:
        return True
    return bias.dtype is dtype and bias.shape == fans[:1] and _matches(bias, x, kernels)


def _matches(t: Tensor, x: Tensor, kernels: Any) -> bool:
    """Whether t is on x's device and as plain as x; for a parameter this takes no dispatch keys."""
    if kernels is OF_THE_CPU and type(t) is Parameter and t.is_cpu:
        return t.layout is _STRIDED and not t.is_neg()
    return plain_kernels(t) is kernels and t.device == x.device
