"""How user code spells activations: the functions and modules that are one, and their numbers.

Functions are those that a torch function mode is called with: of ``torch``, ``torch.nn``,
``torch.nn.functional`` and ``Tensor``, their in-place forms included.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from initfast.ops.activations import ACTIVATIONS, Limit


class Call(NamedTuple):
    """How an activation was called: its name, its numbers, and whether it overwrites its input."""

    act: str
    alpha: float
    beta: float
    in_place: bool


NO_ACTIVATION = Call("identity", 0.0, 0.0, False)
"""What a linear layer alone is called with."""


class Meaning(NamedTuple):
    """An activation that a function is where its arguments are these constants.

    alpha, beta: the names of the arguments that are these; "" where it has none. limit: theirs.
    """

    act: str
    constants: tuple[tuple[str, Any], ...]
    alpha: str = ""
    beta: str = ""
    limit: Limit | None = None


class Function(NamedTuple):
    """A name of functions of torch that are activations.

    meanings: which. parameters: the names of what follows the input by its place. defaults: of all
    arguments.
    """

    meanings: tuple[Meaning, ...]
    parameters: tuple[str, ...]
    defaults: Mapping[str, Any]


class Form(NamedTuple):
    """One function of such a name.

    parameters, defaults: with the input, and with the switch `inplace` where it takes that. plain:
    how it is called where only the input is given, or None where that is no activation.
    """

    meanings: tuple[Meaning, ...]
    parameters: tuple[str, ...]
    defaults: Mapping[str, Any]
    in_place: bool
    plain: Call | None


def _functions() -> dict[str, Function]:
    meanings: dict[str, list[Meaning]] = {}
    for act, entry in ACTIVATIONS.items():
        for name, arguments in entry.spellings:
            meanings.setdefault(name, []).append(Meaning(act, tuple(arguments.items())))
    found = {}
    for act, entry in ACTIVATIONS.items():  # after those that constants tell from it
        alpha, beta, *_ = *entry.parameters, "", ""
        own = Meaning(act, tuple(entry.keywords.items()), alpha, beta, entry.limit)
        numbers = dict(zip(entry.parameters, entry.defaults, strict=False))
        others = meanings.pop(act, [])
        found[act] = Function((*others, own), entry.parameters, {**numbers, **entry.keywords})
    for name, (one, *others) in meanings.items():
        parameters = tuple(name for name, _ in one.constants)
        found[name] = Function((one, *others), parameters, dict.fromkeys(parameters))
    return found


_FUNCTIONS = _functions()


def _forms() -> dict[Any, Form]:
    forms: dict[Any, Form] = {}
    for name, (meanings, parameters, defaults) in _FUNCTIONS.items():
        for owner in (torch, Tensor, torch.special, torch._C._nn, F):
            for spelling in (name, name + "_"):
                function = getattr(owner, spelling, None)
                if function is None:
                    continue
                in_place, takes, known = spelling.endswith("_"), parameters, defaults
                if _has_switch(function):
                    takes, known = (*parameters, "inplace"), {**defaults, "inplace": in_place}
                plain = _call(meanings, defaults, in_place)
                forms[function] = Form(meanings, ("input", *takes), known, in_place, plain)
    return forms


def _has_switch(function: Any) -> bool:
    """Whether it takes `inplace`: of those written in Python, some do."""
    return isinstance(function, FunctionType) and "inplace" in function.__code__.co_varnames


def read_call(form: Form, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """How an activation was called; None where the operators do not know that use of it."""
    meanings, parameters, defaults, in_place, _ = form
    given = {**defaults, **dict(zip(parameters, args, strict=False)), **kwargs}
    if len(args) > len(parameters) or len(given) > len(defaults) + 1 or "input" not in given:
        return None
    return _call(meanings, given, bool(given.get("inplace", in_place)))


def _call(meanings: tuple[Meaning, ...], given: Mapping[str, Any], in_place: bool) -> Call | None:
    """The call with these arguments, unless torch or the operators refuse them."""
    for act, constants, first, second, limit in meanings:
        for name, constant in constants:
            if not _is(given[name], constant):
                break
        else:
            alpha, beta = given.get(first, 0.0), given.get(second, 0.0)
            if not (isinstance(alpha, (int, float)) and isinstance(beta, (int, float))):
                return None
            if limit is not None and not limit.holds(alpha, beta):
                return None
            return Call(act, float(alpha), float(beta), in_place)
    return None


def _is(value: Any, constant: Any) -> bool:
    return value is constant or (isinstance(value, (int, float, str)) and value == constant)


FORMS = _forms()
"""The functions that are activations."""

MODULES = {entry.module: act for act, entry in ACTIVATIONS.items() if entry.module is not None}
"""The activations as modules."""

TORCHS_FORWARDS = {kind: kind.forward for kind in (nn.Linear, *MODULES)}  # type: ignore[attr-defined]
"""What torch's linear layer and activations run."""


def _called(forward: FunctionType) -> tuple[Any, str, Any]:
    """What such a forward calls: the owner, the name and the function."""
    owner = F if "F" in forward.__code__.co_names else torch
    found = ((owner, n, getattr(owner, n, None)) for n in forward.__code__.co_names)
    return next(one for one in found if one[2] is F.linear or one[2] in FORMS)


_CALLED = {kind: _called(forward) for kind, forward in TORCHS_FORWARDS.items()}


def runs_torchs(module: nn.Module) -> bool:
    """Whether its class runs torch's own forward, and that the function which torch wrote.

    Args:
        module: a linear layer or an activation of torch's.
    """
    kind = type(module)
    owner, name, function = _CALLED[kind]
    return kind.forward is TORCHS_FORWARDS[kind] and getattr(owner, name) is function


_BARE = {
    (kind, in_place): Call(act, 0.0, 0.0, in_place)
    for kind, act in MODULES.items()
    if not _FUNCTIONS[act].defaults
    for in_place in (False, True)
}


def activation_call(module: nn.Module) -> Call | None:
    """What calling an activation module does; None where it is none, or an unusual one."""
    kind, in_place = type(module), bool(module.__dict__.get("inplace"))
    if (bare := _BARE.get((kind, in_place))) is not None:
        return bare
    act = MODULES.get(kind)
    if act is None:
        return None
    meanings, _, defaults = _FUNCTIONS[act]
    return _call(meanings, {name: getattr(module, name, None) for name in defaults}, in_place)
