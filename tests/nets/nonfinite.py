"""Small nets that make NaN or infinities, by how they were made: the function, and the number.

And nets whose infinities are meant or taken care of, of which nothing must be said.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

INF = math.inf


class Case(NamedTuple):
    """One net.

    Attributes:
        name: of the fault.
        net: builds it.
        x: builds its input.
        layer: the name of the layer that the finding must be on.
        says: what its words must hold, beside the line of code: function, cause, numbers.
        loss: of the net's output; None without one.
        at: whether plain code of this file calls the function.
    """

    name: str
    net: Callable[[], nn.Module]
    x: Callable[[], Any]
    layer: str
    says: tuple[str, ...]
    loss: Callable[[Any], torch.Tensor] | None = None
    at: bool = True


class Between(nn.Module):
    """A function between two linear layers."""

    def __init__(self, f: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.f = nn.Linear(8, 8), nn.Linear(8, 2), f

    def forward(self, x):
        return self.b(self.f(self.a(x)))


class Function(nn.Module):
    """A module that is one function."""

    def __init__(self, f: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


class Attention(nn.Module):
    """One head, with a mask over the keys."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16, padding_idx=0)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 3)

    def forward(self, ids):
        x = self.embed(ids)
        scores = self.q(x) @ self.k(x).transpose(1, 2) / 4
        scores = scores.masked_fill((ids == 0)[:, None], -INF)
        return self.out(scores.softmax(-1) @ self.v(x))


class Heads(nn.Module):
    """torch's own attention, with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16, padding_idx=0)
        self.mix, self.out = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 3)

    def forward(self, ids):
        x = self.embed(ids)
        return self.out(self.mix(x, x, x, key_padding_mask=ids == 0)[0])


class Vae(nn.Module):
    """Its log-variance is far too large."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(8, 8), nn.Linear(4, 8)

    def forward(self, x):
        mean, log_variance = self.encode(1000 * x).chunk(2, -1)
        return self.decode(mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance))


class Graph(nn.Module):
    """A graph convolution that divides by degrees, of which one is 0."""

    def __init__(self, power: bool) -> None:
        super().__init__()
        self.first, self.second, self.power = nn.Linear(8, 8), nn.Linear(8, 2), power

    def forward(self, x):
        edges = torch.ones(len(x), len(x))
        edges[0] = 0
        degree = edges.sum(1, keepdim=True)
        scale = degree.pow(-0.5) if self.power else 1 / degree
        return self.second(scale * (edges @ self.first(x)))


class Scale(nn.Module):
    """Multiplies by one number."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return x * self.scale


class Squares(nn.Module):
    """T5's norm without its cast: squares in float16."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.out = nn.Parameter(torch.ones(8)), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Owning(nn.Module):
    """Plain code uses a parameter and a buffer of its own."""

    def __init__(self, parameter: float = 0.0, deviation: float = 1.0) -> None:
        super().__init__()
        self.patch, self.head = nn.Linear(8, 8), nn.Linear(8, 2)
        self.position = nn.Parameter(torch.zeros(8))
        self.position.data[3] = parameter
        self.register_buffer("deviation", torch.full((8,), deviation))

    def forward(self, x):
        return self.head(self.patch(x / self.deviation) + self.position)


def plain():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))


def rows(count: int = 16):
    return lambda: torch.randn(count, 8)


def padded():
    ids = torch.randint(1, 50, (4, 10))
    ids[2, 5:] = 0
    return ids


def empty_row():
    ids = padded()
    ids[2] = 0
    return ids


def normal(y):
    mean, deviation = y[:, :2], y[:, 2:]
    return -torch.distributions.Normal(mean, deviation, validate_args=False).log_prob(mean).mean()


MADE: list[Case] = []


def between(name, f, *says, count=16):
    MADE.append(Case(name, lambda: Between(f), rows(count), "b", says))


def of_loss(name, loss, *says, layer="2"):
    MADE.append(Case(name, plain, rows(64), layer, ("loss is", *says), loss))


def of_slope(name, loss, *says):
    MADE.append(Case(name, plain, rows(64), "2", ("gradient", *says), loss))


between("exp", lambda z: torch.exp(1000 * z), "(exp)", "exp of ", "overflows above 88.72")
between("expm1", lambda z: torch.expm1(1000 * z), "(expm1)", "overflows above 88.72")
between("cosh", lambda z: torch.cosh(1000 * z), "(cosh)", "overflows above 89.42")
between("square", lambda z: (1e25 * z) ** 2, "(pow)", "to the power 2.000", "3.403e+38")
between("product", lambda z: (1e25 * z) * (1e25 * z), "(mul)", "×", "3.403e+38")
between("small divisor", lambda z: (1e3 * z) / 1e-38, "(div)", "/ 1.000e-38", "3.403e+38")
between("matmul", lambda z: (1e25 * z) @ (1e25 * z).T @ z, "(matmul)", "8 products", "e+25")
between("sum", lambda z: (z.abs() + 1).mul(1e38).cumsum(-1), "(cumsum)", "8 values of up to")
between("log", torch.log, "(log)", "is NaN", "are negative")
between("log of 0", lambda z: z * torch.log(z.relu()), "(log)", "log of 0 is infinite")
between("sqrt", torch.sqrt, "(sqrt)", "is NaN", "are negative")
between("rsqrt of 0", lambda z: (z - z).rsqrt(), "(rsqrt)", "rsqrt of 0 is infinite", "128 of 128")
between("power", lambda z: z**0.5, "(pow)", "to the power 0.5000", "NaN")
between("0 / 0", lambda z: (z - z) / (z - z), "(div)", "0 / 0 is NaN", "128 of 128 values")
between("x / 0", lambda z: z / (z - z).sum(), "(div)", "/ 0 is infinite")
between("inf - inf", lambda z: z.exp() * INF - z.exp() * INF, "(sub)", "inf - inf is NaN")
between("0 × inf", lambda z: z.relu() * INF, "(mul)", "inf is one of the arguments")
between("norm of zero", lambda z: z / (z - z).norm(dim=-1, keepdim=True), "(div)", "/ 0")
between("one sample", lambda z: z / z.std(0), "(std)", "1 value is NaN", "less 1", count=1)
between("acos", lambda z: torch.acos(3 + z), "(acos)", "outside -1 to 1")
between("empty mean", lambda z: z + z[z > 1e9].mean(), "(mean)", "the mean of no values")
between("cast", lambda z: (1e6 * z).half().float(), "(to)", "float16's 6.550e+04")
between("in place", lambda z: z.mul_(1000).exp_(), "(exp)", "overflows above 88.72")

MADE += [
    Case(
        *("temperature 0", lambda: Between(lambda z: (-z.abs() / 0).softmax(-1)), rows(), ""),
        ("(div)", "/ 0 is infinite", "rows are -inf all over"),
    ),
    Case("masked row", Attention, empty_row, "", ("(softmax)", "10 of 40 rows", "mask")),
    Case("padding", Heads, empty_row, "mix", ("(softmax)", "20 of 80 rows", "mask")),
    Case("vae", Vae, rows(), "decode", ("(exp)", "overflows above 88.72")),
    Case("degree", lambda: Graph(False), rows(), "second", ("(reciprocal)", "reciprocal of 0")),
    Case("degree^-1/2", lambda: Graph(True), rows(), "second", ("(pow)", "0 to the power -0.5")),
    Case(
        *("float16 q @ k", lambda: Function(lambda q: (q @ q.mT).softmax(-1) @ q)),
        *(lambda: 60 * torch.randn(2, 16, 64).half(), ""),
        ("(matmul)", "64 products", "float16's 6.550e+04"),
    ),
    Case(
        *("float16 scale", lambda: nn.Sequential(nn.Linear(8, 8), Scale(1e4), Squares()).half()),
        *(lambda: 1e3 * torch.randn(4, 8).half(), "1", ("(mul)", "float16's 6.550e+04")),
    ),
    Case(
        *("a module", lambda: nn.Sequential(nn.Linear(8, 8), Function(lambda z: (1e3 * z).exp()))),
        *(rows(), "1", ("(exp)", "overflows above 88.72")),
    ),
    Case("parameter", lambda: Owning(math.nan), rows(), "head", ("position",), at=False),
    Case("deviation 0", lambda: Owning(0, 0.0), rows(), "patch", ("(div)", "/ 0 is infinite")),
]

of_loss("negative sigma", normal, "(log)", "is NaN", "are negative")
of_loss(
    "ignored targets",
    lambda y: F.cross_entropy(y, torch.full((64,), -100)),
    *("(nll_loss)", "all 64 targets are -100"),
)
of_loss("mean of nothing", lambda y: y[y > 1e9].mean(), "(mean)", "the mean of no values")
of_loss("log of 0", lambda y: (y.softmax(-1) * 0).log().mean(), "(log)", "log of 0 is infinite")
of_loss("inf target", lambda y: F.mse_loss(y, torch.full((64, 4), INF)), "(full)", "inf")
of_loss("exp", lambda y: (1e3 * y).exp().sum(), "(exp)", "overflows above 88.72")

of_slope("sqrt at 0", lambda y: (y - y.detach()).sqrt().sum(), "backward of sqrt", "256 of 256")
of_slope(
    "0 to a half",
    lambda y: ((y - y.detach()).abs() ** 0.5).sum(),
    *("backward of pow", "0 to the power -0.5"),
)
of_slope(
    "a root that is left out",
    lambda y: torch.where(y > 0, y, (y * 0).sqrt()).sum(),
    *("backward of sqrt", "0 / 0 is NaN"),
)


# ---- of which nothing must be said ----


class Masked(nn.Module):
    """Scores above the diagonal are -inf until the softmax."""

    def forward(self, x):
        return x.masked_fill(torch.ones(x.shape[-2:], dtype=torch.bool).triu(1), -INF)


class Returning(nn.Sequential):
    """A policy's logits, with those of impossible actions at -inf."""

    def forward(self, x):
        y = super().forward(x)
        return y.masked_fill(torch.arange(y.shape[-1]) == 0, -INF)


MEANT: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "padding in part": (Attention, padded),
    "padding of heads in part": (Heads, padded),
    "causal": (
        lambda: nn.Sequential(nn.Linear(8, 8), Masked(), nn.Softmax(-1), nn.Linear(8, 8)),
        lambda: torch.randn(2, 8, 8),
    ),
    "a policy": (lambda: Returning(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32)), rows(32)),
    "log of a mask": (
        lambda: nn.Sequential(
            nn.Linear(8, 8), Function(lambda z: (z + torch.eye(8).log()).softmax(-1) @ z)
        ),
        lambda: torch.randn(2, 8, 8),
    ),
    "replaced": (lambda: Between(lambda z: torch.log(z).nan_to_num(0, 0, 0)), rows()),
    "chosen": (lambda: Between(lambda z: torch.where(z > 0, z.log(), 0 * z)), rows()),
    "clamped": (lambda: Between(lambda z: (1e3 * z).exp().clamp(max=1.0)), rows()),
    "largest": (lambda: Between(lambda z: torch.full_like(z, -INF).maximum(z)), rows()),
    "large": (lambda: Between(lambda z: 1e15 * z / 1e15), rows()),
}
"""By name: builds the net, and its input."""
