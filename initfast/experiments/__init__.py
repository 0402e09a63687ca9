"""The classic experiments on signal propagation as functions; ``python -m initfast`` runs them."""

from __future__ import annotations

from initfast.experiments.classic import (
    EXPERIMENTS,
    exploding,
    fading,
    gain,
    kaiming,
    product,
    sigmoid,
    steady,
    xavier,
)

__all__ = [
    "EXPERIMENTS",
    "exploding",
    "fading",
    "gain",
    "kaiming",
    "product",
    "sigmoid",
    "steady",
    "xavier",
]
