"""Autograd's graph, walked from a tensor to the leaf tensors that it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def edges_to_leaf_tensors(root: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """Each node of the graph that leads to a leaf tensor, with that tensor, once for each edge."""
    nodes, seen = [root.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for after, _ in node.next_functions:
            if type(after).__name__ == "AccumulateGrad":
                yield node, after.variable  # type: ignore[union-attr]
            else:
                nodes.append(after)


def leaf_tensors(root: Tensor) -> list[Tensor]:
    """Every leaf tensor of the graph, once.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> [leaf is x for leaf in leaf_tensors((x * x).sum())]
        [True]
    """
    return list(dict.fromkeys(leaf for _, leaf in edges_to_leaf_tensors(root)))
