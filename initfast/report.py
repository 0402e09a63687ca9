"""Report and Layer: what a profile found, to read, to print and to keep."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from initfast.moments import Moments
from initfast.table import Table, shorten

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Weight:
    """The weight of a linear layer.

    Attributes:
        fan_in: how many inputs each output sums.
        fan_out: how many outputs each input feeds.
        moments: of the weight's elements.
    """

    fan_in: int
    fan_out: int
    moments: Moments

    @property
    def std(self) -> float:
        """The standard deviation of the weight's elements."""
        return self.moments.std


@dataclass(frozen=True)
class Layer:
    """One operator of the net, as it ran once.

    Attributes:
        name: the path of its module; of an activation that stands alone, the module it ran in; ""
            is the net itself.
        op: what ran: "linear + tanh", "linear", "tanh", or the module's type.
        input_shape: the shape of its input; None where a module was given no tensor.
        shape: the shape of its output.
        dtype: the dtype of its output.
        post: the moments of its output.
        pre: the moments of the pre-activation; None without an activation.
        input: the moments of its input; None where they are not known.
        weight: its weight; None without one.
        dead_units: how many units (entries of the output's last dimension) are zero over the whole
            batch; None for other modules.
        grad: the moments of the loss's gradient at its output; None where none was measured.
        weight_grad: the moments of the loss's gradient at its weight; likewise.
    """

    name: str
    op: str
    input_shape: tuple[int, ...] | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    post: Moments
    pre: Moments | None = None
    input: Moments | None = None
    weight: Weight | None = None
    dead_units: int | None = None
    grad: Moments | None = None
    weight_grad: Moments | None = None

    @property
    def gain(self) -> float | None:
        """The standard deviation of the output over that of the input; None where unknown."""
        return None if self.input is None else _ratio(self.post.std, self.input.std)

    @property
    def grad_to_weight(self) -> float | None:
        """The std of the weight's gradient over that of the weight; None where unknown."""
        if self.weight is None or self.weight_grad is None:
            return None
        return _ratio(self.weight_grad.std, self.weight.std)

    @property
    def mean(self) -> float:
        """The mean of the output."""
        return self.post.mean

    @property
    def std(self) -> float:
        """The standard deviation of the output."""
        return self.post.std

    @property
    def rms(self) -> float:
        """The root mean square of the output."""
        return self.post.rms

    @property
    def min(self) -> float:
        """The smallest finite value of the output."""
        return self.post.min

    @property
    def max(self) -> float:
        """The largest finite value of the output."""
        return self.post.max

    @property
    def zeros(self) -> float:
        """The share of zeros in the output."""
        return self.post.zeros

    @property
    def saturated(self) -> float:
        """The share of the output where the activation is saturated."""
        return self.post.saturation

    @property
    def nonfinite(self) -> float:
        """The share of NaN and infinity in the output."""
        return self.post.nonfinite_share

    @property
    def has_nonfinite(self) -> bool:
        """Whether a NaN or an infinity is in the output or the pre-activation."""
        return self.post.nonfinite > 0 or (self.pre is not None and self.pre.nonfinite > 0)

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and lists only; :meth:`from_dict` makes the layer again."""
        return {
            "name": self.name,
            "op": self.op,
            "input_shape": None if self.input_shape is None else list(self.input_shape),
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "post": _moments_to_dict(self.post),
            "pre": _moments_to_dict(self.pre),
            "input": _moments_to_dict(self.input),
            "weight": None
            if self.weight is None
            else {
                "fan_in": self.weight.fan_in,
                "fan_out": self.weight.fan_out,
                "moments": _moments_to_dict(self.weight.moments),
            },
            "dead_units": self.dead_units,
            "gain": self.gain,
            "grad": _moments_to_dict(self.grad),
            "weight_grad": _moments_to_dict(self.weight_grad),
            "grad_to_weight": self.grad_to_weight,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Layer:
        """The layer that :meth:`to_dict` wrote, directly or through JSON."""
        weight, shape, post = data["weight"], data["input_shape"], data["post"]
        return cls(
            name=data["name"],
            op=data["op"],
            input_shape=None if shape is None else tuple(shape),
            shape=tuple(data["shape"]),
            dtype=getattr(torch, data["dtype"]),
            post=_moments_from_dict(post) or Moments(),
            pre=_moments_from_dict(data["pre"]),
            input=_moments_from_dict(data["input"]),
            weight=None
            if weight is None
            else Weight(
                weight["fan_in"],
                weight["fan_out"],
                _moments_from_dict(weight["moments"]) or Moments(),
            ),
            dead_units=data["dead_units"],
            grad=_moments_from_dict(data.get("grad")),
            weight_grad=_moments_from_dict(data.get("weight_grad")),
        )


class Report:
    """The layers of a net, in execution order, with what was measured at each.

    Args:
        layers: the layers, or a function that makes them when somebody first asks.

    Example:
        >>> net, x = torch.nn.Linear(4, 2), torch.randn(8, 4)
        >>> initfast.profile(net, x)[0].shape
        (8, 2)
    """

    def __init__(self, layers: Sequence[Layer] | Callable[[], Sequence[Layer]]) -> None:
        self._source = layers

    @cached_property
    def layers(self) -> list[Layer]:
        """One :class:`Layer` for each operator, in execution order."""
        source = self._source
        return list(source() if callable(source) else source)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, key: str | tuple[str, int] | int) -> Layer:
        """A layer by its name, by name and call (0 is the first), or by its place in the order.

        Raises:
            KeyError: no layer has that name, or the name has fewer calls.
            IndexError: there are fewer layers.
        """
        if isinstance(key, int):
            return self.layers[key]
        name, call = key if isinstance(key, tuple) else (key, 0)
        calls = [layer for layer in self.layers if layer.name == name]
        if not calls:
            raise KeyError(f"no layer is named {name!r}; {_known(self.layers)}")
        if not -len(calls) <= call < len(calls):
            raise KeyError(f"layer {name!r} has {len(calls)} calls; call {call} was asked for")
        return calls[call]

    @property
    def first_nonfinite(self) -> Layer | None:
        """The layer that produced the first NaN or infinity, in its output or pre-activation."""
        return next((layer for layer in self.layers if layer.has_nonfinite), None)

    def __repr__(self) -> str:
        return f"Report({len(self)} layers)"

    def __str__(self) -> str:
        return Table(self.layers).text() + self._verdict()

    def _repr_html_(self) -> str:
        return Table(self.layers).html() + f"<p>{html.escape(self._verdict().strip())}</p>"

    def _verdict(self) -> str:
        layer = self.first_nonfinite
        if layer is None:
            return ""
        where = "output" if layer.post.nonfinite else "pre-activation"
        name = repr(shorten(layer.name, 32)) if layer.name else "the net itself"
        op = shorten(layer.op, 16)
        return f"\nThe first non-finite value: in the {where} of {name} ({op})."

    def to_dict(self) -> dict[str, Any]:
        """Everything in the report as numbers, strings, lists and dicts."""
        return {"layers": [layer.to_dict() for layer in self.layers]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """The report that :meth:`to_dict` wrote, directly or through JSON."""
        return cls([Layer.from_dict(layer) for layer in data["layers"]])

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as JSON, also written to a file if a path is given.

        JSON has no NaN and no infinities: they are the strings "NaN", "Infinity" and "-Infinity",
        which Python's float() reads, and so does :meth:`from_dict`.
        """
        text = json.dumps(_spell_nonfinite(self.to_dict()), indent=1, allow_nan=False)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def to_dataframe(self) -> pandas.DataFrame:
        """One row for each layer, the output's statistics in columns.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "to_dataframe needs pandas; install it with: pip install 'initfast[frame]'"
            ) from error
        return pandas.DataFrame([_flat(layer) for layer in self.layers], columns=_FLAT)


_OWN = ("name", "op", "input_shape", "shape", "dtype")
_OUTPUT = ("mean", "std", "rms", "min", "max", "zeros", "saturated", "nonfinite")
_FLAT = [
    *_OWN,
    *_OUTPUT,
    *("pre_mean", "pre_std", "weight_std", "fan_in", "fan_out", "dead_units", "gain"),
    *("grad_mean", "grad_std", "weight_grad_std", "grad_to_weight"),
]


_NOTHING = Moments()


def _flat(layer: Layer) -> dict[str, Any]:
    derived = ("dead_units", "gain", "grad_to_weight")
    row = {name: getattr(layer, name) for name in (*_OWN, *_OUTPUT, *derived)}
    row["dtype"] = str(layer.dtype).removeprefix("torch.")
    if layer.pre is not None:
        row |= {"pre_mean": layer.pre.mean, "pre_std": layer.pre.std}
    if layer.weight is not None:
        weight = layer.weight
        row |= {"weight_std": weight.std, "fan_in": weight.fan_in, "fan_out": weight.fan_out}
    if layer.grad is not None:
        row |= {"grad_mean": layer.grad.mean, "grad_std": layer.grad.std}
    if layer.weight_grad is not None:
        row["weight_grad_std"] = layer.weight_grad.std
    return row


def _ratio(std: float, base: float) -> float:
    """std / base, where base may be 0."""
    if base == 0:
        return math.inf if std > 0 else math.nan
    return std / base


def _known(layers: Sequence[Layer], most: int = 10) -> str:
    names = list(dict.fromkeys(repr(layer.name) for layer in layers))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"the names are {', '.join(names[:most])}{more}" if names else "the report is empty"


def _moments_to_dict(moments: Moments | None) -> dict[str, Any] | None:
    if moments is None:
        return None
    return {f.name: getattr(moments, f.name) for f in fields(Moments)} | {"std": moments.std}


def _moments_from_dict(data: Mapping[str, Any] | None) -> Moments | None:
    if data is None:
        return None
    kinds = ((f.name, type(getattr(_NOTHING, f.name))) for f in fields(Moments))
    return Moments(*(kind(data[name]) for name, kind in kinds))


def _spell_nonfinite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _spell_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spell_nonfinite(item) for item in value]
    return value
