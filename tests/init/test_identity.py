"""Identities: eye_, dirac_, identity_."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from initfast import init

REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (0, 2)])
def test_eye_is_torchs(shape):
    assert torch.equal(init.eye_(torch.empty(shape)), nn.init.eye_(torch.empty(shape)))


@pytest.mark.parametrize("shape", [(4, 4, 3), (6, 2, 4, 3), (6, 8, 3, 5), (8, 4, 1, 2, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_is_torchs(shape, groups):
    ours = init.dirac_(torch.empty(shape), groups)
    assert torch.equal(ours, nn.init.dirac_(torch.empty(shape), groups))


@pytest.mark.parametrize("groups", [1, 4])
def test_dirac_passes_channels(groups):
    x = torch.randn(2, 8, 9, 9)
    w = init.dirac_(torch.empty(8, 8 // groups, 3, 3), groups)
    assert torch.equal(F.conv2d(x, w, padding=1, groups=groups), x)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 10), (8, 3, 3), (3, 8, 5, 5)])
def test_identity_keeps_the_variance(shape):
    w = init.identity_(torch.empty(shape), gain=2.0)
    kernel = w.flatten(2) if w.dim() > 2 else w.unsqueeze(-1)
    assert torch.allclose(kernel.square().sum((1, 2)), torch.full((shape[0],), 4.0))
    matrix = kernel.sum(-1) / 2
    if shape[0] <= shape[1]:
        assert torch.allclose(matrix @ matrix.t(), torch.eye(shape[0]), atol=1e-6)
    else:
        assert (matrix.sum(1) == 1).all() and (matrix.sum(0) >= shape[0] // shape[1]).all()
