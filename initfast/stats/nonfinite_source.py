"""NonfiniteSource: what made the NaN or infinities of a net, as a second look at it has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from initfast.stats.as_dict import moments_from_dict
from initfast.stats.moments import Moments

Kind = Literal["function", "parameter", "buffer", "input", "constant"]


@dataclass(frozen=True, kw_only=True)
class NonfiniteSource:
    """Where non-finite values begin: a function of finite values, or a tensor that had them.

    Attributes:
        kind: "function"; or "parameter", "buffer", "input" (of the net) or "constant" (any other
            tensor), for one that was not finite before the net ran.
        name: of the function, "log"; or the path of the parameter or buffer.
        module: the path of the innermost module that ran; "" is the net itself.
        at: the file and line of the plain code that called the function, "net.py:12"; "" where
            none did, as between the layers of an nn.Sequential.
        code: that line.
        inputs: the moments of the function's inputs.
        output: the moments of what it made, or of the tensor.
        has_nan: whether NaN is among the values, not only infinities.
        why: what about its inputs made them, in numbers; "" where nothing follows.
        advice: what to do; "" likewise.
        taken: where the infinities come from that the function has made NaN of; None where all
            its inputs were finite.
        seen_in: where the values came to light: "layer", "loss" or "gradient".
        layer, op: of seen_in "layer", the name and op of the layer.
    """

    kind: Kind
    name: str
    module: str = ""
    at: str = ""
    code: str = ""
    inputs: tuple[Moments, ...] = ()
    output: Moments = field(default_factory=Moments)
    has_nan: bool = False
    why: str = ""
    advice: str = ""
    taken: NonfiniteSource | None = None
    seen_in: Literal["layer", "loss", "gradient"] = "layer"
    layer: str = ""
    op: str = ""

    @property
    def root(self) -> NonfiniteSource:
        """What to blame: of NaN made of infinities the maker of these, if a function is.

        But not the logarithm of a mask, which a softmax makes NaN of in rows that are all masked.
        """
        taken = self.taken
        if taken is None or taken.kind != "function":
            return self
        is_mask = self.name.endswith("softmax") and taken.name.startswith("log")
        return self if is_mask else taken.root

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NonfiniteSource:
        """The source that :func:`initfast.stats.as_dict.as_plain` made plain, also through JSON."""
        own = dict(data)
        own["inputs"] = tuple(map(moments_from_dict, own["inputs"]))
        own["output"] = moments_from_dict(own["output"])
        own["taken"] = None if own["taken"] is None else cls.from_dict(own["taken"])
        return cls(**own)
