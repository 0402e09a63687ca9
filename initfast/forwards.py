"""Shorter forwards for torch's own modules, for as long as a profile runs.

What a module and its functions cost in Python exceeds what a small layer costs in arithmetic. A
shorter forward does what the module's own does; where anybody could tell the difference (a
subclass, a forward of its own, gradients, casts), it calls that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from initfast.fusion import Fusion


class Forward:
    """The forward of one module. On a copy of the module, and after the profile, it is torch's own.

    Args:
        module: whose forward it is.
        fusion: of the profile; None once that has ended.
    """

    def __init__(self, module: nn.Module, fusion: Fusion) -> None:
        self.module = module
        self.fusion: Fusion | None = fusion

    def __call__(self, input: Any) -> Any:
        """What the module's own forward returns."""
        return self.plainly(input)

    def plainly(self, input: Any) -> Any:
        """Call the module's own."""
        return type(self.module).forward(self.module, input)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return partial(type(self.module).forward, memo.get(id(self.module), self.module))

    def __reduce__(self) -> Any:
        return partial, (type(self.module).forward, self.module)


@contextmanager
def installed(forwards: Iterable[Forward]) -> Iterator[None]:
    """The modules have these forwards for as long as this lasts."""
    forwards = list(forwards)
    try:
        for forward in forwards:
            forward.module.__dict__["forward"] = forward
        yield
    finally:
        for forward in forwards:
            forward.fusion = None
            own = forward.module.__dict__
            if own.get("forward") is forward:  # and not what the net has put there meanwhile
                del own["forward"]


def takes_another(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module of exactly this kind runs the forward of its class."""
    return type(module) is kind and "forward" not in module.__dict__
