"""What a kernel executes for each number, counted in its machine code by following its loop.

A listing of nvdisasm is read as a graph of basic blocks. The hot path is the cheapest way around a
loop that passes what it must as often as it must: so many loads of 16 bytes, so many shuffles. What
is beside it, as the code of other dtypes, of numbers that are not finite and of the last run, costs
more or passes something else. Of a loop inside it, as the one over four numbers at a time, the path
goes around as often as its marks ask for.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

_FUNCTION = re.compile(r"^\.text\.(\S+):$")
_LABEL = re.compile(r"^(\.L_x_\d+):$")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?P<guard>@!?U?P\w+\s+)?(?P<text>[A-Z][^;]*);")
_TARGET = re.compile(r"\.L_x_\d+")


State = tuple[int, tuple[int, ...]]  # a block, and how many marks were passed before it


class Block(NamedTuple):
    """Instructions that follow one another, and the indices of the blocks that may come next."""

    instructions: tuple[str, ...]
    next: tuple[int, ...]


def kernels(listing: str) -> dict[str, list[Block]]:
    """The blocks of every function in a listing of nvdisasm, by its mangled name."""
    found: dict[str, list[Block]] = {}
    lines: list[str] = []
    name = ""
    for line in [*listing.splitlines(), ".text.:"]:
        if start := _FUNCTION.match(line):
            if name:
                found[name] = _blocks(lines)
            name, lines = start[1], []
        elif line.lstrip().startswith(".section"):
            if name:
                found[name] = _blocks(lines)
            name = ""
        else:
            lines.append(line)
    return found


def _blocks(lines: Sequence[str]) -> list[Block]:
    parts: list[list[tuple[str, bool]]] = [[]]  # of instructions, and whether each has a guard
    first: dict[str, int] = {}
    for line in lines:
        if label := _LABEL.match(line.strip()):
            if parts[-1]:
                parts.append([])
            first[label[1]] = len(parts) - 1
        elif found := _INSTRUCTION.match(line):
            text = " ".join(found["text"].split())
            parts[-1].append((text, bool(found["guard"])))
            if _ends(text):
                parts.append([])
    return [
        Block(tuple(text for text, _ in part), _next(part, i, first, len(parts)))
        for i, part in enumerate(parts)
    ]


def _ends(text: str) -> bool:
    return text.split()[0] in {"BRA", "BRX", "EXIT", "RET.REL.NODEC", "BRA.U", "BRA.CONV"}


def _next(
    part: Sequence[tuple[str, bool]], i: int, first: Mapping[str, int], count: int
) -> tuple[int, ...]:
    """A guard, or a predicate before the target, leaves both ways open."""
    after = (i + 1,) if i + 1 < count else ()
    if not part or not _ends(part[-1][0]):
        return after
    text, guarded = part[-1]
    targets = tuple(first[label] for label in _TARGET.findall(text) if label in first)
    both = guarded or re.match(r"BRA\S* !?U?P", text) is not None
    return targets + (after if both else ())


def hot_path(blocks: Sequence[Block], marks: Mapping[str, int]) -> Counter[str]:
    """How often the cheapest way around a loop passes each opcode.

    Args:
        blocks: of the kernel.
        marks: patterns, each to be found in exactly so many of the path's instructions.

    Raises:
        ValueError: no way around a loop passes them so often.
    """
    first = next(iter(marks))  # every way around passes one of its blocks
    starts = [i for i, block in enumerate(blocks) if _count(block, first)]
    return _cheapest(
        blocks, marks, [(start, lambda at, start=start: at == start) for start in starts]
    )


def whole_path(blocks: Sequence[Block], marks: Mapping[str, int]) -> Counter[str]:
    """The same of the cheapest way from the kernel's first instruction to its last."""
    ends = {i for i, block in enumerate(blocks) if not block.next}
    return _cheapest(blocks, marks, [(0, ends.__contains__)])


def _cheapest(
    blocks: Sequence[Block],
    marks: Mapping[str, int],
    ways: Sequence[tuple[int, Callable[[int], bool]]],
) -> Counter[str]:
    passed = [tuple(_count(block, mark) for mark in marks) for block in blocks]
    found: list[int] = []
    cost = float("inf")
    for start, is_end in ways:
        found, cost = _way(blocks, passed, tuple(marks.values()), start, is_end, cost) or (
            *(found, cost),
        )
    if not found:
        raise ValueError(f"no way through the kernel passes {dict(marks)}")
    return Counter(text.split()[0] for i in found for text in blocks[i].instructions)


def _count(block: Block, mark: str) -> int:
    return sum(re.search(mark, text) is not None for text in block.instructions)


def _way(
    blocks: Sequence[Block],
    passed: Sequence[tuple[int, ...]],
    wanted: tuple[int, ...],
    start: int,
    is_end: Callable[[int], bool],
    limit: float,
) -> tuple[list[int], float] | None:
    """The cheapest way from a block to an end under a limit, and its cost (Dijkstra 1959)."""
    queue = [(0, start, (0,) * len(wanted))]
    before: dict[State, State] = {}
    best: defaultdict[State, float] = defaultdict(lambda: limit)
    best[queue[0][1:]] = 0
    while queue:
        cost, at, counts = heapq.heappop(queue)
        if before and counts == wanted and is_end(at):
            return _back(before, (at, counts)), cost
        if cost > best[at, counts]:
            continue
        new = tuple(a + b for a, b in zip(counts, passed[at], strict=True))
        if any(a > b for a, b in zip(new, wanted, strict=True)):
            continue
        further = cost + len(blocks[at].instructions)
        for to in blocks[at].next:
            if further < best[to, new]:
                best[to, new] = further
                before[to, new] = (at, counts)
                heapq.heappush(queue, (further, to, new))
    return None


def _back(before: Mapping[State, State], state: State) -> list[int]:
    way = []
    while state in before:
        state = before[state]
        way.append(state[0])
    return way[::-1]
