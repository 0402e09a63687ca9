"""Which parameters wait for a factor of zero, by the graph alone."""

import pytest
import torch

from initfast.recording.zero_gates import ZeroGates


def tanhs(x, count):
    for _ in range(count):
        x = x.tanh()
    return x


@pytest.mark.parametrize("far_first", [False, True])
def test_how_far_another_way_has_looked_changes_nothing(far_first):
    """A gate within reach is one, though a longer way leads through it."""
    gate, near, far = (torch.nn.Parameter(torch.zeros(1)), *torch.randn(2, 1))
    near, far = torch.nn.Parameter(near), torch.nn.Parameter(far)
    within = tanhs(gate, 6)
    terms = [near * within, far * tanhs(within, 4)]
    loss = sum(terms[::-1] if far_first else terms)
    assert id(near) in ZeroGates(loss.grad_fn).waiting()
