"""What theory predicts beside what is measured: ``python benchmarks/prediction.py``.

Of each kind of net in prediction_nets.py it draws twenty, profiles each once, and counts how many
layers are predicted and how many measured root mean squares lie in the bands that are to hold 50 %
and 99 % of them. Layers that theory leaves no chance, as the output of a norm, are counted apart:
any band holds them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field

import prediction_nets

import initfast
from initfast.prediction.prediction import Estimate, PredictedLayer

SURE = 1e-4
"""A variance of ln q below which nothing is left to chance: 0.5 % of the rms."""


@dataclass
class Count:
    """How the predictions of some layers turned out."""

    layers: int = 0
    predicted: int = 0
    sure: list[float] = field(default_factory=list)
    cumulative: list[float] = field(default_factory=list)
    local: list[float] = field(default_factory=list)

    def add(self, x: PredictedLayer) -> None:
        """Count a layer."""
        self.layers += 1
        if x.cumulative is None or x.local is None or not x.cumulative.is_sharp:
            return
        self.predicted += 1
        for found, estimate in ((self.cumulative, x.cumulative), (self.local, x.local)):
            to = self.sure if is_sure(estimate) else found
            to.append(x.rms / estimate.rms - 1 if to is self.sure else estimate.off(x.layer.post))

    def merge(self, other: Count) -> None:
        """Count another's too."""
        self.layers += other.layers
        self.predicted += other.predicted
        for name in ("sure", "cumulative", "local"):
            getattr(self, name).extend(getattr(other, name))


def is_sure(estimate: Estimate) -> bool:
    """Whether theory leaves nothing to chance."""
    return estimate.chance < SURE


def share_within(offs: Iterable[float], reach: float) -> float:
    """The part of these that lie within so many standard deviations."""
    found = [abs(off) <= reach for off in offs]
    return sum(found) / len(found) if found else float("nan")


def counted(kinds: Iterable, seeds: Iterable[int]) -> dict[str, Count]:
    """For each kind of net how its predictions turned out."""
    found: dict[str, Count] = {}
    for kind in kinds:
        count = found.setdefault(kind.__name__, Count())
        for seed in seeds:
            for layer in initfast.profile(*prediction_nets.drawn(kind, seed)).predicted:
                count.add(layer)
    return found


def line(name: str, count: Count) -> str:
    """A row of the table."""
    cells = [name.replace("_", " "), f"{count.layers}", f"{count.predicted / count.layers:.0%}"]
    for offs in (count.cumulative, count.local):
        cells += [f"{share_within(offs, 0.6745):.0%}", f"{share_within(offs, 2.5758):.0%}"]
    sure = count.sure
    cells.append(f"{max(map(abs, sure)):.1%}" if sure else "")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", type=int, default=20, help="of each kind")
    nets = parser.parse_args().nets
    print(
        "| kind | layers | predicted | cumulative: in the 50 % band | 99 % | local: 50 % | 99 % "
        "| without chance: most off |\n|---|---|---|---|---|---|---|---|"
    )
    total = Count()
    for name, count in counted(prediction_nets.KINDS, range(nets)).items():
        print(line(name, count))
        total.merge(count)
    print(line("all", total))


if __name__ == "__main__":
    main()
