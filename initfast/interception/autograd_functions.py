"""The user's own autograd functions, which torch runs past function modes: given plain tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.autograd import Function

from initfast.interception.deferred_tensor import Pending
from initfast.shared_patch import SharedPatch


def _give_values() -> Callable[[], None]:
    original = Function.__dict__["apply"]

    def apply(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        # Only what stands alone takes part in the graph; structures stay the objects that they are.
        values = [a.resolve() if type(a) is Pending else a for a in args]
        named = {k: a.resolve() if type(a) is Pending else a for k, a in kwargs.items()}
        return original.__func__(cls, *values, **named)

    ours = classmethod(apply)
    Function.apply = ours  # type: ignore[assignment, method-assign]

    def put_back() -> None:
        if Function.__dict__["apply"] is ours:
            Function.apply = original  # type: ignore[method-assign]

    return put_back


PLAIN_ARGUMENTS = SharedPatch(_give_values)
"""For as long as this lasts, `apply` computes what waits before it runs, in any thread."""
