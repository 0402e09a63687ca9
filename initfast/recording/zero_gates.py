"""Which parameters wait for a factor that starts at zero: no gradient comes to them yet.

A residual branch times a parameter of zero (Bachlechner et al. 2021, ReZero), a low-rank update
whose last matrix is zero (Hu et al. 2022, LoRA): the zero gets a gradient, and opens the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from initfast.recording.gradients import Gradients

_ZERO_AT_ZERO = (
    *("Tanh", "Relu", "Sin", "Neg", "Abs", "T", "Transpose", "Permute", "View", "UnsafeView"),
    *("ReshapeAlias", "Expand", "Unsqueeze", "Squeeze", "Select", "Slice", "Index", "Unbind"),
    *("Split", "Clone", "ToCopy", "Alias", "Mul", "Div"),
)
"""Functions of one tensor that make zeros of zeros, as autograd's nodes are called."""

_FACTORS = {
    **dict.fromkeys(("Mul", "Mm", "Mv", "Bmm"), (0, 1)),
    **dict.fromkeys(("Addmm", "Baddbmm"), (1, 2)),
    **dict.fromkeys(
        ("Convolution", "NativeLayerNorm", "NativeBatchNorm", "CudnnBatchNorm"), (0, 1)
    ),
    **dict.fromkeys(("NativeGroupNorm", "Linear", "FusedRmsNorm"), (0, 1)),
}
"""Which inputs of a node are multiplied by one another; a third is added."""

_MOST_STEPS = 8
"""So many functions, at most, lie between a parameter and the product that it is a factor of."""


class ZeroGates:
    """The products in a loss's graph that have a factor of zero.

    Args:
        root: the node of the loss; its backward may have run.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._zeros: dict[tuple[Any, int], bool] = {}  # by node and by how far to look

    def waiting(self) -> set[int]:
        """The ids of the leaf tensors whose every way to the loss leads through such a product.

        Of products of which two factors are zero none opens the way: what waits there stays out.
        """
        behind: list[Any] = []
        open_ = set(self._leaves([self._root], behind))
        return set(self._leaves(behind, None)) - open_

    def _leaves(self, nodes: list[Any], behind: list[Any] | None) -> Iterator[int]:
        """The leaf tensors that the nodes lead to, by open ways alone if behind gets the others."""
        seen = set()
        while nodes:
            node = nodes.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                yield id(leaf)
                continue
            after = [n for n, _ in node.next_functions]
            for i, shut in enumerate(self._shut(node, after) if behind is not None else after):
                if behind is None or not shut:
                    nodes.append(after[i])
                elif not self._is_zero(after[i]):
                    behind.append(after[i])

    def _shut(self, node: Any, after: list[Any]) -> list[bool]:
        """For each input of a node, whether what it is multiplied by is zero."""
        shut = [False] * len(after)
        if (chain := _chain(node)) is not None:  # linear layers, one after another
            zero = [i for i in range(1, 1 + len(chain)) if self._is_zero(after[i])]
            return [i < max(zero, default=0) for i in range(len(after))]
        factors = [i for i in _FACTORS.get(_kind(node), ()) if i < len(after)]
        for i in factors:
            shut[i] = any(self._is_zero(after[j]) for j in factors if j != i)
        return shut

    def _is_zero(self, node: Any, steps: int = _MOST_STEPS) -> bool:
        """Whether what a node has made is zero because a parameter is."""
        if node is None or not steps:
            return False
        if (node, steps) not in self._zeros:
            self._zeros[node, steps] = self._makes_zero(node, steps - 1)
        return self._zeros[node, steps]

    def _makes_zero(self, node: Any, steps: int) -> bool:
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            return _all_zero(leaf)
        after = [n for n, _ in node.next_functions]
        if (chain := _chain(node)) is not None:
            biases = after[1 + len(chain) :]
            return self._is_zero(after[len(chain)], steps) and all(
                self._is_zero(n, steps) for n in biases[-1:]
            )
        kind, factors = _kind(node), _FACTORS.get(_kind(node), ())
        added = [n for i, n in enumerate(after) if i not in factors and n is not None]
        if factors and any(self._is_zero(after[i], steps) for i in factors if i < len(after)):
            return all(self._is_zero(n, steps) for n in added)
        known = [n for n in after if n is not None]
        return kind in _ZERO_AT_ZERO and len(known) == 1 and self._is_zero(known[0], steps)


def _chain(node: Any) -> Any:
    """The calls of a chain of linear layers that run as one node; None of another node."""
    return node.calls if isinstance(getattr(node, "gradients", None), Gradients) else None


def _kind(node: Any) -> str:
    """As "Mul" of "MulBackward0"."""
    return str(node.name()).partition("Backward")[0]


def _all_zero(leaf: Tensor) -> bool:
    is_plain = type(leaf) in (Tensor, torch.nn.Parameter) and leaf.layout is torch.strided
    return is_plain and not bool(leaf.detach().any())
