"""Filling a parameter by a law or by a user's function, and putting back what it was."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from initfast.errors import ArgumentError
from initfast.init.distributions import constant_, normal_, trunc_normal_, uniform_
from initfast.init.keys import derive_key
from initfast.init.orthogonal import orthogonal_
from initfast.init.placement import is_distributed, shard_of
from initfast.repair.schemes.law import Law
from initfast.repair.slots import Slot
from initfast.undo_log import UndoLog


def fill_by_law(tensor: Tensor, law: Law, seed: int, name: str, inputs_first: bool) -> None:
    """Draw a parameter's elements.

    Args:
        tensor: written to; a DTensor's rank writes its shard.
        law: what is drawn.
        seed, name: decide every value.
        inputs_first: whether its outputs are along the last dimension, not the first.
    """
    if law.family != "packed":
        seen = tensor.mT if inputs_first and tensor.dim() > 1 else tensor
        _draw(seen, law, derive_key(seed, name))
        return
    whole = tensor
    if is_distributed(tensor):  # a part of a part has no place of its own
        whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    pieces = whole.chunk(len(law.parts), -1 if inputs_first else 0)
    for i, (piece, part) in enumerate(zip(pieces, law.parts, strict=True)):
        fill_by_law(piece, part, seed, f"{name}#{i}", inputs_first)
    if whole is not tensor:
        shard = shard_of(tensor)
        shard.local.copy_(shard.cut(whole))


def _draw(tensor: Tensor, law: Law, key: int) -> None:
    if law.family == "normal":
        normal_(tensor, 0.0, law.scale, key=key)
    elif law.family == "truncated":
        trunc_normal_(tensor, 0.0, law.scale, -law.cut, law.cut, in_sigma=True, key=key)
    elif law.family == "uniform":
        bound = math.sqrt(3.0) * law.scale
        uniform_(tensor, -bound, bound, key=key)
    elif law.family == "orthogonal":
        orthogonal_(tensor, law.scale, key=key)
    else:
        constant_(tensor, law.scale)


def fill(slot: Slot, how: Law | Callable[[Tensor], Any], seed: int, log: UndoLog) -> None:
    """Fill a parameter; the log puts back what it was.

    Raises:
        ArgumentError: a parametrization computes it and cannot be given a value.
    """
    owner, key, tensor, role = slot
    computed = key not in owner._parameters
    originals = _originals(owner, key) if computed else [tensor]
    for original in originals:
        log.add(copy_back, original, original.detach().clone())
    target = torch.empty_like(tensor) if computed else tensor.detach()
    if isinstance(how, Law):
        fill_by_law(target, how, seed, role.name, role.inputs_first)
        if role.padding is not None:
            shard = shard_of(target)
            row = role.padding - shard.start[0]
            if 0 <= row < shard.local.shape[0]:
                shard.local[row].zero_()
    else:
        _call(how, target if computed else tensor, derive_key(seed, role.name), log)
    if computed:
        try:
            setattr(owner, key, target)
        except (RuntimeError, NotImplementedError) as error:
            raise ArgumentError(
                f"{role.name} is computed by a parametrization that takes no value ({error}); "
                "expected one with a right_inverse, or a rule None that leaves it"
            ) from error


def _originals(owner: nn.Module, key: str) -> list[Tensor]:
    """The parameters that a parametrization computes a weight from."""
    computed: Any = owner.parametrizations
    return list(computed[key].parameters())


def _call(how: Callable[[Tensor], Any], tensor: Tensor, key: int, log: UndoLog) -> None:
    """Call a user's function, with torch's generators seeded by the parameter's own key."""
    log.add(torch.set_rng_state, torch.get_rng_state())
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(key & (2**63 - 1))
    if tensor.is_cuda:
        log.add(torch.cuda.set_rng_state, torch.cuda.get_rng_state(tensor.device), tensor.device)
        card = torch.cuda.get_rng_state(tensor.device)
        with torch.cuda.device(tensor.device):
            torch.cuda.manual_seed(key & (2**63 - 1))
    try:
        how(tensor)
    finally:
        torch.set_rng_state(state)
        if tensor.is_cuda:
            torch.cuda.set_rng_state(card, tensor.device)


def copy_back(tensor: Tensor, value: Tensor) -> None:
    """Give a tensor the values that it had."""
    with torch.no_grad():
        tensor.copy_(value)


def materialise(net: nn.Module, device: torch.device | str, log: UndoLog) -> list[str]:
    """Give the parameters, and the statistics of norms, that are on the meta device memory.

    Args:
        net: its parameters are replaced; tied ones stay tied.
        device: of the new ones, whose values are whatever the memory held.
        log: puts the old ones back.

    Returns:
        The names of the buffers that stay on the meta device, as nothing tells their values.
    """
    made: dict[int, nn.Parameter] = {}
    stay: list[str] = []
    for path, module in net.named_modules():
        for name, old in module._parameters.items():
            if old is None or not old.is_meta:
                continue
            if id(old) not in made:
                new = nn.Parameter(torch.empty_like(old, device=device), old.requires_grad)
                new.__dict__.update(old.__dict__)
                made[id(old)] = new
            log.add(module._parameters.__setitem__, name, old)
            module._parameters[name] = made[id(old)]
        empty = [n for n, b in module._buffers.items() if b is not None and b.is_meta]
        reset = getattr(module, "reset_running_stats", None)
        for name in empty:
            old_buffer = module._buffers[name]
            if not callable(reset):
                stay.append(f"{path}.{name}" if path else name)
                continue
            log.add(module._buffers.__setitem__, name, old_buffer)
            module._buffers[name] = torch.empty_like(old_buffer, device=device)
        if empty and callable(reset):
            reset()
    return stay
