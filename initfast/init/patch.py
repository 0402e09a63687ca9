"""Putting our initialisers in the place of torch's, for libraries that call torch's."""

from __future__ import annotations

import builtins
import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any, cast

import torch

from initfast.init import distributions, identity, kaiming, orthogonal, sparse, xavier
from initfast.shared_patch import SharedPatch
from initfast.undo_log import UndoLog

_BUILTINS = vars(builtins)  # every module has it
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        distributions.uniform_,
        distributions.normal_,
        distributions.trunc_normal_,
        distributions.constant_,
        distributions.ones_,
        distributions.zeros_,
        identity.eye_,
        identity.dirac_,
        xavier.xavier_uniform_,
        xavier.xavier_normal_,
        kaiming.kaiming_uniform_,
        kaiming.kaiming_normal_,
        orthogonal.orthogonal_,
        sparse.sparse_,
    )
}


@contextlib.contextmanager
def patch_torch() -> Iterator[None]:
    """Within this context, torch.nn.init's functions are initfast's.

    They are replaced in torch.nn.init, in every loaded module that has imported them by name and in
    the dicts that such a module keeps them in, and put back when the last of the contexts ends,
    however it ends; also in modules loaded meanwhile. It holds for the whole process, all threads.
    What a class, a closure or an object holds stays torch's. Works as a decorator too.

    Example:
        >>> with patch_torch():
        ...     net = torch.nn.Linear(4, 4)  # reset_parameters() draws from our stream
    """
    log = UndoLog()
    try:
        _patched.make(log)
        yield
    finally:
        log.undo()


Pair = tuple[FunctionType, FunctionType]


def _patch(log: UndoLog) -> None:
    pairs = _pairs()
    log.add(_exchange, [(ours, theirs) for theirs, ours in pairs])
    _exchange(pairs)


_patched = SharedPatch(_patch)


@functools.cache
def _pairs() -> list[Pair]:
    """Each of torch's functions, with what takes its place.

    That is a plain function, for TorchScript takes no other; what it compiles is torch's own.
    """
    pairs = []
    for name, function in _FUNCTIONS.items():
        for old_name, ours in ((name, function), (name[:-1], _deprecated(function))):
            theirs = vars(torch.nn.init).get(old_name)
            if isinstance(theirs, FunctionType):
                stand_in = _copied(cast(FunctionType, ours))
                functools.update_wrapper(stand_in, theirs)
                vars(stand_in).update(__script_if_tracing_wrapper=True, __original_fn=theirs)
                pairs.append((theirs, stand_in))
                setattr(Replaced, old_name, staticmethod(stand_in))
                stand_in.__module__, stand_in.__qualname__ = _replaced(stand_in)
    return pairs


class Replaced:
    """The functions that are not torch.nn.init's at the moment, where pickle finds them."""

    __module__ = torch.nn.init.__name__  # whose examples in docstrings they have


def _replaced(function: FunctionType) -> tuple[str, str]:
    return __name__, f"{Replaced.__name__}.{function.__name__}"


def _exchange(pairs: Sequence[Pair]) -> None:
    """Put the second of each pair in the place of the first, and the first where pickle finds it.

    pickle knows a function by the module and the name where that very function stands.
    """
    _substitute({id(old): new for old, new in pairs})
    for old, new in pairs:
        setattr(Replaced, old.__name__, staticmethod(old))
        new.__module__, new.__qualname__ = torch.nn.init.__name__, new.__name__
        old.__module__, old.__qualname__ = _replaced(old)


def _copied(function: FunctionType) -> FunctionType:
    """The same function as another object, without one more frame, which warnings would count."""
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _deprecated(function: Callable[..., Any]) -> Callable[..., Any]:
    """The old name without its underscore, which torch keeps for compatibility."""
    new_name = function.__name__

    def warn_and_call(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(
            f"`nn.init.{new_name[:-1]}` is now deprecated in favor of `nn.init.{new_name}`.",
            FutureWarning,
            stacklevel=2,
        )
        return function(*args, **kwargs)

    return warn_and_call


def _substitute(table: dict[int, Callable[..., Any]]) -> None:
    """Replace the objects with these ids in loaded modules, and in the dicts at their top level."""
    for module in list(sys.modules.values()):
        attributes = getattr(module, "__dict__", None)
        if isinstance(attributes, dict):
            inner = [v for v in list(attributes.values()) if type(v) is dict and v is not _BUILTINS]
            for names in (attributes, *inner):
                for name, value in list(names.items()):
                    if id(value) in table:
                        names[name] = table[id(value)]
