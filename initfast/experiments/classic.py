"""The classic experiments on signal propagation, each a function that returns what it measured.

``print(exploding())`` shows one; ``python -m initfast`` shows all. Each draws from one
:class:`torch.Generator` of its own, so a seed gives the same figures every time and torch's own
random state stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from initfast.experiments.deep_net import DEPTH, WIDTH, identity, normal, run
from initfast.experiments.results import MatrixProduct, NumericGain, Result, Sigmoid, Signal
from initfast.theory import gains
from initfast.theory.derivation import linear_stds
from initfast.theory.mean_field import mean_field_stds
from initfast.theory.random_products import growth_rate

_TANH_GAIN = 5 / 3


def exploding(seed: int = 0) -> Signal:
    """Linear layers with weights N(0, 1): the signal grows until it overflows.

    Args:
        seed: of the inputs and the weights.

    Returns:
        The std after each layer, up to the first layer with non-finite values.

    Source:
        Glorot & Bengio 2010, eq. 5: a linear layer multiplies the variance by fan_in Var(w).

    Example:
        >>> 15 < exploding().stds["measured"][0] < 17
        True
    """
    stds, culprit = run(identity, normal(1.0), seed)
    growth = math.sqrt(WIDTH)
    rate = stds[-1] ** (1 / len(stds))
    return Signal(
        title=f"{DEPTH} linear layers of {WIDTH}, weights N(0, 1): the signal explodes",
        lesson=f"The std grows {rate:.1f}-fold a layer (sqrt({WIDTH}) = {growth:.0f}); "
        f"layer {len(stds) + 1}, {culprit}, overflows.",
        source="Glorot & Bengio 2010: a linear layer multiplies the variance by fan_in Var(w).",
        stds={"measured": stds},
        predicted=linear_stds(WIDTH, 1.0, DEPTH),
        first_nonfinite=culprit,
    )


def steady(seed: int = 0) -> Signal:
    """Linear layers with weights N(0, 1/n): the signal keeps its scale.

    Args:
        seed: of the inputs and the weights.

    Returns:
        The std after each of the 100 layers.

    Source:
        LeCun et al. 1998, "Efficient BackProp": a std of fan_in^(-1/2).

    Example:
        >>> len(steady().stds["measured"])
        100
    """
    stds, _ = run(identity, normal(1 / WIDTH), seed)
    return Signal(
        title=f"{DEPTH} linear layers of {WIDTH}, weights N(0, 1/{WIDTH}): the scale holds",
        lesson=f"The std stays between {min(stds):.2f} and {max(stds):.2f} through all layers.",
        source="LeCun et al. 1998: draw weights with a std of 1 / sqrt(fan_in).",
        stds={"measured": stds},
        predicted=linear_stds(WIDTH, 1 / WIDTH, DEPTH),
    )


def fading(seed: int = 0) -> Signal:
    """Tanh layers with weights N(0, 1/n): the signal fades towards zero.

    Args:
        seed: of the inputs and the weights.

    Returns:
        The std after each of the 100 layers.

    Source:
        Poole et al. 2016: at fan_in Var(w) = 1 the mean-field map of tanh has no fixed point but 0.

    Example:
        >>> [round(std, 2) for std in fading().predicted[:3]]
        [0.63, 0.49, 0.41]
    """
    stds, _ = run(torch.tanh, normal(1 / WIDTH), seed)
    return Signal(
        title=f"{DEPTH} tanh layers of {WIDTH}, weights N(0, 1/{WIDTH}): the signal fades",
        lesson=f"Tanh takes some scale away at every layer: {stds[-1]:.3f} is left after {DEPTH}.",
        source="Poole et al. 2016: with fan_in Var(w) = 1 the only fixed point of tanh is 0.",
        stds={"measured": stds},
        predicted=mean_field_stds("tanh", 1.0, DEPTH),
    )


def xavier(seed: int = 0) -> Signal:
    """Tanh layers with Xavier uniform weights, gain 5/3: the signal settles.

    Args:
        seed: of the inputs and the weights; the same for the weights drawn by hand and built in.

    Returns:
        The std after each of the 100 layers, for both.

    Source:
        Glorot & Bengio 2010, eq. 16.

    Example:
        >>> round(xavier().predicted[-1], 2)
        0.65
    """

    def by_hand(weight: Tensor, generator: torch.Generator) -> None:
        fan_out, fan_in = weight.shape
        a = _TANH_GAIN * math.sqrt(6 / (fan_in + fan_out))
        weight.uniform_(-a, a, generator=generator)

    def built_in(weight: Tensor, generator: torch.Generator) -> None:
        nn.init.xavier_uniform_(weight, gain=_TANH_GAIN, generator=generator)

    stds = {
        "by hand": run(torch.tanh, by_hand, seed)[0],
        "xavier_uniform_": run(torch.tanh, built_in, seed)[0],
    }
    ends = " and ".join(f"{values[-1]:.3f}" for values in stds.values())
    predicted = mean_field_stds("tanh", _TANH_GAIN**2, DEPTH)
    return Signal(
        title=f"{DEPTH} tanh layers of {WIDTH}, Xavier uniform with gain 5/3: the signal settles",
        lesson=f"The gain makes up for tanh: {ends} after {DEPTH} layers, the fixed point is "
        f"{predicted[-1]:.3f}.",
        source="Glorot & Bengio 2010: uniform in +-gain sqrt(6 / (fan_in + fan_out)).",
        stds=stds,
        predicted=predicted,
    )


def kaiming(seed: int = 0) -> Signal:
    """ReLU layers with weights N(0, 2/n): the scale holds, and without the 2 it does not.

    Args:
        seed: of the inputs and the weights; the same for each way of drawing the weights.

    Returns:
        The std after each of the 100 layers: N(0, 2/n) by hand and built in, and N(0, 1/n).

    Source:
        He et al. 2015, eq. 10: fan_in Var(w) / 2 = 1 holds the second moment.

    Example:
        >>> round(kaiming().predicted[0], 3)  # sqrt(1 - 1/pi)
        0.826
    """

    def built_in(weight: Tensor, generator: torch.Generator) -> None:
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)

    stds = {
        f"N(0, 2/{WIDTH})": run(torch.relu, normal(2 / WIDTH), seed)[0],
        "kaiming_normal_": run(torch.relu, built_in, seed)[0],
        f"N(0, 1/{WIDTH})": run(torch.relu, normal(1 / WIDTH), seed)[0],
    }
    ends = [values[-1] for values in stds.values()]
    return Signal(
        title=f"{DEPTH} ReLU layers of {WIDTH}, Kaiming normal: the scale holds",
        lesson="The 2 makes up for the half that ReLU drops: "
        f"{ends[0]:.2f} and {ends[1]:.2f} after {DEPTH} layers, {ends[2]:.0e} without it.",
        source="He et al. 2015: fan_in Var(w) / 2 = 1 holds the second moment under ReLU.",
        stds=stds,
        predicted=mean_field_stds("relu", 2.0, DEPTH),
    )


def gain(seed: int = 0) -> NumericGain:
    """The gain of tanh on 100,000 normals, beside the one in the table.

    Args:
        seed: of the sample.

    Returns:
        The gain measured, its expectation and torch's.

    Example:
        >>> round(gain().exact, 4)
        1.5925
    """
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(seed))
    exact = gains.gain("tanh", "std")
    table = nn.init.calculate_gain("tanh")
    return NumericGain(
        title="x.std() / tanh(x).std() on 100,000 normals: the gain of tanh",
        lesson=f"A gain of {exact:.2f} brings tanh's output on a unit normal back to a std of 1; "
        f"the table says {table:.2f}.",
        source="torch.nn.init.calculate_gain: 5/3 for tanh.",
        measured=float(x.std() / torch.tanh(x).std()),
        exact=exact,
        table=table,
    )


def product(seed: int = 0) -> MatrixProduct:
    """The product of 100 random 4 x 4 normal matrices grows at the Lyapunov rate.

    Args:
        seed: of the matrices.

    Returns:
        The rate over 1000 draws, its standard error and its expectation, and one product.

    Source:
        Newman 1986, "The distribution of Lyapunov exponents: exact results for random matrices".

    Example:
        >>> round(product().predicted, 3)
        0.558
    """
    draws, factors, n = 1000, 100, 4
    generator = torch.Generator().manual_seed(seed)
    products = torch.eye(n, dtype=torch.float64).expand(draws, n, n)
    for _ in range(factors):
        products = torch.randn(draws, n, n, generator=generator, dtype=torch.float64) @ products
    rates = products[:, :, 0].norm(dim=1).log() / factors
    predicted = growth_rate(n)
    rate, error = float(rates.mean()), float(rates.std()) / math.sqrt(draws)
    return MatrixProduct(
        title=f"The product of {factors} random {n} x {n} normal matrices grows exponentially",
        lesson=f"A factor adds {rate:.3f} to its logarithm (mean of {draws} draws), so it reaches "
        f"{math.exp(factors * rate):.0e}; theory: {predicted:.3f}.",
        source="Newman 1986: the Lyapunov exponent of such products is (ln 2 + psi(2)) / 2.",
        rate=rate,
        error=error,
        predicted=predicted,
        draw=tuple(tuple(row) for row in products[0].tolist()),
    )


def sigmoid(seed: int = 0) -> Sigmoid:
    """The sigmoid and its derivative over [-8, 8): the derivative vanishes at both ends.

    Args:
        seed: not used; nothing is drawn.

    Returns:
        The 160 points at steps of 0.1.

    Source:
        Hochreiter 1991: the derivative is at most 1/4, so gradients shrink at every layer.

    Example:
        >>> max(sigmoid().slope)
        0.25
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.arange(-80, 80, dtype=torch.float64).div(10).requires_grad_()
        y = torch.sigmoid(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    best, end = float(slope.max()), float(slope[0])
    return Sigmoid(
        title="The sigmoid and its derivative over [-8, 8): gradients vanish where it is flat",
        lesson=f"The derivative is {best:.2f} at best and {end:.5f} at the end: "
        f"ten sigmoids leave {best**10:.0e} of a gradient.",
        source="Hochreiter 1991: products of derivatives below 1/4 vanish with depth.",
        x=tuple(x.tolist()),
        value=tuple(y.tolist()),
        slope=tuple(slope.tolist()),
    )


EXPERIMENTS: Mapping[str, Callable[[int], Result]] = {
    function.__name__: function
    for function in (exploding, steady, fading, xavier, kaiming, gain, product, sigmoid)
}
"""Every experiment by its name, in the order in which to read them."""
