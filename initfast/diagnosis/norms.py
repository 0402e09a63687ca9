"""Which layers are norms, told by what their modules are, and what they do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from initfast.stats.layer import Layer


def is_norm(layer: Layer) -> bool:
    """Whether a layer is a norm: of torch, derived from one of torch's, or called so."""
    return "Norm" in " ".join((layer.op, *layer.bases))


def fed(layers: Sequence[Layer], source: Sequence[int | None]) -> set[int]:
    """The layers whose output goes into a norm, which rescales it.

    Args:
        layers: of a net.
        source: which of them each takes the output of.
    """
    takes = zip(source, layers, strict=True)
    found = {before for before, x in takes if before is not None and is_norm(x)}
    # One with a forward of its own is seen by what runs last in it.
    pairs = enumerate(itertools.pairwise(layers))
    return found | {i for i, (_, x) in pairs if is_norm(x) and "Norm" not in x.op}


def idle(layers: Sequence[Layer]) -> int | None:
    """The first batch norm that passes its input on: running statistics never updated."""
    for i, layer in enumerate(layers):
        name = _batch_norm(layer)
        if name is None:
            continue
        before, after = layer.input, layer.pre or layer.post
        if "BatchNorm" not in layer.op:  # its own forward: seen by what runs last in it
            outer = (x for x in reversed(layers[:i]) if not _is_in(x.name, name))
            before = next((x.post for x in outer), None)
        if before is None or not before.std > 0 or before.count != after.count:
            continue
        if abs(after.std / before.std - 1) < 1e-3 and abs(before.std - 1) > 0.05:
            return i
    return None


def _batch_norm(layer: Layer) -> str | None:
    """The name of the batch norm whose output a layer's is; None where it is none's."""
    found = (n for n, b in zip(layer.names, layer.bases, strict=False) if "BatchNorm" in b)
    return next(found, layer.name if "BatchNorm" in layer.op else None)


def _is_in(name: str, module: str) -> bool:
    """Whether a name is that of a module or of a part of it."""
    return name == module or name.startswith(module + ".")
