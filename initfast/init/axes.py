"""What the dimensions of a weight are: outputs, inputs, a kernel's, or a batch of weights."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from initfast.errors import ArgumentError
from initfast.init.placement import Shard

_WORD = re.compile(r"\((\d+) (out|in)\)|(batch|out|in|kernel)(?= |$)")


class Dimension(NamedTuple):
    """One dimension of a weight.

    role: "out", "in", "kernel" (a convolution's) or "batch" (each entry is a weight of its own).
    parts: how many weights are packed along it, one after the other.
    """

    role: str
    parts: int = 1


class Piece(NamedTuple):
    """What a shard holds of one of the weights along a dimension.

    number, of: which of how many weights it is. at, size: where it lies in the shard. start, whole:
    where it lies in that weight, and how long that is.
    """

    number: int
    of: int
    at: int
    size: int
    start: int
    whole: int


class Axes(NamedTuple):
    """The dimensions of a weight, or of several in one tensor.

    Example:
        >>> axes_of("batch out in").fans((8, 64, 16))
        (16, 64)
    """

    text: str
    dimensions: tuple[Dimension, ...]

    def fans(self, shape: Sequence[int]) -> tuple[int, int]:
        """fan_in and fan_out of each weight in a tensor of that shape."""
        self._check(shape)
        size = dict.fromkeys(("batch", "out", "in", "kernel"), 1)
        for n, (role, parts) in zip(shape, self.dimensions, strict=True):
            size[role] *= n // parts
        return size["in"] * size["kernel"], size["out"] * size["kernel"]

    def matrix_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape ``[out, in, *kernel]`` of each weight in a tensor of that shape."""
        self._check(shape)
        return tuple(shape[d] // self.dimensions[d].parts for d in self._order())

    def matrices(self, shard: Shard) -> Iterator[tuple[str, Shard]]:
        """What a rectangle of a tensor holds of each weight, laid out ``[out, in, *kernel]``.

        Yields:
            The weight's number among those of the whole tensor, "" where there is one alone; and
            the shard of it.
        """
        self._check(shard.shape)
        along = [self._pieces(shard, d) for d in range(len(shard.shape))]
        for pieces in itertools.product(*along):
            local, number, count = shard.local, 0, 1
            for d, piece in enumerate(pieces):
                local = local.narrow(d, piece.at, piece.size)
                number, count = number * piece.of + piece.number, count * piece.of
            order = self._order()
            batches = [d for d in range(local.dim()) if d not in order]
            local = local.permute(*batches, *order)[(0,) * len(batches)]
            start, whole = (
                tuple(getattr(pieces[d], of) for d in order) for of in ("start", "whole")
            )
            yield str(number) if count > 1 else "", Shard(local, start, whole)

    def _pieces(self, shard: Shard, d: int) -> list[Piece]:
        role, parts = self.dimensions[d]
        of = shard.shape[d] if role == "batch" else parts
        whole = shard.shape[d] // max(of, 1)
        begin, end = shard.start[d], shard.start[d] + shard.local.shape[d]
        pieces = []
        for number in range(begin // max(whole, 1), of):
            low, high = max(begin, number * whole), min(end, (number + 1) * whole)
            if low >= high:
                break
            pieces.append(Piece(number, of, low - begin, high - low, low - number * whole, whole))
        return pieces

    def _order(self) -> list[int]:
        """The dimensions of one weight: its outputs, its inputs, its kernel."""
        order = []
        for wanted in ("out", "in", "kernel"):
            found = [d for d, (role, _) in enumerate(self.dimensions) if role == wanted]
            if len(found) > 1 and wanted != "kernel":
                raise ArgumentError(
                    f"axes is {self.text!r}; expected one dimension {wanted!r} for this initialiser"
                )
            order += found
        return order

    def _check(self, shape: Sequence[int]) -> None:
        if len(shape) != len(self.dimensions):
            raise ArgumentError(
                f"axes is {self.text!r}, {len(self.dimensions)} words, and the tensor has shape "
                f"{tuple(shape)}; expected a word for each dimension"
            )
        for n, (role, parts) in zip(shape, self.dimensions, strict=True):
            if n % parts:
                raise ArgumentError(
                    f"axes is {self.text!r} and the tensor has shape {tuple(shape)}; "
                    f"expected {parts} equal parts along ({parts} {role})"
                )


@functools.cache
def _read(text: str) -> Axes | None:
    words = [word for word in re.split(r" (?![^(]*\))", text.strip()) if word]
    found = [_WORD.fullmatch(word) for word in words]
    dimensions = tuple(Dimension(m[3]) if m[3] else Dimension(m[2], int(m[1])) for m in found if m)
    is_weight = {"out", "in"} <= {role for role, _ in dimensions}
    is_right = all(found) and is_weight and all(parts > 0 for _, parts in dimensions)
    return Axes(text, dimensions) if is_right else None


def axes_of(text: str) -> Axes:
    """Read what the dimensions of a weight are.

    Args:
        text: a word for each dimension: "out", "in", "kernel" (a convolution's) or "batch" (each
            entry is a weight of its own, as an expert's); and "(3 out)" for three weights packed
            one after the other. torch's linear weights are "out in", its convolutions' "out in
            kernel kernel"; x @ w has "in out", Keras' convolutions "kernel kernel in out".

    Raises:
        ArgumentError: any other word; no dimension of outputs, or of inputs.

    Example:
        >>> axes_of("(3 out) in").matrix_shape((96, 16))
        (32, 16)
    """
    if isinstance(text, str) and (found := _read(text)) is not None:
        return found
    raise ArgumentError(
        f"axes is {text!r}; expected a word for each dimension, out and in among them, as "
        '"batch out in", "in out", "(3 out) in" or "out in kernel kernel"'
    )
