"""What a benchmark is made of.

A suite is a module with ``cases(machine) -> Iterable[Case]``; bench.py lists the suites. To add a
case, yield one more::

    def cases(machine):
        def build():
            w = torch.empty(4096, 4096, device=machine.device)
            return Work(
                run=lambda: initfast.init.normal_(w),
                references=(
                    Reference("torch.nn.init", lambda: torch.nn.init.normal_(w), target=1 / 8),
                    Reference("fill_", lambda: w.fill_(1.0), target=1 / 0.4),
                ),
                limit=machine.limit(written=w.nbytes),
            )

        yield Case("samplers", "normal_ 4096 x 4096", build)

Nothing is allocated before ``build`` runs, and what it made is freed before the next case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Run = Callable[[], object]


@dataclass(frozen=True)
class Reference:
    """What a case is measured against.

    Attributes:
        name: a word or two.
        run: does the same work by other means, or the least work that could do.
        target: the most that time(case) / time(reference) may be: 0.1 asks for a tenth of the
            time, 1.3 allows 30 % more. None where the line only informs.
    """

    name: str
    run: Run
    target: float | None = None


@dataclass(frozen=True)
class Peer:
    """Another tool that does the case's work, shown as a multiple of the case's first reference.

    Attributes:
        name: the tool.
        build: returns what runs it once; raises ImportError where the tool is not installed.
    """

    name: str
    build: Callable[[], Run]


@dataclass(frozen=True)
class Work:
    """A case, ready to run.

    Attributes:
        run: the work measured, once.
        references: what it is measured against, at least one.
        peers: other tools that do it.
        limit: the seconds that no implementation can beat on this machine; see Machine.limit.
    """

    run: Run
    references: Sequence[Reference]
    peers: Sequence[Peer] = ()
    limit: float | None = None


@dataclass(frozen=True)
class Case:
    """A case by its group and name.

    Attributes:
        group: cases whose ratios make one geometric mean.
        name: unique; ``--only`` matches it.
        build: allocates what the case needs.
    """

    group: str
    name: str
    build: Callable[[], Work]
