"""Layer: one operator of a net, with what was measured at it; Skipped: what was not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from initfast.stats.as_dict import as_plain, moments_from_dict
from initfast.stats.moments import Moments
from initfast.stats.parts import LayerParts
from initfast.stats.text import escape, number, printable, share
from initfast.stats.unit_moments import OF_UNITS, UnitMoments

if TYPE_CHECKING:
    from initfast.stats.attention import Attention
    from initfast.stats.histogram import Histogram


@dataclass(frozen=True)
class Weight:
    """The weight of a layer.

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

    @property
    def scale(self) -> float:
        """The fan-in times the variance: by so much a linear layer multiplies the mean square."""
        return self.fan_in * self.moments.var


@dataclass(frozen=True)
class Layer:
    """One operator of the net, as it ran once.

    Attributes:
        name: the path of its module; of a function that stands alone, the module it ran in; ""
            is the net itself.
        op: what ran: "linear + tanh", "BatchNorm2d + relu", "add", or the module's type.
        input_shape: the shape of its input; None where a module was given no tensor.
        shape: the shape of its output.
        dtype: the dtype of its output.
        post: the moments of its output.
        pre: the moments of the pre-activation; None without an activation.
        input: the moments of its input; None where they are not known.
        weight: its weight; None without one, or with several.
        dead_units: how many units (channels of a convolution or batch norm, else entries of the
            output's last dimension) are zero over the whole batch; None without an activation, of
            a batch with one value a unit or none, and where torch alone could run the activation.
        grad: the moments of the loss's gradient at its output; None where none was measured.
        weight_grad: the moments of the loss's gradient at its weight, which all calls of that
            weight share; likewise.
        type: the type of the module of that name; "" without one.
        bases: the class of torch.nn that each module of `names` is or derives from, or "".
        also: the paths of the modules whose output this is too, as of a block that ends with it.
        also_types: the types of these modules.
        is_output: whether it is the output of the module of that name; False for what a function
            has made on the way, as a residual sum within a block.
        is_returned: whether it is an output of the net, or one of several.
        has_nan: whether there is a NaN in the output, beside infinities or without; None where all
            is finite, or where a weight, an activation or a norm made it.
        further_inputs: the moments of its other inputs, where it has more than one.
        nonfinite_parameters: the parameters of its module with a NaN or an infinity, and its
            buffers with a NaN; looked for only where the layer has one.
        alpha, beta: the numbers of its activation, as leaky ReLU's slope, in torch's order; None
            without an activation.
        parameter: the path of its weight among the net's parameters; "" where it is not one that
            could be filled anew, but computed, or where the net is a plain callable.
        units: how many units it has; None where dead_units is.
        weights: the weights of a layer that has several, as recurrent nets and attention do, by the
            names of the parameters.
        weight_grads: the moments of the loss's gradient at each of them, as far as measured.
        branch: which of the two inputs of a residual sum ("add") is the branch that is added to the
            stream; None of all else.
        attention: what the logits of an attention's softmax are like; None where not asked for.
        histogram: how many values of its output lie where; None where not asked for.
        vectors: the moments of its module's parameters of one dimension, by their names: biases,
            what a norm multiplies by; of a batch norm in evaluation mode its running statistics
            too; None where they are not known, as of a function or in an older report.
        settings: what else of its module decides the scale of its output: padding, eps, dropout's
            p, whether it was in training mode.
        live: which units are not dead, for a merge with other batches; not kept by to_dict.
        correlation: the mean inner product of two different rows of the output over the mean square
            norm of a row; a row is a sample, and where there are tokens or positions, one of them.
            It is the second order parameter of signal propagation (Poole et al. 2016), 1 where all
            rows are the same. It is not the mean cosine, which it differs from where norms do: of
            He-initialised ReLU layers it is .962 at layer 30, where the mean cosine is .972.
        batch_std: the root of the mean over units of each one's variance over the rows; 0 exactly
            where every row is the same.
        unit_spread: the std of the units' means over the std of the output.
        outlier_ratio: the largest magnitude of any unit over that of the median unit; infinity
            where the median is 0 and the largest is not.
        unit_moments: of the output's units (as of dead_units), for a merge with other batches;
            not kept by to_dict.
        parts: which parts of its tensors this process holds; None where they are whole; likewise.

    The four of the units are None of an output of one dimension or of more than 262,144 units, of
    layers that were merged after they were read from a file or gathered from several processes, and
    in a report of an older version; the first two also of one row, the last two and the first where
    all is zero, unit_spread of one unit.
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
    type: str = ""
    bases: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    also_types: tuple[str, ...] = ()
    is_output: bool = True
    is_returned: bool = False
    has_nan: bool | None = None
    further_inputs: tuple[Moments, ...] = ()
    nonfinite_parameters: tuple[str, ...] = ()
    units: int | None = None
    weights: Mapping[str, Weight] = field(default_factory=dict)
    weight_grads: Mapping[str, Moments] = field(default_factory=dict)
    alpha: float | None = None
    beta: float | None = None
    parameter: str = ""
    branch: int | None = None
    attention: Attention | None = None
    histogram: Histogram | None = None
    vectors: Mapping[str, Moments] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    live: np.ndarray | None = field(default=None, repr=False, compare=False)
    correlation: float | None = None
    batch_std: float | None = None
    unit_spread: float | None = None
    outlier_ratio: float | None = None
    unit_moments: UnitMoments | None = field(default=None, repr=False, compare=False)
    parts: LayerParts | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        facts = [repr(self.name), repr(self.op), f"shape={self.shape}"]
        facts += [f"mean={number(self.mean)}", f"std={number(self.std)}"]
        facts += [f"gain={number(self.gain)}"] if self.gain is not None else []
        shares = {"zeros": self.zeros, "saturated": self.saturated, "nonfinite": self.nonfinite}
        facts += [f"{name}={share(value)}" for name, value in shares.items() if value > 0]
        facts += [f"dead_units={self.dead_units}"] if self.dead_units else []
        return f"Layer({', '.join(facts)})"

    def _repr_html_(self) -> str:
        kept = self.to_dict().items()
        rows = [(name, value) for name, value in kept if value not in (None, [], {}, "")]
        cells = (f"<tr><th>{name}</th><td>{escape(_in_html(v))}</td></tr>" for name, v in rows)
        return f"<table>{''.join(cells)}</table>"

    @property
    def names(self) -> tuple[str, ...]:
        """Its own name, and those of the modules whose output it is too."""
        return (self.name, *self.also)

    @property
    def inputs(self) -> tuple[Moments, ...]:
        """The moments of all its inputs, as far as they are known."""
        return (() if self.input is None else (self.input,)) + self.further_inputs

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
    def branch_ratio(self) -> float | None:
        """Of a residual sum, the rms of the branch over that of the stream; else None."""
        from initfast.stats.residual_sum import branch_ratio  # when asked

        return branch_ratio(self.inputs, self.branch)

    @property
    def branch_cosine(self) -> float | None:
        """Of a residual sum, the cosine of the branch and the stream as vectors; else None.

        0 where the branch is independent of the stream, as at initialisation; 1 where it repeats
        it, -1 where it takes from it. None where either is zero or not finite.
        """
        from initfast.stats.residual_sum import branch_cosine  # when asked

        return branch_cosine(self.inputs, self.branch, self.post)

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
    def nan(self) -> int | None:
        """How many NaN are in the output; None in a report of an older version."""
        return self.post.nan

    @property
    def inf(self) -> int | None:
        """How many infinities are in the output; None likewise."""
        return self.post.inf

    @property
    def skew(self) -> float | None:
        """The skewness of the output; see :attr:`initfast.Moments.skew`."""
        return self.post.skew

    @property
    def kurtosis(self) -> float | None:
        """The kurtosis of the output, 3 of a normal; see :attr:`initfast.Moments.kurtosis`."""
        return self.post.kurtosis

    @property
    def smallest(self) -> float | None:
        """The least magnitude but zero in the output; infinity where there is none."""
        return self.post.smallest

    @property
    def dynamic_range(self) -> float | None:
        """By how many powers of two the output's magnitudes, but zero, differ."""
        return self.post.dynamic_range

    @property
    def crest(self) -> float:
        """The largest magnitude of the output over its rms."""
        return self.post.crest

    @property
    def has_nonfinite(self) -> bool:
        """Whether a NaN or an infinity is in the output or the pre-activation."""
        return self.post.nonfinite > 0 or (self.pre is not None and self.pre.nonfinite > 0)

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and lists only; :meth:`from_dict` makes the layer again.

        Returns:
            The attributes by name, moments with what follows from them, and `gain` and
            `grad_to_weight`.
        """
        return {name: as_plain(getattr(self, name)) for name in _KEPT}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Layer:
        """The layer that :meth:`to_dict` wrote, directly or through JSON.

        Args:
            data: what it returned, or what JSON made of it.

        Raises:
            KeyError: an attribute that every layer has is missing.

        Example:
            >>> layer = initfast.profile(nn.Linear(4, 2), torch.ones(3, 4))[0]
            >>> Layer.from_dict(layer.to_dict()) == layer
            True
        """
        names = {f.name for f in fields(cls)} & data.keys() | _ALWAYS_KEPT
        return cls(**{name: _read(name, data[name]) for name in names})


def _in_html(value: Any) -> str:
    """A number or a record in a cell."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_html(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_in_html, value))
    return printable(str(value))


class Skipped(NamedTuple):
    """An output that was not measured.

    Attributes:
        name: the path of the module.
        op: the module's type, and which of its outputs where it has several.
        reason: why not: its dtype, or what it is.
    """

    name: str
    op: str
    reason: str


def _ratio(std: float, base: float) -> float:
    """std / base, where base may be 0."""
    if base == 0:
        return math.inf if std > 0 else math.nan
    return std / base


_KEPT = (
    *("name", "op", "input_shape", "shape", "dtype", "post", "pre", "input", "weight"),
    *("units", "dead_units", "gain", "grad", "weight_grad", "grad_to_weight"),
    *("type", "also", "also_types", "is_output", "is_returned", "has_nan"),
    *("further_inputs", "nonfinite_parameters", "weights", "weight_grads"),
    *("alpha", "beta", "parameter"),
    *("branch", "branch_ratio", "branch_cosine", "attention", "histogram"),
    *("bases", "vectors", "settings"),
    *OF_UNITS[:-1],
)
"""What :meth:`Layer.to_dict` writes, in this order."""


_ALWAYS_KEPT = frozenset(_KEPT[:9]) | {"dead_units"}
"""What every dict of a layer has, also one that was written before there was more."""


def _read(name: str, value: Any) -> Any:
    """An attribute of a layer from what :meth:`Layer.to_dict` made of it."""
    if value is None or name not in _READERS:
        return value
    return _READERS[name](value)


def _weight(data: Mapping[str, Any]) -> Weight:
    return Weight(data["fan_in"], data["fan_out"], moments_from_dict(data["moments"]))


def _attention(data: Mapping[str, Any]) -> Attention:
    from initfast.stats.attention import Attention  # few reports have it

    return Attention.from_dict(data)


def _histogram(data: Mapping[str, Any]) -> Histogram:
    from initfast.stats.histogram import Histogram  # likewise

    return Histogram.from_dict(data)


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        ("input_shape", "shape", "also", "also_types", "bases", "nonfinite_parameters"), tuple
    ),
    **dict.fromkeys(("post", "pre", "input", "grad", "weight_grad"), moments_from_dict),
    # Through JSON an infinity is a string.
    **dict.fromkeys(("alpha", "beta", "outlier_ratio"), float),
    "dtype": lambda name: getattr(torch, name),
    "weight": _weight,
    "attention": _attention,
    "histogram": _histogram,
    "further_inputs": lambda items: tuple(map(moments_from_dict, items)),
    "weights": lambda items: {name: _weight(item) for name, item in items.items()},
    **dict.fromkeys(
        ("weight_grads", "vectors"),
        lambda items: {name: moments_from_dict(m) for name, m in items.items()},
    ),
}
"""How each attribute is read that is not kept as it is."""
