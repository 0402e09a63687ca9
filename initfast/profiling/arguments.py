"""What profile() and Profiler are asked, each in one record that is checked as it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torch import nn

from initfast.collectives import is_group


class _NoTargets:
    """In the place of targets: the loss is a function of the output alone."""

    def __repr__(self) -> str:
        return "NO_TARGETS"


NO_TARGETS = _NoTargets()


@dataclass(frozen=True, eq=False)
class ProfileArguments:
    """The arguments of :func:`initfast.profile`, under their names there.

    A new option is a field here, and an argument there with its line in the docstring.

    Raises:
        TypeError: net cannot be called, loss is no function, targets or a scaler stand without a
            loss, scaler is no GradScaler, an option neither True nor False, include or exclude
            neither a text nor texts, or group none of torch.distributed's.
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
    group: Any = None

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
        if not is_group(self.group):
            raise TypeError(
                f"profile: group is a {type(self.group).__name__}; expected a group of "
                "torch.distributed's, such as torch.distributed.group.WORLD"
            )


@dataclass(frozen=True, eq=False)
class ProfilerArguments:
    """The arguments of :class:`initfast.Profiler`, under their names there.

    Raises:
        TypeError: net is no module, every no whole number, or scaler no GradScaler.
        ValueError: every is less than 1.
    """

    net: nn.Module
    every: int = 1
    _: KW_ONLY
    scaler: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.net, nn.Module):
            raise TypeError(f"Profiler: net is a {type(self.net).__name__}; expected a module")
        if not isinstance(self.every, int) or isinstance(self.every, bool):
            raise TypeError(f"Profiler: every is {self.every!r}; expected a whole number")
        if self.every < 1:
            raise ValueError(f"Profiler: every is {self.every}; expected at least 1")
        _check_scaler("Profiler", self.scaler)


def patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    """One pattern or several, as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)


def _check_scaler(who: str, scaler: Any) -> None:
    """Raise TypeError unless it can be what multiplies a loss, or None."""
    if scaler is not None and not callable(getattr(scaler, "scale", None)):
        raise TypeError(
            f"{who}: scaler is a {type(scaler).__name__}; expected a torch.amp.GradScaler"
        )
