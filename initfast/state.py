"""What a forward changes in a net and in torch, put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@contextmanager
def unchanged(modules: list[nn.Module]) -> Iterator[None]:
    """Put the random state and the buffers of training modules back at the end."""
    random = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    saved = [(m._buffers, dict(m._buffers.items()), _copies(m)) for m in modules if m._buffers]
    try:
        yield
    finally:
        torch.set_rng_state(random)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        for buffers, before, copies in saved:
            for tensor, copy in copies:
                # .data counts its versions apart: an older graph may have saved the tensor.
                tensor.data.copy_(copy)
            if isinstance(buffers, dict):
                buffers.clear()
                buffers.update(before)


def _copies(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Copies of the buffers that a forward may write to: those of a module in training mode.

    Whether it did cannot be told: batch norm writes past the version counter.
    """
    return [
        (t, t.clone())
        for t in module._buffers.values()
        if module.training
        and t is not None
        and not is_lazy(t)
        and not t.is_inference()
        and torch._debug_has_internal_overlap(t) != 1  # expanded: torch refuses to write to it
    ]
