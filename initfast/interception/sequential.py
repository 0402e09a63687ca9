"""A shorter way through ``nn.Sequential``: a linear layer and its activation without two calls.

While a profile runs, a Sequential's forward looks at two children at a time, and runs pairs that
fuse one after the other. Where anybody could tell that from calling the two (a hook, a forward of
their own, gradients, casts), it calls them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from initfast.interception.deferred_tensor import DeferredTensor
from initfast.interception.function_mode import Fusion
from initfast.interception.hooks import is_bare
from initfast.interception.module_calls import CALL, TORCHS_CALL, ModuleCall
from initfast.nets.activation_calls import Call, activation_call, runs_torchs
from initfast.ops.dispatch import fits, kernels_of
from initfast.recording.linear_act_chain import ChainLayer
from initfast.torch_state import grad_enabled, transforms


def run_children(own: Mapping[str, Any], fusion: Fusion, input: Any) -> Any:
    """What calling one child of a Sequential after the other returns.

    Args:
        own: the children by their names.
        fusion: runs pairs of linear layers and activations that nobody watches.
        input: the first one's.
    """
    names = list(own)  # a child may replace the next
    is_torchs = nn.Module.__call__ is TORCHS_CALL
    x, i = input, 0
    while i < len(names):
        if type(own[names[i]]) is nn.Linear and is_torchs and fusion.is_on_top():
            x, done = _run_pairs(fusion, _pairs(own, names, i), x)
            i += 2 * done
            if i == len(names):
                break
        x, i = _call(own[names[i]], x) if is_torchs else own[names[i]](x), i + 1
    return x


def _call(child: Any, x: Any) -> Any:
    """What calling a child returns, past what of nn.Module's own leads to the replaced call."""
    call = child.__dict__.get(CALL)
    is_ours = type(call) is ModuleCall and call.module is child
    return call.run((x,), {}) if is_ours and type(child).__call__ is TORCHS_CALL else child(x)


def _pairs(own: Mapping[str, Any], names: list[str], start: int) -> Iterator[tuple[Any, Any, Call]]:
    """The pairs from there on that follow each other and that nobody watches."""
    for i in range(start, len(names) - 1, 2):
        linear, after = own[names[i]], own[names[i + 1]]
        if type(linear) is not nn.Linear or (call := activation_call(after)) is None:
            return
        if not (is_bare(linear) and is_bare(after) and runs_torchs(linear) and runs_torchs(after)):
            return
        yield linear, after, call


def _run_pairs(fusion: Fusion, pairs: Iterator[tuple[Any, Any, Call]], x: Any) -> tuple[Any, int]:
    """Run linear modules and the activations after them, until one takes more than that.

    Returns:
        The last result (or x), and how many pairs have run.
    """
    recorder, names = fusion.recorder, fusion.names
    with torch._C.DisableTorchFunction():
        x = x.resolve() if type(x) is DeferredTensor else x
        if type(x) is not Tensor or transforms() is not None or fusion.observed():
            return x, 0
        graph = grad_enabled()
        if not fusion.makes_graphs() if graph else recorder.gradients is not None:
            return x, 0
        kernels = kernels_of(x)
        if kernels is None or x.dim() == 0:
            return x, 0
        fusion.queue.record()
        layers, width = [], x.shape[-1]
        for linear, after, call in pairs:
            own = linear._parameters
            if "weight" not in own or "bias" not in own:
                break  # a buffer or a plain attribute: the module's own forward reads it
            weight, bias = own["weight"], own["bias"]
            if weight is None or not fits(weight, bias, x, width, kernels):
                break
            own_name, also = names.name(linear), (names.name(after),)
            layers.append(ChainLayer(weight, bias, own_name, call, also))
            width = weight.shape[0]
        if layers and graph:
            x = recorder.linear_act_with_graph(x, kernels, layers)
        elif layers:
            x = recorder.linear_act_chain(x, kernels, layers)
        return x, len(layers)
