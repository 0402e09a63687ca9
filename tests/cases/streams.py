"""What the tests of random streams share."""

import torch

from initfast.ops import checks

DTYPES = tuple(checks.DTYPES)


def same_bits(a, b):
    """Equality that tells -0 from 0 and NaN from NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return torch.equal(*(x.clone().reshape(-1).view(integer) for x in (a, b)))
