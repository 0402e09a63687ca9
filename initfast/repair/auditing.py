"""audit(): what a net's parameters are, and what is wrong with them, without a forward."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from initfast.collectives import together
from initfast.diagnosis.findings import SEVERITIES, Finding, summary, summary_html
from initfast.errors import kind_of
from initfast.repair import (
    faults_of_fans,
    faults_of_scale,
    faults_of_ties,
    faults_of_values,
    faults_of_zeros,
    remarks,
)
from initfast.repair.audit_table import table
from initfast.repair.examined import Check, Examined
from initfast.repair.faults_across_ranks import compare_ranks
from initfast.repair.fitting_schemes import Fit, fit
from initfast.repair.laws_of_weights import law_in_words, locations
from initfast.repair.parameter_facts import ParameterFacts, facts_of, owned
from initfast.repair.schemes import SCHEMES
from initfast.repair.schemes.scheme import any_net
from initfast.stats.as_dict import json_text
from initfast.stats.text import WIDTH, escape, shown
from initfast.whole_file import write_whole

CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        faults_of_values.unfilled_memory,
        faults_of_values.symmetric_units,
        faults_of_zeros.zero_weight,
        faults_of_values.same_bits,
        faults_of_scale.off_scheme,
        faults_of_scale.depth_scale,
        faults_of_fans.wrong_fan,
        faults_of_ties.tied_scale,
        faults_of_values.padding_row,
        faults_of_values.norm_like_a_matrix,
    )
}
"""Every check of one process's parameters, by its name."""

_ACROSS = ("ranks_differ", "replicas_differ", "equal_shards")


class Audit:
    """What :func:`audit` returns; printed, it is a table, remarks and the findings.

    Attributes:
        facts: a :class:`ParameterFacts` for each parameter, in the order of
            ``net.named_parameters()``.
        findings: a :class:`initfast.Finding` for each fault, worst first; their places count
            ``facts``.
        remarks: what there is to say of the net as a whole, in sentences: tied tensors, residual
            outputs scaled or not, last layers that start at zero, both factors of gated parts.
        schemes: the names of :func:`initfast.initialize_`'s schemes that fit the net as a whole.
        schemes_by_kind: for each kind of parameter, those that fit all of that kind.
    """

    def __init__(
        self,
        facts: Sequence[ParameterFacts],
        findings: Sequence[Finding],
        remarks: Sequence[str],
        fitting: Fit,
    ) -> None:
        self.facts = list(facts)
        self.findings = list(findings)
        self.remarks = list(remarks)
        self.schemes = fitting.whole
        self.schemes_by_kind: Mapping[str, tuple[str, ...]] = fitting.by_kind

    def __getitem__(self, name: str) -> ParameterFacts:
        """The facts of the parameter of that path, also of a tied one."""
        for one in self.facts:
            if name == one.name or name in one.tied:
                return one
        raise KeyError(f"no parameter is named {name!r}; there are {len(self.facts)}")

    def __len__(self) -> int:
        return len(self.facts)

    def __iter__(self) -> Iterator[ParameterFacts]:
        return iter(self.facts)

    def __str__(self) -> str:
        parts = [table(self.facts), "\n".join(self._sentences()), summary(self.findings)]
        return shown("\n\n".join(filter(None, parts)))

    def __repr__(self) -> str:
        return f"<Audit of {len(self.facts)} parameters, {len(self.findings)} findings>"

    def _repr_html_(self) -> str:
        text = "\n\n".join([table(self.facts), "\n".join(self._sentences())])
        return f"<pre>{escape(text)}</pre>{summary_html(self.findings)}"

    def _sentences(self) -> list[str]:
        fitting = ", ".join(self.schemes) or "none of those known"
        sentences = [f"Schemes that fit the whole net: {fitting}.", *self.remarks]
        return [textwrap.fill(s, WIDTH, subsequent_indent="    ") for s in sentences]

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and dicts: facts, findings, remarks and schemes."""
        return {
            "facts": [one.to_dict() for one in self.facts],
            "findings": [finding.to_dict() for finding in self.findings],
            "remarks": self.remarks,
            "schemes": list(self.schemes),
            "schemes_by_kind": {k: list(v) for k, v in self.schemes_by_kind.items()},
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """The audit as JSON, also written to a file if a path is given.

        Args:
            path: of the file, which is overwritten in one step; NaN and infinities are strings.

        Raises:
            OSError: the file cannot be written.
        """
        text = json_text(self.to_dict())
        if path is not None:
            write_whole(path, f"{text}\n".encode())
        return text


def audit(net: nn.Module, group: Any = None) -> Audit:
    """What a net's parameters were drawn from, and what is wrong with them; the net does not run.

    Each parameter is read once: its moments tell the family and the cut of its law, its std and
    fans the initialiser, a hash of its bits whether it is a copy. Parameters that cannot be read
    (on the meta device, lazy, given away by FSDP) are named and explained.

    Args:
        net: any module. Nothing in it is changed.
        group: of torch.distributed's, whose ranks all call this: they are compared, replicas that
            differ and shards that are equal are found. None: this process alone.

    Returns:
        An :class:`Audit`: facts, findings, remarks and the schemes that fit.

    Raises:
        TypeError: net is no module.
        RuntimeError: another rank has raised.

    Source:
        Families by kurtosis and extremes: see :mod:`initfast.stats.families`. Faults: the issues
        that each finding names.

    Example:
        >>> net = nn.Sequential(*[nn.Linear(64, 64) for _ in range(6)])
        >>> _ = nn.init.normal_(net[2].weight)
        >>> audit = initfast.audit(net)
        >>> audit["0.weight"].law
        "kaiming_uniform_(a=√5), torch's default"
        >>> [(finding.rule, finding.names[0]) for finding in audit.findings]
        [('off_scheme', '2.weight')]
    """
    with together("audit", group):
        if not isinstance(net, nn.Module):
            raise TypeError(f"audit: net is {kind_of(net)}; expected a torch.nn.Module")
        examined = _examined(net)
        fitting = fit(net, examined.facts)
        findings = _one_for_each_cause(
            [finding for check in CHECKS.values() for finding in check(examined)]
        )
        findings = [_as_scheme_has_it(finding, fitting) for finding in findings]
    if group is not None:
        findings += compare_ranks(examined, group)
    order = [*_ACROSS, *CHECKS]
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), order.index(f.rule), f.first))
    return Audit(examined.facts, findings, list(remarks.of(examined)), fitting)


def _examined(net: nn.Module) -> Examined:
    members = list(owned(net))
    facts = [facts_of(one) for one in members]
    facts = [
        replace(p.facts, law=law_in_words(p.facts, p.blocks)) for p in locations(facts)
    ]  # fmt: skip
    config = getattr(net, "config", None)
    ties = getattr(config, "tie_word_embeddings", False) is True
    return Examined(members, facts, locations(facts), ties, dict(net.named_modules()))


def _as_scheme_has_it(finding: Finding, fitting: Fit) -> Finding:
    """Worth knowing only, where a scheme for such nets draws all of the net, and this with it."""
    of_such = [name for name in fitting.whole if SCHEMES[name].unfit is not any_net]
    names = fitting.whole if finding.rule == "depth_scale" else of_such
    if finding.rule not in ("depth_scale", "tied_scale", "wrong_fan") or not names:
        return finding
    said = f"{finding.measured}; scheme {names[0]!r} has it so"
    return replace(finding, severity="info", measured=said)


def _one_for_each_cause(findings: Sequence[Finding]) -> list[Finding]:
    """Without those that say of a parameter that it departs, where another says what it is."""
    named = {f.first for f in findings if f.first == f.last and f.rule != "off_scheme"}
    return [f for f in findings if f.rule != "off_scheme" or f.first not in named]
