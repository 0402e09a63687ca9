"""What is known of functions that are no activations: which leave memory alone, which are measured.

Keys are the functions that a torch function mode is called with: those of ``torch``, ``torch.nn``,
``torch.nn.functional`` and ``Tensor``, their in-place forms included.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _functions(names: str) -> set[Any]:
    """The functions and methods of these names."""
    found = {getattr(owner, name, None) for owner in (torch, Tensor) for name in names.split()}
    return found - {None}


METADATA = _functions(
    "__len__ dim element_size get_device is_complex is_conj is_contiguous is_floating_point is_neg "
    "is_same_size ndimension nelement numel size stride"
) | {
    getattr(Tensor, name).__get__
    for name in "device dtype is_cpu is_cuda is_mps is_nested is_quantized is_sparse itemsize "
    "layout nbytes ndim requires_grad shape".split()
}
"""What a tensor answers without its values."""

HARMLESS = (
    METADATA
    | {getattr(Tensor, n).__get__ for n in ("_version", "is_leaf")}
    | _functions(
        "abs add all allclose amax amin any argmax bmm cat div eq equal ge gt is_inference "
        "isfinite isinf isnan item le lt matmul max mean median min mm mul ne norm softmax square "
        "stack std std_mean sub sum tolist var __add__ __bool__ __eq__ __float__ __ge__ __gt__ "
        "__le__ __lt__ __matmul__ __mul__ __radd__ __rmul__ __rsub__ __sub__ __truediv__"
    )
)
"""The usual functions that neither write to a tensor nor lend its memory."""


def _named(names: str, *owners: Any) -> dict[Any, str]:
    """The functions of these names, in whatever place they stand, each with its name."""
    found = {getattr(owner, n, None): n.strip("_") for owner in owners for n in names.split()}
    found.pop(None, None)
    return found


SUMS = frozenset(_named("add add_ __add__ __radd__ __iadd__", torch, Tensor))
"""A sum of two outputs is a residual connection."""

MEASURED = _named(
    "softmax log_softmax softmin gumbel_softmax glu prelu rrelu threshold hardshrink softshrink "
    "tanhshrink",
    *(torch, Tensor, F),
)
"""Activations that the operators do not know, by their names."""

LENDING = _functions("__array__ __dlpack__ data_ptr detach numpy storage untyped_storage") | {
    getattr(Tensor, "data").__get__,  # noqa: B009  (mypy takes Tensor.data for its value)
}
"""What gives a tensor's memory to writers that its version counter does not see."""

WRITING = _functions(
    "__iadd__ __iand__ __ifloordiv__ __ilshift__ __imod__ __imul__ __ior__ __ipow__ __irshift__ "
    "__isub__ __itruediv__ __ixor__ __setitem__"
) | {
    getattr(Tensor, "data").__set__,  # noqa: B009
    *_functions(" ".join(n for n in {*dir(torch), *dir(Tensor)} if n.rstrip("_") + "_" == n)),
}
"""What writes to its first argument."""
