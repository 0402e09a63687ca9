"""A net whose copies several ranks train together, in a DistributedDataParallel."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

WRAPPED = "The net is in a DistributedDataParallel: names are those in net.module."


class Local(NamedTuple):
    """A net that is called here, without the DistributedDataParallel around it.

    Attributes:
        net: what is called.
        group: the ranks that hold copies of it; None: there is no wrapper.
        root: the net, in code that has what was given as `net`.
    """

    net: Any
    group: Any = None
    root: str = "net"


def local(net: Any) -> Local:
    """The net within a DistributedDataParallel; any other net itself."""
    if isinstance(net, nn.parallel.DistributedDataParallel):
        return Local(net.module, net.process_group, "net.module")
    return Local(net)


def shared_weights(net: Any) -> list[Tensor]:
    """The weights within a DistributedDataParallel that all ranks have, in the same order."""
    own = set(getattr(net, "_ddp_params_and_buffers_to_ignore", ()))
    return [p for name, p in net.named_parameters() if p.dim() > 1 and name not in own]
