"""Rules of the user's: which parameter is initialised by which function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from initfast.errors import ArgumentError, kind_of
from initfast.repair.slots import Slot

Use: TypeAlias = "Callable[[Tensor], Any] | None"


class Rule(NamedTuple):
    """A pattern for names, or a type of modules, and what its parameters are filled by."""

    pattern: str | type
    use: Use

    def __str__(self) -> str:
        return repr(self.pattern) if isinstance(self.pattern, str) else self.pattern.__name__

    def fits(self, slot: Slot) -> bool:
        """Whether it stands for a parameter: by its name, or by its module but for biases."""
        if isinstance(self.pattern, str):
            return fnmatchcase(slot.role.name, self.pattern)
        return isinstance(slot.owner, self.pattern) and slot.role.part != "bias"


class Rules:
    """The rules in their order, of which the first that fits wins.

    Args:
        given: functions by patterns and types.

    Raises:
        TypeError: a key is neither, a value cannot be called and is not None, or they are no dict.
    """

    def __init__(self, given: Mapping[Any, Use]) -> None:
        if not isinstance(given, Mapping):
            raise TypeError(f"rules is {kind_of(given)}; expected a dict of functions by patterns")
        self._rules: list[Rule] = []
        for pattern, use in given.items():
            if not isinstance(pattern, (str, type)):
                raise TypeError(f"a rule is for {pattern!r}; expected a pattern or a module's type")
            if use is not None and not callable(use):
                raise TypeError(
                    f"the rule for {pattern!r} is {use!r}; expected a function of the parameter, "
                    "or None to leave it"
                )
            self._rules.append(Rule(pattern, use))

    def match(self, slots: Iterable[Slot]) -> dict[str, Rule]:
        """The rule for each parameter that has one.

        Raises:
            ArgumentError: a rule is for no parameter, or others stand before it for all of its.
        """
        found: dict[str, Rule] = {}
        names = []
        for slot in slots:
            names.append(slot.role.name)
            for rule in self._rules:
                if rule.fits(slot):
                    found[slot.role.name] = rule
                    break
        used = list(found.values())
        for rule in self._rules:
            if rule not in used:
                some = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
                raise ArgumentError(
                    f"the rule for {rule} stands for no parameter that no rule before it does; "
                    f"the parameters are {some}"
                )
        return found
