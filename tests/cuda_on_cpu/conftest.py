"""The kernels that every test here calls."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from cuda_on_cpu.builds import MissingTool
from cuda_on_cpu.harness import Device


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    """The kernels of the plain build; INITFAST_CUDA_CHECKS=1 makes a missing compiler an error."""
    try:
        device = Device("plain")
    except MissingTool as missing:
        if os.environ.get("INITFAST_CUDA_CHECKS") == "1":
            raise
        pytest.skip(str(missing))
    yield device
    device.close()
