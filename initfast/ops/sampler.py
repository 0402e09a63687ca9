"""The sampler's operators ``torch.ops.initfast`` as functions.

They know nothing of autograd but that the tensor has changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from initfast.ops.checks import check_tensors
from initfast.ops.functions import count_write


def sample_(
    out: Tensor,
    shape: str,
    table: Tensor | None,
    scale: float,
    location: float,
    low: float,
    high: float,
    key: int,
    offset: int,
    strides: Sequence[int],
) -> None:
    """Fill a tensor, or a slice of a greater one, with random numbers from the stream of a key.

    The element at local index (i, j, ...) is number ``offset + i strides[0] + j strides[1] + ...``
    of the stream: ``clamp(location + scale x, low, high)``, where x comes from that number's word.
    Nothing else decides it: not threads, device, layout or the slice it is drawn in.

    Args:
        out: float32, float64, bfloat16 or float16, any strides, no two elements sharing memory. The
            16-bit types hold the rounded float32 numbers.
        shape: "uniform" (x is the word as a signed integer), or the table's: "symmetric", "skewed"
            or "one_sided".
        table: None, or a table of :mod:`initfast.ops.quantile_tables` on the CPU; float64 for
            float64, else float32.
        scale, location, low, high: numbers, rounded to the table's dtype.
        key: 64 bits, signed.
        offset: the global index of out's first element.
        strides: of the global, logical tensor, in elements, one for each dimension of out.

    Raises:
        RuntimeError: an unsupported dtype or shape, or a table or strides that do not fit.

    Example:
        >>> whole, part = torch.empty(6), torch.empty(3)
        >>> sample_(whole, "uniform", None, 2.0**-32, 0.5, 0.0, 1.0, 7, 0, (1,))
        >>> sample_(part, "uniform", None, 2.0**-32, 0.5, 0.0, 1.0, 7, 1, (2,))
        >>> torch.equal(part, whole[1::2])
        True
    """
    check_tensors("sample_", out=out)
    torch.ops.initfast.sample_(
        out, shape, table, scale, location, low, high, key, offset, list(strides)
    )
    count_write(out)


def zero_rows_(
    out: Tensor, count: int, key: int, rows: int | None = None, first: tuple[int, int] = (0, 0)
) -> Tensor:
    """Zero some elements of each column of a matrix, each set of rows being equally likely.

    By Floyd's method (Bentley & Floyd 1987, "A sample of brilliance"): for each last row of
    rows - count ... rows - 1, choose a row up to it, or the last row itself where that one is
    chosen already. Number ``column * rows + last`` of the key's stream decides.

    Args:
        out: ``[rows, cols]``, any strides; float32, float64, bfloat16 or float16. Or a part of such
            a matrix, where alone those zeros are written that lie in it.
        count: of zeros in each column, 0 to rows.
        key: 64 bits, signed.
        rows: of the whole matrix; those of out where None.
        first: the row and the column of the whole matrix at which out begins.

    Returns:
        out.

    Raises:
        RuntimeError: an unsupported dtype, not two dimensions, or a count or a place that does not
            fit.

    Example:
        >>> whole = zero_rows_(torch.ones(5, 3), 2, 7)
        >>> (whole == 0).sum(0).tolist()
        [2, 2, 2]
        >>> torch.equal(zero_rows_(torch.ones(2, 1), 2, 7, 5, (3, 1)), whole[3:, 1:2])
        True
    """
    check_tensors("zero_rows_", out=out)
    rows = out.shape[:1].numel() if rows is None else rows
    torch.ops.initfast.zero_rows_(out, count, key, rows, *first)
    count_write(out)
    return out
