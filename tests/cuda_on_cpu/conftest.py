"""The kernels that every test here calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cuda_on_cpu.builds import or_skip
from cuda_on_cpu.harness import Device


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    """The kernels of the plain build."""
    device = or_skip(lambda: Device("plain"))
    yield device
    device.close()
