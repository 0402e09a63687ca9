"""Checks of parameters' values: memory never filled, constant, repeated and shared numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from initfast.diagnosis.findings import Finding
from initfast.repair.examined import Examined, fault, several
from initfast.repair.parameter_kinds import DENSE
from initfast.stats.text import number

LARGEST = 1e6
"""Larger magnitudes are no initial weight; memory that was never filled has them."""

SMALLEST = 1e-30
"""Smaller ones neither: 2^31 numbers of std 1e-6 have one with a probability of 1e-15."""


def unfilled_memory(net: Examined) -> Iterator[Finding]:
    """A parameter holds what was in its memory: NaN, huge numbers or denormals."""
    for i, facts in enumerate(net.facts):
        m = facts.moments
        if m is None or not m.count or facts.note.startswith(("int", "bool")):
            continue
        largest = max(abs(m.min), abs(m.max)) if m.finite else math.inf
        tiny = facts.smallest < SMALLEST
        if not m.nonfinite and largest <= LARGEST and not tiny:
            continue
        seen = [f"{m.nonfinite} of {m.count} values are NaN or infinite"] if m.nonfinite else []
        seen += [f"the largest is {number(largest)}"] if LARGEST < largest < math.inf else []
        seen += [f"the smallest that is not zero is {number(facts.smallest)}"] if tiny else []
        yield fault(
            net,
            [i],
            "error",
            "unfilled_memory",
            f"{', '.join(seen)}: no initialiser draws such numbers",
            value=float(m.nonfinite) if m.nonfinite else facts.smallest if tiny else largest,
            threshold=0.0 if m.nonfinite else SMALLEST if tiny else LARGEST,
            source="transformers#46002, TransformerLens#902",
            cause="torch.empty, to_empty and loading that skips a key leave memory as it was",
            advice="initialise it",
            code=f"initfast.init.normal_(net.get_parameter({facts.name!r}), std=0.02)",
        )


def symmetric_units(net: Examined) -> Iterator[Finding]:
    """Units of a weight that are constant or repeated: they compute, and may learn, the same."""
    for i, facts in enumerate(net.facts):
        if facts.family is None or facts.kind not in DENSE or not facts.trainable:
            continue
        value = facts.family.mean
        if facts.family.name == "constant" and value != 0 and facts.family.count > 1:
            said = f"all {facts.family.count} weights are {number(value)}"
            yield _symmetric(net, i, said, value)
        elif facts.family.name != "constant" and facts.family.count:
            units = _units(net, i)
            if units is not None and (said := _repetition(units)):
                yield _symmetric(net, i, said, float(len(units)))


def _symmetric(net: Examined, i: int, said: str, value: float) -> Finding:
    return fault(
        net,
        [i],
        "warning",
        "symmetric_units",
        f"{said}, so that such units compute the same",
        value=value,
        threshold=0.0,
        source="Goodfellow, Bengio & Courville 2016, section 8.4",
        cause="units of the same weights get the same gradients where what reads them is the same",
        advice="draw the weights at random",
        code=f"initfast.init.xavier_uniform_(net.get_parameter({net.facts[i].name!r}))",
    )


LEAST_WEIGHTS = 8
"""Units of fewer weights may be equal by chance, in 16 bits."""


def _units(net: Examined, i: int) -> Tensor | None:
    """A weight as a matrix with a row for each unit; None where its units read different inputs."""
    module, facts = net.owned[i].module, net.facts[i]
    values = net.values(i)
    if values.dim() < 2 or values.layout is not torch.strided or facts.dtype.is_complex:
        return None
    if getattr(module, "groups", 1) != 1:
        return None
    swapped = isinstance(module, nn.modules.conv._ConvTransposeNd)
    swapped = swapped or type(module).__name__ == "Conv1D"
    rows = (values.transpose(0, 1) if swapped else values).flatten(1)
    return rows if rows.shape[0] > 1 and rows.shape[1] >= LEAST_WEIGHTS else None


def _repetition(units: Tensor) -> str:
    """Which units are constant or repeated, in words; "" where none are.

    The first weights of every unit tell nearly all apart; only the others are read whole.
    """
    head = units[:, :LEAST_WEIGHTS].double().contiguous()
    live = (head != 0).any(1) & torch.isfinite(head).all(1)
    flat = live & (head == head[:, :1]).all(1)
    constant = [r for r in flat.nonzero().flatten().tolist() if _is_flat(units[r])]
    if constant:
        value = number(float(units[constant[0], 0]))
        return f"{len(constant)} of {len(units)} units are constant (unit {constant[0]}: {value})"
    rows = live.nonzero().flatten()
    repeated = 0
    example = (0, 0)
    for same in _alike(rows, head[rows]):
        equal = (units[same] == units[same[0]]).all(1)
        if int(equal.sum()) > 1:
            repeated += int(equal.sum()) - 1
            example = int(same[0]), int(same[equal][1])
    if not repeated:
        return ""
    return f"{repeated} of {len(units)} units repeat another (unit {example[1]} unit {example[0]})"


def _alike(rows: Tensor, head: Tensor) -> Iterator[Tensor]:
    """Those of the rows whose first weights have one sum, each weight times a number of its place.

    Equal rows have equal sums; the others that do are few, and told apart by whoever compares them.
    """
    places = torch.arange(1, head.shape[1] + 1, device=head.device, dtype=head.dtype).sqrt()
    sums, order = (head * places).sum(1).sort()
    starts = (sums[1:] != sums[:-1]).nonzero().flatten() + 1
    if len(starts) + 1 < len(rows):
        for group in rows[order].tensor_split(starts.tolist()):
            if len(group) > 1:
                yield group.sort().values


def _is_flat(row: Tensor) -> bool:
    return bool((row == row[0]).all())


def same_bits(net: Examined) -> Iterator[Finding]:
    """Two parameters with the same bits that are not one: copies, or the same seed twice."""
    groups: dict[object, list[int]] = {}
    for i, facts in enumerate(net.facts):
        drawn = facts.family is not None and facts.family.is_random
        if drawn and facts.trainable and facts.family and facts.family.count > LEAST_WEIGHTS:
            groups.setdefault((facts.hash, facts.dtype, facts.shape), []).append(i)
    copies: dict[tuple[str, ...], list[list[int]]] = {}
    for same in groups.values():
        if len(same) > 1 and _are_equal(net, same):
            copies.setdefault(_prefixes([net.facts[i].name for i in same]), []).append(same)
    for prefixes, found in copies.items():
        first = found[0]
        is_weight = any(net.facts[same[0]].kind in DENSE for same in found)
        rest = f", as have {len(found) - 1} more below the same paths" if len(found) > 1 else ""
        yield fault(
            net,
            first,
            "warning" if is_weight else "info",
            "same_bits",
            f"{several([net.facts[i].name for i in first])} have the same bits{rest}",
            value=float(len(first)),
            threshold=1.0,
            source="torch.nn.TransformerEncoder's documentation",
            cause="a module was copied after it was initialised, or drawn twice from one seed",
            advice="initialise the copies anew",
            code=_redraw(prefixes[1:], [net.facts[i].name for i in first][1:]),
        )


def _are_equal(net: Examined, same: Sequence[int]) -> bool:
    first = net.values(same[0])
    return all(
        first.shape == other.shape and torch.equal(first, other.to(first.device))
        for other in map(net.values, same[1:])
    )


def _prefixes(names: Sequence[str]) -> tuple[str, ...]:
    """What is left of names without the parts that all of them end in."""
    parts = [name.split(".") for name in names]
    shared = 0
    while shared < min(map(len, parts)) and len({p[-1 - shared] for p in parts}) == 1:
        shared += 1
    return tuple(".".join(p[: len(p) - shared]) for p in parts)


def _redraw(prefixes: Sequence[str], names: Sequence[str]) -> str:
    if not all(prefixes):
        return f"initfast.init.normal_(net.get_parameter({names[0]!r}), std=0.02)"
    return (
        f"for path in {list(prefixes)!r}:\n"
        "    for module in net.get_submodule(path).modules():\n"
        '        for reset in {"reset_parameters", "_reset_parameters"} & {*dir(module)}:\n'
        "            getattr(module, reset)()"
    )


def padding_row(net: Examined) -> Iterator[Finding]:
    """The row of an embedding that stands for no token is not zero."""
    for i, facts in enumerate(net.facts):
        row = getattr(net.owned[i].module, "padding_idx", None)
        if facts.kind not in ("embedding", "position embedding") or facts.moments is None:
            continue
        values = net.values(i)
        if not isinstance(row, int) or values.shape != facts.shape or not len(values):
            continue
        largest = float(values[row].abs().max())
        if largest == 0 or facts.moments.m2 == 0:
            continue
        yield fault(
            net,
            [i],
            "warning",
            "padding_row",
            f"row {row} stands for padding and is not zero: its largest is {number(largest)}",
            value=largest,
            threshold=0.0,
            source="torch.nn.Embedding, padding_idx",
            cause="the whole table was drawn again after torch had set the row to zero",
            advice="set the row to zero",
            code=f"with torch.no_grad():\n    net.get_parameter({facts.name!r})[{row}].zero_()",
        )


def norm_like_a_matrix(net: Examined) -> Iterator[Finding]:
    """The weight of a norm is drawn around zero, as a matrix is: it scales the signal down."""
    for i, facts in enumerate(net.facts):
        found = facts.family
        if facts.kind != "norm" or found is None or facts.moments is None:
            continue
        if found.count < 2 or found.std == 0 or abs(facts.moments.mean) >= found.std:
            continue
        yield fault(
            net,
            [i],
            "warning",
            "norm_like_a_matrix",
            f"a norm's weight has mean {number(facts.moments.mean)} and std {number(found.std)}",
            value=abs(facts.moments.mean),
            threshold=found.std,
            source="transformers#143",
            cause="an initialiser meant for matrices was applied to every parameter",
            advice="set it to one",
            code=f"initfast.init.ones_(net.get_parameter({facts.name!r}))",
        )
