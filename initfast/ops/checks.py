"""What the operators take: each check raises RuntimeError, in the words of the native kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.parameter import Parameter
from torch.overrides import has_torch_function_unary

from initfast.errors import ArgumentError, kind_of
from initfast.ops.activations import check_activation
from initfast.torch_state import operators_are_seen

DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
"""The dtypes that the operators take, by name."""

_EXPECTED = " or ".join(", ".join(DTYPES.values()).rsplit(", ", 1))


_PLAIN = (Tensor, Parameter)


def check_tensors(op: str, **given: object) -> None:
    """Raise TypeError where an argument that must be a tensor is none."""
    for name, value in given.items():
        if not isinstance(value, Tensor) and not has_torch_function_unary(value):
            raise TypeError(f"initfast::{op}: {name} is {kind_of(value)}; expected a tensor")


def check_extent(t: Tensor, what: str) -> None:
    """Raise RuntimeError where a plain tensor's elements lie beyond its storage, or it has none.

    FSDP takes the memory of weights away, and untyped_storage().resize_() that of anything.
    """
    if type(t) not in _PLAIN or t.layout != torch.strided or operators_are_seen():
        return
    needed, held = bytes_needed(t), t.untyped_storage().nbytes()
    if needed > held:
        raise ArgumentError(
            f"{what} has shape {tuple(t.shape)} and needs {needed} bytes of memory, but "
            f"its storage has {held}; expected a tensor whose memory was not given away"
        )


def bytes_needed(t: Tensor) -> int:
    """Where the last element of a strided tensor ends in its storage; 0 where there is none."""
    last = t.numel()
    if last and not t.is_contiguous():
        last = sum((size - 1) * step for size, step in zip(t.shape, t.stride(), strict=True)) + 1
    return int(t.storage_offset() + last) * t.itemsize if last else 0


def elements_overlap(t: Tensor) -> bool:
    """Whether two elements of a strided tensor share memory."""
    steps = sorted((step, size) for size, step in zip(t.shape, t.stride(), strict=True) if size > 1)
    reach, apart = 0, True
    for step, size in steps:
        apart = apart and step > reach
        reach += (size - 1) * step
    if apart:
        return False
    if steps[0][0] == 0 or reach + 1 < t.numel():
        return True
    offsets = torch.zeros(1, dtype=torch.int64)
    for step, size in steps:
        offsets = (offsets[:, None] + torch.arange(size) * step).flatten()
    return len(offsets.unique()) < len(offsets)


def check_dtype(t: Tensor, op: str, argument: str) -> None:
    """Raise RuntimeError unless t is a dense tensor of a dtype that the operators take."""
    if t.layout != torch.strided:
        raise RuntimeError(
            f"initfast::{op}: {argument} has layout {t.layout}; expected a dense tensor"
        )
    if t.dtype not in DTYPES:
        raise RuntimeError(
            f"initfast::{op}: {argument} has an unsupported dtype ({t.dtype}); expected {_EXPECTED}"
        )
    check_extent(t, f"initfast::{op}: {argument}")


def check_same(a: Tensor, b: Tensor, op: str, a_name: str, b_name: str) -> None:
    """Raise RuntimeError unless a and b have one dtype and one device."""
    if a.dtype != b.dtype:
        raise RuntimeError(
            f"initfast::{op}: {a_name} is {a.dtype} but {b_name} is {b.dtype}; expected one dtype"
        )
    if a.device != b.device:
        raise RuntimeError(
            f"initfast::{op}: {a_name} is on {a.device} but {b_name} is on {b.device}; "
            "expected one device"
        )
    check_extent(b, f"initfast::{op}: {b_name}")


def check_act(z: Tensor, unit_dim: int, op: str = "act") -> None:
    """Raise RuntimeError unless z can be activated and has that dimension."""
    check_units(z, unit_dim, op, "z")


def check_units(t: Tensor, unit_dim: int, op: str = "unit_moments", argument: str = "x") -> None:
    """Raise RuntimeError unless the operators take t and it has that dimension."""
    check_dtype(t, op, argument)
    if t.dim() > 0 and not -t.dim() <= unit_dim < t.dim():
        raise RuntimeError(
            f"initfast::{op}: unit_dim is {unit_dim} but {argument} has shape {list(t.shape)}"
        )


def check_act_backward(grad_y: Tensor, z: Tensor) -> None:
    """Raise RuntimeError unless grad_y can be the gradient of act(z)."""
    check_dtype(z, "act_backward", "z")
    check_same(z, grad_y, "act_backward", "z", "grad_y")
    if grad_y.shape != z.shape:
        raise RuntimeError(
            f"initfast::act_backward: grad_y has shape {list(grad_y.shape)} "
            f"but z has shape {list(z.shape)}"
        )


def check_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raise RuntimeError unless x, weight and bias make a linear layer."""
    check_dtype(x, "linear_act", "x")
    check_same(x, weight, "linear_act", "x", "weight")
    if weight.dim() != 2:
        raise RuntimeError(
            f"initfast::linear_act: weight has shape {list(weight.shape)}; "
            "expected [out_features, in_features]"
        )
    if x.dim() < 1 or x.shape[-1] != weight.shape[1]:
        raise RuntimeError(
            f"initfast::linear_act: x has shape {list(x.shape)} but weight has shape "
            f"{list(weight.shape)}; expected x's last dimension to be {weight.shape[1]}"
        )
    if bias is not None:
        check_same(x, bias, "linear_act", "x", "bias")
        if bias.dim() != 1 or bias.shape[0] != weight.shape[0]:
            raise RuntimeError(
                f"initfast::linear_act: bias has shape {list(bias.shape)}; "
                f"expected [{weight.shape[0]}]"
            )


def chain_layers(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    acts: Sequence[str],
    alphas: Sequence[float],
    betas: Sequence[float],
) -> list[tuple[Tensor, Tensor | None, str, float, float]]:
    """A chain's arguments layer by layer, unless there are not as many of each, or none."""
    columns = weights, biases, acts, alphas, betas
    counts = [len(column) for column in columns]
    if counts[0] == 0 or len(set(counts)) > 1:
        raise RuntimeError(
            "initfast::linear_act_chain: {} weights, {} biases, {} activations, {} alphas and {} "
            "betas; expected as many of each, and at least one".format(*counts)
        )
    return list(zip(*columns, strict=True))


class ChainBackward(NamedTuple):
    """What linear_act_chain_backward takes, in its schema's order.

    Attributes:
        grad_y: the gradient at the last result.
        inputs: x, and each layer's result but the last.
        weights: as of linear_act_chain.
        zs: the pre-activations, or the results where slopes are taken there.
        acts, alphas, betas: as of linear_act_chain.
        slope_at_result: whether an activation's slope is taken at its result.
        wants_x: whether the gradient of x is wanted.
        weights_wanted: of each weight's gradient nothing (0), its moments (1), or the gradient too
            (2).
        biases_wanted: whether each bias' gradient is.
    """

    grad_y: Tensor
    inputs: Sequence[Tensor]
    weights: Sequence[Tensor]
    zs: Sequence[Tensor]
    acts: Sequence[str]
    alphas: Sequence[float]
    betas: Sequence[float]
    slope_at_result: Sequence[bool]
    wants_x: bool
    weights_wanted: Sequence[int]
    biases_wanted: Sequence[bool]

    def checked(self) -> ChainBackward:
        """The same; raises RuntimeError unless all of it belongs to one chain."""
        op = "linear_act_chain_backward"
        grad_y, inputs, weights, zs, acts, alphas, betas, at_result, _, *wanted = self
        counts = [len(a) for a in (inputs, weights, zs, acts, alphas, betas, at_result, *wanted)]
        if counts[0] == 0 or len(set(counts)) > 1:
            raise RuntimeError(
                "initfast::{}: {} inputs, {} weights, {} pre-activations, {} activations, "
                "{} alphas, {} betas, {} slopes at results, {} weights wanted and {} biases "
                "wanted; expected as many of each, and at least one".format(op, *counts)
            )
        check_dtype(grad_y, op, "grad_y")
        layers = zip(inputs, weights, zs, [*inputs[1:], grad_y], acts, alphas, betas, strict=True)
        for i, (x, weight, z, y, act, alpha, beta) in enumerate(layers):
            function = check_activation(act, alpha, beta)
            if at_result[i] and function.backward_at_result is None:
                raise RuntimeError(
                    f"initfast::{op}: the slope of {act} is wanted at its result; expected its "
                    "pre-activation"
                )
            check_linear(x, weight, None)
            check_same(x, z, op, "an input", "a pre-activation")
            check_same(x, y, op, "an input", "what follows it")
            if not z.shape == y.shape == (*x.shape[:-1], weight.shape[0]):
                raise RuntimeError(
                    f"initfast::{op}: layer {i} has a pre-activation of shape {list(z.shape)} and "
                    f"its result has shape {list(y.shape)}; expected {list(x.shape)} with a last "
                    f"dimension of {weight.shape[0]}"
                )
        for of_weight in self.weights_wanted:
            if of_weight not in (0, 1, 2):
                raise RuntimeError(
                    f"initfast::{op}: of a weight's gradient {of_weight} is wanted; expected 0 "
                    "(nothing), 1 (its moments) or 2 (the gradient as well)"
                )
        return self
