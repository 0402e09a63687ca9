"""Why a function of these numbers is NaN or infinite: the reach of each, in numbers.

Only what the operands prove is said: at an element whose result is not finite the operands are read
and the mathematics follows. Where a function is not known, or its operands do not prove the cause
(as of a sum whose terms alone could not overflow), nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from initfast.stats.text import dtype_name, number

WIDER = "keep the scale down before it, or use a wider dtype there"


class FunctionCall(NamedTuple):
    """One call of a function.

    Attributes:
        name: torch's, without underscores and dtypes: "log", "div", "matmul".
        args, kwargs: its arguments as they were before the call.
        output: the result that is not finite.
    """

    name: str
    args: Sequence[Any]
    kwargs: dict[str, Any]
    output: Tensor

    @property
    def operands(self) -> list[Any]:
        """The tensors and numbers among its positional arguments."""
        return [a for a in self.args if isinstance(a, (Tensor, int, float))]

    @property
    def input(self) -> Tensor:
        """Its first tensor, in float64."""
        first: Tensor = next(a for a in self.args if isinstance(a, Tensor))
        return first.detach().double()

    @property
    def limit(self) -> str:
        """The largest number of the output's dtype, in words."""
        dtype = self.output.dtype
        return f"{dtype_name(dtype)}'s {number(torch.finfo(dtype).max)}"


class Reason(NamedTuple):
    """Why, and what to do; each may be empty."""

    why: str = ""
    advice: str = ""


def reason(call: FunctionCall) -> Reason:
    """Why the result of a call is not finite.

    Args:
        call: one whose inputs have no NaN.

    Returns:
        In numbers; empty where they do not tell.
    """
    explain = _REASONS.get(call.name)
    return Reason() if explain is None else explain(call)


# ---- functions of one number ----


class _Domain(NamedTuple):
    """Where a function of one number is infinite, and where it is NaN."""

    pole: Callable[[Tensor], Tensor]
    outside: Callable[[Tensor], Tensor]
    words: str
    advice: str


def _nowhere(x: Tensor) -> Tensor:
    return torch.zeros_like(x, dtype=torch.bool)


_POSITIVE = "clamp its input to a small positive number before it"
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
    return Reason(
        f"{call.name} of {number(top)}; {dtype_name(dtype)} overflows above {number(limit)}",
        "bound what goes into it: clamp it, or take its maximum off first (as logsumexp does)",
    )


def _of_domain(call: FunctionCall) -> Reason:
    pole, outside, words, advice = _DOMAINS[call.name]
    x = call.input
    beyond, at = outside(x), pole(x)
    if beyond.any():
        first = x[beyond][0].item()
        why = f"{call.name} of {number(first)} is NaN: {_part(beyond)} of its input are {words}"
        return Reason(why, advice)
    if at.any():
        first = x[at][0].item()
        part = f"{_part(at)} of its input are {number(first)}"
        why = f"{call.name} of {number(first)} is infinite: {part}"
        return Reason(why, advice)
    if call.name != "reciprocal":
        return Reason()
    least = x[~call.output.isfinite()].abs().min().item()
    return Reason(f"1 / {number(least)} is beyond {call.limit}", _EPS)


# ---- functions of two, element by element ----


def _at_bad(call: FunctionCall) -> list[Tensor]:
    """The two operands where the result is not finite; empty where they do not fit it."""
    shape, bad = call.output.shape, ~call.output.isfinite()
    nan = call.output.isnan()
    bad = nan if nan.any() else bad
    found = []
    for operand in call.operands[:2]:
        t = torch.as_tensor(operand, device=call.output.device).detach().double()
        if torch.broadcast_shapes(t.shape, shape) != shape:
            return []
        found.append(t.expand(shape)[bad])
    return found if len(found) == 2 else []


def _quotient(call: FunctionCall) -> Reason:
    if not (found := _at_bad(call)):
        return Reason()
    above, below = found
    i = int((below.abs().log() - above.abs().log()).nan_to_num(0, 0, -math.inf).argmin())
    a, b = above[i].item(), below[i].item()
    if b == 0:
        count = int((below == 0).sum())
        what = "NaN" if a == 0 else "infinite"
        return Reason(
            f"{number(a)} / 0 is {what}: the divisor is 0 at {count} of "
            f"{_values(call.output.numel())}",
            "add a small number to the divisor, or clamp it from below",
        )
    if not math.isfinite(a) or not math.isfinite(b):
        return Reason(f"{_spelled(a)} / {_spelled(b)} is NaN", WIDER)
    return Reason(
        f"{number(a)} / {number(b)} is beyond {call.limit}",
        "clamp the divisor from below by more than that",
    )


def _of_two(symbol: str) -> Callable[[FunctionCall], Reason]:
    def explain(call: FunctionCall) -> Reason:
        if not (found := _at_bad(call)):
            return Reason()
        a, b = found
        factor = call.args[2] if call.name == "addcmul" else call.kwargs.get("alpha", 1)
        if factor != 1:
            return Reason()
        i = int((a.abs() + b.abs()).nan_to_num(0, math.inf, -math.inf).argmax())
        x, y = a[i].item(), b[i].item()
        if symbol == "×" and (x == 0 or y == 0):
            return Reason(f"{_spelled(x)} {symbol} {_spelled(y)} is NaN", _NO_INFINITY)
        if math.isinf(x) and math.isinf(y):
            return Reason(f"{_spelled(x)} {symbol} {_spelled(y, True)} is NaN", _NO_INFINITY)
        if math.isinf(x) or math.isinf(y):
            return Reason()
        return Reason(f"{number(x)} {symbol} {_spelled(y, True)} is beyond {call.limit}", WIDER)

    return explain


_NO_INFINITY = "keep the infinities out, or let a large finite number stand in their place"


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
            f"{_values(call.output.numel())}",
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


# ---- sums ----


def _terms(call: FunctionCall) -> int:
    """How many values each number of a reduction is made of."""
    return call.input.numel() // max(call.output.numel(), 1)


def _top(t: Tensor) -> float:
    t = t.detach().double()
    return t[t.isfinite()].abs().max().item() if t.isfinite().any() else 0.0


def _sum(call: FunctionCall) -> Reason:
    x = call.input
    if x.numel() == 0 and call.name == "mean":
        return Reason("the mean of no values is NaN", "see why nothing is left to average")
    if not x.isfinite().all():
        if (x == math.inf).any() and (x == -math.inf).any():
            return Reason("it adds inf and -inf, which is NaN", _NO_INFINITY)
        return Reason()
    top, terms = _top(x), x.shape[call.args[1]] if call.name == "cumsum" else _terms(call)
    if top * terms <= torch.finfo(call.output.dtype).max:
        return Reason()
    return Reason(f"{_values(terms)} of up to {number(top)} add up beyond {call.limit}", WIDER)


def _spread(call: FunctionCall) -> Reason:
    correction = call.kwargs.get("correction")
    correction = 1 if correction is None else correction
    terms = _terms(call)
    if terms <= correction:
        return Reason(
            f"the {call.name} of {_values(terms)} is NaN: it divides by their number less "
            f"{number(correction)}",
            "use correction=0 (unbiased=False), or give it more than one value",
        )
    return _squares(call)


def _squares(call: FunctionCall) -> Reason:
    top = _top(call.input)
    if top**2 * max(call.input.numel(), 1) <= torch.finfo(call.output.dtype).max:
        return Reason()
    return Reason(f"it sums squares of values of up to {number(top)}, beyond {call.limit}", WIDER)


def _product(call: FunctionCall) -> Reason:
    """A matrix product or a convolution."""
    matrices = [a for a in call.args if isinstance(a, Tensor)]
    added = call.name in ("addmm", "baddbmm", "addbmm", "addmv")
    a, b = matrices[1:3] if added else matrices[:2]
    bad = _infinities(matrices)
    if bad:
        return Reason(f"{_part(bad[0])} of an input are infinite", _NO_INFINITY)
    terms = b[0].numel() if call.name == "convolution" else a.shape[-1]
    top = _top(a), _top(b)
    if (
        top[0] * top[1] * terms + (_top(matrices[0]) if added else 0)
        <= torch.finfo(call.output.dtype).max
    ):
        return Reason()
    return Reason(
        f"it sums {terms} products of values of up to {number(top[0])} and {number(top[1])}, "
        f"beyond {call.limit}",
        WIDER,
    )


def _infinities(them: Sequence[Tensor]) -> list[Tensor]:
    return [bad for t in them if (bad := t.detach().isinf()).any()]


# ---- others ----


def _softmax(call: FunctionCall) -> Reason:
    x = call.input
    dim = call.args[1] if len(call.args) > 1 and isinstance(call.args[1], int) else -1
    empty = (x == -math.inf).all(dim)
    if empty.any():
        return Reason(
            f"{_part(empty, 'rows')} are -inf all over, and {call.name} of such a row is NaN: its "
            "mask leaves nothing",
            "leave one entry of each row open, or mask with a large negative finite number",
        )
    if (x == math.inf).any():
        return Reason(f"{_part(x == math.inf)} of its input are +inf, which it takes off", WIDER)
    return Reason()


def _norm(call: FunctionCall) -> Reason:
    """A layer, batch or group norm."""
    if not call.input.isfinite().all():
        return Reason()
    return _squares(call)


def _cast(call: FunctionCall) -> Reason:
    top = _top(call.input)
    if top <= torch.finfo(call.output.dtype).max:
        return Reason()
    return Reason(f"{number(top)} is beyond {call.limit}", WIDER)


def _classes(call: FunctionCall) -> Reason:
    """The negative log-likelihood of classes."""
    targets = call.args[1]
    ignored = call.args[4] if len(call.args) > 4 else -100
    if not isinstance(targets, Tensor) or not bool((targets == ignored).all()):
        return Reason()
    return Reason(
        f"all {targets.numel()} targets are {ignored}, which is ignored: the mean of nothing is "
        "NaN",
        "leave out batches without a target, or divide the sum by at least 1",
    )


def _difference(call: FunctionCall) -> Reason:
    """A mean of squared differences."""
    a, b = (t for t in call.args[:2] if isinstance(t, Tensor))
    if (a.isfinite().all() and b.isfinite().all()) and (call.output.numel() or a.numel()):
        top = max(_top(a), _top(b))
        squares = (2 * top) ** 2 * a.numel()
        if squares > torch.finfo(call.output.dtype).max:
            return Reason(f"it squares differences of values of up to {number(top)}", WIDER)
    if not a.numel():
        return Reason("the mean of no values is NaN", "see why nothing is left to average")
    return Reason()


_REASONS: dict[str, Callable[[FunctionCall], Reason]] = {
    **dict.fromkeys(_EXPONENTIALS, _exponential),
    **dict.fromkeys(_DOMAINS, _of_domain),
    **dict.fromkeys(("div", "true_divide"), _quotient),
    **{"mul": _of_two("×"), "add": _of_two("+"), "sub": _of_two("-"), "pow": _power},
    **dict.fromkeys(("sum", "mean", "cumsum", "nansum"), _sum),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), _spread),
    "norm": _squares,
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "addmm", "baddbmm", "convolution"), _product),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("layer_norm", "batch_norm", "group_norm", "rms_norm"), _norm),
    "to": _cast,
    "nll_loss": _classes,
    "mse_loss": _difference,
}


# ---- in words ----


def _spelled(x: float, follows: bool = False) -> str:
    text = "inf" if x == math.inf else "-inf" if x == -math.inf else number(x)
    return f"({text})" if follows and x < 0 else text


def _values(count: int) -> str:
    return "1 value" if count == 1 else f"{count} values"


def _part(flags: Tensor, what: str = "values") -> str:
    return f"{int(flags.sum())} of {flags.numel()} {what}"
