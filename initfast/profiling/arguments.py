"""What profile() and Profiler are asked, each in one record that is checked as it is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from types import MethodType
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn
from torch.optim import Optimizer

from initfast.collectives import is_group
from initfast.errors import add_note, kind_of
from initfast.profiling.progress import Progress
from initfast.profiling.random_cotangent import random_projection

Backward: TypeAlias = Literal["random"]
"""Where a backward without a loss may begin."""


class _NoTargets:
    """In the place of targets: the loss is a function of the output alone."""

    def __repr__(self) -> str:
        return "NO_TARGETS"


NO_TARGETS = _NoTargets()

MEASURES = ("attention", "histograms", "per_sample", "recurrent")
"""What is measured only where `measure=` asks for it."""


@dataclass(frozen=True, eq=False)
class ProfileArguments:
    """The arguments of :func:`initfast.profile`, under their names there.

    A new option is a field here, and an argument there with its line in the docstring.

    Raises:
        TypeError: net cannot be called, loss is no function, targets or a scaler stand without a
            loss, lr without a backward or no number, or a loss beside backward, scaler is no
            GradScaler, an option neither True nor
            False, include, exclude or measure neither a text nor texts, or group none of
            torch.distributed's.
        ValueError: backward is none of its words, lr not positive, or measure names what is not in
            :data:`MEASURES`.
    """

    net: Callable[..., Any]
    x: Any
    _: KW_ONLY
    loss: Callable[..., Any] | None = None
    targets: Any = NO_TARGETS
    backward: Backward | None = None
    scaler: Any = None
    lr: float | None = None
    stop_at_nonfinite: bool = False
    trace_nonfinite: bool = True
    include: str | Sequence[str] | None = None
    exclude: str | Sequence[str] = ()
    group: Any = None
    measure: str | Collection[str] = ()
    progress: Progress | Literal[False] | None = None

    def __post_init__(self) -> None:
        _check_no_class("profile", "net", self.net)
        if not callable(self.net):
            raise TypeError(
                f"profile: net is a {type(self.net).__name__}; expected a module or a callable"
            )
        _check_no_class("profile", "loss", self.loss)
        if self.loss is None:
            if self.targets is not NO_TARGETS or self.scaler is not None:
                name = "scaler" if self.targets is NO_TARGETS else "targets"
                raise TypeError(f"profile: {name} is given without a loss; expected loss= as well")
        elif not callable(self.loss):
            raise TypeError(
                f"profile: loss is a {type(self.loss).__name__}; expected a function of the net's "
                "output"
            )
        self._check_backward()
        if self.progress not in (None, False) and not callable(self.progress):
            raise TypeError(
                f"profile: progress is {kind_of(self.progress)}; expected a function of the stage "
                "and two counts, False or None"
            )
        _check_scaler("profile", self.scaler)
        _check_lr("profile", self.lr)
        if self.lr is not None and self.objective is None:
            raise TypeError('profile: lr is given without a loss or backward="random"')
        for option in ("stop_at_nonfinite", "trace_nonfinite"):
            value = getattr(self, option)
            if not isinstance(value, bool):
                raise TypeError(f"profile: {option} is {value!r}; expected True or False")
        for name in ("include", "exclude"):
            given = getattr(self, name)
            if given is not None and not _are_texts(given):
                raise TypeError(f"profile: {name} is {given!r}; expected a pattern or several")
        if not is_group(self.group):
            raise TypeError(
                f"profile: group is a {type(self.group).__name__}; expected a group of "
                "torch.distributed's, such as torch.distributed.group.WORLD"
            )

        object.__setattr__(self, "measure", _measures("profile", self.measure))

    def _check_backward(self) -> None:
        if self.backward is None:
            return
        if self.backward != "random":
            raise ValueError(f'profile: backward is {self.backward!r}; expected "random" or None')
        if self.loss is not None:
            raise TypeError(
                'profile: loss and backward="random" are both given; expected one of them, for '
                "there is one backward"
            )

    @property
    def objective(self) -> Callable[..., Any] | None:
        """What makes the scalar of the output that a backward begins at; None without one."""
        return self.loss if self.backward is None else random_projection


@dataclass(frozen=True, eq=False)
class ProfilerArguments:
    """The arguments of :class:`initfast.Profiler`, under their names there.

    Raises:
        TypeError: net is no module nor a method of one, every no whole number, scaler no
            GradScaler, optimizer none, lr no number or beside an optimizer, or measure neither a
            text nor texts.
        ValueError: every is less than 1, lr not positive, or measure names what is not in
            :data:`MEASURES`.
    """

    net: nn.Module | MethodType
    every: int = 1
    _: KW_ONLY
    scaler: Any = None
    optimizer: Any = None
    lr: float | None = None
    measure: str | Collection[str] = ()

    def __post_init__(self) -> None:
        _check_no_class("Profiler", "net", self.net)
        if not isinstance(self.net, nn.Module) and not _is_method_of_module(self.net):
            raise TypeError(
                f"Profiler: net is a {type(self.net).__name__}; expected a module, or a method of "
                "one that it has under the method's own name"
            )
        if not isinstance(self.every, int) or isinstance(self.every, bool):
            raise TypeError(f"Profiler: every is {self.every!r}; expected a whole number")
        if self.every < 1:
            raise ValueError(f"Profiler: every is {self.every}; expected at least 1")
        _check_scaler("Profiler", self.scaler)
        _check_lr("Profiler", self.lr)
        if self.lr is not None and self.optimizer is not None:
            raise TypeError("Profiler: lr and optimizer are both given; expected one of them")
        if self.optimizer is not None and not isinstance(self.optimizer, Optimizer):
            given = type(self.optimizer).__name__
            raise TypeError(f"Profiler: optimizer is a {given}; expected a torch.optim.Optimizer")
        object.__setattr__(self, "measure", _measures("Profiler", self.measure))


def blame_input(error: Exception, x: Any) -> None:
    """Where a net has raised, add to the error that its input was of a kind that few nets take."""
    array = "a tensor, as torch.as_tensor(x, dtype=torch.get_default_dtype()) makes of it"
    expected = "a tensor, a tuple of arguments or a dict of keyword arguments"
    if isinstance(x, list):
        expected = "a tensor, as torch.stack(x) makes of it, or a tuple of arguments, as tuple(x)"
    elif _is_array(x):
        expected = array
    elif type(x) is tuple and any(map(_is_array, x)):
        x, expected = next(filter(_is_array, x)), array
    elif not isinstance(x, (type(None), str, bytes, int, float)):
        return
    add_note(error, f"initfast.profile: the net's input is {kind_of(x)}; expected {expected}")


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__") and not isinstance(value, Tensor)


def patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    """One pattern or several, as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


def _is_method_of_module(net: Any) -> bool:
    if not isinstance(net, MethodType) or not isinstance(net.__self__, nn.Module):
        return False
    return getattr(type(net.__self__), net.__name__, None) is net.__func__


def _are_texts(given: Any) -> bool:
    return isinstance(given, Iterable) and all(isinstance(each, str) for each in patterns(given))


def _check_no_class(who: str, what: str, given: Any) -> None:
    """Raise TypeError where a class stands in the place of what it makes."""
    if isinstance(given, type):
        name = given.__name__
        raise TypeError(
            f"{who}: {what} is {kind_of(given)}; expected an instance of it, such as {name}()"
        )


def _measures(who: str, given: Any) -> frozenset[str]:
    """The names of what is to be measured; an error unless all are in MEASURES."""
    known = ", ".join(map(repr, MEASURES))
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{who}: measure is {given!r}; expected some of {known}")
    for name in names:
        if name not in MEASURES:
            raise ValueError(f"{who}: measure has {name!r}; expected some of {known}")
    return frozenset(names)


def _check_scaler(who: str, scaler: Any) -> None:
    """Raise TypeError unless it can be what multiplies a loss, or None."""
    if scaler is not None and not callable(getattr(scaler, "scale", None)):
        raise TypeError(
            f"{who}: scaler is a {type(scaler).__name__}; expected a torch.amp.GradScaler"
        )


def _check_lr(who: str, lr: Any) -> None:
    """Raise an error unless it is a learning rate, or None."""
    if lr is None:
        return
    if isinstance(lr, bool) or not isinstance(lr, (int, float)):
        raise TypeError(f"{who}: lr is {kind_of(lr)}; expected a number")
    if not 0 < lr < math.inf:
        raise ValueError(f"{who}: lr is {lr}; expected a positive number")
