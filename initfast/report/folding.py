"""Which rows of a table are shown, and which are folded because they repeat."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from initfast.stats.layer import Layer

MAX_PERIOD = 32
"""The longest block of layers whose repetition is looked for."""


class Fold(NamedTuple):
    """Layers start to stop, in one line.

    They repeat the layers before them with this period; a period of 0: each has a non-finite value.
    """

    start: int
    stop: int
    period: int


def fold(layers: Sequence[Layer | None], names: Sequence[str]) -> list[int | Fold]:
    """Which layers to show, by index, and which to fold.

    Layers are alike where they differ only in the numbers of their names and in what was measured.
    Of a run, the first layers or the first block are shown, and the last. The first layer with a
    non-finite value is always shown, with a block's length before it and after it: how the values
    came and where they went. Of what is spoiled further on, nothing more is to be learnt.
    """
    kinds: list[object] = [
        (re.sub(r"\d+", "#", name), layer and (layer.op, layer.input_shape, layer.shape))
        for name, layer in zip(names, layers, strict=True)
    ]
    special = next((i for i, layer in enumerate(layers) if layer and layer.has_nonfinite), -1)
    lines: list[int | Fold] = []
    start, after = 0, special + 1
    while start < len(layers):
        period, head, tail, stop = _run(kinds, start)
        lines += range(start, head)
        for a, b in _without(special, period - 1, head, tail):
            lines += [Fold(a, b, period)] if b - a > 2 else range(a, b)
        lines += range(tail, stop)
        after = special + period if start <= special < stop else after
        start = stop
    return lines if special < 0 else list(_fold_spoiled(lines, layers, after))


def _run(kinds: Sequence[object], start: int) -> tuple[int, int, int, int]:
    """The shortest block that repeats from start, long enough to fold.

    Returns its period, the end of the layers shown first, the start of those shown last, the end.
    """
    for period in range(1, MAX_PERIOD + 1):
        stop = start + period
        while stop < len(kinds) and kinds[stop] == kinds[stop - period]:
            stop += 1
        stop -= (stop - start) % period
        head, tail = start + max(1, 3 // period) * period, stop - period
        if tail - head > 2:
            return period, head, tail, stop
    return 1, start + 1, start + 1, start + 1


def _without(index: int, around: int, start: int, stop: int) -> list[tuple[int, int]]:
    """The range start to stop, cut so that each index within `around` of index stands alone."""
    first, last = max(start, index - around), min(stop, index + around + 1)
    if index < 0 or first >= last:
        return [(start, stop)]
    return [(start, first), *((i, i + 1) for i in range(first, last)), (last, stop)]


def _fold_spoiled(
    lines: Sequence[int | Fold], layers: Sequence[Layer | None], after: int
) -> Iterator[int | Fold]:
    """The lines with each run of non-finite layers from `after` on in one."""

    def end(run: list[int | Fold]) -> Iterator[int | Fold]:
        if not run:
            return
        first, last = run[0], run[-1]
        start = first.start if isinstance(first, Fold) else first
        stop = last.stop if isinstance(last, Fold) else last + 1
        yield from [Fold(start, stop, 0)] if stop - start > 2 else run

    run: list[int | Fold] = []
    for line in lines:
        start, stop, _ = line if isinstance(line, Fold) else (line, line + 1, 0)
        known = [layer for layer in layers[start:stop] if layer is not None]
        if start >= after and all(layer.has_nonfinite for layer in known):
            run.append(line)
        else:
            yield from end(run)
            run = []
            yield line
    yield from end(run)
