"""What every test of repair starts from."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """The nets are small: more threads would only wait for each other. It is put back later."""
    torch.set_num_threads(1)
