"""What the processes of a group know, brought together on all of them."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


def gather(value: T, group: Any = None) -> list[T]:
    """Every rank's value in the order of the ranks, the same list on all of them.

    Collective: every rank of the group must call it, and calls match in their order.

    Args:
        value: anything that can be pickled.
        group: of torch.distributed's; None: the default group, if there is one.

    Returns:
        One value a rank; of a process that is alone or no part of the group, its own.

    Example:
        >>> gather("mine")  # where nothing is distributed
        ['mine']
    """
    if group is None and not is_distributed():
        return [value]
    if torch.distributed.get_rank(group) < 0:
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(values, value, group)
    return values


def is_distributed() -> bool:
    """Whether this process has a default group."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


WRAPPED = "The net is in a DistributedDataParallel: names are those in net.module."


def local(net: Any) -> tuple[Any, Any]:
    """The net within a DistributedDataParallel, and the group whose ranks hold copies of it.

    Of any other net itself and None.
    """
    if isinstance(net, nn.parallel.DistributedDataParallel):
        return net.module, net.process_group
    return net, None


def shared_weights(net: Any) -> list[Tensor]:
    """The weights within a DistributedDataParallel that all ranks have, in the same order."""
    own = set(getattr(net, "_ddp_params_and_buffers_to_ignore", ()))
    return [p for name, p in net.named_parameters() if p.dim() > 1 and name not in own]
