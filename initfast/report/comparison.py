"""compare(): what differs between two reports, row by row."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from initfast.report.report import Report
from initfast.stats.families import coarse_family
from initfast.stats.layer import Layer
from initfast.stats.text import number, shown
from initfast.stats.weight import Weight

TOLERANCE = 0.05
"""By what share a scale may differ and still be the same."""

MOST_SHOWN = 20
"""How many rows ``print(comparison)`` spells out."""


@dataclass(frozen=True)
class Change:
    """One thing in which a row of two reports differs.

    Attributes:
        name: the path of the row's module.
        call: which of the rows of that name in the first report, from 0.
        what: "op", "shape", "dtype", "std", "rms", "nonfinite", "gradient rms", "weight std",
            "weight family" or "weight gradient rms"; of a layer with several weights with the
            parameter's name in the place of "weight".
        before: the value in the first report.
        after: the value in the second.
    """

    name: str
    call: int
    what: str
    before: float | str
    after: float | str

    @property
    def ratio(self) -> float:
        """The value after over the value before; NaN where these are words."""
        if isinstance(self.before, str) or isinstance(self.after, str):
            return math.nan
        return self.after / self.before if self.before else math.inf

    def __str__(self) -> str:
        if isinstance(self.before, str) or isinstance(self.after, str):
            return f"{self.what} {self.before} -> {self.after}"
        times = f" (x {number(self.ratio)})" if 0 < self.ratio < math.inf else ""
        return f"{self.what} {number(self.before)} -> {number(self.after)}{times}"


class Pair(NamedTuple):
    """A row of the first report and the row of the second that it is compared with.

    Attributes:
        before: None where the row has appeared.
        after: None where the row has vanished.
        call: which of the rows of that name, from 0.
    """

    before: Layer | None
    after: Layer | None
    call: int


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` returns.

    Attributes:
        pairs: every row of both reports, in the first's order; then those that have appeared.
        changes: what differs between the rows that both reports have, in that order.
        tolerance: by what share a scale may differ.
    """

    pairs: list[Pair]
    changes: list[Change]
    tolerance: float

    @property
    def appeared(self) -> list[Layer]:
        """The rows that the second report alone has."""
        return [p.after for p in self.pairs if p.before is None and p.after is not None]

    @property
    def vanished(self) -> list[Layer]:
        """The rows that the first report alone has."""
        return [p.before for p in self.pairs if p.after is None and p.before is not None]

    @property
    def matched(self) -> list[tuple[Layer, Layer]]:
        """The rows that both reports have: before and after."""
        return [(p.before, p.after) for p in self.pairs if p.before and p.after]

    @property
    def is_same(self) -> bool:
        """Whether nothing has changed, appeared or vanished."""
        return not (self.changes or self.appeared or self.vanished)

    def rows(self) -> list[tuple[str, str]]:
        """Each row that has changed, appeared or vanished: its name, and what happened to it."""
        changed: dict[tuple[str, int], list[str]] = defaultdict(list)
        for change in self.changes:
            changed[change.name, change.call].append(str(change))
        return [
            *(
                (n, f"changed: {_where(n, call)}: {', '.join(w)}")
                for (n, call), w in changed.items()
            ),
            *((x.name, f"vanished: {_where(x.name)} ({x.op})") for x in self.vanished),
            *(
                (x.name, f"appeared: {_where(x.name)} ({x.op}), std {number(x.std)}")
                for x in self.appeared
            ),
        ]

    def lines(self) -> list[str]:
        """The same as text alone."""
        return [text for _, text in self.rows()]

    def verdict(self) -> str:
        """The counts, in one line."""
        rows = len({(change.name, change.call) for change in self.changes})
        return (
            f"{rows} of {len(self.matched)} rows changed by more than {100 * self.tolerance:g} %, "
            f"{len(self.appeared)} appeared, {len(self.vanished)} vanished"
        )

    def __str__(self) -> str:
        lines = self.lines()
        more = len(lines) - MOST_SHOWN
        rest = [f"... {more} more in comparison.lines()"] if more > 0 else []
        return shown("\n".join([*lines[:MOST_SHOWN], *rest, self.verdict()]))

    def to_dict(self) -> dict[str, Any]:
        """The changes as numbers, strings, lists and dicts."""
        return {
            "tolerance": self.tolerance,
            "matched": len(self.matched),
            "changes": [asdict(change) for change in self.changes],
            "appeared": [layer.name for layer in self.appeared],
            "vanished": [layer.name for layer in self.vanished],
        }


def compare(a: Report, b: Report, *, tolerance: float = TOLERANCE) -> Comparison:
    """What differs between two reports: rows by name and call, scales, and weights' families.

    Rows of one name are matched by what ran, in order; those that are left over by their order.
    A number differs where it is further from the other than the tolerance times the larger; two
    NaN are the same. Gradients are compared where both reports have them.

    Args:
        a: the first report, the baseline.
        b: the second.
        tolerance: by what share a std, an rms may differ: 0 takes no difference at all.

    Returns:
        The :class:`Comparison`, which prints itself.

    Raises:
        TypeError: a or b is no report.
        ValueError: tolerance is not a number from zero up.

    Example:
        >>> net, x = torch.nn.Linear(64, 64), torch.randn(32, 64)
        >>> before = initfast.profile(net, x)
        >>> _ = torch.nn.init.zeros_(net.bias), net.weight.data.mul_(2)
        >>> [change.what for change in initfast.compare(before, initfast.profile(net, x)).changes]
        ['std', 'weight std']
    """
    for name, report in (("a", a), ("b", b)):
        if not isinstance(report, Report):
            raise TypeError(
                f"compare: {name} is a {type(report).__name__}; expected a Report, as "
                "initfast.profile returns"
            )
    if not tolerance >= 0:
        raise ValueError(f"compare: tolerance is {tolerance!r}; expected a number from zero up")
    pairs = _matched(a.layers, b.layers)
    changes = [change for pair in pairs for change in _changes(pair, tolerance)]
    return Comparison(pairs, changes, tolerance)


def _matched(before: Sequence[Layer], after: Sequence[Layer]) -> list[Pair]:
    rows: dict[str, list[Layer]] = defaultdict(list)
    for layer in after:
        rows[layer.name].append(layer)
    partners: dict[int, Layer | None] = {}
    for name, own in _by_name(before).items():
        rest = rows[name]
        for layer in own:
            same = next((i for i, other in enumerate(rest) if other.op == layer.op), None)
            partners[id(layer)] = None if same is None else rest.pop(same)
        for layer in own:
            if partners[id(layer)] is None and rest:
                partners[id(layer)] = rest.pop(0)
    calls = {id(x): call for own in _by_name(before).values() for call, x in enumerate(own)}
    new = {id(layer) for rest in rows.values() for layer in rest}
    both = [Pair(layer, partners[id(layer)], calls[id(layer)]) for layer in before]
    return both + [Pair(None, layer, 0) for layer in after if id(layer) in new]


def _by_name(layers: Sequence[Layer]) -> dict[str, list[Layer]]:
    rows: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        rows[layer.name].append(layer)
    return rows


def _changes(pair: Pair, tolerance: float) -> Iterator[Change]:
    before, after, call = pair
    if before is None or after is None:
        return
    old, new = dict(_facts(before)), dict(_facts(after))
    changed = [what for what in old if what in new and _differ(old[what], new[what], tolerance)]
    for what in changed:
        if what != "rms" or "std" not in changed:
            yield Change(before.name, call, what, old[what], new[what])


def _facts(layer: Layer) -> Iterator[tuple[str, float | str]]:
    """What is compared of a row."""
    yield "op", layer.op
    yield "shape", "x".join(map(str, layer.shape)) or "scalar"
    yield "dtype", str(layer.dtype).removeprefix("torch.")
    yield "std", layer.std
    yield "rms", layer.rms
    yield "nonfinite", layer.nonfinite
    if layer.grad is not None:
        yield "gradient rms", layer.grad.rms
    weights: dict[str, Weight] = {"weight": layer.weight} if layer.weight else {**layer.weights}
    for name, weight in weights.items():
        yield f"{name} std", weight.std
        family = coarse_family(weight.moments)
        if family:
            yield f"{name} family", family
    grads = {"weight": layer.weight_grad} if layer.weight_grad else layer.weight_grads
    for name, grad in grads.items():
        yield f"{name} gradient rms", grad.rms


def _differ(x: float | str, y: float | str, tolerance: float) -> bool:
    if isinstance(x, str) or isinstance(y, str):
        return x != y
    if x == y or (math.isnan(x) and math.isnan(y)):
        return False
    return not abs(x - y) <= tolerance * max(abs(x), abs(y))


def _where(name: str, call: int = 0) -> str:
    which = f" (call {call})" if call else ""
    return f"{name or '(net)'}{which}"
