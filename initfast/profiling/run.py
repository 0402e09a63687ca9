"""One run of a net: its forward, and with a loss its backward, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from initfast.collectives import together
from initfast.interception.deferred_tensor import Unseen
from initfast.interception.hooks import hooked
from initfast.interception.torch_patches import NON_REENTRANT_CHECKPOINTS
from initfast.nets.callables import NOTE as CALLABLE
from initfast.nets.callables import modules_of
from initfast.nets.names import NetNames
from initfast.nets.pytree import tensors
from initfast.profiling import compiled, random_cotangent
from initfast.profiling.arguments import ProfileArguments, blame_input
from initfast.profiling.backward import loss_of, run_backward
from initfast.profiling.cross_entropies import CrossEntropies
from initfast.profiling.data_parallel import WRAPPED, local, shared_weights
from initfast.profiling.extensions import recorder_of
from initfast.profiling.first_run import FirstRun
from initfast.profiling.forward import MeasuredForward
from initfast.profiling.preconditions import check_differentiable, check_ready
from initfast.profiling.restore import put_back_later
from initfast.recording.gradients import Gradients
from initfast.recording.stop_at_nonfinite import NonFinite
from initfast.undo_log import UndoLog, with_undo_log


def measured(arguments: ProfileArguments, group: Any, log: UndoLog) -> MeasuredForward:
    """Run the net, on all ranks of its copies' group if there is one."""
    with together("profile", arguments.group if group is None else group):
        try:
            forward = _run(arguments, log, fuse=True)
        except Unseen:
            log.undo()
            forward = _run(arguments, log, fuse=False)
    if group is not None and forward.gradients is not None:
        forward.gradients.average(group)
    return forward


def _run(arguments: ProfileArguments, log: UndoLog, fuse: bool) -> MeasuredForward:
    """Run the forward, and the backward if there is a loss.

    Args:
        arguments: of :func:`profile`.
        log: gets what must be undone in the end.
        fuse: where gradients flow, linear layers and their activations run as one operator, if no
            module has a backward hook.

    Raises:
        Unseen: the net takes the result of such an operator past torch's functions.
    """
    x, loss = arguments.x, arguments.objective
    net, group, root = local(arguments.net)
    owner = net if isinstance(net, nn.Module) else getattr(net, "__self__", None)
    is_module = isinstance(owner, nn.Module)
    names = NetNames(owner if isinstance(owner, nn.Module) else modules_of(net))
    _check(arguments, names, is_module)
    shared = [] if group is None else shared_weights(net)
    gradients = None if loss is None else Gradients(fuse and not hooked(names.modules), shared)
    notes = _notes(arguments, names, is_module, group)
    recorder = recorder_of(
        arguments.measure, names.modules, x, gradients, arguments.stop_at_nonfinite
    )
    first = FirstRun(names.modules) if gradients is not None and gradients.fuse else None
    recorder.before_write = None if first is None else first.before_write
    progress = arguments.progress or None
    forward = MeasuredForward(names, recorder, root if is_module else "", notes, progress=progress)
    _prepare(log, gradients)
    given = [t for _, t in tensors(x)]
    try:
        output = forward.run(partial(_call_unchanged, net, x, forward, log), given)
    except NonFinite:
        return forward
    except Unseen:
        if first is not None:
            first.put_back()
        raise
    except Exception as error:
        names.blame_running(error)
        blame_input(error, x)
        raise
    if gradients is not None:
        if progress is not None:
            progress("backward", 0, 0)
        value = _loss(arguments, output, forward)
        ends = [p for m in names.modules for p in m._parameters.values() if p is not None]
        known = [*ends, *given] if is_module else []
        run_backward(value, known, gradients, arguments.scaler, log, ends)
    return forward


def _notes(arguments: ProfileArguments, names: NetNames, is_module: bool, group: Any) -> list[str]:
    """What a reader must know of how the net runs."""
    notes = [compiled.NOTE] if compiled.is_compiled(names.modules) else []
    notes += [] if group is None else [WRAPPED]
    notes += [CALLABLE] if names.modules and not is_module else []
    return notes + ([random_cotangent.NOTE] if arguments.backward is not None else [])


def _loss(arguments: ProfileArguments, output: Any, forward: MeasuredForward) -> Tensor:
    """The scalar that the backward begins at; the forward keeps that of a loss."""
    if arguments.loss is None:
        return random_cotangent.random_projection(output)
    seen = CrossEntropies()
    of_loss = partial(loss_of, arguments.loss, output, arguments.targets)
    value = with_undo_log(partial(seen.watch, of_loss))
    forward.cross_entropies = seen.found
    forward.loss = value.detach()
    return value


def _check(arguments: ProfileArguments, names: NetNames, is_module: bool) -> None:
    """Raise ValueError unless what is needed has values and, with a loss, can have gradients."""
    modules = list(zip(names.paths(), names.modules, strict=True))
    if is_module:
        check_ready(modules)
    if arguments.objective is not None:
        asked = "loss=" if arguments.backward is None else f'backward="{arguments.backward}"'
        check_differentiable(modules, {"x": arguments.x, "targets": arguments.targets}, asked)


def _prepare(log: UndoLog, gradients: Gradients | None) -> None:
    """Set torch up for the forward and the backward; the log puts it back."""
    compiled.run_eagerly(log)
    if gradients is None:
        log.add(torch._C._set_grad_enabled, torch.is_grad_enabled())
        torch._C._set_grad_enabled(False)
    else:
        log.add(gradients.release)
        inference = torch._C._InferenceMode(False)  # enables gradients too
        log.add(inference.__exit__, None, None, None)
        inference.__enter__()
        NON_REENTRANT_CHECKPOINTS.make(log)


def _call_unchanged(net: Callable[..., Any], x: Any, forward: MeasuredForward, log: UndoLog) -> Any:
    """What the net returns; the log puts back what it changes in its modules."""
    with torch._C.DisableTorchFunction():
        # Now: its calls run first, the measuring ones right after.
        forward.found = put_back_later(forward.names.modules, log)
    return call_on(net, x)


def call_on(net: Callable[..., Any], x: Any) -> Any:
    """What a net returns for x: a tensor, a tuple of arguments or a dict of keyword arguments."""
    if type(x) is tuple:
        return net(*x)
    if isinstance(x, Mapping):
        return net(**x)
    return net(x)
