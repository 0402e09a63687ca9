"""Why a function that works element by element is NaN or infinite: poles, domains, overflow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from initfast.diagnosis.function_calls import (
    BOUND,
    NO_INFINITY,
    WIDER,
    FunctionCall,
    Reason,
    apart,
    part,
    spelled,
    values,
)
from initfast.stats.text import dtype_name, number

# ---- functions of one number ----


class _Domain(NamedTuple):
    """Where a function of one number is infinite, and where it is NaN."""

    pole: Callable[[Tensor], Tensor]
    outside: Callable[[Tensor], Tensor]
    words: str
    advice: str


def _nowhere(x: Tensor) -> Tensor:
    return torch.zeros_like(x, dtype=torch.bool)


_POSITIVE = (
    "clamp its input to a small positive number before it; of probabilities compute the logarithm "
    "itself (log_softmax, logsigmoid, logsumexp)"
)
_EPS = "add a small positive number to its input"
_WITHIN = "clamp its input to just within its domain"

_DOMAINS = {
    **dict.fromkeys(
        ("log", "log2", "log10"),
        _Domain(lambda x: x == 0, lambda x: x < 0, "negative", _POSITIVE),
    ),
    "log1p": _Domain(lambda x: x == -1, lambda x: x < -1, "under -1", _WITHIN),
    "sqrt": _Domain(_nowhere, lambda x: x < 0, "negative", "clamp its input at 0 before it"),
    "rsqrt": _Domain(lambda x: x == 0, lambda x: x < 0, "negative", _EPS),
    "reciprocal": _Domain(lambda x: x == 0, _nowhere, "", _EPS),
    "acos": _Domain(_nowhere, lambda x: x.abs() > 1, "outside -1 to 1", _WITHIN),
    "asin": _Domain(_nowhere, lambda x: x.abs() > 1, "outside -1 to 1", _WITHIN),
    "atanh": _Domain(lambda x: x.abs() == 1, lambda x: x.abs() > 1, "outside -1 to 1", _WITHIN),
    "erfinv": _Domain(lambda x: x.abs() == 1, lambda x: x.abs() > 1, "outside -1 to 1", _WITHIN),
    "acosh": _Domain(_nowhere, lambda x: x < 1, "under 1", _WITHIN),
    "logit": _Domain(
        lambda x: (x == 0) | (x == 1), lambda x: (x < 0) | (x > 1), "outside 0 to 1", _WITHIN
    ),
}

_EXPONENTIALS: dict[str, Callable[[float], float]] = {
    "exp": math.log,
    "expm1": math.log,
    "exp2": math.log2,
    "sinh": lambda top: math.log(top) + math.log(2),
    "cosh": lambda top: math.log(top) + math.log(2),
}
"""From which magnitude on each overflows, by the largest number of the dtype."""


def _exponential(call: FunctionCall) -> Reason:
    x, dtype = call.input, call.output.dtype
    x = x[~call.output.isfinite()]
    x = x[x.isfinite()]
    if not x.numel():
        return Reason()
    top = x[x.abs().argmax()].item()
    limit = _EXPONENTIALS[call.name](torch.finfo(dtype).max)
    line = apart(limit, abs(top))
    below = f" and below -{line}" if call.name in ("sinh", "cosh") else ""
    return Reason(
        f"{call.name} of {apart(top, math.copysign(limit, top))}; {dtype_name(dtype)} overflows "
        f"above {line}{below}",
        BOUND,
    )


def _of_domain(call: FunctionCall) -> Reason:
    pole, outside, words, advice = _DOMAINS[call.name]
    x = call.input
    if call.name == "logit" and call.args[1:2] not in ((), [], [None], (None,)):
        return Reason()  # clamped by its eps
    beyond, at = outside(x), pole(x)
    if beyond.any():
        first = x[beyond][0].item()
        value = apart(first, float(f"{first:.0f}"))
        why = f"{call.name} of {value} is NaN: {part(beyond)} of its input are {words}"
        return Reason(why, advice)
    if at.any():
        first = x[at][0].item()
        same = f"{part(at)} of its input are {number(first)}"
        why = f"{call.name} of {number(first)} is infinite: {same}"
        return Reason(why, advice)
    if call.name != "reciprocal":
        return Reason()
    least = x[~call.output.isfinite()].abs().min().item()
    return Reason(f"1 / {number(least)} is beyond {call.limit}", _EPS)


# ---- functions of two, element by element ----


def _operand(call: FunctionCall, i: int) -> Tensor:
    """One of its operands as wide as the result, in float64."""
    t = torch.as_tensor(call.operands[i], dtype=torch.double, device=call.output.device)
    return t.detach().expand(call.output.shape)


def _at_bad(call: FunctionCall) -> list[Tensor]:
    """The two operands where the result is not finite; empty where it has but one."""
    nan = call.output.isnan()
    bad = nan if nan.any() else ~call.output.isfinite()
    if len(call.operands) < 2:
        return []
    return [_operand(call, i)[bad] for i in (0, 1)]


def _quotient(call: FunctionCall) -> Reason:
    if not (found := _at_bad(call)):
        return Reason()
    above, below = found
    i = int((below.abs().log() - above.abs().log()).nan_to_num(0, 0, -math.inf).argmin())
    a, b = above[i].item(), below[i].item()
    if b == 0:
        count = int((_operand(call, 1) == 0).sum())
        what = "NaN" if a == 0 else "infinite"
        return Reason(
            f"{number(a)} / 0 is {what}: the divisor is 0 at {count} of "
            f"{values(call.output.numel())}",
            "add a small number to the divisor, or clamp it from below",
        )
    if not math.isfinite(a) or not math.isfinite(b):
        return Reason(f"{spelled(a)} / {spelled(b)} is NaN", WIDER)
    return Reason(
        f"{number(a)} / {number(b)} is beyond {call.limit}",
        "clamp the divisor from below by more than that",
    )


def _of_two(symbol: str) -> Callable[[FunctionCall], Reason]:
    def explain(call: FunctionCall) -> Reason:
        if not (found := _at_bad(call)):
            return Reason()
        a, b = found
        if call.kwargs.get("alpha", 1) != 1:
            return Reason()
        i = int((a.abs() + b.abs()).nan_to_num(0, math.inf, -math.inf).argmax())
        x, y = a[i].item(), b[i].item()
        if symbol == "×" and (x == 0 or y == 0):
            return Reason(f"{spelled(x)} {symbol} {spelled(y)} is NaN", NO_INFINITY)
        if math.isinf(x) and math.isinf(y):
            return Reason(f"{spelled(x)} {symbol} {spelled(y, True)} is NaN", NO_INFINITY)
        if math.isinf(x) or math.isinf(y):
            return Reason()
        return Reason(f"{number(x)} {symbol} {spelled(y, True)} is beyond {call.limit}", WIDER)

    return explain


def _power(call: FunctionCall) -> Reason:
    if not (found := _at_bad(call)):
        return Reason()
    base, power = found
    zero = (base == 0) & (power < 0)
    if zero.any():
        p = power[zero][0].item()
        count = int(zero.sum())
        return Reason(
            f"0 to the power {number(p)} is infinite: the base is 0 at {count} of "
            f"{values(call.output.numel())}",
            "add a small positive number to the base",
        )
    negative = (base < 0) & (power != power.round())
    if negative.any():
        b, p = base[negative][0].item(), power[negative][0].item()
        return Reason(
            f"{number(b)} to the power {number(p)} is NaN: a negative number has only whole powers",
            "clamp the base at 0, or take its magnitude",
        )
    size = power * base.abs().log()
    if not size.isfinite().any():
        return Reason()
    i = int(size.nan_to_num(0, 0, 0).argmax())
    b, p = base[i].item(), power[i].item()
    return Reason(f"{number(b)} to the power {number(p)} is beyond {call.limit}", WIDER)


ELEMENTWISE: dict[str, Callable[[FunctionCall], Reason]] = {
    **dict.fromkeys(_EXPONENTIALS, _exponential),
    **dict.fromkeys(_DOMAINS, _of_domain),
    **dict.fromkeys(("div", "true_divide"), _quotient),
    **{"mul": _of_two("×"), "add": _of_two("+"), "sub": _of_two("-"), "pow": _power},
}
"""By name what explains each."""
