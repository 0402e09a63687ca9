"""The check of layers that train, and to which no graph leads from the loss."""

from __future__ import annotations

from collections.abc import Iterator

from initfast.diagnosis.findings import Finding
from initfast.diagnosis.net import Net
from initfast.stats.layer import Layer


def detached(net: Net) -> Iterator[Finding]:
    """Layers whose parameters require a gradient, and get none though later layers use them."""
    without = frozenset(net.outcome.detached)
    if not without:
        return
    cut = [i for i in sorted(_used(net)) if _is_detached(net.layers[i], without)]
    if not cut:
        return
    names = [net.layers[i].name for i in cut]
    which = ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
    after = next((x for x in net.layers[cut[-1] + 1 :] if x.grad is not None), None)
    where = f"before {after.name!r}" if after is not None else "on its way to the loss"
    yield net.finding(
        "no_gradient",
        "error",
        (cut[0], cut[-1]),
        "no_gradient",
        0.0,
        f"no gradient comes to the parameters of {which}, which require one: no graph leads to "
        "them from the loss",
        f"what they make is cut off {where}, as by detach(), no_grad(), NumPy or an argmax",
        "take the cut out; where it is meant, say so: requires_grad_(False) on their parameters",
    )


_NAMED = 4


def _is_detached(layer: Layer, without: frozenset[str]) -> bool:
    """Whether all parameters of a layer that were measured require a gradient and get none."""
    if layer.grad is not None or layer.weight_grad is not None or layer.weight_grads:
        return False
    path = f"{layer.name}." if layer.name else ""
    own = [layer.parameter] if layer.parameter else [path + name for name in layer.weights]
    return bool(own) and without.issuperset(own)


def _used(net: Net) -> set[int]:
    """The layers on which what has a gradient depends, as far as the numbers tell.

    Where plain code lies between, its first layer takes what the layer before it has made, unless
    the net returns that.
    """
    layers = net.sound
    own = {m.fingerprint for m in net.inputs}
    made = {x.post.fingerprint: i for i, x in enumerate(layers) if x.post.finite > 1}
    used = {i for i, x in enumerate(layers) if x.grad is not None}
    for i in range(len(layers) - 1, -1, -1):
        layer = layers[i]
        if i not in used:
            continue
        known = [made.get(m.fingerprint) for m in layer.inputs]
        used.update(at for at in known if at is not None and at < i)
        is_made = layer.input is not None and layer.input.fingerprint not in own
        if is_made and known[0] is None and i and not layers[i - 1].is_returned:
            used.add(i - 1)
    return used
