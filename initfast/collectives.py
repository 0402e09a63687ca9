"""What the processes of a group know, brought together on all of them."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

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
    if is_alone(group):
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


DIGEST_BYTES = 24
"""What a rank says first: 16 bytes of digest, and the length of what it has to say."""


class Distinct(NamedTuple):
    """One of the different values that ranks gave, and which ranks gave it."""

    value: Any
    ranks: tuple[int, ...]


def share_distinct(key: str, value: Any, group: Any) -> list[Distinct]:
    """One value for every different key that ranks give, the same list on all; collective.

    Messages: one with every rank's digest, and one for each different key.

    Args:
        key: what ranks have in common whose values are not told apart.
        value: anything that can be pickled.
        group: of torch.distributed's.

    Returns:
        The values of the first rank with each key, in the order of these ranks.

    Raises:
        RuntimeError: a rank did not take part within the group's time-out.
    """
    data, digest = pickle.dumps(value), hashlib.blake2b(key.encode(), digest_size=16).digest()
    ranks, device = torch.distributed.get_world_size(group), _device(group)
    own = torch.tensor([*struct.unpack("qq", digest), len(data)], device=device)
    found = own.repeat(ranks, 1)
    with _all_take_part(group):
        torch.distributed.all_gather(list(found.unbind()), own, group)
    givers: dict[tuple[int, int], list[int]] = {}
    for rank, (first, second, _) in enumerate(found.tolist()):
        givers.setdefault((first, second), []).append(rank)
    values = []
    for by in givers.values():
        text = torch.zeros(int(found[by[0], 2]), dtype=torch.uint8, device=device)
        if torch.distributed.get_rank(group) == by[0]:
            text.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        with _all_take_part(group):
            torch.distributed.broadcast(text, group=group, group_src=by[0])
        values.append(Distinct(pickle.loads(text.cpu().numpy().tobytes()), tuple(by)))
    return values


def merge_rows(rows: Tensor, merge: Callable[[Tensor], Tensor], group: Any) -> Tensor:
    """The rows of all ranks merged, the same bits on each; collective, in two messages.

    Each rank merges its share of the rows: one exchange brings it what every rank has of that
    share, another brings the other ranks' shares. So what a rank sends does not grow with the
    ranks, as in a reduction, and no order of adding up differs between them.

    Args:
        rows: float64 and on the CPU, as many rows and columns on every rank.
        merge: makes one row of those that the ranks have in one place, in the ranks' order.
        group: of torch.distributed's.

    Returns:
        As many rows.

    Raises:
        RuntimeError: as of :func:`share_distinct`.
    """
    ranks, (count, columns) = torch.distributed.get_world_size(group), rows.shape
    share = -(-count // ranks)
    if not share:
        return rows
    sent = rows.new_zeros(ranks * share, columns)
    sent[:count] = rows
    sent = sent.to(_device(group))
    found = torch.empty_like(sent)
    with _all_take_part(group):
        torch.distributed.all_to_all_single(found, sent, group=group)
    places = found.cpu().view(ranks, share, columns).unbind(1)
    merged = torch.stack([merge(place) for place in places]).to(sent.device)
    with _all_take_part(group):
        torch.distributed.all_gather(list(sent.view(ranks, share, columns)), merged, group)
    return sent[:count].cpu()


def add_up(values: Tensor, group: Any) -> Tensor:
    """The sum of what ranks have in each place, on all of them; collective, in one message.

    Args:
        values: may be overwritten, so that there are not two.
        group: of torch.distributed's.

    Raises:
        RuntimeError: as of :func:`share_distinct`.
    """
    return _reduced(values, torch.distributed.ReduceOp.SUM, group)


def largest(values: Tensor, group: Any) -> Tensor:
    """The largest of what ranks have in each place, likewise."""
    return _reduced(values, torch.distributed.ReduceOp.MAX, group)


def _reduced(values: Tensor, how: Any, group: Any) -> Tensor:
    if not values.numel():
        return values
    result = values.to(_device(group))
    with _all_take_part(group):
        torch.distributed.all_reduce(result, how, group)
    return result.cpu()


def _device(group: Any) -> str:
    """Where the tensors must be that a group's ranks exchange."""
    return "cuda" if torch.distributed.get_backend(group) == "nccl" else "cpu"


@contextmanager
def _all_take_part(group: Any) -> Iterator[None]:
    """Say what is wrong where a rank takes no part."""
    try:
        yield
    except RuntimeError as error:
        rank, ranks = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
        raise RuntimeError(
            f"rank {rank} waited in vain for the others: expected all {ranks} ranks of the group "
            f"to take part, and as often ({str(error).splitlines()[0]})"
        ) from error


def spelled(error: Exception) -> str:
    """The type of an error, and what it says."""
    return f"{type(error).__name__}: {error}"


def is_alone(group: Any) -> bool:
    """Whether this process is no part of a group; None is the default group, if there is one."""
    if group is None and not is_distributed():
        return True
    return bool(torch.distributed.get_rank(group) < 0)


def is_group(group: Any) -> bool:
    """Whether it is None or a group, or stands for one on ranks that are no part of it."""
    if group is None or not torch.distributed.is_available():
        return group is None
    outside = torch.distributed.GroupMember.NON_GROUP_MEMBER
    return isinstance(group, torch.distributed.ProcessGroup) or bool(group == outside)


def is_distributed() -> bool:
    """Whether this process has a default group."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
