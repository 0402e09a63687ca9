"""Code that cures: it fills the weights, norms and biases of some of a net's layers anew."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from initfast.diagnosis import advice
from initfast.diagnosis.advice import Act, activation_of
from initfast.diagnosis.facts import dense
from initfast.ops.activations import ACTIVATIONS, GATES
from initfast.stats.layer import Layer

_FIX_THE_SCALE = {
    "Orthogonal": "an orthogonal parametrization",
    "SpectralNorm": "spectral norm",
}
"""Parametrizations that divide any scale out of a weight."""


class Refills:
    """Code for a net's layers, empty where none would do anything.

    Args:
        layers: in execution order.
        root: what the layers' names are paths in, as code; "" where there is nothing that has them.
    """

    def __init__(self, layers: Sequence[Layer], root: str) -> None:
        self.layers = layers
        self.root = root
        self._activations: dict[int, Act | None] = {}

    def activation(self, i: int) -> Act | None:
        """The activation that layer i ends in, or that takes its output next."""
        if i not in self._activations:
            self._activations[i] = self._activation(i)
        return self._activations[i]

    def _activation(self, i: int) -> Act | None:
        act = activation_of(self.layers[i])
        if act is not None or i + 1 >= len(self.layers):
            return act
        after = self.layers[i + 1]
        if after.input is None or after.op not in ACTIVATIONS:
            return None
        follows = after.input.fingerprint == self.layers[i].post.fingerprint
        return activation_of(after) if follows else None

    def refill(self, first: int, last: int, act: Act | None, std: float = 1.0) -> str:
        """Code that fills the weights of the linear layers and convolutions first to last anew.

        Empty where it would do nothing: the weight of one of them is computed, or no part of the
        net by its name. Where the pre-activations are to have another std than 1, the first layer
        gives it to them.
        """
        weighted = [x for x in self.layers[first : last + 1] if x.weight is not None]
        filled = [x for x in weighted if dense(x)]
        at = [i for i in range(first, last + 1) if dense(self.layers[i])]
        if any(gates := [self._is_other_gate(i, act) for i in at]):
            return self.refill_places(
                [i for i, is_gate in zip(at, gates, strict=True) if not is_gate]
            )
        if not (self.root and filled) or not all(x.parameter for x in filled):
            return ""
        others = sorted({x.op for x in weighted} - {x.op for x in filled})
        known = f" and layer.op not in {tuple(others)}" if others else ""
        by_fan = not all(re.match(r"(?i:linear\b)|Conv\dd", x.op) for x in filled)
        code = (
            f"for layer in report.layers[{first}:{last + 1}]:\n"
            f"    if layer.weight{known}:\n"
            f"        w = {self.root}.get_parameter(layer.parameter)\n"
            f"        {advice.call(act, by_fan, std)}"
        )
        if std == 1:
            return code + self._refill_others(first, last, act, by_fan)
        return f"{code}\n{self.refill_for_input(first, std)}"

    def _is_other_gate(self, i: int, act: Act | None) -> bool:
        """Whether layer i is a gate among layers of another activation: it works at any scale."""
        own = self.activation(i)
        return own is not None and own.name in GATES and own != act

    def refill_places(self, places: Sequence[int]) -> str:
        """The same for the layers at these places, each by what its activation needs."""
        if not places:
            return ""
        first, last = places[0], places[-1]
        if list(places) == [i for i in range(first, last + 1) if self.layers[i].weight is not None]:
            return self.refill(first, last, self.activation(first))
        filled = [self.layers[i] for i in places]
        if not self.root or not all(x.parameter for x in filled):
            return ""
        by_fan = not all(re.match(r"(?i:linear\b)|Conv\dd", x.op) for x in filled)
        return self._refill_each({i: self.activation(i) for i in places}, by_fan).lstrip("\n")

    def _refill_others(self, first: int, last: int, act: Act | None, by_fan: bool) -> str:
        """The same for those of them that another activation follows, by what that needs."""
        at = [i for i in range(first, last + 1) if dense(self.layers[i])]
        acts, done = {i: self.activation(i) for i in at}, advice.call(act, by_fan)
        others = {i: a for i, a in acts.items() if advice.call(a, by_fan) != done}
        return self._refill_each(others, by_fan)

    def _refill_each(self, acts: Mapping[int, Act | None], by_fan: bool) -> str:
        code, pad = "", "    "
        for act in dict.fromkeys(acts.values()):
            places = ", ".join(str(i) for i, a in acts.items() if a == act) + ","
            if len(places) > 60:
                wrapped = textwrap.fill(places, 80, initial_indent=pad, subsequent_indent=pad)
                places = f"\n{wrapped}\n"
            code += (
                f"\nfor i in ({places}):\n    layer = report.layers[i]\n"
                f"    w = {self.root}.get_parameter(layer.parameter)\n"
                f"    {advice.call(act, by_fan)}"
            )
        return code

    def refill_for_input(self, i: int, std: float = 1.0) -> str:
        """Code that fills layer i's weight so that its pre-activations have that std as it is fed.

        Empty where that cannot be done.
        """
        layer = self.layers[i]
        if not (self.root and layer.parameter):
            return ""
        return (
            f"layer = report.layers[{i}]\n"
            f"std = {std:g} / (layer.input.rms * layer.weight.fan_in**0.5)\n"
            f"initfast.init.normal_({self.root}.get_parameter(layer.parameter), 0.0, std)"
        )

    def restart_norm(self, i: int) -> str:
        """Code that gives the norm that is layer i a weight of ones and a bias of zeros."""
        layer = self.layers[i]
        if not (self.root and layer.type and layer.op.startswith(layer.type)):
            return ""
        return (
            f"norm = {self.root}.get_submodule({layer.name!r})\n"
            "if norm.weight is not None:\n    initfast.init.ones_(norm.weight)\n"
            'if getattr(norm, "bias", None) is not None:\n    initfast.init.zeros_(norm.bias)'
        )

    def zero_biases(self, first: int, last: int) -> str:
        """Code that makes the biases of the linear layers and convolutions first to last zero."""
        if not (self.root and all(x.type for x in self.layers[first : last + 1] if dense(x))):
            return ""  # a function's bias is nobody's by its name
        return (
            f"for layer in report.layers[{first}:{last + 1}]:\n"
            "    if not (layer.weight and layer.type):\n        continue\n"
            f'    bias = getattr({self.root}.get_submodule(layer.name), "bias", None)\n'
            "    if bias is not None:\n        initfast.init.zeros_(bias)"
        )

    def of_computed(self, places: Iterable[int], act: Act | None) -> tuple[str, str] | None:
        """What to do, and its code, where parametrizations compute these layers' weights.

        None where others do, or none.
        """
        weighted = [x for i in places if dense(x := self.layers[i])]
        made = {
            kind for x in weighted for kind in x.settings.get("parametrizations", ["Parameter"])
        }
        if made and made <= _FIX_THE_SCALE.keys():
            scales = sorted(x.weight.scale for x in weighted if x.weight)
            gain = (advice.needed(act) / max(scales[len(scales) // 2], 1e-30)) ** 0.5
            return (
                f"{_FIX_THE_SCALE[min(made)]} sets the scale of these weights, however they are "
                f"drawn: multiply what each layer makes by a gain of {gain:.3g}, or leave it out",
                "",
            )
        if made != {"WeightNorm"} or not self.root:
            return None
        return (
            "their weights are computed from a length and a direction: initialize_ sets both",
            f"initfast.initialize_({self.root})",
        )

    def tied(self, first: int, last: int) -> str:
        """That these layers share a weight with an embedding, in words; else ""."""
        inner = [x for x in self.layers[first : last + 1] if dense(x)]
        own = {x.weight.moments.fingerprint for x in inner if x.weight}
        names = [
            repr(x.name)
            for x in self.layers
            if x.op.startswith("Embedding") and x.weight and x.weight.moments.fingerprint in own
        ]
        return (
            f"; that weight is embedding {names[0]}'s too, which changes with it" if names else ""
        )

    def refill_for_inputs(self, first: int, last: int) -> str:
        """Code that fills the weights of first to last so that each fits what it is given."""
        codes = [self.refill_for_input(i) for i in range(first, last + 1) if dense(self.layers[i])]
        return "\n".join(codes) if all(codes) else ""


def named(call: str) -> str:
    """An initialiser as one names it, of its call on w.

    Example:
        >>> named('initfast.init.kaiming_normal_(w, nonlinearity="relu")')
        'kaiming_normal_(nonlinearity="relu")'
    """
    return call.strip().removeprefix("initfast.init.").replace("(w, ", "(").replace("(w", "(")


_MOST_PLACES = 4

_FILL = re.compile(
    r"for (?:layer in report\.layers\[(\d+):(\d+)\]|i in \(([\d,\s]+)\)):\n"
    r"(?: +(?!initfast).*\n)+ +(initfast\.init\..*)"
)


def calls_of(code: str) -> str:
    """What code of :meth:`Refills.refill` fills which layers by, in words; "" of other code.

    Example:
        >>> calls_of("for i in (3, 7,):\\n    w = ...\\n    initfast.init.lecun_normal_(w)")
        'lecun_normal_() on layers 3 and 7'
    """
    said = []
    for first, end, listed, call in _FILL.findall(code):
        if not listed:
            said.append(f"{named(call)} on layers {first} to {int(end) - 1}")
            continue
        places = re.findall(r"\d+", listed)
        shown, rest = places[:_MOST_PLACES], len(places) - _MOST_PLACES
        if rest > 0:
            where = f"layers {', '.join(shown)} and {rest} more"
        else:
            where = " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
            where = f"layer{'s' if len(shown) > 1 else ''} {where}"
        said.append(f"{named(call)} on {where}")
    # What follows a range is filled a second time.
    but = ", but " if said and " to " in said[0] else " and "
    return but.join(filter(None, (said[0], " and ".join(said[1:])))) if said else ""
