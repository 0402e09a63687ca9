"""Causes that lie in one module called again and again: cells, and what has a fixed point."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from initfast.diagnosis.advice import RIGHT, Cause
from initfast.diagnosis.facts import dense
from initfast.diagnosis.net import Net
from initfast.diagnosis.rules import gates
from initfast.stats.layer import Layer


def is_repeated(net: Net, members: Sequence[int]) -> bool:
    """Whether these are calls of one module that is a cell or has a weight."""
    first = net.layers[members[0]]
    if len(members) < 2 or len({net.layers[i].name for i in members}) > 1 or not first.name:
        return False
    is_cell = re.search("RNN|LSTM|GRU|Cell", first.type) and first.op.startswith(first.type)
    return bool(is_cell) or first.weight is not None


def repeated(net: Net, members: Sequence[int], sign: int) -> Cause:
    """Of a scale that grows (sign +1) or falls (-1) over the calls of one module."""
    layer, name = net.layers[members[0]], net.layers[members[0]].name
    grows = sign > 0 and dense(layer) and layer.weight is not None and layer.weight.scale > RIGHT
    scale = f", whose fan_in × Var(w) is {layer.weight.scale:.3g}" if layer.weight and grows else ""
    return Cause(
        f"{name!r} is one module that is called {len(members)} times: at every step the signal, "
        f"and the gradient on its way back, goes through the same weights{scale}",
        "clip the gradient (Pascanu, Mikolov & Bengio 2013), and start recurrent weights orthogonal"
        if sign > 0
        else "start recurrent weights orthogonal, or use gates that begin open (an LSTM's forget "
        "gate with a bias of 1: Jozefowicz, Zaremba & Sutskever 2015)",
        _orthogonal_weight(net, layer) if grows else _orthogonal(net, layer),
    )


def injected(net: Net, members: Sequence[int]) -> bool:
    """Whether these are calls of one module to each of whose outputs the same tensor is added."""
    if not is_repeated(net, members):
        return False
    steps = [
        {
            m.fingerprint
            for x in net.layers[i + 1 : j + 1]
            if x.op.startswith("add")
            for m in x.inputs
        }
        for i, j in pairwise(members)
    ]
    return bool(set.intersection(*steps))


def contraction() -> Cause:
    """Of a gradient that falls where the input comes in anew at each step."""
    return Cause(
        "one module is called again and again, and the same tensor is added at each step: what "
        "comes to a fixed point forgets where it began, and its gradient must fall (Bai, Kolter & "
        "Koltun 2019, Deep Equilibrium Models)"
    )


def _orthogonal_weight(net: Net, layer: Layer) -> str:
    """Code that draws the weight of a layer anew, orthogonal."""
    if not net.root or not layer.parameter:
        return ""
    return f"w = {net.root}.get_parameter({layer.parameter!r})\ninitfast.init.orthogonal_(w)"


def _orthogonal(net: Net, layer: Layer) -> str:
    """Code that draws a cell's recurrent weight anew, each of its gates' matrices orthogonal."""
    kind = next((kind for kind in gates.GATES if layer.op.startswith(f"{kind}Cell")), None)
    if kind is None or "weight_hh" not in layer.weights or not net.root:
        return ""
    path = f"{layer.name}.weight_hh" if layer.name else "weight_hh"
    return (
        f"for part in {net.root}.get_parameter({path!r}).data.chunk({gates.GATES[kind]}):\n"
        "    initfast.init.orthogonal_(part)"
    )
