"""What the processes of a group know, brought together on all of them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def gather(value: T, group: Any = None) -> list[T]:
    """Every rank's value in the order of the ranks, the same list on all of them.

    Collective: every rank of the group must call it, and calls match in their order.

    Args:
        value: anything that can be pickled.
        group: of torch.distributed's; None: the default group, if there is one.

    Returns:
        One value a rank; of a process that is alone or no part of the group, its own.

    Raises:
        RuntimeError: a rank's value cannot be pickled; on all ranks.

    Example:
        >>> gather("mine")  # where nothing is distributed
        ['mine']
    """
    if group is None and not is_distributed():
        return [value]
    if torch.distributed.get_rank(group) < 0:
        return [value]
    try:
        own = pickle.dumps(value), ""
    except Exception as error:  # the others wait for what it should have been
        own = b"", spelled(error)
    found: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(found, own, group)
    for rank, (_, failure) in enumerate(found):
        if failure:
            raise RuntimeError(f"rank {rank} has nothing to give to the others: {failure}")
    return [pickle.loads(data) for data, _ in found]


@contextmanager
def together(what: str, group: Any) -> Iterator[None]:
    """No rank goes on unless all do: where one raises, so do the others, which would wait for it.

    Collective.

    Args:
        what: runs here, for the message.
        group: as in :func:`gather`, but None is no group.

    Raises:
        RuntimeError: another rank has raised.
    """
    if group is None:
        yield
        return
    try:
        yield
    except Exception as error:
        gather(spelled(error), group)
        raise
    for rank, failure in enumerate(gather("", group)):
        if failure:
            raise RuntimeError(
                f"{what}: rank {rank} raised {failure}; expected all ranks to finish"
            )


def spelled(error: Exception) -> str:
    """The type of an error, and what it says."""
    return f"{type(error).__name__}: {error}"


def is_distributed() -> bool:
    """Whether this process has a default group."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
