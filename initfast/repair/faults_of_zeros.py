"""A check of weights that are all zero where no net wants them: in the midst of a chain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from torch import nn

from initfast.diagnosis.findings import Finding
from initfast.repair.examined import Examined, fault
from initfast.repair.parameter_kinds import DENSE
from initfast.repair.uses import is_attention

_WANTED = re.compile(
    r"gat(e|ing)|offset|modul|ada|lora|delta|scale|shift|(^|[._])(q|k|v|wq|wk|wv)(_proj)?$"
    r"|query|key|value|zero|control",
    re.IGNORECASE,
)
"""Layers that start at zero on purpose though others follow them, by the names that they have."""


def zero_weight(net: Examined) -> Iterator[Finding]:
    """A weight in the midst of a chain is all zero: no signal and no gradient passes it.

    The last layer of a branch or of the net may start at zero: what it is added to goes on, and it
    gets a gradient itself. So may all that is called a gate, an offset or the like.
    """
    dense = [i for i, f in enumerate(net.facts) if f.kind in DENSE and len(f.shape) > 1]
    zero = [i for i in dense if net.facts[i].trainable and _is_zero(net, i)]
    everything = len(zero) > 1 and len(zero) == len(dense)
    for i in zero:
        if everything or _is_hidden(net, i, dense):
            yield _zero(net, i, everything)


def _is_zero(net: Examined, i: int) -> bool:
    found = net.facts[i].family
    return found is not None and found.name == "constant" and found.mean == 0


def _is_hidden(net: Examined, i: int, dense: list[int]) -> bool:
    """Whether what a layer makes goes on to another layer, and nowhere else.

    In a sequence it does. A module whose layers fit each other in their order, each taking as many
    features as the last one makes, is taken for a chain too.
    """
    path = net.owned[i].path
    above = path.rpartition(".")[0]
    beside = [j for j in dense if f"{net.owned[j].path}.".startswith(f"{above}." if above else "")]
    later = [j for j in beside if j > i and net.owned[j].path != path]
    if not path or not later:
        return False
    parent = net.modules.get(above)
    if parent is not None and type(parent).forward is nn.Sequential.forward:
        return True
    if _WANTED.search(path) or is_attention(path) or _has_set_bias(net, i):
        return False
    chain = [net.facts[j] for j in beside]
    direct = all(net.owned[j].path.rpartition(".")[0] == above for j in beside)
    return direct and all(a.fan_out == b.fan_in for a, b in pairwise(chain))


def _has_set_bias(net: Examined, i: int) -> bool:
    """Whether its bias is one number that is not zero, as of a gate that starts open."""
    name = net.facts[i].name.removesuffix("weight") + "bias"
    found = next((f.family for f in net.facts if f.name == name), None)
    return found is not None and found.name == "constant" and found.mean != 0


def _zero(net: Examined, i: int, everything: bool) -> Finding:
    facts = net.facts[i]
    where = "as are all of the net" if everything else "and other layers follow"
    return fault(
        net,
        [i],
        "warning",
        "zero_weight",
        f"all {facts.moments.count if facts.moments else 0} weights are 0, {where}: what it makes "
        "is the same for every input",
        value=0.0,
        threshold=0.0,
        source="Goodfellow, Bengio & Courville 2016, section 8.4",
        cause="zeros are for the last layer of a residual branch, and for biases",
        advice="draw the weights at random",
        code=f"initfast.init.xavier_uniform_(net.get_parameter({facts.name!r}))",
    )
