"""Writes benchmarks/findings.md: an example of every finding, in the words that a user reads.

    python benchmarks/findings.py

The nets are those of tests/nets, each with one fault, and as many as it takes until each check has
spoken at each of its severities.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from nets import nonfinite, reported
from nets.labelled import MADE
from nets.labelled_gradients import GRADED, distance
from nets.labelled_residuals import WITH_BLOCKS
from torch import nn

from initfast import profile
from initfast.diagnosis.diagnosing import RULES
from initfast.diagnosis.findings import SEVERITIES, Finding

OUTPUT = Path(__file__).with_name("findings.md")
HEAD = """# What is found, and how it is said

An example of every check, at each severity that it has, on small nets with one fault each. The
first line says what is where; then come the evidence with its source, why, and what to do, as code
where code can do it. `net` is the user's net, `report` the report. What follows from another
finding says so, and its code begins with that one's. Written by `python benchmarks/findings.py`;
the sources have their links in [REFERENCES](../.github/REFERENCES.md).
"""
Net = tuple[str, Callable[[], Any], Callable[[], Any], Callable[[Any], torch.Tensor] | None]


class Placed(nn.Module):
    """Tokens and their places, which are drawn 60 times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, 16), nn.Embedding(8, 16)
        nn.init.normal_(self.words.weight, 0.0, 0.02)
        nn.init.normal_(self.places.weight, 0.0, 1.2)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits for each token."""
        return self.head(self.words(x) + self.places(torch.arange(8)))


def norm_of_one() -> nn.Sequential:
    """A norm over a single feature, which leaves its bias."""
    return nn.Sequential(nn.Linear(16, 1), nn.LayerNorm(1), nn.Linear(1, 8))


def large_head() -> nn.Sequential:
    """A classifier whose last layer is 40 times too large."""
    head = nn.Linear(64, 10)
    nn.init.normal_(head.weight, 0.0, 5.0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), head)


def aligned() -> nn.Sequential:
    """A layer whose weights are made of its inputs."""
    first = nn.Linear(64, 32, bias=False)
    first.weight.data.copy_(one_sided()[:32] / 64)
    return nn.Sequential(first, nn.ReLU(), nn.Linear(32, 4))


def one_sided() -> torch.Tensor:
    """Inputs that have a direction in common."""
    return torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) + torch.ones(64)


def ids() -> torch.Tensor:
    """Of tokens."""
    return torch.randint(50, (32, 8))


def classified(y: torch.Tensor) -> torch.Tensor:
    """The loss of ten classes."""
    return nn.functional.cross_entropy(y, torch.arange(len(y)) % 10)


MORE: tuple[Net, ...] = (
    ("places that drown the words", Placed, ids, None),
    ("a norm of one feature", norm_of_one, lambda: torch.randn(64, 16), None),
    ("a head of std 5", large_head, lambda: torch.randn(64, 32), classified),
    ("weights made of the data", aligned, one_sided, None),
)
"""Kinds that the nets of the tests do not have."""


def nets() -> Iterator[Net]:
    """The name of each net's fault, the net, its input, the loss."""
    for made in (*MADE, *WITH_BLOCKS):
        yield made.name, partial(built, made), made.x, None
    for made in GRADED:
        yield made.name, partial(built, made), made.x, distance
    yield from MORE
    for case in (*reported.REPORTED, *nonfinite.MADE):
        yield case.name, case.net, case.x, case.loss


def built(case: Any) -> nn.Module:
    """A labelled net in the mode that it is judged in."""
    net: nn.Module = case.build()
    return net.train(case.training)


def examples() -> dict[str, dict[str, tuple[str, Finding]]]:
    """By rule and severity the first finding that follows from no other, if there is one.

    Each has the name of its net's fault.
    """
    found: dict[str, dict[str, tuple[str, Finding]]] = {rule: {} for rule in RULES}
    for seed, (name, net, x, loss) in enumerate(nets()):
        torch.manual_seed(seed)
        for finding in profile(net(), x(), loss=loss).findings:
            of_rule = found[finding.rule]
            known = of_rule.get(finding.severity)
            if known is None or (known[1].follows and not finding.follows):
                of_rule[finding.severity] = name, finding
    return found


def page(found: dict[str, dict[str, tuple[str, Finding]]]) -> str:
    """The file's text."""
    parts = [HEAD]
    for rule, of_rule in found.items():
        parts.append(f"\n## {rule.replace('_', ' ')}\n\n{RULES[rule].what}\n")
        for severity in SEVERITIES:
            if severity in of_rule:
                name, finding = of_rule[severity]
                parts.append(f"\n{name}:\n\n```\n{finding}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    OUTPUT.write_text(page(examples()), encoding="utf-8")
