"""A report without the layers that were not asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from initfast.profiling.arguments import patterns
from initfast.report.report import Report
from initfast.stats.layer import Layer


def without_left_out(
    report: Report, include: str | Sequence[str] | None, exclude: str | Sequence[str]
) -> Report:
    """The layers that a pattern of include fits, and none of exclude; a note counts the others.

    Args:
        report: of a whole net.
        include: patterns of the names and types of modules, and of what ran; of a layer whose
            output is that of several modules, one of them is enough. None: all layers.
        exclude: likewise, of the layer's own module alone.
    """
    if include is None and not exclude:
        return report
    asked = [_is_in(x, include) and not _fits(_own(x), patterns(exclude)) for x in report]
    layers = [x for x, wanted in zip(report, asked, strict=True) if wanted]
    left_out = [x for x, wanted in zip(report, asked, strict=True) if not wanted]
    if not left_out:
        return report
    said = f"{len(left_out)} of {len(report)} layers are left out, as include and exclude ask"
    bad = next((repr(x.name) for x in left_out if x.has_nonfinite), None)
    said += "." if bad is None else f"; NaN or infinities are among them, the first at {bad}."
    if include and not any(_is_in(x, include) for x in report):
        said += _unfit(report, include)
    return report.replaced(layers, notes=[*report.notes, said])


def _unfit(report: Report, include: str | Sequence[str]) -> str:
    """What to say of patterns that fit no layer of a report."""
    names = ", ".join(map(repr, dict.fromkeys(x.name for x in report[:_SHOWN])))
    more = ", ..." if len(report) > _SHOWN else ""
    types = ", ".join(sorted({x.type for x in report if x.type})) or "none"
    return (
        f" No layer fits include={include!r}; expected patterns of their names ({names}{more}) or "
        f"types ({types})."
    )


_SHOWN = 3  # names, for a reader to see how they are spelt


def _is_in(layer: Layer, include: str | Sequence[str] | None) -> bool:
    return include is None or _fits(
        [*_own(layer), *layer.also, *layer.also_types], patterns(include)
    )


def _own(layer: Layer) -> list[str]:
    return [layer.name, layer.type, layer.op]


def _fits(texts: Iterable[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for text in texts for pattern in patterns)
