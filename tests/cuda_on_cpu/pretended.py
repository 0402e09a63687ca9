"""Runs the tests for a card where there is none: its tensors are the CPU's, as in plugin.py.

PYTHONPATH=tests pytest -p cuda_on_cpu.pretended tests/cuda/test_operators.py -m cuda

What waits for a card, reading a number or copying, warns or raises as torch's does on one. Graphs,
streams, a second device, memory for 2^31 elements and other programs are not pretended; large
tensors, and all activations but a few, would take too long.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from cuda_on_cpu.card import Card

LEFT_OUT = ("graph", "streams", "devices", "sanitizer", "16777219", "1048576", "1024", "512-768")
FACTORIES = ("empty", "randn", "rand", "ones", "zeros", "arange", "full", "ones_like")
READS = ("tolist", "item", "__bool__", "cpu")
_debug_mode = "default"


def on_cpu(device: Any) -> Any:
    """The CPU where a card is meant."""
    return "cpu" if device is not None and torch.device(device).type == "cuda" else device


def moved(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, on the CPU where it is asked for a card."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple(on_cpu(a) if isinstance(a, (str, torch.device)) else a for a in args)
        if "device" in kwargs:
            kwargs["device"] = on_cpu(kwargs["device"])
        kwargs.pop("pin_memory", None)
        return function(*args, **kwargs)

    return call


def waiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which waits for the card."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if _debug_mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        if _debug_mode == "warn":
            warnings.warn("called a synchronizing CUDA operation", stacklevel=2)
        return function(*args, **kwargs)

    return call


def set_sync_debug_mode(mode: str) -> None:
    """As torch.cuda's."""
    global _debug_mode
    _debug_mode = mode


for _name in FACTORIES:
    setattr(torch, _name, moved(getattr(torch, _name)))
for _name in READS:
    setattr(torch.Tensor, _name, waiting(getattr(torch.Tensor, _name)))
torch.Tensor.to = moved(torch.Tensor.to)  # type: ignore[method-assign]
torch.Tensor.cuda = lambda t, *_: t.clone()  # type: ignore[method-assign, assignment]
torch.Tensor.is_cuda = property(lambda t: not t.is_meta)  # type: ignore[assignment, method-assign]
torch.Tensor.is_cpu = property(lambda t: False)  # type: ignore[assignment, method-assign]


class Event:
    """An event that the next look finds to have happened."""

    def record(self, stream: Any) -> None:
        self.looks = 0

    def query(self) -> bool:
        self.looks += 1
        return self.looks > 1

    def synchronize(self) -> None:
        pass


for _name, _stub in {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "mem_get_info": lambda: (0, 0),
    "empty_cache": lambda: None,
    "synchronize": lambda: None,
    "set_sync_debug_mode": set_sync_debug_mode,
    "Event": Event,
    "Stream": object,
    "current_stream": lambda device: None,
    "stream": nullcontext,
}.items():
    setattr(torch.cuda, _name, _stub)


@pytest.fixture(scope="session", autouse=True)
def cuda_operators() -> Iterator[None]:
    """CPU tensors go to the CUDA operators."""
    with Card().in_place_of_the_cpu():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what cannot be pretended, and what would take too long."""
    items[:] = [
        item
        for item in items
        if not any(word in item.name for word in LEFT_OUT)
        and ("act_and_its_backward" not in item.name or "tanh" in item.name)
    ]
