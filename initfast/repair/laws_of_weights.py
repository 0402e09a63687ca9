"""What initialisers and named schemes give a weight, and which of them a weight fits."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from initfast.init.fans import FAN_MODES
from initfast.repair.families import BY_CHANCE, Family, truncated
from initfast.repair.parameter_facts import ParameterFacts
from initfast.repair.parameter_kinds import DENSE, is_gate, plain_name, torch_fans

TOLERANCE = 0.005
"""How far a std may lie from a law's beside what chance explains, relative."""

ERRORS = 5.0
"""Standard errors that chance explains."""


class Expected(NamedTuple):
    """What a law gives: its family, the std before a cut, and the cut in these."""

    family: str
    std: float
    cut: float = math.inf

    def fits(self, found: Family) -> bool:
        """Whether numbers of that family, mean and std may be drawn from it."""
        if self.family == "constant" or found.name == "constant":
            same = self.family == found.name == "constant"
            return same and math.isclose(self.std, found.mean, abs_tol=1e-12)
        left = truncated(self.cut)[0] if self.cut < 8 else 1.0
        if found.mean or not self._may_be(found):
            return False
        return abs(found.std / (self.std * left) - 1) <= ERRORS * found.error + TOLERANCE

    def _may_be(self, found: Family) -> bool:
        if found.name == "few" or found.name == self.family == "uniform":
            return True
        if found.name not in ("normal", "truncated normal") or self.family == "uniform":
            return False
        if found.name == "truncated normal":
            return abs(found.cut - self.cut) < 0.05 * self.cut
        beyond = found.count * math.erfc(self.cut / math.sqrt(2))
        return beyond <= -math.log(BY_CHANCE) or self.cut > 8


class Initialiser(NamedTuple):
    """One call of an initialiser, and what it gives a weight."""

    call: str
    expected: Expected


def initialisers(fans: tuple[int, int]) -> Iterator[Initialiser]:
    """The usual initialisers of a weight with these fans.

    Args:
        fans: fan_in and fan_out.

    Example:
        >>> next(initialisers((100, 50))).call
        "kaiming_uniform_(a=√5), torch's default"
    """
    fan_in, fan_out = fans

    def std(scale: float, mode: str = "fan_in") -> float:
        return math.sqrt(scale / FAN_MODES[mode](fan_in, fan_out))

    default = Expected("uniform", std(1 / 3))
    yield Initialiser("kaiming_uniform_(a=√5), torch's default", default)
    for family in ("uniform", "normal"):
        kinds = {"lecun": (1.0, "fan_in", ""), "xavier": (1.0, "fan_avg", "")}
        kinds["kaiming"] = 2.0, "fan_in", 'nonlinearity="relu"'
        for name, (scale, mode, words) in kinds.items():
            yield Initialiser(f"{name}_{family}_({words})", Expected(family, std(scale, mode)))
        out = Expected(family, std(2.0, "fan_out"))
        yield Initialiser(f'kaiming_{family}_(mode="fan_out", nonlinearity="relu")', out)
        tanh = Expected(family, std(25 / 9, "fan_avg"))
        yield Initialiser(f"xavier_{family}_(gain=5/3)", tanh)
    flax = Expected("truncated normal", std(1.0) / truncated(2.0)[0], 2.0)
    yield Initialiser("lecun_normal_(), cut at 2 sigma", flax)
    yield Initialiser("trunc_normal_(std=1/√fan_in, cut at 3 sigma)", _cut_at_3(std(1.0)))
    yield Initialiser("normal_(std=√(2 / (5 fan_in))), small init", Expected("normal", std(0.4)))


def _cut_at_3(std: float) -> Expected:
    return Expected("truncated normal", std, 3.0)


FIXED = (1.0, 0.1, 0.05, 0.02, 0.01, 0.006, 0.005, 0.001)
"""Stds that programs write as numbers."""


def law_in_words(facts: ParameterFacts, blocks: int) -> str:
    """The initialiser that a weight fits best; "" where it fits none, or is no weight."""
    found = facts.family
    if found is None or not found.is_random or facts.kind not in DENSE:
        return ""
    candidates = [
        Initialiser(f"std={std:g}", Expected(found.name, std, found.cut)) for std in FIXED
    ]
    depth = max(blocks, 1)
    scaled = Expected(found.name, 0.02 / math.sqrt(2 * depth), found.cut)
    candidates.append(Initialiser(f"std=0.02 / √(2 · {depth} blocks)", scaled))
    if facts.kind not in ("embedding", "position embedding"):
        candidates += initialisers((facts.fan_in, facts.fan_out))
    fitting = [c for c in candidates if c.expected.fits(found)]
    return min(fitting, key=lambda c: _distance(c, found)).call if fitting else ""


def _distance(c: Initialiser, found: Family) -> float:
    left = truncated(c.expected.cut)[0] if c.expected.cut < 8 else 1.0
    return abs(math.log(found.std / (c.expected.std * left)))


# ---- schemes of whole nets ----


class Place(NamedTuple):
    """A parameter, and where it stands in its net.

    facts: what is known of it. block: its block's number, from 0; -1 outside. blocks: how many
    there are. width: of the residual stream, 0 where not known.
    """

    facts: ParameterFacts
    block: int
    blocks: int
    width: int


class Scheme(NamedTuple):
    """A rule by which a net's parameters are drawn.

    rule: what it gives a parameter; None where it says nothing of it. needs: the kind of parameter
    without which a net is not of those that it is for; "" where it is for any.
    """

    rule: Callable[[Place], Expected | None]
    needs: str = ""


Rule = Callable[[Place], "Expected | None"]

ZERO, ONE = Expected("constant", 0.0), Expected("constant", 1.0)
_TABLES = ("embedding", "position embedding")
_MATRICES = ("linear", "residual output", "head")


def _simple(p: Place) -> Expected | None:
    return ONE if p.facts.kind == "norm" else ZERO if p.facts.kind == "bias" else None


def _torch(p: Place) -> Expected | None:
    f = p.facts
    if f.kind in _TABLES:
        return Expected("normal", 1.0)
    if f.kind not in DENSE or f.kind == "recurrent" or f.fused > 1:
        return ONE if f.kind == "norm" else None
    return Expected("uniform", 1 / math.sqrt(3 * torch_fans(f.shape)[0]))


def _normal(
    table: float | None = 0.02,
    inner: Callable[[Place], float] = lambda p: 0.02,
    out: Callable[[Place], float] = lambda p: 1.0,
    head: Callable[[Place], float] | None = None,
    cut: float = math.inf,
    gate_as_out: bool = False,
    cut_table: bool = True,
) -> Rule:
    """A scheme of normal laws for transformers, by kind."""
    family = "normal" if math.isinf(cut) else "truncated normal"

    def rule(p: Place) -> Expected | None:
        kind = p.facts.kind
        if kind in _TABLES and table is not None:
            return Expected(family, table, cut) if cut_table else Expected("normal", table)
        if kind == "head" and head is not None:
            return _cut_at_3(head(p))
        if kind not in (*_MATRICES, *_TABLES, "convolution"):
            return _simple(p)
        is_out = kind == "residual output" or (gate_as_out and is_gate(p.facts.name))
        return Expected(family, inner(p) * (out(p) if is_out else 1.0), cut)

    return rule


def _convolutional(family: str, mode: str, scale: float) -> Rule:
    def rule(p: Place) -> Expected | None:
        if p.facts.kind not in ("convolution", "depthwise convolution"):
            return ONE if p.facts.kind == "norm" else None
        fan = FAN_MODES[mode](*torch_fans(p.facts.shape))
        return Expected(family, math.sqrt(scale / fan))

    return rule


def _of_fans(family: str, mode: str, cut: float = math.inf) -> Rule:
    def rule(p: Place) -> Expected | None:
        f = p.facts
        if f.kind not in (*_MATRICES, "convolution"):
            return _simple(p)
        left = truncated(cut)[0] if cut < 8 else 1.0
        return Expected(family, 1 / math.sqrt(FAN_MODES[mode](f.fan_in, f.fan_out)) / left, cut)

    return rule


def _all_blocks(p: Place) -> float:
    return 1 / math.sqrt(2 * max(p.blocks, 1))


def _blocks_so_far(p: Place) -> float:
    return 1 / math.sqrt(2 * (max(p.block, 0) + 1))


def _width(p: Place) -> float:
    return 1 / math.sqrt(p.width or max(p.facts.fan_in, 1))


_OUT = "residual output"

SCHEMES: dict[str, Scheme] = {
    "torch": Scheme(_torch),
    "hf": Scheme(_normal()),
    "gpt2": Scheme(_normal(out=_all_blocks), _OUT),
    "torchtitan": Scheme(_normal(1.0, out=_blocks_so_far, head=_width, gate_as_out=True), _OUT),
    "olmo_core": Scheme(_normal(cut=3.0), _OUT),
    "olmo_core_llama": Scheme(
        _normal(1.0, out=_all_blocks, head=_width, cut=3.0, gate_as_out=True, cut_table=False),
        _OUT,
    ),
    "llama2": Scheme(_normal(out=_all_blocks, head=_width, cut=3.0), _OUT),
    "small_init": Scheme(_normal(None, lambda p: math.sqrt(0.4) * _width(p)), _OUT),
    "resnet": Scheme(_convolutional("normal", "fan_out", 2.0), "convolution"),
    "keras": Scheme(_of_fans("uniform", "fan_avg")),
    "flax": Scheme(_of_fans("truncated normal", "fan_in", 2.0)),
    "xavier_normal": Scheme(_of_fans("normal", "fan_avg")),
}
"""Schemes by name: what each gives a parameter. Formulas as their programs have them."""

_SLOT = re.compile(r"(?:^|(?<=\.))(\d+)(?=\.)")


def places(facts: Sequence[ParameterFacts]) -> list[Place]:
    """Each parameter with its place in the net, as far as names and shapes tell it."""
    counts: dict[str, set[int]] = {}
    slots = [_slot(f.name) for f in facts]
    for container, index in filter(None, slots):
        counts.setdefault(container, set()).add(index)
    tables = [f.shape[1] for f in facts if f.kind == "embedding" and len(f.shape) == 2]
    outs = [f.fan_out for f in facts if f.kind == "residual output"]
    width = (outs or tables or [0])[0]
    return [
        Place(f, slot[1] if slot else -1, len(counts[slot[0]]) if slot else 0, width)
        for f, slot in zip(facts, slots, strict=True)
    ]


def _slot(name: str) -> tuple[str, int] | None:
    """The container of the block that a parameter is in, and the block's number."""
    found = _SLOT.search(plain_name(name))
    return None if found is None else (plain_name(name)[: found.start()], int(found[1]))
