"""Layer: one operator of a net, with what was measured at it; Skipped: what was not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from initfast.stats.as_dict import as_plain
from initfast.stats.layer_dict import ALWAYS_KEPT, KEPT, read, read_units
from initfast.stats.moments import Moments
from initfast.stats.output_statistics import OutputStatistics
from initfast.stats.parts import LayerParts
from initfast.stats.text import escape, number, printable, share, shown
from initfast.stats.unit_moments import UnitMoments, UnitStatistics
from initfast.stats.weight import Weight

if TYPE_CHECKING:
    from initfast.stats.attention import Attention
    from initfast.stats.histogram import Histogram
    from initfast.stats.recurrence import Recurrence


@dataclass(frozen=True)
class Layer(OutputStatistics):
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
        recurrence: of a recurrent module, by the suffix of its parameters' names ("l0",
            "l0_reverse", "l1", ...), what happens from step to step; None where not asked for.
        vectors: the moments of its module's parameters of one dimension, by their names: biases,
            what a norm multiplies by; of a batch norm in evaluation mode its running statistics
            too; None where they are not known, as of a function or in an older report.
        settings: what else of its module decides the scale of its output: padding, eps, dropout's
            p, whether it was in training mode; the types of what computes its weight.
        live: which units are not dead, for a merge with other batches; not kept by to_dict.
        unit_moments: of the output's units (as of dead_units), for a merge with other batches; of
            a layer that was read from a file, what they told.
        per_sample: of the output as rows that are whole samples, entries of its first dimension,
            and units that are the entries of a sample: where there are tokens or positions, a
            channel at each is a unit of its own. So `per_sample.batch_std` is 0 exactly where every
            sample is the same, and `per_sample.correlation` compares samples; likewise after a
            file. None where not asked for, and of an output of one dimension.
        parts: which parts of its tensors this process holds; None where they are whole; likewise.
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
    recurrence: Mapping[str, Recurrence] | None = None
    vectors: Mapping[str, Moments] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    live: np.ndarray | None = field(default=None, repr=False, compare=False)
    unit_moments: UnitMoments | UnitStatistics | None = field(default=None, repr=False)
    per_sample: UnitMoments | UnitStatistics | None = field(default=None, repr=False)
    parts: LayerParts | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        facts = [repr(self.name), repr(self.op), f"shape={self.shape}"]
        facts += [f"mean={number(self.mean)}", f"std={number(self.std)}"]
        facts += [f"gain={number(self.gain)}"] if self.gain is not None else []
        shares = {"zeros": self.zeros, "saturated": self.saturated, "nonfinite": self.nonfinite}
        facts += [f"{name}={share(value)}" for name, value in shares.items() if value > 0]
        facts += [f"dead_units={self.dead_units}"] if self.dead_units else []
        return shown(f"Layer({', '.join(facts)})")

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
    def has_nonfinite(self) -> bool:
        """Whether a NaN or an infinity is in the output or the pre-activation."""
        return self.post.nonfinite > 0 or (self.pre is not None and self.pre.nonfinite > 0)

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and lists only; :meth:`from_dict` makes the layer again.

        Returns:
            The attributes by name, moments with what follows from them, and `gain` and
            `grad_to_weight`.
        """
        return {name: as_plain(getattr(self, name)) for name in KEPT}

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
        names = {f.name for f in fields(cls)} & data.keys() | ALWAYS_KEPT
        known = {name: read(name, data[name]) for name in names}
        return cls(**known, unit_moments=read_units(data))


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
