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
from initfast.repair.lsuv import lsuv_
from initfast.repair.parameter_kinds import plain_name
from initfast.repair.rules import Rules
from initfast.repair.schemes import SCHEMES
from initfast.report.report import Report
from initfast.stats.text import plural, shown
from initfast.undo_log import UndoLog, with_undo_log

_OF_THE_ARCHITECTURE = {"one_direction"}
"""The rules of what no weights cure, but by the luck of a draw."""


class Step(NamedTuple):
    """What was done, in words, for which finding, and the parameters that it changed."""

    what: str
    rule: str
    parameters: tuple[str, ...]


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
    were drawn with weights which are replaced become 0. What does not help is put back, and so is
    all where it ends worse. Only parameters are changed: that an activation or a norm is missing, a
    finding says, and no initialiser mends.

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
    _keep_parameters(net, log)
    seed = draw_key(None, torch.device("cpu"))
    before = report = measure()
    steps: list[Step] = []
    while score(report) != (0, 0):  # it ends: each step leaves fewer findings
        found = _improve(net, x, report, measure, derive_key(seed, str(len(steps))))
        if found is None:
            break
        report, step = found
        steps.append(step)
    log.keep()
    return Repair(before, report, steps)


def _keep_parameters(net: nn.Module, log: UndoLog) -> dict[str, torch.Tensor]:
    """Have the log put every parameter back; and what they are."""
    kept = {name: p.detach().clone() for name, p in net.named_parameters()}
    for name, p in net.named_parameters():
        log.add(copy_back, p, kept[name])
    return kept


def _improve(
    net: nn.Module, x: Any, report: Report, measure: Callable[[], Report], seed: int
) -> tuple[Report, Step] | None:
    """The first thing that makes the net better, done; None: nothing does, and nothing is."""
    if not (findings := _cause_first(report.findings)):
        return None
    for what, rule, act in _ways(net, x, report, findings, seed):
        log = UndoLog()
        kept = _keep_parameters(net, log)
        try:
            act()
            _clear_biases(net, kept)
            _put_frozen_back(net, kept)
            after = measure()
        except ArgumentError:
            log.undo()
            continue
        if score(after) < score(report):
            changed = [n for n, p in net.named_parameters() if not torch.equal(p, kept[n])]
            return after, Step(what, rule, tuple(map(plain_name, changed)))
        log.undo()
    return None


def _cause_first(findings: Sequence[Finding]) -> list[Finding]:
    """Errors before warnings, and of these the earliest first: what follows may come of it."""
    serious = [f for f in findings if f.severity != "info" and f.rule not in _OF_THE_ARCHITECTURE]
    return sorted(serious, key=lambda f: (f.severity != "error", f.first))


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


def _clear_biases(net: nn.Module, kept: dict[str, torch.Tensor]) -> None:
    """Make biases 0 that were drawn with weights which are others now.

    Weights and biases hold a signal together: the weights that a finding advises are critical
    beside biases of 0. Those of torch's default, which every input shares, make the inputs alike
    from layer to layer, and gradients vanish (Schoenholz et al. 2017, fig. 1). A bias whose
    elements are equal was set, not drawn, and stays.
    """
    parameters = dict(net.named_parameters())
    for name, bias in parameters.items():
        weight = f"{name.removesuffix('bias')}weight"
        if not name.endswith("bias") or weight not in kept:
            continue
        is_drawn = bool((kept[name] != kept[name].flatten()[:1]).any())
        if (
            is_drawn
            and torch.equal(bias, kept[name])
            and not torch.equal(parameters[weight], kept[weight])
        ):
            with torch.no_grad():
                bias.zero_()


def _put_frozen_back(net: nn.Module, kept: dict[str, torch.Tensor]) -> None:
    for name, p in net.named_parameters():
        if not p.requires_grad:
            copy_back(p, kept[name])
