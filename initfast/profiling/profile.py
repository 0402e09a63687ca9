"""profile(): run a net once and report the scale of the signal at every layer."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
)
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from initfast.collectives import WRAPPED, local, shared_weights, together
from initfast.interception.deferred_tensor import Unseen, resolved
from initfast.interception.function_mode import Fusion
from initfast.interception.linear_modules import shorter_linears
from initfast.interception.module_calls import Forward, hooked, installed
from initfast.interception.module_outputs import Outputs
from initfast.interception.queue import Waiting
from initfast.interception.sequential import shorter_sequentials
from initfast.interception.torch_patches import (
    NON_REENTRANT_CHECKPOINTS,
    PLAIN_ARGUMENTS,
    VISIBLE_EXPORTS,
)
from initfast.nets.callables import NOTE as CALLABLE
from initfast.nets.callables import modules_of
from initfast.nets.names import NetNames
from initfast.nets.pytree import tensors
from initfast.profiling import compiled
from initfast.profiling.backward import (
    NOTHING,
    check_loss,
    loss_of,
    run_backward,
)
from initfast.profiling.nonfinite_parameters import with_nonfinite_parameters
from initfast.profiling.preconditions import check_differentiable, check_ready
from initfast.profiling.restore import unchanged
from initfast.recording.gradients import Gradients
from initfast.recording.recorder import Tape
from initfast.recording.stop_at_nonfinite import NonFinite
from initfast.report.report import Report


def profile(
    net: Callable[..., Any],
    x: Any,
    *,
    loss: Callable[..., Any] | None = None,
    targets: Any = NOTHING,
    scaler: Any = None,
    stop_at_nonfinite: bool = False,
) -> Report:
    """Run net once on x and measure the signal at every layer; with a loss its gradients too.

    A linear layer, a convolution or a norm and the activation that follows it, as a module, a
    function or a method, are one layer of the report and run as one operator. Activations that
    stand alone, residual sums (of two outputs that are measured) and the outputs of all other
    modules are measured too; what is not is listed in the report, with its reason. What a hook of
    the user's makes of the output of a linear layer or an activation is a row of its own, after
    that of the layer. Statistics stay on their device until the end.

    The net runs in the mode, training or evaluation, that it is in. Gradients, hooks, the buffers
    of modules in training mode and torch's random state are left as they were, whatever the forward
    raises; of a module whose forward gave it another buffer, its attributes too. What else the
    forward itself writes stays, as after any forward. Scripted modules run unmeasured.

    The backward leaves nothing in `.grad`, and what is there stays. The user's own hooks run as in
    any backward, but for those that wait for `.grad` to change (post-accumulate hooks). Reentrant
    activation checkpoints run as the others do. A net that asks for the gradient at a
    pre-activation, keeps one, or gives it to an extension runs again from the start, on torch's own
    functions: the operator has no graph for that. Under DistributedDataParallel the report is that
    of the batch that all ranks have together; every rank must call.

    Args:
        net: a module, a bound method of one, or any callable. A plain callable's modules are those
            that it holds, as arguments, variables, globals or attributes, and the layers' names
            begin with what holds them; any other operator is named by its position.
        x: the input: a tensor, a tuple of arguments or a dict of keyword arguments.
        loss: makes a scalar of the output; None: run without gradients.
        targets: loss is called as loss(output, targets), as torch's criteria are.
        scaler: a torch.amp.GradScaler: the loss is multiplied by its scale before the backward, as
            in training, and what is reported is divided by it. What overflows is non-finite.
        stop_at_nonfinite: end the forward after the first layer with a NaN or an infinity, even
            inside a module that catches exceptions; the report ends there, and no backward follows.
            Every function is looked at, so that one that made the value is in the report by its
            name. A card is never waited for before the forward's end: it has counted a layer's
            values only after the host has gone on, so there the forward ends some layers late.

    Returns:
        The :class:`Report`: one :class:`Layer` for each operator, in execution order.

    Raises:
        TypeError: net cannot be called, or the loss is no real number.
        ValueError: a parameter or buffer of net is uninitialised or on the meta device; the loss
            is no scalar, or no gradient flows from it; or, with a loss, net is sharded by FSDP, or
            x, targets or a parameter was made under torch.inference_mode().
        RuntimeError: another rank has raised.
        Exception: whatever the forward, the loss or the backward raises, with a note that says
            where.

    Example:
        >>> net = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 10))
        >>> report = profile(net, torch.randn(16, 256))
        >>> [layer.op for layer in report.layers]
        ['linear + tanh', 'linear']
        >>> y = torch.randint(10, (16,))
        >>> report = profile(net, torch.randn(16, 256), loss=nn.CrossEntropyLoss(), targets=y)
        >>> report["0"].grad.std < report["2"].grad.std
        True
    """
    if not callable(net):
        raise TypeError(f"profile: net is a {type(net).__name__}; expected a module or a callable")
    check_loss(loss, targets, scaler)
    net, group = local(net)
    with ExitStack() as stack:
        with together("profile", group):
            what = (net, group, x, loss, targets, scaler, stop_at_nonfinite)
            try:
                watch, gradients = _run(stack, *what, fuse=True)
            except Unseen:
                stack.close()
                watch, gradients = _run(stack, *what, fuse=False)
        if group is not None and gradients is not None:
            gradients.average(group)
    report = watch.report()
    return report if group is None else report.all_reduce(group)


def _run(
    stack: ExitStack,
    net: Callable[..., Any],
    group: Any,
    x: Any,
    loss: Callable[..., Any] | None,
    targets: Any,
    scaler: Any,
    stop_at_nonfinite: bool,
    fuse: bool,
) -> tuple[Watch, Gradients | None]:
    """Run the forward, and the backward if there is a loss; see :func:`profile`.

    What must be undone in the end is left on the stack. Where gradients flow, linear layers and
    their activations run as one operator if `fuse` is true and no module has a backward hook.

    Raises:
        Unseen: the net takes the result of such an operator past torch's functions.
    """
    root = net if isinstance(net, nn.Module) else getattr(net, "__self__", None)
    is_module = isinstance(root, nn.Module)
    names = NetNames(root if isinstance(root, nn.Module) else modules_of(net))
    modules = list(zip(names.paths(), names.modules, strict=True))
    if is_module:
        check_ready(modules)
    if loss is not None:
        check_differentiable(modules, {"x": x, "targets": targets})
    shared = [] if group is None else shared_weights(net)
    gradients = None if loss is None else Gradients(fuse and not hooked(names.modules), shared)
    notes = [compiled.NOTE] if compiled.is_compiled(names.modules) else []
    notes += [] if group is None else [WRAPPED]
    notes += [CALLABLE] if names.modules and not is_module else []
    root_name = "net" if group is None else "net.module"
    root_name = "" if CALLABLE in notes else root_name
    watch = Watch(names, Tape(stop_at_nonfinite, gradients), notes, root=root_name)
    stack.enter_context(compiled.eagerly())
    stack.enter_context(unchanged(names.modules))
    if gradients is None:
        stack.enter_context(torch.no_grad())
    else:
        stack.callback(gradients.release)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(NON_REENTRANT_CHECKPOINTS)
    given = [t for _, t in tensors(x)]
    try:
        output = watch.run(lambda: _call(net, x), given)
    except NonFinite:
        return watch, gradients
    except Exception as error:
        names.blame_running(error)
        raise
    if loss is not None and gradients is not None:
        value = loss_of(loss, output, targets)
        ends = [p for m in names.modules for p in m._parameters.values() if p is not None]
        run_backward(value, [*ends, *given] if is_module else [], gradients, scaler, ends)
    return watch, gradients


T = TypeVar("T")

UNFINISHED = "The net returned a generator: what it does when iterated was not measured."


class Watch:
    """One forward of a net, recorded on a tape.

    Args:
        names: of the net's modules.
        tape: records it.
        notes: what a reader must know of how the net runs.
        plain: torch's own functions make every value, so that not a bit of them differs.
        root: what the names are paths in, as :class:`initfast.Report` has it.
    """

    def __init__(
        self,
        names: NetNames,
        tape: Tape,
        notes: Iterable[str] = (),
        plain: bool = False,
        root: str = "net",
    ) -> None:
        self._root = root
        self._names = names
        self._notes = list(notes)
        self._tape = tape
        self._waiting = Waiting(tape, names)
        self._fusion = Fusion(tape, names, self._waiting, plain)
        self._outputs = Outputs(names, tape, self._waiting)

    def run(self, forward: Callable[[], T], inputs: Iterable[Tensor]) -> T:
        """What the forward returns."""
        fusion, waiting = self._fusion, self._waiting
        try:
            for t in inputs:
                self._tape.net_input(t)
            sequentials, linears = self._forwards()
            outputs = self._outputs.measured(s.module for s in sequentials)
            with (
                outputs,
                VISIBLE_EXPORTS,
                PLAIN_ARGUMENTS,
                installed([*sequentials, *linears]),
                fusion,
            ):
                output = forward()
                waiting.finish()
            for _, t in tensors(output):
                self._tape.net_output(resolved(t))
            if isinstance(output, (Generator, Coroutine, AsyncGenerator)):
                self._notes.append(UNFINISHED)
            self._tape.finish()
            return output
        except Exception:
            with suppress(Exception):  # a card that has failed
                self._tape.finish()  # what the error may have come from
            raise
        finally:
            waiting.release()

    def _forwards(self) -> tuple[list[Forward[Fusion]], list[Forward[Fusion]]]:
        """Shorter forwards, of Sequentials and linears; none where replicas would run them too."""
        modules, fusion = self._names.modules, self._fusion
        if any(isinstance(module, nn.DataParallel) for module in modules):
            return [], []
        sequentials = shorter_sequentials(modules, fusion, self._outputs.measure)
        inside = {id(child) for s in sequentials for child in s.module._modules.values()}
        others = [m for m in modules if id(m) not in inside] if inside else modules
        return sequentials, shorter_linears(others, fusion)

    def report(self) -> Report:
        """What was measured so far, copied from the devices."""
        names = self._names
        recording = self._tape.read(names.paths(), names.modules)
        notes, skipped = [*self._notes, *self._outputs.notes], list(self._outputs.skipped)
        if not recording.copies.nonfinite():
            return Report(recording.read, skipped=skipped, notes=notes, root=self._root)
        layers, inputs = recording.read()
        layers = with_nonfinite_parameters(layers, names.module)
        return Report(layers, inputs, skipped, notes, self._root)


def _call(net: Callable[..., Any], x: Any) -> Any:
    if type(x) is tuple:
        return net(*x)
    if isinstance(x, Mapping):
        return net(**x)
    return net(x)
