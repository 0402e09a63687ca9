"""assert_same_init(): whether two nets start with the same bits, or from the same laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from initfast.errors import kind_of
from initfast.repair.parameter_facts import ParameterFacts, facts_of, owned, readable
from initfast.repair.parameter_kinds import plain_name
from initfast.stats.families import Family

Rename = Mapping[str, str] | Callable[[str], str]

MOST_SHOWN = 8
"""How many differences an error spells out."""

_SAMPLE = 1 << 20
"""Of so many numbers the distributions are compared where a parameter has more."""


def assert_same_init(
    a: nn.Module,
    b: nn.Module,
    *,
    by: Literal["distribution", "bits"] = "distribution",
    rename: Rename | None = None,
    level: float = 1e-3,
) -> None:
    """Raise unless two nets are initialised alike, as a port and its original should be.

    By distribution, three things of each parameter are compared: its family and cut, its std, and
    its whole distribution by the two-sample test of Kolmogorov and Smirnov; constants must be the
    same constants. The level is shared among all tests (Bonferroni), so that a right port fails
    with at most that probability, whatever the number of its parameters.

    Args:
        a: a net, on any device and of any dtype.
        b: the other.
        by: "bits": every parameter must have the same dtype and bits.
        rename: what a's parameters are called in b: a dict of names, or a function of a name;
            names that it leaves out are the same. None: they are called the same.
        level: the probability with which nets that are drawn alike may fail.

    Raises:
        AssertionError: a parameter is missing, has another shape, or is drawn otherwise; all are
            named, with what was found in both.
        ValueError: by is neither, or level is not between 0 and 1.
        TypeError: a or b is no module, or rename neither a dict nor a function.

    Source:
        Kolmogorov 1933; Smirnov 1948: P(D > d) = 2 exp(-2 d² nm / (n + m)).

    Example:
        >>> initfast.assert_same_init(nn.Linear(64, 64), nn.Linear(64, 64))
        >>> other = nn.Linear(64, 64)
        >>> _ = nn.init.xavier_uniform_(other.weight)
        >>> initfast.assert_same_init(nn.Linear(64, 64), other)
        Traceback (most recent call last):
        AssertionError: ...'weight' has std ... against ...
    """
    _check(a, b, by, rename, level)
    ours = {_renamed(o.name, rename): o for o in owned(a)}
    theirs = {plain_name(o.name): o for o in owned(b)}
    wrong = [f"{name!r} is in the first net alone" for name in ours.keys() - theirs.keys()]
    wrong += [f"{name!r} is in the second net alone" for name in theirs.keys() - ours.keys()]
    shared = [name for name in ours if name in theirs]
    each = level / (3 * max(len(shared), 1))
    for name in shared:
        first, second = facts_of(ours[name]), facts_of(theirs[name])
        values = [readable(o.parameter.detach())[0] for o in (ours[name], theirs[name])]
        if by == "bits":
            said = _bits(first, second, values)
        else:
            said = _distribution(first, second, values, each)
        if said:
            wrong.append(f"{name!r} {said}")
    if wrong:
        rest = f"\n    and {len(wrong) - MOST_SHOWN} more" if len(wrong) > MOST_SHOWN else ""
        lines = "\n    ".join(wrong[:MOST_SHOWN])
        raise AssertionError(
            f"{len(wrong)} of {len(ours.keys() | theirs.keys())} parameters are not initialised "
            f"alike:\n    {lines}{rest}"
        )


def _check(a: nn.Module, b: nn.Module, by: str, rename: Rename | None, level: float) -> None:
    if not (rename is None or callable(rename) or isinstance(rename, Mapping)):
        raise TypeError(
            f"assert_same_init: rename is {kind_of(rename)}; expected a dict of names or a function"
        )
    for net in (a, b):
        if not isinstance(net, nn.Module):
            raise TypeError(f"assert_same_init: net is {kind_of(net)}; expected a torch.nn.Module")
    if by not in ("distribution", "bits"):
        raise ValueError(f"assert_same_init: by is {by!r}; expected 'distribution' or 'bits'")
    if not 0 < level < 1:
        raise ValueError(f"assert_same_init: level is {level!r}; expected a number between 0 and 1")


def _renamed(name: str, rename: Rename | None) -> str:
    name = plain_name(name)
    if rename is None:
        return name
    return rename(name) if callable(rename) else rename.get(name, name)


def _bits(a: ParameterFacts, b: ParameterFacts, values: list[Tensor | None]) -> str:
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"is {a.dtype} {list(a.shape)} against {b.dtype} {list(b.shape)}"
    first, second = values
    if first is None or second is None:
        return _unread(a, b)
    if a.hash == b.hash:
        return ""
    different = int((first != second.to(first.device)).sum())
    return f"differs in {different} of {first.numel()} values"


def _unread(a: ParameterFacts, b: ParameterFacts) -> str:
    return f"cannot be compared: {a.note or b.note}"


def _distribution(
    a: ParameterFacts, b: ParameterFacts, values: list[Tensor | None], level: float
) -> str:
    """How two parameters are drawn otherwise, in words; "" where they are drawn alike."""
    if a.shape != b.shape:
        return f"has shape {list(a.shape)} against {list(b.shape)}"
    one, other = a.family, b.family
    first, second = values
    if one is None or other is None or first is None or second is None:
        return _unread(a, b)
    if "constant" in (one.name, other.name):
        return "" if _same_constant(one, other) else f"is {one} against {other}"
    if not one.count or not other.count:
        return "" if one.name == other.name else f"is {one} against {other}"
    if one.is_random and other.is_random and not _compatible(one, other):
        return f"is {one} against {other}"
    apart = abs(math.log(a.std / b.std)) / math.hypot(one.error, other.error)
    if math.erfc(apart / math.sqrt(2)) < level:
        return f"has std {a.std:.4g} against {b.std:.4g}, {apart:.1f} standard errors apart"
    distance, chance = kolmogorov_smirnov(first, second)
    if chance < level:
        return (
            f"has another distribution: the largest distance is {distance:.4g}, which has a "
            f"probability of {chance:.1g}"
        )
    return ""


def _same_constant(one: Family, other: Family) -> bool:
    same = one.name == other.name == "constant"
    return same and math.isclose(one.mean, other.mean, rel_tol=1e-3, abs_tol=1e-12)


def _compatible(one: Family, other: Family) -> bool:
    """Whether two families may be one: an orthogonal weight is as a normal one to these tests."""
    if one.name == other.name == "truncated normal":
        return abs(one.cut - other.cut) < 0.05 * one.cut
    return one.name == other.name


def kolmogorov_smirnov(x: Tensor, y: Tensor) -> tuple[float, float]:
    """The largest distance of two empirical distributions, and its probability by chance.

    Args:
        x, y: real numbers, of any shapes; at most 2^20 of each are taken, evenly.

    Returns:
        (D, p), p by the asymptotic bound, which is 0.1 % of its value from the exact one where
        both have more than a thousand numbers, and too large for fewer.

    Example:
        >>> kolmogorov_smirnov(torch.arange(100.0), torch.arange(100.0) + 50)[0]
        0.5
    """
    a, b = _sorted(x), _sorted(y)
    n, m = len(a), len(b)
    if not n or not m:
        return 0.0, 1.0
    everything = torch.cat([a, b])
    below = torch.searchsorted(a, everything, right=True).double() / n
    other = torch.searchsorted(b, everything, right=True).double() / m
    distance = float((below - other).abs().max())
    return distance, min(1.0, 2 * math.exp(-2 * distance**2 * n * m / (n + m)))


def _sorted(x: Tensor) -> Tensor:
    flat = x.reshape(-1)[:: max(x.numel() // _SAMPLE, 1)]
    return flat.double().cpu().sort().values
