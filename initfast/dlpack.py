"""DLPack's export functions, which torch calls past function modes: made visible to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
import torch.utils.dlpack
from torch.overrides import handle_torch_function, has_torch_function_unary


def _visible(export: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which modes and subclasses see."""

    def function(data: Any, *args: Any, **kwargs: Any) -> Any:
        if has_torch_function_unary(data):
            return handle_torch_function(function, (data,), data, *args, **kwargs)
        return export(data, *args, **kwargs)

    function.__name__ = export.__name__
    return function


_NAMES = (
    (torch, "to_dlpack"),
    (torch.utils.dlpack, "to_dlpack"),
    (torch._C, "_to_dlpack"),
    (torch._C, "_to_dlpack_versioned"),
)
_EXPORTS = {export: _visible(export) for place in _NAMES if (export := getattr(*place, None))}

EXPORTS = frozenset(_EXPORTS.values())
"""What stands in for them."""

_lock = Lock()
_users = 0
_replaced: list[tuple[Any, str, Any]] = []


@contextmanager
def visible_exports() -> Iterator[None]:
    """For as long as this lasts, in any thread, modes see what is exported."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            for owner, name in _NAMES:
                if (export := getattr(owner, name, None)) in _EXPORTS:
                    setattr(owner, name, _EXPORTS[export])
                    _replaced.append((owner, name, export))
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            while _users == 0 and _replaced:
                owner, name, export = _replaced.pop()
                if getattr(owner, name, None) is _EXPORTS[export]:
                    setattr(owner, name, export)
