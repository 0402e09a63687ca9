"""profile(): run a net once and report the scale of the signal at every layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from initfast.profiling.arguments import NO_TARGETS, Backward, ProfileArguments
from initfast.profiling.data_parallel import local
from initfast.profiling.left_out import without_left_out
from initfast.profiling.progress import Progress, shown_progress
from initfast.profiling.run import call_on, measured
from initfast.profiling.updates import with_lr
from initfast.recording.streams import CAPTURED, is_captured
from initfast.report.report import Report
from initfast.undo_log import with_undo_log


def profile(
    net: Callable[..., Any],
    x: Any,
    *,
    loss: Callable[..., Any] | None = None,
    targets: Any = NO_TARGETS,
    backward: Backward | None = None,
    scaler: Any = None,
    lr: float | None = None,
    stop_at_nonfinite: bool = False,
    trace_nonfinite: bool = True,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    group: Any = None,
    measure: str | Collection[str] = (),
    progress: Progress | Literal[False] | None = None,
) -> Report:
    """Run net once on x and measure the signal at every layer; with a loss its gradients too.

    A linear layer, a convolution or a norm and the activation that follows it, as a module, a
    function or a method, are one layer of the report and run as one operator. Activations that
    stand alone, residual sums (of two outputs that are measured) and the outputs of all other
    modules are measured too; what is not is listed in the report, with its reason. The output of a
    module that contains such a layer and ends before its activation is a row of its own, before
    that of the layer, with the numbers of the pre-activation. What a hook of the user's makes of
    the output of a linear layer or an activation is a row of its own, after that of the layer.
    Statistics stay on their device until the end.

    The net runs in the mode, training or evaluation, that it is in. Gradients, hooks, the buffers
    of modules in training mode and torch's random state are left as they were, whatever the forward
    raises and whenever it is interrupted; of a module whose forward gave it another buffer, its
    attributes too. What else the forward itself writes stays, as after any forward, and so
    does what other threads that call the net meanwhile write to its buffers. A context of the net's
    own, such as autocast, stays in force where its own end was interrupted, as without a profile.

    Scripted modules run unmeasured. What a module computes in a method that is called without
    calling it has the name of its caller.

    The backward leaves nothing in `.grad`, and what is there stays. The user's own hooks run as in
    any backward, but for those that wait for `.grad` to change (post-accumulate hooks). Reentrant
    activation checkpoints run as the others do. A net that gives a result which is not computed yet
    to an extension, past torch's functions, runs again from the start, on torch's own functions:
    else the extension would miss the result's graph. What the first run has written to its modules'
    parameters, buffers, attributes and generators is put back before. Under DistributedDataParallel
    the report is that of the batch that all ranks have together; every rank must call.

    Args:
        net: a module, a bound method of one, or any callable. A plain callable's modules are those
            that it holds, as arguments, variables, globals or attributes, and the layers' names
            begin with what holds them; any other operator is named by its position.
        x: the input: a tensor, a tuple of arguments or a dict of keyword arguments.
        loss: makes a scalar of the output; None: run without gradients.
        targets: loss is called as loss(output, targets), as torch's criteria are.
        backward: "random": without a loss or targets, one backward from a random cotangent of the
            output, N(0, 1) at each element and decided by torch.manual_seed. `grad` then is of the
            partial Jacobian: from one layer to the one before, theory multiplies its mean square by
            :func:`initfast.theory.chi`.
        scaler: a torch.amp.GradScaler: the loss is multiplied by its scale before the backward, as
            in training, and what is reported is divided by it. What overflows is non-finite.
        lr: a learning rate: `report.outcome.updates` and `report.scalars()` then have, for each
            weight, the rms of what one step of plain gradient descent would change over that of the
            weight; about 1e-3 where training goes well. Needs a backward.
        stop_at_nonfinite: end the forward after the first layer with a NaN or an infinity, even
            inside a module that catches exceptions; the report ends there, and no backward follows.
            The -inf of what may be a mask is no reason to stop; what makes harm of it is. Every
            function is looked at, so that one that made the value is in the report by its name. A
            card is never waited for before the forward's end: it has counted a layer's values only
            after the host has gone on, so there the forward ends some layers late.
        trace_nonfinite: where a NaN or an infinity does harm whose maker the numbers do not tell,
            run the net once more, from the same random state, buffers and attributes of modules,
            and watch every function: the report's origin names it, its inputs' ranges and the line
            of code that called it; so of a loss or a gradient that is not finite. What the report
            measured stays, and so does the net as the first run has left it, but what a forward
            does outside (prints, files, counters of the caller's) happens twice. Not done where
            several ranks work together, nor where the forward has written to its own input.
        include: the layers to report, by patterns (:mod:`fnmatch`) of the names or types of their
            modules: "encoder.*", ("Linear", "Conv*"). None: all. The net runs as without it.
        exclude: patterns of layers to leave out; a note of the report counts them.
        group: of torch.distributed's, such as torch.distributed.group.WORLD: every rank of it must
            call, and has the report of the whole net on all ranks' batches
            (:meth:`Report.gathered`). None: the report is of this process's part.
        measure: what else to measure, by name; it takes time, and torch's own functions then make
            every value. "attention": the logits' largest, their std and the entropy of the weights
            (:class:`initfast.stats.attention.Attention`) of `F.scaled_dot_product_attention`,
            `nn.MultiheadAttention` and a softmax of a product of two computed tensors;
            "histograms": for each output, how many values lie where
            (:class:`initfast.stats.histogram.Histogram`), for :func:`initfast.plots.histograms`;
            "per_sample": `layer.per_sample`, whose `batch_std` and `correlation` are of samples as
            wholes, so that what is the same for every input is seen though tokens or positions
            differ. It keeps 32 bytes for each entry of one sample of each output, what eight
            samples in float32 take, as long as the report.
            "recurrent": what nn.RNN, nn.LSTM and nn.GRU do from step to step, and what is left of a
            gradient after each (:class:`initfast.stats.recurrence.Recurrence`): they run once more,
            step by step, in float64.
        progress: is called as progress(stage, done, total), with the calls of modules that are done
            in the stage "forward", and with zeros as "backward" or "second run" begins. None: what
            takes longer than two seconds shows it on standard error where that is a terminal, by
            tqdm where that is installed. False: nothing is shown.

    Returns:
        The :class:`Report`: one :class:`Layer` for each operator, in execution order.

    Raises:
        TypeError: net cannot be called, the loss is no real number, or an argument of no kind
            that it may be.
        ValueError: a parameter or buffer of net is uninitialised or on the meta device; lr is not
            positive; measure
            has a name that there is not; the loss is no scalar, or no gradient flows from it; or,
            with a loss, net is sharded by FSDP, or x, targets or a parameter was made under
            torch.inference_mode().
        RuntimeError: another rank has raised.
        Exception: whatever the forward, the loss or the backward raises, with a note that says
            where.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 10))
        >>> report = initfast.profile(net, torch.randn(16, 256))
        >>> [layer.op for layer in report.layers]
        ['linear + tanh', 'linear']
        >>> y = torch.randint(10, (16,))
        >>> loss = nn.CrossEntropyLoss()
        >>> report = initfast.profile(net, torch.randn(16, 256), loss=loss, targets=y)
        >>> report["0"].grad.std < report["2"].grad.std
        True
    """
    arguments = ProfileArguments(**locals())  # all of them, under their names
    if is_captured():
        call_on(net, x)
        return Report([], notes=[CAPTURED])
    shown = shown_progress() if arguments.progress is None else None
    if shown is None:
        return with_lr(_report(arguments), lr)
    try:
        return with_lr(_report(replace(arguments, progress=shown)), lr)
    finally:
        shown.close()


def _report(arguments: ProfileArguments) -> Report:
    """Likewise, of arguments that are right."""
    net, include, exclude = arguments.net, arguments.include, arguments.exclude
    replicas = local(net).group
    forward = with_undo_log(partial(measured, arguments, replicas))
    report = forward.report()
    if replicas is not None:
        return without_left_out(report.all_reduce(replicas), include, exclude)
    if arguments.group is not None:
        return without_left_out(report.gathered(arguments.group), include, exclude)
    if arguments.trace_nonfinite and not forward.is_sound and forward.found is not None:
        from initfast.profiling.nonfinite_trace import find_source  # when there is a need

        if arguments.progress:
            arguments.progress("second run", 0, 0)
        call = partial(call_on, local(net).net, arguments.x)
        source = find_source(report, arguments, call, forward.names, forward.found)
        report.outcome = replace(report.outcome, source=source)
    return without_left_out(report, include, exclude)
