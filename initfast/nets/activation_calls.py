"""How user code spells activations.

Keys are the functions that a torch function mode is called with: those of ``torch``, ``torch.nn``,
``torch.nn.functional`` and ``Tensor``, their in-place forms included.
"""

from __future__ import annotations

from operator import le
from types import FunctionType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from initfast.ops.activations import ACTIVATIONS
from initfast.ops.functions import activation_defaults


class Call(NamedTuple):
    """How an activation was called: its name, its numbers, and whether it overwrites its input."""

    act: str
    alpha: float
    beta: float
    in_place: bool


class Form(NamedTuple):
    """One spelling of an activation.

    parameters: the names of what follows the input, in order. defaults: what it is called with
    where only the input is given, or None where that is no activation.
    """

    act: str
    parameters: tuple[str, ...]
    in_place: bool
    plain: Call | None


_NUMBERS = {
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "softplus": ("beta", "threshold"),
    "hardtanh": ("min_val", "max_val"),
}
"""What torch calls the parameters alpha and beta."""

_GELUS = {"none": "gelu", "tanh": "gelu_tanh"}

_CLAMPS = {"clamp": ("min", "max"), "clip": ("min", "max"), "clamp_min": ("min",)}
"""Clamping from below at zero is a ReLU."""


def _forms() -> dict[Any, Form]:
    forms: dict[Any, Form] = {}
    for owner in (torch, Tensor, torch._C._nn, F):
        for name in [*ACTIVATIONS, *_CLAMPS]:
            act = "relu" if name in _CLAMPS else name
            parameters = _CLAMPS.get(name) or _NUMBERS.get(act, ())
            for spelling in (name, name + "_"):
                function = getattr(owner, spelling, None)
                if isinstance(function, FunctionType):  # written in Python: has the switch
                    parameters = (*parameters, "inplace")
                in_place = spelling.endswith("_")
                plain = Call(act, *activation_defaults(act), in_place)
                forms[function] = Form(
                    act, parameters, in_place, None if name in _CLAMPS else plain
                )
    del forms[None]
    forms[torch.special.expit] = forms[torch.sigmoid]
    return forms


FORMS = _forms()


def read_call(form: Form, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """How an activation was called; None where the operators do not know that use of it."""
    given = dict(zip(("input", *form.parameters), args, strict=False)) | kwargs
    surplus = len(args) > 1 + len(form.parameters)
    act = form.act
    in_place = bool(given.pop("inplace", form.in_place))
    if act == "gelu" and given.get("approximate", "none") in _GELUS:
        act = _GELUS[given.pop("approximate", "none")]
    if "min" in form.parameters:
        low, high = given.pop("min", None), given.pop("max", None)
        if not _is_number(low) or low != 0 or high is not None:
            return None
    names = _NUMBERS.get(act, ())
    numbers = [given.pop(n, d) for n, d in zip(names, activation_defaults(act), strict=False)]
    if surplus or given.keys() != {"input"}:
        return None
    return _call(act, numbers, in_place)


def _call(act: str, numbers: list[Any], in_place: bool) -> Call | None:
    """The call with these numbers, unless torch or the operators refuse them."""
    if not all(map(_is_number, numbers)):
        return None
    if (act == "celu" and not numbers[0] > 0) or (act == "hardtanh" and not le(*numbers)):
        return None
    if act == "hardtanh" and numbers == [0, 6]:
        act, numbers = "relu6", []
    alpha, beta, *_ = [*map(float, numbers), 0.0, 0.0]
    return Call(act, alpha, beta, in_place)


MODULES = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.SELU: "selu",
    nn.CELU: "celu",
    nn.ReLU6: "relu6",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Softplus: "softplus",
    nn.Softsign: "softsign",
    nn.Sigmoid: "sigmoid",
    nn.LogSigmoid: "logsigmoid",
    nn.Tanh: "tanh",
    nn.Hardtanh: "hardtanh",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Hardswish: "hardswish",
}
"""The activations as modules."""

_FORWARDS = {kind: kind.forward for kind in (nn.Linear, *MODULES)}  # type: ignore[attr-defined]


def modules_are_torchs() -> bool:
    """Whether nobody has put a forward of his own into torch's linear layer or activations."""
    return all(kind.forward is forward for kind, forward in _FORWARDS.items())  # type: ignore[attr-defined]


_BARE = {
    kind: Call(act, 0.0, 0.0, False)
    for kind, act in MODULES.items()
    if act not in _NUMBERS and act != "gelu"
}


def module_call(module: nn.Module) -> Call | None:
    """What calling an activation module does; None where it is none, or an unusual one."""
    kind = type(module)
    if kind in _BARE:
        return _BARE[kind]
    act = MODULES.get(kind)
    if act == "gelu":
        act = _GELUS.get(getattr(module, "approximate", ""))
    if act is None:
        return None
    return _call(act, [getattr(module, name) for name in _NUMBERS.get(act, ())], False)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
