"""Putting our initialisers in the place of torch's, for libraries that call torch's."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from initfast import distributions, scaling, structured

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        distributions.uniform_,
        distributions.normal_,
        distributions.trunc_normal_,
        distributions.constant_,
        distributions.ones_,
        distributions.zeros_,
        structured.eye_,
        structured.dirac_,
        scaling.xavier_uniform_,
        scaling.xavier_normal_,
        scaling.kaiming_uniform_,
        scaling.kaiming_normal_,
        structured.orthogonal_,
        structured.sparse_,
    )
}


@contextlib.contextmanager
def patch_torch() -> Iterator[None]:
    """Within this context, torch.nn.init's functions are initfast's.

    They are replaced in torch.nn.init and in every loaded module that has imported them by name,
    and put back when the context ends, however it ends; also in modules loaded meanwhile. It holds
    for the whole process, all threads. Works as a decorator too.

    Example:
        >>> with patch_torch():
        ...     net = torch.nn.Linear(4, 4)  # reset_parameters() draws from our stream
    """
    replacement: dict[int, Callable[..., Any]] = {}
    original: dict[int, Callable[..., Any]] = {}
    for name, function in _FUNCTIONS.items():
        for old_name, ours in ((name, function), (name[:-1], _deprecated(function))):
            theirs = vars(torch.nn.init).get(old_name)
            if callable(theirs):
                stand_in = functools.wraps(theirs)(functools.partial(_call, ours))
                replacement[id(theirs)] = stand_in
                original[id(stand_in)] = theirs
    try:
        _substitute(replacement)
        yield
    finally:
        _substitute(original)


def _call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _deprecated(function: Callable[..., Any]) -> Callable[..., Any]:
    """The old name without its underscore, which torch keeps for compatibility."""
    new_name = function.__name__

    def warn_and_call(*args: Any, **kwargs: Any) -> Any:
        warnings.warn(
            f"`nn.init.{new_name[:-1]}` is now deprecated in favor of `nn.init.{new_name}`.",
            FutureWarning,
            stacklevel=3,
        )
        return function(*args, **kwargs)

    return warn_and_call


def _substitute(table: dict[int, Callable[..., Any]]) -> None:
    """Replace the objects with these ids wherever a loaded module has them as attributes."""
    for module in list(sys.modules.values()):
        attributes = getattr(module, "__dict__", None)
        if not isinstance(attributes, dict):
            continue
        for name, value in list(attributes.items()):
            if id(value) in table:
                attributes[name] = table[id(value)]
