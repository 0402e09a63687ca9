"""Which part of a tensor this process holds, where several processes hold it together."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """What this process holds of a tensor.

    Attributes:
        counts: whether this process is the first of those that hold this very part.
        start: the index in the whole tensor of the part's first element; None where unknown.
        whole: the shape of the whole tensor, as far as one batch's processes hold it; likewise.
    """

    counts: bool = True
    start: tuple[int, ...] | None = None
    whole: tuple[int, ...] | None = None

    @property
    def begins_the_batch(self) -> bool:
        """Whether it counts, and begins at 0 in every dimension but the first."""
        return self.counts and not any((self.start or ())[1:])


class NetParts(NamedTuple):
    """How several processes run a net together.

    Attributes:
        processes: how many of them work on one batch, as those of tensor parallelism do.
        counts: whether this process is the first of these.
        stage: which stage of a pipeline this process ran, counted from 0; None without one.
        inputs: the parts of the net's own inputs.
        micro_batches: of how many a pipeline's schedule averages the gradients.
    """

    processes: int = 1
    counts: bool = True
    stage: int | None = None
    inputs: tuple[Part, ...] = ()
    micro_batches: int = 1


class LayerParts(NamedTuple):
    """The parts of the tensors of one layer.

    Attributes:
        net: how the net runs.
        output: of the output, the pre-activation and the gradient there.
        inputs: of the inputs that are known, in their order.
        weights: of each weight, with its name; "weight" where there is one.
        units: where this process's units begin among all, and how many there are; None where
            unknown.
    """

    net: NetParts = NetParts()
    output: Part = Part()
    inputs: tuple[Part, ...] = ()
    weights: tuple[tuple[str, Part], ...] = ()
    units: tuple[int, int] | None = None
