"""What every test starts from."""

import os

import pytest
import torch

os.environ.pop("COLUMNS", None)  # reports are as wide as where no terminal is


def pytest_collection_modifyitems(items):
    """The checks of the CUDA kernels that need tools of their own run where they are asked for."""
    if os.environ.get("INITFAST_CUDA_CHECKS") == "1":
        return
    for item in items:
        if item.get_closest_marker("cuda_checks"):
            item.add_marker(pytest.mark.skip(reason="INITFAST_CUDA_CHECKS=1 runs it"))


@pytest.fixture(autouse=True)
def _same_start():
    """The same random numbers in every test, and the thread count put back after it."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
