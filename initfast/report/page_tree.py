"""The page's tree of modules; modules that repeat stand there once, from least to most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from initfast.report.page_table import name_html
from initfast.stats.layer import Layer
from initfast.stats.text import escape, number, printable, shorten

_DEEPEST = 40
"""So many modules within one another are shown; what a deeper one adds to the name stays whole."""
_LONGEST_BLOCK = 8
"""The most neighbours that repeat together, as convolution, norm and activation do."""


@dataclass
class _Module:
    """A module: the layers whose output is its own, with their places, and the modules in it."""

    names: list[str]
    layers: list[list[tuple[int, Layer]]] = field(default_factory=list)
    """For each of its outputs the layers that are merged in it, one of each repeat."""
    children: dict[str, _Module] = field(default_factory=dict)

    def kind(self) -> tuple[object, ...]:
        """What modules that repeat have in common."""
        outputs = tuple((x[0][1].op, x[0][1].shape) for x in self.layers)
        return outputs, tuple((name, child.kind()) for name, child in self.children.items())

    @classmethod
    def of(cls, repeats: Sequence[_Module]) -> _Module:
        """Modules of the same kind as one."""
        outputs = zip(*(module.layers for module in repeats), strict=True)
        return cls(
            [name for module in repeats for name in module.names],
            [[one for output in merged for one in output] for merged in outputs],
            {name: cls.of([m.children[name] for m in repeats]) for name in repeats[0].children},
        )


def layer_tree(layers: Sequence[Layer]) -> str:
    """The layers below their modules as nested HTML lists, which fold without a script."""
    root = _Module([""])
    for place, layer in enumerate(layers):
        module = root
        for name in layer.name.split(".", _DEEPEST) if layer.name else ():
            module = module.children.setdefault(name, _Module([name]))
        module.layers.append([(place, layer)])
    lines = "".join(f"<li>{_line(output)}" for output in root.layers)
    return f'<ul class="tree">{lines}{_items(root)}</ul>'


def _items(module: _Module) -> str:
    return "".join(map(_item, _repeats_merged(list(module.children.values()))))


def _item(module: _Module) -> str:
    count = len(module.names)
    ends = dict.fromkeys((module.names[0], module.names[-1]))
    title = " to ".join(map(name_html, ends)) + (f" <b>× {count}</b>" if count > 1 else "")
    if not module.children and len(module.layers) == 1:
        return f"<li>{title} {_line(module.layers[0])}"
    lines = "".join(f"<li>{_line(output)}" for output in module.layers)
    inner = f"<ul>{lines}{_items(module)}</ul>"
    return f"<li><details open><summary>{title}</summary>{inner}</details>"


def _line(output: Sequence[tuple[int, Layer]]) -> str:
    """What ran, and the std: of several layers from least to most."""
    place, layer = output[0]
    stds = [one.std for _, one in output if math.isfinite(one.std)]
    text = number(min(stds)) if stds else "none finite"
    if len(stds) > 1:
        text += f" to {number(max(stds))}"
    bad = sum(one.has_nonfinite for _, one in output)
    worse = f' <strong class="error">{bad} non-finite</strong>' if bad else ""
    op = escape(printable(shorten(layer.op, 60)))
    return f'<a href="#layer-{place}">{op}</a> <span class="std">std {text}</span>{worse}'


def _repeats_merged(modules: list[_Module]) -> Iterator[_Module]:
    """Neighbours, or blocks of neighbours, of the same kinds and with numbers for names, as one."""
    known: dict[object, int] = {}
    found = (m.kind() if m.names[0].isdecimal() else m.names[0] for m in modules)
    kinds = [known.setdefault(kind, len(known)) for kind in found]
    start = 0
    while start < len(modules):
        period, count = _repeats(kinds, start)
        for i in range(start, start + period):
            yield _Module.of(modules[i : start + period * count : period])
        start += period * count


def _repeats(kinds: Sequence[int], start: int) -> tuple[int, int]:
    """The shortest block of kinds that begins there and repeats, and how often it stands there."""
    for period in range(1, _LONGEST_BLOCK + 1):
        block, count = kinds[start : start + period], 1
        while kinds[start + count * period : start + (count + 1) * period] == block:
            count += 1
        if count > 1:
            return period, count
    return 1, 1
