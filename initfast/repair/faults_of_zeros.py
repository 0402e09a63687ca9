"""A check of weights that are all zero where no net wants them: in the midst of a sequence."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from initfast.diagnosis.findings import Finding
from initfast.repair.examined import Examined, fault
from initfast.repair.parameter_kinds import DENSE


def zero_weight(net: Examined) -> Iterator[Finding]:
    """A weight in the midst of a sequence, or every weight of the net, is all zero.

    The last layer of a branch or of the net may start at zero: what it is added to goes on, and it
    gets a gradient itself. What a forward of the user's own does with a layer is not known here.
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
    """Whether it is a layer of torch's in a sequence, and another with weights comes after it."""
    path = net.owned[i].path
    above = path.rpartition(".")[0]
    parent, layer = net.modules.get(above), net.modules.get(path)
    if parent is None or not path or type(parent).forward is not nn.Sequential.forward:
        return False
    inside = f"{above}." if above else ""
    later = [net.owned[j].path for j in dense if j > i and net.owned[j].path.startswith(inside)]
    return type(layer).__module__.startswith("torch.nn.") and any(other != path for other in later)


def _zero(net: Examined, i: int, everything: bool) -> Finding:
    facts = net.facts[i]
    where = "as are all of the net" if everything else "in the midst of a sequence"
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
