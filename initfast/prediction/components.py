"""Components: what a tensor's deviation from its mean is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count
from typing import NamedTuple

_names = count()


class Components(NamedTuple):
    """A sum of independent tensors: what two sums have in common makes their covariance.

    A residual stream has as many as blocks before it, so scaling it costs nothing, and adding one
    to it a copy.

    Attributes:
        amounts: by a tensor's name, what it adds, but for the factor; squares of all make up the
            variance.
        factor: of all.
        var: the sum of the squares.
    """

    amounts: Mapping[int, float]
    factor: float
    var: float

    def scaled(self, factor: float) -> Components:
        """Those of the tensor times a number."""
        return Components(self.amounts, self.factor * factor, self.var * factor * factor)

    def covariance(self, other: Components) -> float:
        """Of two tensors' elements at the same place."""
        few, many = self.amounts, other.amounts
        if len(few) > len(many):
            few, many = many, few
        shared = sum(a * many[name] for name, a in few.items() if name in many)
        return self.factor * other.factor * shared

    def plus(self, other: Components) -> Components:
        """Those of the sum of two tensors."""
        few, many = self, other
        if len(few.amounts) > len(many.amounts):
            few, many = many, few
        if not many.factor:
            return few
        amounts, ratio = dict(many.amounts), few.factor / many.factor
        for name, a in few.amounts.items():
            amounts[name] = amounts.get(name, 0.0) + ratio * a
        var = max(self.var + other.var + 2 * self.covariance(other), 0.0)
        return Components(amounts, many.factor, var)


NONE = Components({}, 0.0, 0.0)


def new_component(var: float) -> Components:
    """Of a tensor that has nothing to do with those before."""
    var = max(var, 0.0)
    return Components({next(_names): 1.0}, math.sqrt(var), var)
