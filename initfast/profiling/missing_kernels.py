"""The note of a report that plain PyTorch has measured, slowly, because there were no kernels."""

from __future__ import annotations

import os

from initfast.ops.library import LibraryInfo


def missing_kernels(info: LibraryInfo, device: str) -> list[str]:
    """What to say of the kernels; nothing where they ran, or INITFAST_BACKEND chose to go without.

    Args:
        info: of the library that is loaded.
        device: where the net ran, as "cuda:0".
    """
    if info.backend == "reference":
        if os.environ.get("INITFAST_BACKEND") == "reference":
            return []
        return [f"Plain PyTorch measured, slowly: there are no native kernels ({info.reason})."]
    kind = device.partition(":")[0]
    if kind in ("", "cpu") or (kind == "cuda" and info.cuda is not None):
        return []
    return [f"Plain PyTorch measured, slowly: there are no native kernels for {kind} devices."]
