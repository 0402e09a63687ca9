"""An audit as text: like parameters in one entry, with what they were drawn from."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from initfast.repair.parameter_facts import ParameterFacts
from initfast.repair.parameter_kinds import block_pattern
from initfast.stats.text import WIDTH, number, printable


def table(facts: Sequence[ParameterFacts]) -> str:
    """One entry for parameters that are alike and whose names differ in numbers only.

    An entry is one line of at most 100 columns, or the law follows in lines of its own; names are
    written whole.
    """
    rows = [_row(group) for group in _alike(facts)]
    if not rows:
        return "no parameters"
    names, kinds, shapes = (max(len(row[c]) for row in rows) for c in range(3))
    names = min(names, WIDTH // 2)
    lines = []
    for name, kind, shape, law in rows:
        head = f"{name:<{names}}  {kind:<{kinds}}  {shape:<{shapes}}"
        if len(head) + 2 + len(law) <= WIDTH:
            lines.append(f"{head}  {law}".rstrip())
            continue
        pad = " " * 4
        told = textwrap.wrap(law, WIDTH, initial_indent=pad, subsequent_indent=pad)
        lines += [head.rstrip(), *told]
    return "\n".join(lines)


def _alike(facts: Sequence[ParameterFacts]) -> list[list[ParameterFacts]]:
    found: dict[object, list[ParameterFacts]] = {}
    for one in facts:
        kind = (one.family.name, one.family.mean) if one.family else None
        key = block_pattern(one.name), one.kind, one.shape, kind, one.note, bool(one.tied)
        found.setdefault(key, []).append(one)
    return list(found.values())


def _row(group: Sequence[ParameterFacts]) -> tuple[str, str, str, str]:
    first = group[0]
    count = f" ({len(group)})" if len(group) > 1 else ""
    name = block_pattern(first.name) if len(group) > 1 else first.name
    shape = "x".join(map(str, first.shape)) or "scalar"
    return printable(name) + count, first.kind, shape, _law(group)


def _law(group: Sequence[ParameterFacts]) -> str:
    first = group[0]
    if first.family is None:
        return first.note
    families = [one.family for one in group if one.family]
    low, high = min(f.std for f in families), max(f.std for f in families)
    text = str(replace(first.family, largest=max(f.largest for f in families)))
    if low < high:
        text = text.replace(number(first.family.std), f"{number(low)} to {number(high)}")
    laws = {one.law for one in group}
    parts = [text, first.law if len(laws) == 1 else "", first.note]
    parts += [f"tied to {', '.join(map(printable, first.tied))}"] if first.tied else []
    return "; ".join(filter(None, parts))
