"""``torch.ops.initfast`` registered: schemas, shapes without data, and the reference everywhere.

Kernels come from the native library where it is loaded (CPU, CUDA) and from
:mod:`initfast.ops.reference` and :mod:`initfast.ops.reference_sampling` everywhere else. Without it
:mod:`initfast.ops.numpy_sampling` samples in the CPU's memory, to the same bits, and
:mod:`initfast.ops.vectorised_moments` measures there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor

from initfast.ops import reference, reference_householder, reference_sampling
from initfast.ops.activations import check_activation
from initfast.ops.checks import (
    ChainBackward,
    chain_layers,
    check_act,
    check_act_backward,
    check_dtype,
    check_linear,
    check_units,
)
from initfast.ops.library import load
from initfast.ops.reference_moments import COLUMNS
from initfast.ops.reference_units import UNIT_COLUMNS

LIBRARY = load()
"""What is loaded; see :func:`initfast.build_info`."""

_ACT = "str act, float alpha, float beta"
SCHEMAS = {
    "linear_act": f"(Tensor x, Tensor weight, Tensor? bias, {_ACT}, bool save_z)"
    " -> (Tensor y, Tensor z, Tensor moments, Tensor live)",
    "linear_act_chain": "(Tensor x, Tensor[] weights, Tensor?[] biases, str[] acts, "
    "float[] alphas, float[] betas) -> (Tensor y, Tensor moments, Tensor live, Tensor units)",
    "act": f"(Tensor z, {_ACT}, int unit_dim) -> (Tensor y, Tensor moments, Tensor live)",
    "act_": f"(Tensor(a!) z, {_ACT}, int unit_dim) -> (Tensor moments, Tensor live)",
    "act_backward": f"(Tensor grad_y, Tensor z, {_ACT}) -> (Tensor grad_z, Tensor moments)",
    "linear_act_chain_backward": "(Tensor grad_y, Tensor[] inputs, Tensor[] weights, Tensor[] zs, "
    "str[] acts, float[] alphas, float[] betas, bool[] slope_at_result, bool wants_x, "
    "int[] weights_wanted, bool[] biases_wanted) -> (Tensor grad_x, Tensor[] grad_weights, "
    "Tensor[] grad_biases, Tensor moments)",
    "moments": "(Tensor x) -> Tensor",
    "unit_moments": "(Tensor x, int unit_dim, bool with_moments) -> (Tensor moments, Tensor units)",
    "sample_": "(Tensor(a!) out, str shape, Tensor? table, float scale, float location, float low, "
    "float high, int key, int offset, int[] strides) -> ()",
    "zero_rows_": "(Tensor(a!) out, int count, int key, int rows, int first_row, int first_col)"
    " -> ()",
    "householder_q_": "(Tensor(a!) x) -> ()",
}


def _unseen(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, of whose steps no function mode sees any: as of a kernel's."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return function(*args, **kwargs)

    return run


def _on_negative(name: str) -> Callable[..., Any]:
    """An operator in place, of a negative view: torch's fallback takes none of its results."""
    operator = getattr(torch.ops.initfast, name)

    def run(out: Tensor, *rest: Any) -> Any:
        with torch.no_grad():
            plain = out.resolve_neg()
            result = operator(plain, *rest)
            out.copy_(plain)
        return result

    return run


definitions = torch.library.Library("initfast", "DEF")
for _name, _schema in SCHEMAS.items():
    definitions.define(_name + _schema, tags=torch.Tag.pt2_compliant_tag)
    _homes = (reference, reference_sampling, reference_householder)
    _function = next(getattr(home, _name) for home in _homes if hasattr(home, _name))
    definitions.impl(_name, _unseen(_function), "CompositeExplicitAutograd")
    if _schema.startswith("(Tensor(a!)"):
        definitions.impl(_name, _unseen(_on_negative(_name)), "Negative")
if LIBRARY.backend == "reference":
    from initfast.ops import numpy_sampling, vectorised_moments

    definitions.impl("sample_", numpy_sampling.sample_, "CPU")
    for _name in reference.MEASURING:
        _function = partial(getattr(reference, _name), by=vectorised_moments)
        definitions.impl(_name, _unseen(_function), "CPU")


# ---- shapes without data ----


@torch.library.register_fake("initfast::linear_act", lib=definitions)
def _(
    x: Tensor, weight: Tensor, bias: Any, act: str, alpha: float, beta: float, save_z: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_activation(act, alpha, beta)
    check_linear(x, weight, bias)
    y = x.new_empty((*x.shape[:-1], weight.shape[0]))
    z = y.new_empty(y.shape if save_z else 0)
    return y, z, x.new_empty((3, COLUMNS), dtype=torch.float64), _live(x, weight.shape[0])


@torch.library.register_fake("initfast::linear_act_chain", lib=definitions)
def _(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    acts: Sequence[str],
    alphas: Sequence[float],
    betas: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    layers = chain_layers(weights, biases, acts, alphas, betas)
    for weight, bias, act, alpha, beta in layers:
        check_activation(act, alpha, beta)
        check_linear(x, weight, bias)
        x = x.new_empty((*x.shape[:-1], weight.shape[0]))
    rows = x.new_empty((len(weights), 3, COLUMNS), dtype=torch.float64)
    count = sum(weight.shape[0] for weight in weights)
    return x, rows, _live(x, count), x.new_empty(UNIT_COLUMNS * count, dtype=torch.float64)


@torch.library.register_fake("initfast::act", lib=definitions)
def _(
    z: Tensor, act: str, alpha: float, beta: float, unit_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    check_activation(act, alpha, beta)
    check_act(z, unit_dim)
    units = z.shape[unit_dim] if z.dim() else 1
    return torch.empty_like(z), z.new_empty((2, COLUMNS), dtype=torch.float64), _live(z, units)


@torch.library.register_fake("initfast::act_", lib=definitions)
def _(z: Tensor, act: str, alpha: float, beta: float, unit_dim: int) -> tuple[Tensor, Tensor]:
    check_activation(act, alpha, beta)
    check_act(z, unit_dim, "act_")
    live = _live(z, z.shape[unit_dim] if z.dim() else 1)
    return z.new_empty((2, COLUMNS), dtype=torch.float64), live


@torch.library.register_fake("initfast::act_backward", lib=definitions)
def _(grad_y: Tensor, z: Tensor, act: str, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    check_activation(act, alpha, beta)
    check_act_backward(grad_y, z)
    return torch.empty_like(z), z.new_empty((2, COLUMNS), dtype=torch.float64)


@torch.library.register_fake("initfast::linear_act_chain_backward", lib=definitions)
def _(*arguments: Any) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    chain = ChainBackward(*arguments).checked()
    new = chain.grad_y.new_empty
    grad_weights = [
        new(weight.shape if wanted == 2 else 0)
        for weight, wanted in zip(chain.weights, chain.weights_wanted, strict=True)
    ]
    grad_biases = [
        new(weight.shape[0] if wanted else 0)
        for weight, wanted in zip(chain.weights, chain.biases_wanted, strict=True)
    ]
    rows = new((len(chain.weights), 2, COLUMNS), dtype=torch.float64)
    return new(chain.inputs[0].shape if chain.wants_x else 0), grad_weights, grad_biases, rows


@torch.library.register_fake("initfast::moments", lib=definitions)
def _(x: Tensor) -> Tensor:
    check_dtype(x, "moments", "x")
    return x.new_empty(COLUMNS, dtype=torch.float64)


@torch.library.register_fake("initfast::unit_moments", lib=definitions)
def _(x: Tensor, unit_dim: int, with_moments: bool) -> tuple[Tensor, Tensor]:
    check_units(x, unit_dim)
    units = x.shape[unit_dim] if x.dim() else 1
    row = x.new_empty(COLUMNS if with_moments else 0, dtype=torch.float64)
    return row, x.new_empty((UNIT_COLUMNS, units), dtype=torch.float64)


@torch.library.register_fake("initfast::sample_", lib=definitions)
@torch.library.register_fake("initfast::zero_rows_", lib=definitions)
@torch.library.register_fake("initfast::householder_q_", lib=definitions)
def _(*arguments: Any) -> None:
    return None


def _live(like: Tensor, units: int) -> Tensor:
    return like.new_empty(units, dtype=torch.bool)
