"""Which term of a residual sum is the stream, and which the branch that is added to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from initfast.recording.events import Source

_STEPS = 32
"""So many layers of a branch, at most, are gone back."""


def branch_of(sum_: Source, makers: Mapping[int, Source]) -> int | None:
    """Which of the terms of a sum is the branch; None where that is not known.

    Where both terms come from one tensor, the stream is the shorter way from it: the tensor itself,
    or a projection of it beside several layers. Where that is not seen, as plain code lies between,
    the stream is what was there first.

    Args:
        sum_: the sum.
        makers: what made each output, by the addresses of their rows.

    Returns:
        The place of the branch among the inputs, 0 or 1.
    """
    if sum_.kind != "add" or len(sum_.inputs) != 2 or None in sum_.inputs:
        return None
    a, b = sum_.inputs
    if a is None or b is None or a == b:
        return None
    ways = [{at: steps for steps, at in enumerate(_way_back(end, makers))} for end in (a, b)]
    common = [at for at in ways[0] if at in ways[1]]
    if common:
        first, second = (way[common[0]] for way in ways)
        if first != second:
            return 0 if first > second else 1
    return 0 if a > b else 1


def _way_back(address: int | None, makers: Mapping[int, Source]) -> Iterator[int]:
    """The tensor of this address, what it was made of first of all, and so on."""
    for _ in range(_STEPS):
        if address is None:
            return
        yield address
        maker = makers.get(address)
        address = None if maker is None else maker.input
