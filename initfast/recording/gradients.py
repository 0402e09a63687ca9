"""Gradients, measured as a backward computes them.

What a net computes gets a hook that measures the gradient there, in cache, and changes nothing.
Linear layers with their activations can run as one operator, whose backward measures on its way,
and need not even write down the gradient of a weight that nobody else can see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from initfast.nets.shards import part_placed_as, placements_of
from initfast.ops.checks import DTYPES
from initfast.ops.dispatch import MOMENTS, kernels_of
from initfast.recording.autograd_graph import edges_to_leaf_tensors
from initfast.recording.rows import Rows
from initfast.torch_state import modes_enabled

_backward = torch._C._current_graph_task_id  # tells one backward from another


class Gradients:
    """Measures what backwards through the graph of one forward bring, by address.

    A tensor's address is that of its own row.

    Args:
        fuse: whether linear layers and their activations may run as one operator, whose forward
            differs from torch's in the last bits; if so, :meth:`arm` will be called.
        shared: the weights that all ranks of a group have, in the same order on each: their
            gradients are measured by :meth:`average` alone.
        scaler: the GradScaler whose scale the losses are multiplied by, if there is one.

    Attributes:
        armed: whether a backward that runs now is one to measure.
        scale: what the loss was multiplied by, one number on its device; None: by nothing.
        found: rows of moments, how many they are, and which are of the gradient at the tensor of
            which address.
        root: the node of the loss of the backward that was armed; None before.
        reached: the ids of the leaf tensors that its graph leads to.
    """

    def __init__(self, fuse: bool, shared: Iterable[Tensor] = (), scaler: Any = None) -> None:
        self.fuse = fuse
        self._scaler = scaler
        self._shared = {id(w): w for w in shared if w.requires_grad and w.dtype in DTYPES}
        self.armed = False
        self.root: Any = None
        self.reached: set[int] = set()
        self.scale: Tensor | None = None
        self.found: list[tuple[Tensor, int, list[tuple[int, int]]]] = []
        self._kept: dict[int, list[int]] = {}
        self._sums: dict[int, Tensor] = {}  # of the parts of gradients, by address
        self._makes_graph: bool | None = None  # whether the backwards so far made graphs
        self._measured = -1  # the backward that went through an output
        self._expected = -1  # the backward that arm() announced
        self._weights: dict[int, tuple[Tensor, list[int]]] = {}
        self._unwritten: set[int] = set()  # weights whose gradient only its operator sees
        self._shares: dict[int, Tensor] = {}
        self._handles: list[Any] = []
        self._weight_handles: list[Any] = []
        self._leaf_tensors: list[Tensor] = []  # that have hooks

    def output(
        self, address: int, y: Tensor, part: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Measure the gradient at an output; of what others hold too, this part of it."""
        if not y.requires_grad:
            return
        measure: Callable[[Tensor], None] = partial(self.measure, address)
        if part is not None:
            whole, measure = measure, lambda grad: whole(part(grad))
        self._handles.append(self._hook(y, measure))

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
        if not (self.fuse and weight.is_leaf):
            self._hook_weight(weight)

    def _hook_weight(self, weight: Tensor) -> None:
        measure = partial(self._measure_weight, id(weight))
        self._weight_handles.append(self._hook(weight, measure))

    def _hook(self, t: Tensor, measure: Callable[[Tensor], None]) -> Any:
        if not modes_enabled():
            return self._hook_plain(t, measure)
        with torch._C.DisableTorchFunction():  # another profile would take this for the net's doing
            return self._hook_plain(t, measure)

    def _hook_plain(self, t: Tensor, measure: Callable[[Tensor], None]) -> Any:
        if t.is_leaf:
            self._leaf_tensors.append(t)
        return t.register_hook(measure)

    def arm(self, loss: Tensor) -> None:
        """Measure the one backward that now follows, whose gradients nobody keeps.

        The gradient of a weight stays unwritten where its operator alone can see it: the weight is
        a leaf without hooks of the user's, not shared by ranks, used once, and the graph of the
        loss leads to it once, from that operator. (A hook of an extension in C++ is not seen.)
        """
        edges = [(node, id(leaf)) for node, leaf in edges_to_leaf_tensors(loss)]
        all_uses = Counter(leaf for _, leaf in edges)
        self.root, self.reached = loss.grad_fn, set(all_uses)
        by_chain = {leaf for node, leaf in edges if getattr(node, "gradients", None) is self}
        for i, (weight, addresses) in self._weights.items():
            if not (self.fuse and weight.is_leaf):
                continue  # has its hook already
            alone = all_uses[i] == len(addresses) == 1 and i in by_chain and i not in self._shared
            if alone and not weight._backward_hooks:
                self._unwritten.add(i)
            else:
                self._hook_weight(weight)
        self._handles.append(self._hook(loss, self._begin))
        self.armed = True

    def _begin(self, grad: Tensor) -> None:
        self._expected = _backward()

    def wanted(self, weight: Tensor) -> int:
        """What an operator's backward that runs now is to do with the gradient of its weight.

        Returns:
            1: only measure it; 2: return it.
        """
        return 1 if id(weight) in self._unwritten and _backward() == self._expected else 2

    def keep_chain(self, addresses: Sequence[int], rows: Tensor, wanted: Sequence[int]) -> None:
        """Keep the rows of a chain's gradients, two for each layer.

        Args:
            addresses: of the layers' results; a weight's is the next.
            rows: of the gradients at each result and at its weight.
            wanted: by layer, 1 where no hook will measure the weight's.
        """
        if self.armed and self._counts():
            self._measured = _backward()
            places = [(address, 2 * i) for i, address in enumerate(addresses)]
            places += [
                (address + 1, 2 * i + 1)
                for i, (address, what) in enumerate(zip(addresses, wanted, strict=True))
                if what == 1
            ]
            self.found.append((rows.flatten(0, 1), 2 * len(addresses), places))

    def measure(self, address: int, grad: Tensor) -> None:
        """Measure the gradient at the tensor of this address."""
        if self.armed and (kernels := kernels_of(grad)) is not None and self._counts():
            # One gradient of a backward comes through an output before any comes to a weight.
            self._measured = _backward()
            if self._scaler is not None and self.scale is None:  # its scale is this step's yet
                self.scale = scale_of(self._scaler, grad.device)
            self.found.append((MOMENTS(kernels, grad), 1, [(address, 0)]))

    def _counts(self) -> bool:
        """Whether the backward that runs now is measured, and not only a part of a loss.

        One that makes a graph, as for a penalty on gradients, gives way to any that makes none.
        """
        makes_graph = torch.is_grad_enabled()
        if makes_graph is not self._makes_graph:
            if self._makes_graph is False:
                return False
            if self._makes_graph:
                self.found, self._kept = [], {}
            self._makes_graph = makes_graph
        return True

    def add(self, address: int, grad: Tensor) -> None:
        """Add a part of the gradient at the output of this address."""
        if self.armed:
            self._measured = _backward()
            before = self._sums.get(address)
            self._sums[address] = grad if before is None else before + grad

    def _measure_weight(self, weight: int, grad: Tensor) -> None:
        if _backward() not in (self._measured, self._expected):
            return  # of another graph, which a later forward made
        if weight in self._shared:
            self._shares[weight] = grad
        else:
            self._found_at(weight, grad)

    def added(self) -> None:
        """Measure what backwards within the backward have added to weights that it did not reach.

        What both have brought to one weight is measured in part.
        """
        known = {address for _, _, places in self.found for address, _ in places}
        for i, (weight, addresses) in self._weights.items():
            if weight.is_leaf and weight.grad is not None and known.isdisjoint(addresses):
                self._measured = _backward()
                self._measure_weight(i, weight.grad)

    def _found_at(self, weight: int, grad: Tensor) -> None:
        grad = grad.to_dense() if grad.is_sparse else grad
        if type(grad) is not Tensor:
            grad = part_placed_as(grad, placements_of(self._weights[weight][0]))
        if (kernels := kernels_of(grad)) is not None:
            places = [(address, 0) for address in self._weights[weight][1]]
            self.found.append((MOMENTS(kernels, grad), 1, places))

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

    def addresses(self, rows: Rows) -> dict[int, tuple[list[int], int | None]]:
        """Move what was found to rows.

        Returns:
            By the address of a tensor: those of its gradients, one for each backward, and that of
            the scale that they were multiplied by.
        """
        for address, total in self._sums.items():
            if (kernels := kernels_of(total)) is not None:
                self.found.append((MOMENTS(kernels, total), 1, [(address, 0)]))
        self._sums = {}
        for found, count, places in self.found:
            first = rows.add(found, count)
            for address, i in places:
                self._kept.setdefault(address, []).append(first + i)
        self.found = []
        scale = None
        if self.scale is not None:
            scale = rows.add(MOMENTS(kernels_of(self.scale), self.scale), 1)
        return {address: (found, scale) for address, found in self._kept.items()}

    def awaited(self) -> bool:
        """Whether gradients may still come: a graph is there, and no last backward went through."""
        return bool(self._handles) and self._makes_graph is not False

    def release_weights(self) -> None:
        """Take the hooks off that would see the backwards of later forwards."""
        for handle in self._weight_handles:
            handle.remove()
        for t in self._leaf_tensors:
            self._take_off(t)
            if not t._backward_hooks:
                t._backward_hooks = None
        self._weight_handles, self._leaf_tensors, self._weights = [], [], {}
        self._unwritten = set()

    def _take_off(self, leaf: Tensor) -> None:
        """Take a hook off whose handle an interrupt kept from being kept."""
        hooks: dict[int, Any] = leaf._backward_hooks or {}
        for i, hook in list(hooks.items()):
            if getattr(getattr(hook, "func", None), "__self__", None) is self:
                del hooks[i]

    def release(self) -> None:
        """Take every hook off again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.release_weights()


def scale_of(scaler: Any, device: torch.device) -> Tensor:
    """What a GradScaler multiplies a loss by, on the device and without waiting for it."""
    scale = scaler.scale(torch.ones((), device=device))
    return scale.detach().float()
