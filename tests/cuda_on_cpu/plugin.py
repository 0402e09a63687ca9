"""Runs any test of the CPU's operators on CUDA's, without a card.

PYTHONPATH=tests pytest -p cuda_on_cpu.plugin tests/ops/test_linear_act.py
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cuda_on_cpu.card import Card


@pytest.fixture(scope="session", autouse=True)
def cuda_operators() -> Iterator[None]:
    """CPU tensors go to the CUDA operators."""
    with Card().in_place_of_the_cpu():
        yield
