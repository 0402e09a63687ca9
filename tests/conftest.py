"""What every test starts from."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start():
    """The same random numbers in every test, and the thread count put back after it."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
