"""The modules that a plain callable can reach: a function's variables, a method's object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

NOTE = (
    "The net is a plain callable: names begin with the variable or attribute that holds the module."
)


def modules_of(function: Any) -> dict[str, nn.Module]:
    """The modules that a callable has at hand, by the names of what holds them.

    Looked at are the arguments that a partial holds, the variables that a function closes over, the
    globals that its code names, the attributes of a method's or callable's object, functions among
    them likewise, and lists, tuples and dicts; of any other object only the modules that are its
    attributes (of a trainer, the net that a lambda calls).
    """
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()

    def look(value: Any, name: str) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found[name if name not in found else f"{name} ({len(found)})"] = value
            return
        is_container = isinstance(value, (list, tuple, Mapping))
        for key, item in _held(value):
            look(item, f"{name}.{key}" if is_container and name else key)

    look(function, "")
    return found


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value holds, each with its name."""
    if isinstance(value, partial):
        yield "", value.func
        yield "args", value.args
        yield from value.keywords.items()
    elif isinstance(value, MethodType):
        yield "", value.__func__
        yield from _attributes(value.__self__)
    elif isinstance(value, FunctionType):
        yield from _variables(value)
    elif isinstance(value, (list, tuple)) and len(value) <= _MOST:
        yield from ((str(i), item) for i, item in enumerate(value))
    elif isinstance(value, Mapping) and len(value) <= _MOST:
        yield from ((str(key), item) for key, item in value.items())
    elif callable(value) and not isinstance(value, type):
        yield from _attributes(value)
        yield "", type(value).__dict__.get("__call__")
    elif not isinstance(value, ModuleType):
        yield from (item for item in _attributes(value) if isinstance(item[1], nn.Module))


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, nn.Module):
        yield "", value
    elif not isinstance(value, type):
        yield from dict(getattr(value, "__dict__", {})).items()


def _variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Defaults of arguments, variables closed over, and globals that the code names."""
    code, defaults = function.__code__, function.__defaults__ or ()
    arguments = code.co_varnames[: code.co_argcount]
    yield from zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a variable that has no value yet
            yield name, cell.cell_contents
    for name in _names(code):
        value = function.__globals__.get(name)
        # A library's functions are left alone.
        if not isinstance(value, FunctionType) or value.__globals__ is function.__globals__:
            yield name, value


def _names(code: CodeType) -> Iterator[str]:
    """What code may call a global, the functions within it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


_MOST = 1000
"""The longest container that is looked into: a longer one holds data."""
