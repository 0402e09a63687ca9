"""Keys: the 64 bits that decide a stream."""

from __future__ import annotations

import hashlib
import operator
from typing import Any

import torch
from torch import Tensor

from initfast.errors import ArgumentError
from initfast.init.placement import is_distributed
from initfast.ops.reference_sampling import philox


def draw_key(generator: torch.Generator | None, device: torch.device) -> int:
    """The next key of a generator.

    Args:
        generator: on the CPU, or on `device`; None means torch's default CPU generator, so that
            `torch.manual_seed` governs whatever the device.
        device: that of the tensor to be filled.

    Returns:
        64 bits, signed. The generator moves on.

    Raises:
        ArgumentError: the generator is on another device.
        TypeError: it is no generator.

    Example:
        >>> g = torch.Generator().manual_seed(42)
        >>> _ = torch.manual_seed(42)
        >>> draw_key(g, torch.device("cpu")) == draw_key(None, torch.device("cpu"))
        True
    """
    if generator is None:
        generator = torch.default_generator
    if not isinstance(getattr(generator, "device", None), torch.device):
        raise TypeError(f"generator is {generator!r}; expected a torch Generator")
    if generator.device.type == "cpu":
        word = torch.empty((), dtype=torch.int64, device="cpu")
        return int(word.random_(-(2**63), None, generator=generator).item())
    if generator.device.type != device.type:
        raise ArgumentError(
            f"generator is on {generator.device} but the tensor is on {device}; "
            "expected a generator on the CPU or on the tensor's device"
        )
    # A CUDA generator is a seed and an offset, both on the host: nothing waits for the GPU.
    offset = generator.get_offset()
    generator.set_offset(offset + 4)
    low, high, _, _ = philox((offset & 0xFFFFFFFF, offset >> 32, 0, 1), generator.initial_seed())
    return as_key(int(low) | int(high) << 32)


def as_key(key: int) -> int:
    """An integer below 2^64 (or above -2^63) as the signed 64 bits that the sampler takes.

    Raises:
        ArgumentError: no integer, or too large.

    Example:
        >>> as_key(2**64 - 1)
        -1
    """
    try:
        key = operator.index(key)
    except TypeError:
        raise ArgumentError(f"key is {key!r}; expected an integer") from None
    if not -(2**63) <= key < 2**64:
        raise ArgumentError(f"key is {key}; expected an integer of 64 bits")
    return key - 2**64 if key >= 2**63 else key


def derive_key(seed: int, name: str) -> int:
    """A key of its own for everything that has a name: a parameter, a purpose.

    Args:
        seed: any integer.
        name: any string, such as a parameter's qualified name.

    Returns:
        64 bits, signed: a digest (BLAKE2b) of both.

    Example:
        >>> derive_key(0, "layers.0.weight") == derive_key(0, "layers.1.weight")
        False
    """
    digest = hashlib.blake2b(
        f"{seed}\0{name}".encode(errors="surrogatepass"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "little", signed=True)


def next_key(tensor: Tensor, generator: torch.Generator | None, key: int | None) -> int:
    """The key given, or the generator's next; for a DTensor the same on every rank.

    Raises:
        ArgumentError: both are given, or one does not fit.
    """
    if key is not None:
        if generator is not None:
            raise ArgumentError("both a generator and a key are given; expected one of them")
        return as_key(key)
    return agree_on_key(tensor, draw_key(generator, tensor.device))


def agree_on_key(tensor: Tensor, key: int) -> int:
    """The key of the mesh's first process, on all of them; collective for a DTensor.

    Ranks are often seeded differently; shards and replicas must come of one key all the same.
    """
    if not is_distributed(tensor):
        return key
    mesh: Any = tensor.device_mesh  # type: ignore[attr-defined]
    if mesh.get_coordinate() is None:
        return key
    message = torch.tensor(key, dtype=torch.int64, device=mesh.device_type)
    for i in range(mesh.ndim):
        torch.distributed.broadcast(message, group=mesh.get_group(i), group_src=0)
    return int(message.item())
