"""Gradients, measured as a backward computes them.

What a net computes gets a hook that measures the gradient there, in cache, and changes nothing. A
linear layer with its activation can run as one operator, whose backward kernel measures on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from initfast.activations import ACTIVATIONS
from initfast.derivatives import linear_gradients
from initfast.kernels import DTYPES, kernels_of
from initfast.rows import Rows
from initfast.tape import LINEAR_ACT, MOMENTS, Linear

ACT_BACKWARD = torch.ops.initfast.act_backward.default.redispatch

_backward = torch._C._current_graph_task_id  # tells one backward from another


class Gradients:
    """Measures what backwards through the graph of one forward bring, by address.

    A tensor's address is that of its own row on the tape.

    Args:
        fuse: whether a linear layer and its activation may run as one operator; its forward differs
            from torch's in the last bits.
        shared: the weights that all ranks of a group have, in the same order on each: their
            gradients are measured by :meth:`average` alone.

    Attributes:
        armed: whether a backward that runs now is one to measure.
        scale: what the loss was multiplied by, one number on its device; None: by nothing.
        found: for each gradient the address of its tensor, rows of moments of which the last is the
            gradient's, and how many rows they are.
    """

    def __init__(self, fuse: bool, shared: Iterable[Tensor] = ()) -> None:
        self.fuse = fuse
        self._shared = {id(w): w for w in shared if w.requires_grad and w.dtype in DTYPES}
        self.armed = False
        self.scale: Tensor | None = None
        self.found: list[tuple[int, Tensor, int]] = []
        self._kept: dict[int, list[int]] = {}
        self._measured = -1  # the backward that went through an output
        self._weights: dict[int, tuple[Tensor, list[int]]] = {}
        self._shares: dict[int, Tensor] = {}
        self._handles: list[Any] = []
        self._weight_handles: list[Any] = []
        self._unhooked: list[Tensor] = []

    def output(self, address: int, y: Tensor) -> None:
        """Measure the gradient at an output."""
        if y.requires_grad:
            self._handles.append(self._hook(y, partial(self.measure, address)))

    def weight(self, address: int, weight: Tensor) -> None:
        """Measure the gradient at a weight: the sum over all its calls."""
        if not weight.requires_grad:
            return
        known = self._weights.get(id(weight))
        if known is not None:
            if address not in known[1]:
                known[1].append(address)
            return
        self._weights[id(weight)] = (weight, [address])
        measure = partial(self._measure_weight, id(weight))
        self._weight_handles.append(self._hook(weight, measure))

    def _hook(self, t: Tensor, measure: Callable[[Tensor], None]) -> Any:
        if t.is_leaf and t._backward_hooks is None:
            self._unhooked.append(t)
        return t.register_hook(measure)

    def keep(self, address: int, rows: Tensor, count: int) -> None:
        """Keep rows of moments, the last of which is the gradient's at the tensor of this address.

        One gradient of a backward comes through an output before any comes to a weight.
        """
        if self.armed:
            self._measured = _backward()
            self.found.append((address, rows, count))

    def measure(self, address: int, grad: Tensor) -> None:
        """Measure the gradient at the tensor of this address."""
        if self.armed and (key := kernels_of(grad)) is not None:
            self.keep(address, MOMENTS(key, grad), 1)

    def _measure_weight(self, weight: int, grad: Tensor) -> None:
        if _backward() != self._measured:
            return  # of another graph, which a later forward made
        if weight in self._shared:
            self._shares[weight] = grad
        else:
            self._found_at(weight, grad)

    def _found_at(self, weight: int, grad: Tensor) -> None:
        if (key := kernels_of(grad)) is not None:
            rows = MOMENTS(key, grad)
            self.found += [(address, rows, 1) for address in self._weights[weight][1]]

    def average(self, group: Any) -> None:
        """Measure the ranks' mean of each shared weight's gradient, after a backward; collective.

        One exchange for each dtype and device. Ranks may have run different parts of the net, or
        none: a weight that a rank's backward did not reach counts as zero there.
        """
        for kind in dict.fromkeys((w.dtype, w.device) for w in self._shared.values()):
            own = {i: w for i, w in self._shared.items() if (w.dtype, w.device) == kind}
            flat = torch.cat([self._share(i, w) for i, w in own.items()])
            torch.distributed.all_reduce(flat, group=group)
            flat /= torch.distributed.get_world_size(group)
            parts = flat.split([w.numel() for w in own.values()])
            for i, part in zip(own, parts, strict=True):
                if i in self._weights:
                    self._found_at(i, part)
        self._shares.clear()

    def _share(self, i: int, weight: Tensor) -> Tensor:
        """This rank's part of a weight's mean gradient."""
        grad = self._shares.get(i)
        if grad is None:
            return weight.new_zeros(weight.numel())
        return (grad.to_dense() if grad.is_sparse else grad).reshape(-1)

    def linear_act(
        self, layer: Linear, call: tuple[str, float, float], address: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run a linear layer and its activation as one operator whose backward measures.

        Returns:
            y, which is to have this address, the moments and the mask.
        """
        x, weight, bias, key, _ = layer
        measured: list[Tensor] = []
        y = LinearAct.apply(x, weight, bias, key, call, self, address, measured)
        return (y, *measured)

    def addresses(self, rows: Rows) -> dict[int, tuple[list[int], int | None]]:
        """Move what was found to rows.

        Returns:
            By the address of a tensor: those of its gradients, one for each backward, and that of
            the scale that they were multiplied by.
        """
        for address, found, count in self.found:
            self._kept.setdefault(address, []).append(rows.add(found, count) + count - 1)
        self.found = []
        scale = None
        if self.scale is not None:
            scale = rows.add(MOMENTS(kernels_of(self.scale), self.scale), 1)
        return {address: (found, scale) for address, found in self._kept.items()}

    def release_weights(self) -> None:
        """Take the hooks off that would see the backwards of later forwards."""
        for handle in self._weight_handles:
            handle.remove()
        for t in self._unhooked:
            if not t._backward_hooks:
                t._backward_hooks = None
        self._weight_handles, self._unhooked, self._weights = [], [], {}

    def release(self) -> None:
        """Take every hook off again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.release_weights()


class LinearAct(torch.autograd.Function):
    """A linear layer and its activation, with their moments and those of the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        key: Any,
        call: tuple[str, float, float],
        gradients: Gradients,
        address: int,
        measured: list[Tensor],
    ) -> Tensor:
        """The operator's y, of this address; its moments and mask are appended to measured."""
        y, z, rows, live = LINEAR_ACT(key, x, weight, bias, *call, True)
        measured += (rows, live)
        ctx.save_for_backward(x, weight, bias, z)
        ctx.key, ctx.call, ctx.gradients, ctx.address = key, call, gradients, address
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight and bias."""
        x, weight, bias, z = ctx.saved_tensors
        if torch.is_grad_enabled() or kernels_of(grad_y) is not ctx.key:
            ctx.gradients.measure(ctx.address, grad_y)
            return (*_by_torch(ctx, grad_y, x, weight, bias), *[None] * 5)
        grad_z, rows = ACT_BACKWARD(ctx.key, grad_y, z, *ctx.call)
        ctx.gradients.keep(ctx.address, rows, 2)
        return (*linear_gradients(grad_z, x, weight, ctx.needs_input_grad), *[None] * 5)


def _by_torch(
    ctx: Any, grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None
) -> list[Tensor | None]:
    """The same gradients as torch's own operators give them: they have derivatives in turn."""
    act, alpha, beta = ctx.call
    operands: tuple[Any, ...] = (x, weight, bias)
    wanted = [i for i in range(3) if ctx.needs_input_grad[i]]
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        y = ACTIVATIONS[act].value(F.linear(x, weight, bias), alpha, beta)
        found = torch.autograd.grad(
            y, [operands[i] for i in wanted], grad_y, create_graph=create_graph
        )
    gradients: list[Tensor | None] = [None] * 3
    for i, gradient in zip(wanted, found, strict=True):
        gradients[i] = gradient
    return gradients
