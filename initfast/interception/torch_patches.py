"""DLPack's export functions, which torch calls past function modes: made visible to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.utils.dlpack
from torch.overrides import handle_torch_function, has_torch_function_unary

from initfast.shared_patch import SharedPatch


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


def _show_exports() -> Callable[[], None]:
    replaced = []
    for owner, name in _NAMES:
        if (export := getattr(owner, name, None)) in _EXPORTS:
            setattr(owner, name, _EXPORTS[export])
            replaced.append((owner, name, export))

    def put_back() -> None:
        for owner, name, export in replaced:
            if getattr(owner, name, None) is _EXPORTS[export]:
                setattr(owner, name, export)

    return put_back


VISIBLE_EXPORTS = SharedPatch(_show_exports)
"""For as long as this lasts, in any thread, modes see what is exported."""
