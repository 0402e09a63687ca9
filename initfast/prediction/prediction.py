"""Prediction: what theory expects of a net's layers, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from initfast.prediction.signal import Signal
from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.text import number, printable, shown

TOO_WIDE = 10.0
"""A factor between the ends of a band beyond which nothing is predicted."""

SHOWN = 0.99  # the part of all draws of weights that the printed band holds
ROUNDING = 1e-8
"""Of the variance of ln q at least: what float32 and a norm's eps leave."""


@dataclass(frozen=True)
class Estimate:
    """What theory expects of one tensor.

    Attributes:
        rms: the root mean square that half of all draws of the weights exceed.
        chance: the variance of the logarithm of the mean square over these draws.
        correlation: E x_a x_b over the mean square, of two rows a and b.
    """

    rms: float
    chance: float
    correlation: float

    @classmethod
    def of(cls, x: Signal) -> Estimate:
        """From a signal: the mean of ln q is the logarithm of its mean, less chance / 2."""
        chance = max(x.chance, ROUNDING)
        return cls(math.sqrt(x.square) * math.exp(-x.chance / 4), chance, x.common)

    def band(self, level: float = SHOWN) -> tuple[float, float]:
        """Between which root mean squares that part of all draws lies.

        Example:
            >>> low, high = Estimate(1.0, 0.01, 0.0).band(0.5)
            >>> round(low, 3), round(high, 3)
            (0.967, 1.034)
        """
        reach = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(self.chance) / 2
        return self.rms * math.exp(-min(reach, 300.0)), self.rms * math.exp(min(reach, 300.0))

    @property
    def is_sharp(self) -> bool:
        """Whether the band is narrower than a factor of :data:`TOO_WIDE`; else say nothing."""
        low, high = self.band()
        return high <= TOO_WIDE * low or self.rms == 0

    def off(self, m: Moments) -> float:
        """By how many standard deviations of its logarithm a measured rms lies above."""
        if not (self.rms > 0 and m.rms > 0):
            return 0.0 if self.rms == m.rms else math.inf
        return 2 * (math.log(m.rms) - math.log(self.rms)) / math.sqrt(self.chance)


@dataclass(frozen=True)
class PredictedLayer:
    """One layer, and what theory expects of it.

    Attributes:
        layer: as measured.
        cumulative: of its output, from the net's input, or from the last tensor whose maker is not
            known; None where theory says nothing.
        local: of its output, from the measured moments of its own input; likewise.
        cumulative_pre, local_pre: of its pre-activation, where it has one.
        remark: why nothing is said, or from where the prediction starts anew; "" without either.
        restarts: whether it starts anew here.
    """

    layer: Layer
    cumulative: Estimate | None = None
    local: Estimate | None = None
    cumulative_pre: Estimate | None = None
    local_pre: Estimate | None = None
    remark: str = ""
    restarts: bool = False

    @property
    def name(self) -> str:
        """The layer's."""
        return self.layer.name

    @property
    def rms(self) -> float:
        """The measured root mean square of the output."""
        return self.layer.rms


class Prediction:
    """What theory expects of every layer: a sequence, which prints as a table.

    Args:
        layers: in execution order.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU())
        >>> prediction = initfast.profile(net, torch.randn(64, 256)).predicted
        >>> low, high = prediction[0].cumulative.band(0.999)
        >>> low < prediction[0].rms < high
        True
    """

    def __init__(self, layers: Sequence[PredictedLayer]) -> None:
        self.layers = list(layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[PredictedLayer]:
        return iter(self.layers)

    def __getitem__(self, key: int | str) -> PredictedLayer:
        """By its place, or by the name of its module.

        Raises:
            KeyError: no layer has that name.
            IndexError: there are fewer layers.
        """
        if isinstance(key, int):
            return self.layers[key]
        found = next((x for x in self.layers if key in x.layer.names), None)
        if found is None:
            raise KeyError(f"no layer is named {key!r}")
        return found

    def __repr__(self) -> str:
        said = sum(x.cumulative is not None for x in self.layers)
        return f"Prediction({said} of {len(self.layers)} layers)"

    def __str__(self) -> str:
        heads = ("layer", "op", "rms", "predicted", "99 % of nets", "from its input")
        rows = [heads, *map(_cells, self.layers)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
        lines = [
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * (sum(widths) + 2 * len(widths) - 2))
        remarks: dict[str, list[str]] = {}
        for x in self.layers:
            if x.remark:
                remarks.setdefault(x.remark, []).append(repr(printable(x.name)))
        for remark, names in remarks.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"{', '.join(names[:3])}{more}: {remark}")
        return shown("\n".join(lines))


def _cells(x: PredictedLayer) -> tuple[str, ...]:
    layer = x.layer
    names = (printable(layer.name) or "(net)", printable(layer.op), number(layer.rms))
    if x.cumulative is None:
        said = ("", "")
    elif not x.cumulative.is_sharp:
        said = ("not predictable from here", "")
    else:
        low, high = x.cumulative.band()
        said = (number(x.cumulative.rms), f"{number(low)} to {number(high)}")
    return (*names, *said, "" if x.local is None else number(x.local.rms))
