"""Does a dtype hold the values? Checks of its largest and its smallest normal number."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import torch

from initfast.diagnosis.findings import Finding
from initfast.diagnosis.net import Net, Outcome
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.text import dtype_name, number, plural, share

RANGES = (torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


MOST_UNDER_HALF = 0.39
"""The most of any normal's values that lie under half their rms, where the mean is zero or more
than the std."""


def dtype_range(net: Net) -> Outcome:
    """Values beyond the largest, or mostly under the smallest normal, of a dtype."""
    floating = [(i, x) for i, x in enumerate(net.sound) if x.dtype.is_floating_point]
    told: dict[tuple[torch.dtype, str, str], list[Finding]] = defaultdict(list)
    for i, layer in floating:
        for what, limit, found in _own_range(net, i, layer):
            told[layer.dtype, what, limit].append(found)
    for (_, _, kind), alike in told.items():
        worst = min if kind == "dtype_headroom" else max
        yield _as_one(alike, worst(alike, key=lambda f: f.value))
    yield from _other_ranges(net, floating)


def _as_one(alike: list[Finding], worst: Finding) -> Finding:
    """The worst of findings of one kind, over the layers from the first of them to the last."""
    if len(alike) == 1:
        return worst
    return replace(
        worst,
        first=alike[0].first,
        last=alike[-1].last,
        names=(alike[0].names[0], alike[-1].names[1]),
        measured=f"worst of {len(alike)} layers, at layer {worst.first}: {worst.measured}",
    )


def _losses(over: int, lost: int) -> str:
    """At how many layers a dtype would do what, in words."""
    said = [f"overflow at {plural(over, 'layer')}"] if over else []
    said += [f"lose most values at {plural(lost, 'layer')}"] if lost else []
    return " and ".join(said)


def _other_ranges(net: Net, floating: list[tuple[int, Layer]]) -> Iterator[Finding]:
    """One finding on all dtypes that would not hold the values, for those who mean to cast."""
    lines, bad, part, limit = [], set(), 0.0, net.limits["dtype_lost"]
    tops = {i: x.post.largest for i, x in floating}
    for dtype in RANGES:
        others = [(i, x) for i, x in floating if x.dtype is not dtype]
        finfo = torch.finfo(dtype)
        line = finfo.smallest_normal
        over = [i for i, _ in others if tops[i] > finfo.max]
        near = ((i, x.post) for i, x in others if not _is_far(x.post, line, limit))
        under = {i: part for i, m in near if (part := _share_under(m, line)) > limit}
        lost = list(under)
        if not over and not lost:
            continue
        worst = max(over + lost, key=lambda i: (i in over, under.get(i, 0.0)))
        bad |= {*over, *lost}
        part = max([part, *(under[i] for i in lost)])
        lines.append(
            f"{dtype_name(dtype)} ({number(finfo.smallest_normal)} to {number(finfo.max)}) would "
            f"{_losses(len(over), len(lost))}, worst at layer {worst}"
        )
    if lines:
        yield net.finding(
            "dtype_range",
            "info",
            (min(bad), max(bad)),
            "dtype_lost",
            part,
            "; ".join(lines),
            advice="scale these tensors before they are cast",
        )


def _own_range(net: Net, i: int, layer: Layer) -> Iterator[tuple[str, str, Finding]]:
    """Of what it is, by which threshold, and the finding."""
    finfo, name = torch.finfo(layer.dtype), dtype_name(layer.dtype)
    is_narrow = finfo.max < torch.finfo(torch.bfloat16).max
    wider = "bfloat16 or float32" if is_narrow else "float64"  # bfloat16's range is float32's
    for what, moments in (("output", layer.post), ("gradient", layer.grad)):
        if moments is None:
            continue
        top, line, limit = moments.largest, finfo.smallest_normal, net.limits["dtype_lost"]
        part = 0.0 if _is_far(moments, line, limit) else _share_under(moments, line)
        if top * net.limits["dtype_headroom"] > finfo.max:
            found = net.finding(
                "dtype_range",
                "warning",
                (i, i),
                "dtype_headroom",
                finfo.max / top,
                f"the {what} reaches {number(top)}: {name} ends at {number(finfo.max)}",
                advice=f"bring the scale down, or use {wider} here",
            )
            yield what, "dtype_headroom", found
        if part > limit:
            cure = "scale the loss (torch.amp.GradScaler)" if what == "gradient" else "scale it up"
            found = net.finding(
                "dtype_range",
                "warning",
                (i, i),
                "dtype_lost",
                part,
                f"{share(round(part, 3))} of the {what} that is not zero lies under {name}'s "
                f"smallest normal {number(finfo.smallest_normal)}",
                advice=f"{cure}, or use {wider} here",
            )
            yield what, "dtype_lost", found


def _is_far(m: Moments, line: float, limit: float) -> bool:
    """Whether the line is so far under the rms that no normal has such a share of values there."""
    return 2 * line < m.rms and limit > MOST_UNDER_HALF


def _share_under(m: Moments, line: float) -> float:
    """The share of the values that are not zero and smaller than line, if they were normal."""
    nonzero = m.finite - m.zero
    if nonzero < 2 or not m.rms > 0:
        return 0.0
    if not m.m2:
        return float(abs(m.mean) < line)
    if m.zero == 0 and abs(m.mean) > m.std:
        return _normal((line - m.mean) / m.std) - _normal((-line - m.mean) / m.std)
    rms = m.rms * math.sqrt(m.finite / nonzero)
    return math.erf(line / rms / math.sqrt(2))


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
