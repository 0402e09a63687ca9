"""Initialisers: torch.nn.init's, fast and with the same bits everywhere, and some more.

    initfast.init.kaiming_normal_(w)                  # as torch.nn.init.kaiming_normal_(w)
    initfast.init.kaiming_normal_(w, key=42)          # a stream by name: no generator
    initfast.init.kaiming_normal_(w, axes="batch out in")      # experts' weights; x @ w is "in out"
    initfast.init.normal_(part, key=42, place=initfast.init.Place((64, 32), 96))  # a shard
    with initfast.init.patch_torch(): ...             # for libraries that call torch.nn.init

Names, arguments, errors, warnings and results are torch.nn.init's. An element's value is decided by
a key of 64 bits and by the element's index in the whole logical tensor, and by nothing else: not by
threads, device, instruction set, memory layout or sharding. A DTensor's ranks fill their shards and
together make the tensor that one process would have made; so does a plain tensor that is a shard,
as FSDP1, ZeRO and Megatron have them, where `place` says which, and the ranks give one key. 16-bit
tensors hold the rounded float32 values. The key comes from `key`, from `generator`, or from torch's
default CPU generator, which `torch.manual_seed` governs; for a DTensor it is that of the mesh's
first rank.
"""

from __future__ import annotations

from initfast.errors import ArgumentError
from initfast.init.distributions import constant_, normal_, ones_, trunc_normal_, uniform_, zeros_
from initfast.init.fans import calculate_gain, fan_in_and_fan_out
from initfast.init.identity import dirac_, eye_, identity_
from initfast.init.kaiming import kaiming_normal_, kaiming_uniform_
from initfast.init.keys import derive_key
from initfast.init.orthogonal import delta_orthogonal_, orthogonal_
from initfast.init.patch import patch_torch
from initfast.init.placement import Place
from initfast.init.sparse import sparse_
from initfast.init.variance_scaling import lecun_normal_, lecun_uniform_, variance_scaling_
from initfast.init.xavier import xavier_normal_, xavier_uniform_

__all__ = [
    "ArgumentError",
    "Place",
    "calculate_gain",
    "constant_",
    "delta_orthogonal_",
    "derive_key",
    "dirac_",
    "eye_",
    "fan_in_and_fan_out",
    "identity_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "patch_torch",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "variance_scaling_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]
