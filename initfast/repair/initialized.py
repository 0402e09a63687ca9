"""Initialized: what initialize_() has done to each parameter, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from initfast.stats.text import shown


class Change(NamedTuple):
    """What was done to one parameter.

    name: its plain name. shape: its own. how: what was drawn, in words. std: the standard deviation
    of what it was drawn from; None of a user's function. why: the rule, in words.
    """

    name: str
    shape: tuple[int, ...]
    how: str
    std: float | None
    why: str


class Left(NamedTuple):
    """A parameter that stays as it was, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Initialized:
    """What :func:`initfast.initialize_` has done, to print.

    Parameters whose names differ in numbers, and that were drawn alike, share a line.

    Attributes:
        scheme: its name; "none" where only rules were given.
        seed: what, with the names, decides every value.
        changes: one a parameter, in the order of registration.
        left: the parameters that stay as they were.
        notes: what else there is to know.
    """

    scheme: str
    seed: int
    changes: Sequence[Change]
    left: Sequence[Left]
    notes: Sequence[str]

    def __str__(self) -> str:
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, shape, how, _, why in self.changes:
            size = "x".join(map(str, shape)) or "one"
            groups.setdefault((re.sub(r"\d+", "*", name), size, how, why), []).append(name)
        rows = [("parameter", "shape", "drawn", "why")]
        for (pattern, size, how, why), names in groups.items():
            name = names[0] if len(names) == 1 else f"{pattern} ({len(names)})"
            rows.append((name, size, how, why))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            "  ".join([*(t.ljust(w) for t, w in zip(row, widths, strict=False)), row[3]]).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left:
            reasons.setdefault(reason, []).append(name)
        lines += [f"left: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        lines += [f"scheme {self.scheme}, seed {self.seed}", *self.notes]
        return shown("\n".join(lines))

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and lists only."""
        return {
            **asdict(self),
            "changes": [c._asdict() | {"shape": list(c.shape)} for c in self.changes],
            "left": [item._asdict() for item in self.left],
        }
