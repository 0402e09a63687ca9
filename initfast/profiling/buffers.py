"""The buffers of a module as they were found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from initfast.interception.module_calls import CALL
from initfast.profiling.tensor_copies import copies, write

T = TypeVar("T")


def _is_training(module: nn.Module) -> bool:
    """Whether it is in training mode; a frozen scripted module has none."""
    return bool(getattr(module, "training", False))


class Buffers:
    """The buffers of a module, to be put back as they were when they were last taken.

    If it has given itself another buffer it gets its attributes back as well: they may tell what
    the buffer was.

    Args:
        module: any.
        lock: held while buffers of torch's modules are taken or put back.

    Attributes:
        may_be_written: whether a forward may write to them: it is in training mode.
        attributes: what the module had when they were last taken.
        is_alone: whether one call runs at a time: only torch's own forward writes to them.
        lock: held while that forward runs: the given one, where there is such a forward.
    """

    def __init__(self, module: nn.Module, lock: AbstractContextManager[Any]) -> None:
        self.module = module
        self.may_be_written = bool(_is_training(module) and module._buffers)
        self.attributes: dict[str, Any] = {}
        self.is_alone = self.may_be_written and is_torchs(module)
        self.lock = lock if self.is_alone else nullcontext()
        self._found: dict[str, Tensor | None] | None = None  # not taken yet
        self._keeps_values = True

    def _take(self) -> list[Tensor]:
        """Find the buffers as they are now.

        Returns:
            Those whose values are to be copied.
        """
        module = self.module
        self.attributes = attributes(module)
        self._copies: list[tuple[Tensor, Tensor, int]] = []  # of which version
        self._transient = set(module._non_persistent_buffers_set)
        self._found = dict(module._buffers.items())
        return _written(module) if self.may_be_written and self._keeps_values else []

    def run_on_copies(self, run: Callable[[], T]) -> T:
        """What the module returns, which writes to copies; what others write meanwhile stays."""
        self._keeps_values = False
        self._copies = []
        own = self.module._buffers
        found = {n: t for n, t in own.items() if t is not None and not is_lazy(t)}
        own.update({n: _copy(t) for n, t in found.items()})
        try:
            return run()
        finally:
            own.update(found)

    def _put_same_back(self, found: dict[str, Tensor | None]) -> None:
        """Where there are others now, put these and the attributes back."""
        now = self.module._buffers
        if not (now or found) or not isinstance(now, dict) or _are_the_same(now, found):
            return
        put_attributes_back(self.module, self.attributes)
        names = self.module._non_persistent_buffers_set
        names.clear()
        names |= self._transient
        now = self.module._buffers  # last: they tell whether this has been done
        now.clear()
        now.update(found)


def take(buffers: Iterable[Buffers]) -> None:
    """Find the buffers of modules as they are now; one copy for each dtype and device."""
    wanted = [(one, t) for one in buffers for t in one._take()]
    for (one, t), copy in zip(wanted, copies([t for _, t in wanted]), strict=True):
        one._copies.append((t, copy, t._version))


def put_back(buffers: Iterable[Buffers]) -> None:
    """Leave the buffers of modules as they were found, likewise."""
    taken = [one for one in buffers if one._found is not None]
    written = [found for one in taken for found in one._copies]
    write([(t, copy) for t, copy, _ in written])
    versions = tuple(version for *_, version in written)
    torch._C._autograd._unsafe_set_version_counter(tuple(t for t, *_ in written), versions)
    for one in taken:
        one._put_same_back(one._found or {})


def is_torchs(module: nn.Module) -> bool:
    """Whether it is one of torch's modules, whose forward gives them no buffers."""
    return type(module).__module__.startswith("torch.nn.modules.")


def attributes(module: nn.Module) -> dict[str, Any]:
    """Its attributes, but for the call that a profile has put in the place of its own."""
    own = module.__dict__.copy()  # at once: other threads' profiles put their calls there
    own.pop(CALL, None)
    return own


def put_attributes_back(module: nn.Module, found: dict[str, Any]) -> None:
    """Let a module have the attributes that it had."""
    own = module.__dict__
    for name in attributes(module).keys() - found.keys():
        del own[name]
    own.update(found)


def _copy(buffer: Tensor) -> Tensor:
    if (
        type(buffer) is not Tensor
    ):  # without its __torch_function__ the copy would be a plain tensor
        return buffer.clone()
    with torch._C.DisableTorchFunction():  # no mode takes this for the net's doing
        return buffer.clone()


def _are_the_same(a: dict[str, Tensor | None], b: dict[str, Tensor | None]) -> bool:
    return a.keys() == b.keys() and all(t is b[name] for name, t in a.items())


def _written(module: nn.Module) -> list[Tensor]:
    """The buffers that a forward may write to: those of a module in training mode.

    Whether it did cannot be told: batch norm writes past the version counter.
    """
    return [
        t
        for t in module._buffers.values()
        if _is_training(module)
        and t is not None
        and not is_lazy(t)
        and not t.is_inference()
        and torch._debug_has_internal_overlap(t) != 1  # expanded: torch refuses to write to it
    ]
