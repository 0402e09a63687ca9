"""Scheme: a rule by which a net's parameters are drawn, its source, and the nets that it fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from initfast.repair.roles import NetFacts, Role
from initfast.repair.schemes.law import Law, constant

Rule = Callable[[Role], "Law | None"]


class DoesNotFit(ValueError):
    """A scheme asks for something that a net, or a parameter, does not have."""


@dataclass(frozen=True)
class Scheme:
    """What a named scheme draws.

    Attributes:
        name: a key of :data:`initfast.repair.schemes.SCHEMES`.
        nets: those that it is meant for, in words.
        source: where it stands.
        rule: the law of a parameter; None: the scheme says nothing of it, and it stays.
        unfit: why it does not fit a net; None where it does.
    """

    name: str
    nets: str
    source: str
    rule: Rule
    unfit: Callable[[NetFacts], str | None]

    def law(self, role: Role) -> Law | None:
        """What the scheme draws for a parameter of that role; None: nothing, it stays as it is.

        Raises:
            DoesNotFit: a ValueError. It asks for what the net does not have, or is not known of it.
        """
        reason = self.unfit(role.net)
        if reason is not None:
            raise DoesNotFit(f"scheme {self.name!r} is for {self.nets}; {reason}")
        return self.rule(role)

    def std(self, role: Role) -> float | None:
        """The std that a parameter of that role should have; None where the scheme says nothing."""
        law = self.law(role)
        if law is None:
            return None
        rows = role.shape[0] // role.parts if role.shape else 1
        columns = 1
        for size in role.shape[1:]:
            columns *= size
        return law.std(rows, columns)


def any_net(_: NetFacts) -> str | None:
    """Of a scheme that fits every net."""
    return None


def transformer(net: NetFacts) -> str | None:
    """Of a scheme for transformers."""
    return None if net.attention else "this net has no repeated blocks with attention"


def convnet(net: NetFacts) -> str | None:
    """Of a scheme for convolutional nets."""
    return None if net.convolutions else "this net has no convolutions"


def residual(net: NetFacts) -> str | None:
    """Of a scheme for nets with residual branches."""
    return None if net.branches else "no residual branch of this net is known to end in a weight"


def simple(role: Role, bias: float | None = 0.0) -> Law | None:
    """What nearly all schemes do with norms (1 and 0) and biases (0); None: it is a weight.

    Args:
        bias: that of biases; None: the scheme has a law of its own for them.
    """
    if role.kind == "norm":
        return constant(1.0 - role.offset if role.part == "weight" else 0.0, "a norm")
    if role.part == "bias" and bias is not None:
        return constant(bias, "a bias")
    return None
