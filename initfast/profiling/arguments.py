"""What profile() and Profiler are asked, each in one record that is checked as it is made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torch import nn


class _NoTargets:
    """In the place of targets: the loss is a function of the output alone."""

    def __repr__(self) -> str:
        return "NO_TARGETS"


NO_TARGETS = _NoTargets()

MEASURES = ("attention", "histograms")
"""What is measured only where `measure=` asks for it."""


@dataclass(frozen=True, eq=False)
class ProfileArguments:
    """The arguments of :func:`initfast.profile`, under their names there.

    A new option is a field here, and an argument there with its line in the docstring.

    Raises:
        TypeError: net cannot be called, loss is no function, targets or a scaler stand without a
            loss, scaler is no GradScaler, an option neither True nor False, or include, exclude or
            measure neither a text nor texts.
        ValueError: measure names what is not in :data:`MEASURES`.
    """

    net: Callable[..., Any]
    x: Any
    _: KW_ONLY
    loss: Callable[..., Any] | None = None
    targets: Any = NO_TARGETS
    scaler: Any = None
    stop_at_nonfinite: bool = False
    trace_nonfinite: bool = True
    include: str | Sequence[str] | None = None
    exclude: str | Sequence[str] = ()
    measure: str | Collection[str] = ()

    def __post_init__(self) -> None:
        if not callable(self.net):
            raise TypeError(
                f"profile: net is a {type(self.net).__name__}; expected a module or a callable"
            )
        if self.loss is None:
            if self.targets is not NO_TARGETS or self.scaler is not None:
                name = "scaler" if self.targets is NO_TARGETS else "targets"
                raise TypeError(f"profile: {name} is given without a loss; expected loss= as well")
        elif not callable(self.loss):
            raise TypeError(
                f"profile: loss is a {type(self.loss).__name__}; expected a function of the net's "
                "output"
            )
        _check_scaler("profile", self.scaler)
        for option in ("stop_at_nonfinite", "trace_nonfinite"):
            value = getattr(self, option)
            if not isinstance(value, bool):
                raise TypeError(f"profile: {option} is {value!r}; expected True or False")
        for name in ("include", "exclude"):
            given = getattr(self, name)
            if given is not None and not all(isinstance(each, str) for each in patterns(given)):
                raise TypeError(f"profile: {name} is {given!r}; expected a pattern or several")
        object.__setattr__(self, "measure", _measures("profile", self.measure))


@dataclass(frozen=True, eq=False)
class ProfilerArguments:
    """The arguments of :class:`initfast.Profiler`, under their names there.

    Raises:
        TypeError: net is no module, every no whole number, scaler no GradScaler, or measure neither
            a text nor texts.
        ValueError: every is less than 1, or measure names what is not in :data:`MEASURES`.
    """

    net: nn.Module
    every: int = 1
    _: KW_ONLY
    scaler: Any = None
    measure: str | Collection[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.net, nn.Module):
            raise TypeError(f"Profiler: net is a {type(self.net).__name__}; expected a module")
        if not isinstance(self.every, int) or isinstance(self.every, bool):
            raise TypeError(f"Profiler: every is {self.every!r}; expected a whole number")
        if self.every < 1:
            raise ValueError(f"Profiler: every is {self.every}; expected at least 1")
        _check_scaler("Profiler", self.scaler)
        object.__setattr__(self, "measure", _measures("Profiler", self.measure))


def patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    """One pattern or several, as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


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
