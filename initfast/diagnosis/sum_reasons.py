"""Why a function of many values at once is NaN or infinite: sums, products, norms, losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from initfast.diagnosis.function_calls import (
    NO_INFINITY,
    WIDER,
    FunctionCall,
    Reason,
    largest,
    part,
    values,
)
from initfast.stats.text import number

# ---- sums ----


def _terms(call: FunctionCall) -> int:
    """How many values each number of a reduction is made of."""
    return call.input.numel() // max(call.output.numel(), 1)


def _sum(call: FunctionCall) -> Reason:
    x = call.input
    if x.numel() == 0 and call.name == "mean":
        return Reason("the mean of no values is NaN", "see why nothing is left to average")
    if not x.isfinite().all():
        if (x == math.inf).any() and (x == -math.inf).any():
            return Reason("it adds inf and -inf, which is NaN", NO_INFINITY)
        return Reason()
    top, terms = largest(x), x.shape[call.args[1]] if call.name == "cumsum" else _terms(call)
    if top * terms <= torch.finfo(call.output.dtype).max:
        return Reason()
    return Reason(f"{values(terms)} of up to {number(top)} add up beyond {call.limit}", WIDER)


def _largest_sum(dtype: torch.dtype) -> float:
    """What torch sums squares in holds so much: of float16 and bfloat16 they are float32's."""
    narrow = dtype.itemsize < torch.float32.itemsize
    return torch.finfo(torch.float32 if narrow else dtype).max


def _spread(call: FunctionCall) -> Reason:
    correction = call.kwargs.get("correction")
    correction = 1 if correction is None else correction
    terms = _terms(call)
    if terms <= correction:
        return Reason(
            f"the {call.name} of {values(terms)} is NaN: it divides by their number less "
            f"{number(correction)}",
            "use correction=0 (unbiased=False), or give it more than one value",
        )
    dims = call.args[1] if len(call.args) > 1 else None
    return _deviations(call, dims or list(range(call.input.dim())))


def _deviations(call: FunctionCall, dims: list[int]) -> Reason:
    """Of squares of deviations from a mean over some dimensions.

    One of two extremes lies at least half their distance off.
    """
    x = call.input
    given = [a for a in call.args if isinstance(a, Tensor)]
    if not all(t.isfinite().all() for t in given) or not x.numel():
        return Reason()
    off = (x.amax(dims) - x.amin(dims)).max().item() / 2
    if off * off <= _largest_sum(call.output.dtype):
        return Reason()
    limit = number(_largest_sum(call.output.dtype))
    return Reason(f"it squares deviations of {number(off)} or more, beyond {limit}", WIDER)


def _squares(call: FunctionCall) -> Reason:
    top, order = largest(call.input), call.args[1] if len(call.args) > 1 else 2
    limit = _largest_sum(call.output.dtype)
    if order != 2 or top * top * _terms(call) <= limit:
        return Reason()
    return Reason(
        f"it sums squares of values of up to {number(top)}, beyond {number(limit)}", WIDER
    )


def _product(call: FunctionCall) -> Reason:
    """A matrix product or a convolution."""
    matrices = [a for a in call.args if isinstance(a, Tensor)]
    added = call.name in ("addmm", "baddbmm", "addbmm", "addmv")
    a, b = matrices[1:3] if added else matrices[:2]
    bad = _infinities(matrices)
    if bad:
        return Reason(f"{part(bad[0])} of an input are infinite", NO_INFINITY)
    terms = _products_of_convolution(call, b) if call.name == "convolution" else a.shape[-1]
    top = largest(a), largest(b)
    if (
        top[0] * top[1] * terms + (largest(matrices[0]) if added else 0)
        <= torch.finfo(call.output.dtype).max
    ):
        return Reason()
    return Reason(
        f"it sums {terms} products of values of up to {number(top[0])} and {number(top[1])}, "
        f"beyond {call.limit}",
        WIDER,
    )


def _products_of_convolution(call: FunctionCall, weight: Tensor) -> int:
    """How many products one output is the sum of, at most."""
    transposed, groups = call.args[6], call.args[8]
    kernel = weight[0, 0].numel()
    return kernel * (len(weight) // groups if transposed else weight.shape[1])


def _infinities(them: Sequence[Tensor]) -> list[Tensor]:
    return [bad for t in them if (bad := t.detach().isinf()).any()]


# ---- others ----


def _softmax(call: FunctionCall) -> Reason:
    x = call.input
    dim = call.args[1] if len(call.args) > 1 and isinstance(call.args[1], int) else -1
    empty = (x == -math.inf).all(dim)
    if empty.any():
        return Reason(
            f"{part(empty, 'rows')} are -inf all over, and {call.name} of such a row is NaN",
            "if a mask makes them, leave one entry of each row open, or mask with a large negative "
            "finite number",
        )
    if (x == math.inf).any():
        return Reason(
            f"{part(x == math.inf)} of its input are inf: {call.name} takes the largest value off "
            "first, and inf - inf is NaN",
            WIDER,
        )
    return Reason()


def _norm(call: FunctionCall) -> Reason:
    """A layer or group norm, or a batch norm in training."""
    if call.name == "layer_norm":
        rows = call.input.flatten(-len(call.args[1]))
        same = rows.amax(-1) == rows.amin(-1)
        if len(call.args) > 4 and call.args[4] == 0 and same.any():
            return Reason(
                f"{part(same, 'rows')} are one number all over: 0 / 0", "use an eps over 0"
            )
        return _deviations(call, list(range(-len(call.args[1]), 0)))
    if call.name == "group_norm":
        rows = call.input.reshape(call.args[3] * call.args[6], -1)
        return _deviations(call._replace(args=[rows, *call.args[1:]]), [1])
    if call.name == "batch_norm" and len(call.args) == 8 and call.args[5] is True:
        return _deviations(call, [d for d in range(call.input.dim()) if d != 1])
    return Reason()


def _cast(call: FunctionCall) -> Reason:
    top = largest(call.input)
    if top <= torch.finfo(call.output.dtype).max:
        return Reason()
    return Reason(f"{number(top)} is beyond {call.limit}", WIDER)


def _classes(call: FunctionCall) -> Reason:
    """The negative log-likelihood of classes."""
    targets = call.args[1]
    ignored = call.args[4] if len(call.args) > 4 else -100
    if not isinstance(targets, Tensor) or not bool((targets == ignored).all()):
        return Reason()
    if not targets.numel():
        return Reason("the mean of no values is NaN", "see why nothing is left to average")
    return Reason(
        f"all {targets.numel()} targets are {ignored}, which is ignored: the mean of nothing is "
        "NaN",
        "leave out batches without a target, or divide the sum by at least 1",
    )


def _alignments(call: FunctionCall) -> Reason:
    """A CTC loss: each label takes a step, and a repeated one a blank before it (Graves 2006)."""
    targets, given, needed = call.args[1:4]
    given, needed = torch.as_tensor(given).tolist(), torch.as_tensor(needed).tolist()
    rows = list(targets) if targets.dim() > 1 else list(targets.split(needed))
    for i, (row, steps, length) in enumerate(zip(rows, given, needed, strict=True)):
        labels = row[:length]
        least = length + int((labels[1:] == labels[:-1]).sum())
        if least > steps:
            return Reason(
                f"target {i} has {length} labels and needs {least} steps, its input has {steps}: "
                "no alignment exists",
                "give it longer inputs (less pooling or stride), leave such targets out, or pass "
                "zero_infinity=True",
            )
    return Reason()


def _weight_norm(call: FunctionCall) -> Reason:
    """g v / |v|, the norm over all dimensions but one."""
    v, dim = call.input, call.args[2] if len(call.args) > 2 else 0
    zero = v.movedim(dim, 0).flatten(1).norm(dim=1) == 0
    if not zero.any():
        return Reason()
    return Reason(
        f"0 / 0 is NaN: {part(zero, 'rows')} of the weight's direction have a norm of 0",
        "draw the direction (original1, or weight_v) at random, and set its length to start small",
    )


def _difference(call: FunctionCall) -> Reason:
    """A mean of squared differences."""
    a, b = (t for t in call.args[:2] if isinstance(t, Tensor))
    if (a.isfinite().all() and b.isfinite().all()) and (call.output.numel() or a.numel()):
        top = max(largest(a), largest(b))
        squares = 4 * top * top * a.numel()
        if squares > torch.finfo(call.output.dtype).max:
            return Reason(f"it squares differences of values of up to {number(top)}", WIDER)
    if not a.numel():
        return Reason("the mean of no values is NaN", "see why nothing is left to average")
    return Reason()


SUMS: dict[str, Callable[[FunctionCall], Reason]] = {
    **dict.fromkeys(("sum", "mean", "cumsum", "nansum"), _sum),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), _spread),
    "norm": _squares,
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "addmm", "baddbmm", "convolution"), _product),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("layer_norm", "group_norm", "batch_norm"), _norm),
    "to": _cast,
    **dict.fromkeys(("nll_loss", "nll_loss2d"), _classes),
    "mse_loss": _difference,
    "ctc_loss": _alignments,
    "weight_norm_interface": _weight_norm,
}
"""By name what explains each."""
