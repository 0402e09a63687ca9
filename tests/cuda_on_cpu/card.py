"""A card that is not there: the operators of csrc/binding over kernels that run on the host.

They take the CPU's tensors for their own. Everything of the CUDA half runs that is not CUDA itself:
checks, layouts, allocation, the choice of kernel, launches.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from cuda_on_cpu.builds import build
from torch._C import DispatchKey, DispatchKeySet

KEYS = DispatchKeySet(DispatchKey.PrivateUse1)  # see card.h
OPERATORS = (
    "moments",
    "unit_moments",
    "act",
    "act_",
    "act_backward",
    "linear_act",
    "linear_act_chain",
    "linear_act_chain_backward",
    "sample_",
    "zero_rows_",
)


class Card:
    """The operators, and the means to see what they launched."""

    def __init__(self) -> None:
        path = build("card")
        torch.ops.load_library(str(path))
        self._control = ctypes.CDLL(str(path))
        self.reset()

    def reset(
        self,
        capability: int = 90,
        failing_launch: int = -1,
        failing_allocation: int = -1,
        stream_is_destroyed: bool = False,
    ) -> None:
        """Be a card of that compute capability; count launches and allocations from 0.

        One of each may fail, or whatever goes to the stream.
        """
        self._control.card_reset(
            capability, failing_launch, failing_allocation, stream_is_destroyed
        )

    @property
    def allocations(self) -> int:
        """For how many tensors an operator asked since reset()."""
        return self._control.card_allocations()

    @property
    def launches(self) -> int:
        """How many kernels were launched since reset()."""
        return self._control.card_launches()

    @property
    def last_error(self) -> int:
        """What CUDA remembers of a launch that failed; 0: nothing."""
        return self._control.card_last_error()

    @property
    def guards(self) -> int:
        """How many device guards are alive."""
        return self._control.card_guards()

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a CUDA operator by its name in torch.ops.initfast."""
        return getattr(torch.ops.initfast, name).default.redispatch(KEYS, *arguments)

    @contextmanager
    def in_place_of_the_cpu(self) -> Iterator[None]:
        """While this lasts, CPU tensors go to the CUDA operators."""
        library = torch.library.Library("initfast", "IMPL")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Warning only once for all operators")
            for name in OPERATORS:
                library.impl(name, partial(self.call, name), "CPU", allow_override=True)
        try:
            yield
        finally:
            library._destroy()
