"""How a layer becomes a dict of plain values, and such a dict a layer again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from initfast.stats.as_dict import moments_from_dict
from initfast.stats.unit_moments import OF_UNITS, UnitStatistics
from initfast.stats.weight import Weight

if TYPE_CHECKING:
    from initfast.stats.attention import Attention
    from initfast.stats.histogram import Histogram
    from initfast.stats.recurrence import Recurrence

KEPT = (
    *("name", "op", "input_shape", "shape", "dtype", "post", "pre", "input", "weight"),
    *("units", "dead_units", "gain", "grad", "weight_grad", "grad_to_weight"),
    *("type", "also", "also_types", "is_output", "is_returned", "has_nan"),
    *("further_inputs", "nonfinite_parameters", "weights", "weight_grads"),
    *("alpha", "beta", "parameter"),
    *("branch", "branch_ratio", "branch_cosine", "attention", "histogram", "recurrence"),
    *("bases", "vectors", "settings"),
    *OF_UNITS,
    "per_sample",
)
"""What :meth:`Layer.to_dict` writes, in this order."""


ALWAYS_KEPT = frozenset(KEPT[:9]) | {"dead_units"}
"""What every dict of a layer has, also one that was written before there was more."""


def read(name: str, value: Any) -> Any:
    """An attribute of a layer from what :meth:`Layer.to_dict` made of it."""
    if value is None or name not in _READERS:
        return value
    return _READERS[name](value)


def read_units(data: Mapping[str, Any]) -> UnitStatistics | None:
    """What units told, of a layer's dict or of another with the same names; None without any."""
    found = map(data.get, OF_UNITS)
    told = UnitStatistics(*(None if x is None else float(x) for x in found))
    return None if told == UnitStatistics() else told


def _weight(data: Mapping[str, Any]) -> Weight:
    return Weight(data["fan_in"], data["fan_out"], moments_from_dict(data["moments"]))


def _attention(data: Mapping[str, Any]) -> Attention:
    from initfast.stats.attention import Attention  # few reports have it

    return Attention.from_dict(data)


def _histogram(data: Mapping[str, Any]) -> Histogram:
    from initfast.stats.histogram import Histogram  # likewise

    return Histogram.from_dict(data)


def _recurrence(data: Mapping[str, Any]) -> Mapping[str, Recurrence]:
    from initfast.stats.recurrence import Recurrence  # likewise

    return {name: Recurrence.from_dict(each) for name, each in data.items()}


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        ("input_shape", "shape", "also", "also_types", "bases", "nonfinite_parameters"), tuple
    ),
    **dict.fromkeys(("post", "pre", "input", "grad", "weight_grad"), moments_from_dict),
    **dict.fromkeys(("alpha", "beta"), float),  # through JSON an infinity is a string
    "dtype": lambda name: getattr(torch, name),
    "weight": _weight,
    "attention": _attention,
    "histogram": _histogram,
    "per_sample": read_units,
    "recurrence": _recurrence,
    "further_inputs": lambda items: tuple(map(moments_from_dict, items)),
    "weights": lambda items: {name: _weight(item) for name, item in items.items()},
    **dict.fromkeys(
        ("weight_grads", "vectors"),
        lambda items: {name: moments_from_dict(m) for name, m in items.items()},
    ),
}
"""How each attribute is read that is not kept as it is."""
