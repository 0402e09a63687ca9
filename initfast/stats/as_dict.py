"""Statistics as the numbers, strings, lists and dicts of which JSON is made, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from initfast.stats.moments import Moments
from initfast.stats.text import dtype_name
from initfast.stats.unit_moments import OF_UNITS, UnitMoments, UnitStatistics

_NOTHING = Moments()
_DERIVED = ("std", "inf", "skew", "kurtosis", "dynamic_range", "crest")
_OF_MOMENTS = {*_DERIVED, *(f.name for f in fields(Moments))}


def as_plain(value: Any) -> Any:
    """A value, and what is in it: dataclasses as dicts, moments with what follows from them."""
    if is_dataclass(value):
        plain = {f.name: as_plain(getattr(value, f.name)) for f in fields(value)}
        derived = _DERIVED if isinstance(value, Moments) else ()
        return plain | {name: getattr(value, name) for name in derived}
    if isinstance(value, (UnitMoments, UnitStatistics)):
        return {name: getattr(value, name) for name in OF_UNITS}
    if isinstance(value, Mapping):
        return {name: as_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return dtype_name(value) if isinstance(value, torch.dtype) else value


def without_derived(plain: Any) -> Any:
    """What :func:`as_plain` returned, without what :func:`moments_from_dict` can do without."""
    if isinstance(plain, dict):
        derived = _DERIVED if plain.keys() == _OF_MOMENTS else ()
        return {name: without_derived(item) for name, item in plain.items() if name not in derived}
    return [without_derived(item) for item in plain] if isinstance(plain, list) else plain


def moments_from_dict(data: Mapping[str, Any]) -> Moments:
    """The moments that were made plain, directly or through JSON.

    What an older version did not measure is None.
    """
    known = dict.fromkeys(("nan", "m3", "m4", "smallest")) | dict(data)
    kinds = ((f.name, type(getattr(_NOTHING, f.name))) for f in fields(Moments))
    values: dict[str, Any] = {
        name: None if known[name] is None else kind(known[name]) for name, kind in kinds
    }
    return Moments(**values)


def json_text(plain: Any, indent: int | None = 1) -> str:
    """As JSON; NaN and infinities, which it lacks, are "NaN", "Infinity" and "-Infinity".

    Args:
        plain: what :func:`as_plain` returns.
        indent: of each level; None: all in one line.
    """
    return json.dumps(_spell_nonfinite(plain), indent=indent, allow_nan=False)


def _spell_nonfinite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _spell_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spell_nonfinite(item) for item in value]
    return value
