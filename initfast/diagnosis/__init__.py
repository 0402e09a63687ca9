"""What is wrong with a net, why, and what to do, from the numbers of its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from initfast.diagnosis.diagnosing import RULES, diagnose

__all__ = ["RULES", "diagnose"]


def __getattr__(name: str) -> Any:
    """The checks, imported where they are asked for: few programs make a diagnosis."""
    if name not in __all__:
        raise AttributeError(f"module 'initfast.diagnosis' has no attribute {name!r}")
    from initfast.diagnosis import diagnosing

    return getattr(diagnosing, name)


def __dir__() -> list[str]:
    return __all__
