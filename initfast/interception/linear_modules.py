"""A shorter way through ``nn.Linear``: a small layer that follows another is asked for at once.

Called in the usual way, such a layer takes Python twice as long to find its weight and bias, to be
seen as a function, and to be recognised, as to be written down for the chain that it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from initfast.interception.deferred_tensor import Pending
from initfast.interception.function_mode import Fusion
from initfast.interception.module_calls import Forward, takes_another
from initfast.ops.dispatch import Weights, weights_of

_LINEAR = F.linear
_FORWARD = nn.Linear.forward


def shorter_linears(modules: Iterable[nn.Module], fusion: Fusion) -> list[Forward[Fusion]]:
    """A forward for each plain linear module, where linear layers may wait for one another."""
    if not fusion.chains():
        return []
    return [LinearForward(m, fusion) for m in modules if takes_another(m, nn.Linear, _FORWARD)]


class LinearForward(Forward[Fusion]):
    """The forward of an ``nn.Linear``."""

    def __init__(self, module: nn.Module, fusion: Fusion) -> None:
        super().__init__(module, fusion)
        self._weights: Weights | None = None
        self._writes = -1  # when they were looked at: not before they are asked for

    def forward(self, fusion: Fusion, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``F.linear`` returns."""
        input = args[0] if len(args) == 1 and not kwargs else None
        if type(input) is Pending and input.value is None:
            if fusion.is_called_first() and (own := self._own(fusion)) is not None:
                z = fusion.waiting.follows(input, own, fusion.names.name(self.module))
                if z is not None:
                    return z
        return self.plainly(*args, **kwargs)

    def _own(self, fusion: Fusion) -> Weights | None:
        """The module's weights; None where it is not what it was, or the kernels do not take them.

        They are looked at anew after whatever may have changed them.
        """
        module = self.module
        if F.linear is not _LINEAR:
            return None
        if self._writes != fusion.tape.writes:
            self._writes = fusion.tape.writes
            with torch._C.DisableTorchFunction():
                self._weights = weights_of(module)
        found, own = self._weights, module._parameters
        if found is None:
            return None
        same = own.get("weight") is found.weight and own.get("bias", self) is found.bias
        return found if same else None
