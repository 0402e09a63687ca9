"""repair_(): apply the findings' advice to a net's parameters, and keep what makes it better."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from initfast.diagnosis.findings import Finding, counted
from initfast.errors import ArgumentError, kind_of
from initfast.init.keys import derive_key, draw_key
from initfast.profiling.arguments import NO_TARGETS
from initfast.profiling.profile import profile
from initfast.repair.drawn import trained_weights
from initfast.repair.filling import copy_back
from initfast.repair.following import by_module_order, by_running
from initfast.repair.initialize import carry_out, initialize_, plan_of
from initfast.repair.kept_parameters import clear_biases, keep_parameters, put_frozen_back
from initfast.repair.lsuv import lsuv_
from initfast.repair.parameter_kinds import plain_name
from initfast.repair.rules import Rules
from initfast.repair.schemes import SCHEMES
from initfast.report.report import Report
from initfast.stats.text import plural, shown
from initfast.undo_log import UndoLog, with_undo_log

_OF_THE_ARCHITECTURE = {"one_direction"}
"""The rules of what no weights cure, but by the luck of a draw."""

_MOST_LOST = 1e-3
"""A repair that leaves less than this part of the signal, or of the gradient, is none."""


class Step(NamedTuple):
    """What was done, in words, for which finding, and the parameters that it changed."""

    what: str
    rule: str
    parameters: tuple[str, ...]


class _Done(NamedTuple):
    """A step and the values before it of the parameters that it has changed, by their names."""

    step: Step
    before: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Repair:
    """What :func:`initfast.repair_` has done, to print.

    Attributes:
        before, after: the reports; the same one where nothing was done.
        steps: what was done, in its order.
    """

    before: Report
    after: Report
    steps: list[Step]

    @property
    def changed(self) -> list[str]:
        """The names of the parameters that were changed."""
        return list(dict.fromkeys(name for step in self.steps for name in step.parameters))

    @property
    def is_healthy(self) -> bool:
        """Whether neither an error nor a warning is left."""
        return score(self.after) == (0, 0)

    def __str__(self) -> str:
        lines = [
            f"{what} for {rule.replace('_', ' ')}: {plural(len(names), 'parameter')}, "
            f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for what, rule, names in self.steps
        ]
        lines = lines or ["nothing was changed"]
        for word, report in (("before", self.before), ("after", self.after)):
            errors, warnings = score(report)
            lines.append(f"{word}: {counted(errors, 'error')}, {counted(warnings, 'warning')}")
        lines += [str(f) for f in self.after.findings if f.severity != "info"]
        return shown("\n".join(lines))


def score(report: Report) -> tuple[int, int]:
    """How many errors and warnings a report has: the fewer, the better."""
    found = [finding.severity for finding in report.findings]
    return found.count("error"), found.count("warning")


def repair_(
    net: nn.Module,
    x: Any,
    *,
    loss: Callable[..., Any] | None = None,
    targets: Any = NO_TARGETS,
    force: bool = False,
) -> Repair:
    """Repair a net's initialisation: profile, do what the findings say, and profile again.

    Each round tries, until one leaves fewer errors, or as many and fewer warnings: the code of the
    findings' advice, the cause (the earliest of the worst) first; to draw the layers of the
    findings anew by the scheme "auto"; to draw all by it; and :func:`lsuv_` besides. Biases that
    were drawn with weights which are replaced become 0. What does not help is put back, also what
    leaves next to nothing of the signal or of a gradient, and what a later step makes needless.
    Only parameters are changed: that an activation or a norm is missing, a finding says, and no
    initialiser mends.

    Args:
        net: a module.
        x, loss, targets: as :func:`initfast.profile` takes them.
        force: repair also a net whose weights no initialiser has drawn. (What training has learnt
            is lost.)

    Returns:
        :class:`Repair`: the reports before and after, and the steps between. Print it.

    Raises:
        ArgumentError: a ValueError. The net looks trained, and force is False.
        Exception: what :func:`initfast.profile` raises. Whatever it is, and whenever it is
            interrupted, every parameter is as it was.

    Example:
        >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
        <torch...>
        >>> net = nn.Sequential(*[m for _ in range(30) for m in (nn.Linear(64, 64), nn.ReLU())])
        >>> done = initfast.repair_(net, torch.randn(64, 64))
        >>> [f.rule for f in done.before.findings][:1], done.is_healthy
        (['vanishing'], True)
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net is {kind_of(net)}; expected a torch.nn.Module")
    if not force:
        _refuse_trained(net)
    measure = partial(profile, net, x, loss=loss, targets=targets)
    return with_undo_log(partial(_repair, net, x, measure))


def _refuse_trained(net: nn.Module) -> None:
    found, tell = trained_weights(net)
    if found and 3 * len(found) >= tell:
        raise ArgumentError(
            f"net looks trained: {len(found)} of {tell} weights, as {found[0]}, are not draws of "
            "any initialiser, at any scale; expected a new net, or force=True, which loses what "
            "it has learnt"
        )


def _repair(net: nn.Module, x: Any, measure: Callable[[], Report], log: UndoLog) -> Repair:
    keep_parameters(net, log)
    seed = draw_key(None, torch.device("cpu"))
    before = report = measure()
    done: list[_Done] = []
    while score(report) != (0, 0):  # it ends: each step leaves fewer findings
        found = _improve(net, x, report, measure, derive_key(seed, str(len(done))))
        if found is None:
            break
        report, one = found
        done.append(one)
    report, needed = _without_needless(net, report, measure, done)
    log.keep()
    return Repair(before, report, [one.step for one in needed])


def _without_needless(
    net: nn.Module, report: Report, measure: Callable[[], Report], done: Sequence[_Done]
) -> tuple[Report, list[_Done]]:
    """Undo the steps that later ones have made needless, the first first: what is left of them."""
    parameters = dict(net.named_parameters())
    needed: list[_Done] = []
    for k, one in enumerate(done):
        later = {name for x in done[k + 1 :] for name in x.before}
        own = {name: p for name, p in one.before.items() if name not in later}
        if k == len(done) - 1 or not own:
            needed.append(one)
            continue
        now = {name: parameters[name].detach().clone() for name in own}
        for name, value in own.items():
            copy_back(parameters[name], value)
        without = measure()
        if score(without) <= score(report) and not _loses(report, without):
            report = without
            continue
        needed.append(one)
        for name, value in now.items():
            copy_back(parameters[name], value)
    return report, needed


def _loses(before: Report, after: Report) -> bool:
    """Whether next to nothing is left of the signal, or of the gradient, where there was some.

    What has exploded may shrink to 1. A gradient is compared with that of the output: losses may be
    of any size.
    """
    pairs = zip(_left(before), _left(after), strict=True)
    return any(now < _MOST_LOST * min(was, 1.0) for was, now in pairs)


def _left(report: Report) -> tuple[float, float]:
    """The std of what the net returns, and the gradient at the first weight in parts of its."""
    ends = [x for x in report.layers if x.is_returned and x.post.finite > 1]
    grads = [x.grad.rms for x in report.layers if x.weight and x.grad and x.grad.finite]
    std = max((x.std for x in ends), default=1.0)
    return std, grads[0] / grads[-1] if grads and grads[-1] > 0 else 1.0


def _improve(
    net: nn.Module, x: Any, report: Report, measure: Callable[[], Report], seed: int
) -> tuple[Report, _Done] | None:
    """The first thing that makes the net better, done; None: nothing does, and nothing is."""
    if not (findings := _cause_first(report.findings)):
        return None
    for what, rule, act in _ways(net, x, report, findings, seed):
        log = UndoLog()
        kept = keep_parameters(net, log)
        try:
            act()
            clear_biases(net, kept)
            put_frozen_back(net, kept)
            after = measure()
        except ArgumentError:
            log.undo()
            continue
        if score(after) < score(report) and not _loses(report, after):
            changed = {n: kept[n] for n, p in net.named_parameters() if not torch.equal(p, kept[n])}
            return after, _Done(Step(what, rule, tuple(map(plain_name, changed))), changed)
        log.undo()
    return None


def _cause_first(findings: Sequence[Finding]) -> list[Finding]:
    """Errors before warnings, causes before what follows, and of these the earliest first."""
    serious = [f for f in findings if f.severity != "info" and f.rule not in _OF_THE_ARCHITECTURE]
    return sorted(serious, key=lambda f: (f.severity != "error", bool(f.follows), f.first))


def _ways(
    net: nn.Module, x: Any, report: Report, findings: list[Finding], seed: int
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """What may be done, the least first: in words, for which rule, and the deed.

    Only parameters are changed: no code that replaces a module is run.
    """
    advised = [f for f in findings if f.code and "set_submodule" not in f.code]
    for one in advised[:1]:
        yield f"{one.advice or 'the advice'},", one.rule, partial(_run, net, report, [one])
    if len(advised) > 1:
        yield "the advice of all findings,", advised[0].rule, partial(_run, net, report, advised)
    worst = findings[0]
    for some in (findings[:1], findings):
        named = {name for f in some for name in _modules_of(report, f)}
        yield "their layers drawn anew,", worst.rule, partial(_draw, net, x, named, seed)
    yield "all drawn anew,", worst.rule, partial(initialize_, net, x, seed=seed)
    yield "all drawn anew, and scaled on x,", worst.rule, partial(_draw_and_scale, net, x, seed)


def _run(net: nn.Module, report: Report, findings: Sequence[Finding]) -> None:
    """The code of the findings, which is this package's own."""
    names = {"net": net, "report": report, "torch": torch, "initfast": sys.modules["initfast"]}
    with torch.no_grad():
        for finding in findings:
            exec(finding.code, names.copy())


def _modules_of(report: Report, finding: Finding) -> Iterator[str]:
    """The modules that a finding's layers belong to, and the last one before with a weight."""
    layers = report.layers
    first = finding.first
    while first > 0 and layers[first].weight is None:
        first -= 1
    for layer in layers[first : finding.last + 1]:
        yield from map(plain_name, layer.names)
        yield plain_name(layer.parameter).rpartition(".")[0]


def _draw(net: nn.Module, x: Any, modules: set[str], seed: int) -> None:
    """Draw the parameters of some modules by the scheme "auto"."""
    following = by_module_order(net) | by_running(net, x)
    plan = plan_of(net, following, SCHEMES["auto"], Rules({}), set())
    plan.fills[:] = [f for f in plan.fills if f[0].role.name.rpartition(".")[0] in modules]
    with torch.no_grad():
        with_undo_log(partial(_carry_out, plan, seed))


def _carry_out(plan: Any, seed: int, log: UndoLog) -> None:
    carry_out(plan, seed, log)
    log.keep()


def _draw_and_scale(net: nn.Module, x: Any, seed: int) -> None:
    initialize_(net, x, seed=seed)
    lsuv_(net, x)
