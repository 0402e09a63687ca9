"""A recorder of a net that several processes run together: it knows whose part each tensor is."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import Tensor, nn

from initfast.init.placement import is_distributed
from initfast.nets.activation_calls import Call
from initfast.nets.pytree import tensors
from initfast.nets.shards import is_tensor_parallel, local_part, part_placed_as, placements_of
from initfast.recording.events import Source
from initfast.recording.gradients import Gradients
from initfast.recording.recorder import Recorder
from initfast.recording.shared_tensors import Held, SharedTensors


class ShardedRecorder(Recorder):
    """As :class:`Recorder`, for nets whose weights or tensors are distributed as DTensors."""

    shared: SharedTensors

    def __init__(self, stop_at_nonfinite: bool = False, gradients: Gradients | None = None) -> None:
        super().__init__(stop_at_nonfinite, gradients)
        self.shared = SharedTensors()

    def part(self, t: Tensor) -> Tensor:
        """What this process holds of t."""
        if (found := local_part(t)) is not t:
            self.shared.found(t, found)
        return found

    def weight(self, weight: Tensor) -> int | None:
        """The address of a weight's row."""
        if (found := local_part(weight)) is not weight:
            self.shared.found(weight, found, is_weight=True)
        return super().weight(weight)

    def keep(self, t: Tensor, address: int) -> int:
        """Remember that t is measured in the row of this address."""
        self.shared.measured(t, address)
        return super().keep(t, address)

    def taken_out(self, t: Tensor, part: Tensor) -> None:
        """The net has taken its local part out of a DTensor."""
        held = self.shared.held(t) or Held()
        self.shared.mark(part, held)
        if (waited := getattr(part, "elem", None)) is not None:  # an AsyncCollectiveTensor's
            self.shared.mark(waited, held)

    def hand_on(self, inputs: Any, outputs: Any, keeps_order: bool) -> None:
        """Outputs were computed of inputs: what needs a part that others lack is such a part.

        Args:
            inputs, outputs: structures of tensors.
            keeps_order: whether dimensions that both have are the same.
        """
        known = [(x, held) for _, x in tensors(inputs) if (held := self.shared.held(x))]
        known = [(x, held) for x, held in known if held.cut and not is_distributed(x)]
        if not known:
            return
        for _, y in tensors(outputs):
            if is_distributed(y):
                continue
            held = max((h.of_result(y, x, keeps_order) for x, h in known), key=_tells)
            held = held._replace(cut=frozenset().union(*(h.cut for _, h in known)))
            self.shared.mark(y, held)
            if (address := self.find(y)) is not None:
                self.shared.measured(y, address)

    def _add(
        self,
        source: Source,
        call: Call | None,
        y: Tensor,
        pre: int | None,
        post: int,
        live: int | None,
    ) -> None:
        super()._add(source, call, y, pre, post, live)
        t = self.shared.wrapper(y)
        if self.gradients is not None and t is not None and t.requires_grad > y.requires_grad:
            self.gradients.output(post, t, partial(part_placed_as, placements=placements_of(t)))


def _tells(held: Held) -> bool:
    return held.whole is not None


def is_shared(modules: Iterable[nn.Module], x: Any) -> bool:
    """Whether the weights of modules, or x, are distributed as DTensors."""
    return "torch.distributed.tensor" in sys.modules and (  # most nets pass here alone
        is_tensor_parallel(modules) or any(is_distributed(t) for _, t in tensors(x))
    )
