"""Named schemes: what each draws for which kind of parameter, a pure function of its role.

SCHEMES["gpt2"].law(role)       # a Law: family, scale, cut; None: nothing, it stays
SCHEMES["gpt2"].std(role)       # the std to expect of that parameter
"""

from __future__ import annotations

from initfast.repair.schemes import (
    convnets,
    libraries,
    published,
    transformers,
    vision_transformers,
)
from initfast.repair.schemes.auto import AUTO
from initfast.repair.schemes.law import Law
from initfast.repair.schemes.scheme import DoesNotFit, Scheme

SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        AUTO,
        *libraries.SCHEMES,
        *transformers.SCHEMES,
        *vision_transformers.SCHEMES,
        *convnets.SCHEMES,
        *published.SCHEMES,
    )
}
"""Every scheme by its name."""

__all__ = ["SCHEMES", "DoesNotFit", "Law", "Scheme"]
