"""Report: what a profile found, to read, to print and to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from initfast.diagnosis.findings import Finding, Severity, SkippedCheck, summary, summary_html
from initfast.report.merging import Merging
from initfast.report.run_facts import RunFacts
from initfast.report.saving import contents, read
from initfast.report.select import Pattern
from initfast.report.table import Table, remarks
from initfast.report.tree import tree_lines
from initfast.report.verdict import check, found, verdict
from initfast.stats.layer import Layer, Skipped
from initfast.stats.moments import Moments
from initfast.stats.outcome import NO_OUTCOME, RunOutcome
from initfast.stats.text import escape, prose_width, shown

if TYPE_CHECKING:
    from initfast.diagnosis.diagnosing import Diagnosis
    from initfast.prediction.prediction import Prediction


class Report(Merging):
    """The layers of a net, in execution order, with what was measured at each.

    Args:
        layers: the layers; or a function that makes them and the inputs when somebody first asks.
        inputs: the moments of the net's own inputs.
        skipped: what was not measured, and why.
        notes: what else a reader must know of how the net ran.
        root: what the layers' names are paths in, as code: "net", or "net.module" of a net that
            is wrapped; "" where nothing has them all, as of a plain callable.
        run: when, where and with what the net was profiled; None where that is not known.
        outcome: what the run came to beside its layers: the loss, where NaN begin.

    Attributes:
        processes: of how many the numbers are: 1 until the report is gathered.

    Example:
        >>> net, x = torch.nn.Linear(4, 2), torch.randn(8, 4)
        >>> initfast.profile(net, x)[0].shape
        (8, 2)
    """

    def __init__(
        self,
        layers: Sequence[Layer] | Callable[[], tuple[Sequence[Layer], Sequence[Moments]]],
        inputs: Sequence[Moments] = (),
        skipped: Sequence[Skipped] = (),
        notes: Sequence[str] = (),
        root: str = "net",
        run: RunFacts | None = None,
        outcome: RunOutcome = NO_OUTCOME,
    ) -> None:
        super().__init__(layers if callable(layers) else lambda: (layers, inputs))
        self.skipped = list(skipped)
        self.notes = list(notes)
        self.root = root
        self.run = run
        self.outcome = outcome
        self.processes = 1

    def select(
        self, name: str | None = None, type: str | None = None, depth: int | None = None
    ) -> Report:
        """The layers that fit, as a report.

        Args:
            name: a pattern for the path of the layer's module, or of a module whose output it is
                too: "encoder.*", "*.attention".
            type: a pattern for the type of one of these modules, or for what ran: "Conv*",
                "*+ relu".
            depth: the most names in the path: "encoder.0" has two, the net itself none.

        Returns:
            A :class:`Report` of the same inputs and notes; patterns are as in :mod:`fnmatch`. Where
            none fits, a note says which names there are.

        Raises:
            TypeError: name or type is no text, or depth no whole number.

        Example:
            >>> from torch import nn
            >>> net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh()))
            >>> [layer.name for layer in initfast.profile(net, torch.ones(2, 4)).select("1.*")]
            ['1.0']
        """

        pattern = Pattern(name, type, depth).checked()
        layers = [x for x in self if pattern.fits(x.names, (x.type, x.op, *x.also_types))]
        skipped = [item for item in self.skipped if pattern.fits([item.name], [item.op])]
        none = [] if layers else [pattern.nothing_fits(self.layers)]
        return self.replaced(layers, skipped, [*self.notes, *none])

    @property
    def origin(self) -> str:
        """Where the first NaN or infinity comes from, in a sentence; "" where there is none."""
        from initfast.diagnosis.origin import origin  # when asked

        return shown(origin(self.layers, self.inputs, source=self.outcome.source))

    @property
    def loss(self) -> float | None:
        """The value of the loss; None without one."""
        return self.outcome.loss

    @cached_property
    def _diagnosis(self) -> Diagnosis:
        from initfast.diagnosis.diagnosing import diagnose  # a third of this package, when asked

        return diagnose(self)

    @cached_property
    def predicted(self) -> Prediction:
        """What theory expects of every layer, beside what was measured; print it.

        Example:
            >>> net = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.Tanh())
            >>> prediction = initfast.profile(net, torch.randn(64, 256)).predicted
            >>> abs(prediction["0"].local.rms / prediction["0"].rms - 1) < 0.1
            True
        """
        from initfast.prediction.predicting import predicted  # when asked

        return predicted(self.layers, self.inputs)

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, worst first; :func:`initfast.diagnose` takes other thresholds."""
        return self._diagnosis.findings

    @property
    def skipped_checks(self) -> list[SkippedCheck]:
        """Each check that was not made, with its reason."""
        return self._diagnosis.skipped

    def __repr__(self) -> str:
        return f"Report({len(self)} layers, {found(self.findings)})"

    def __str__(self) -> str:
        below = [fill(text, prose_width()) for text in remarks(self.notes, self.skipped)]
        found = [summary(self.findings)] if self.findings else []
        end = [fill(self.verdict, prose_width())] if self.layers else []
        gap = [""] if end else []
        return shown("\n".join([self._table().text(), *below, *gap, *found, *end]))

    def _table(self) -> Table:
        loss = getattr(self, "loss", None)
        return Table(self.layers, inputs=self.inputs, loss=loss, predict=lambda: self.predicted)

    @property
    def verdict(self) -> str:
        """What was found and what was not checked, in a line: the last of ``print(report)``.

        Example:
            >>> initfast.profile(torch.nn.Linear(4, 2), torch.zeros(3, 4)).verdict[:21]
            'no errors or warnings'
        """
        loss = any(layer.grad is not None for layer in self)
        return verdict(self.findings, self.skipped_checks, loss)

    def check(self, level: Severity = "error") -> None:
        """Raise an error if something is wrong, as for a test or before a long run.

        Args:
            level: the least severity that counts: "error", "warning" or "info".

        Raises:
            FindingsError: there are such findings; its text is theirs, and `findings` has them.
            ValueError: level is none of these.

        Example:
            >>> report = initfast.profile(torch.nn.Linear(4, 2), torch.randn(8, 4))
            >>> report.check()
        """
        check(self.findings, level)

    def tree(self) -> str:
        """The table with the layers below the modules that contain them.

        Modules that ran as one, as a linear layer and its activation, are one line.

        Example:
            >>> from torch import nn
            >>> net = nn.Sequential(nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
            >>> tree = initfast.profile(net, torch.ones(3, 4)).tree()
            >>> [line[:7].rstrip() for line in tree.splitlines()[2:]]
            ['(net)', '0', '  0 + 1']
        """
        return shown(Table(*tree_lines(self.layers)).text())

    def _repr_html_(self) -> str:
        below = "".join(f"<p>{escape(text)}</p>" for text in remarks(self.notes, self.skipped))
        end = f"<p><b>{escape(self.verdict)}</b></p>" if self.layers else ""
        return self._table().html() + below + summary_html(self.findings) + end

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """The report that :meth:`to_dict` wrote, directly or through JSON.

        Args:
            data: what it returned, or what JSON made of it; findings are found anew.

        Raises:
            KeyError: it has no layers, or a layer lacks what every layer has.
            ValueError: a later initfast has written it in a form that this one does not know.

        Example:
            >>> import json
            >>> report = initfast.profile(torch.nn.Linear(4, 2), torch.ones(3, 4))
            >>> initfast.Report.from_dict(json.loads(report.to_json())).layers == report.layers
            True
        """
        return cls(**contents(data))

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """The report that :meth:`to_json` or :meth:`to_html` wrote to a file.

        Args:
            path: of the file.

        Raises:
            OSError: the file cannot be read.
            ValueError: it holds no report, a damaged one, or one of a later initfast.

        Example:
            >>> import os, tempfile
            >>> path = os.path.join(tempfile.mkdtemp(), "report.json")
            >>> report = initfast.profile(torch.nn.Linear(4, 2), torch.ones(3, 4))
            >>> _ = report.to_json(path)
            >>> initfast.Report.load(path).layers == report.layers
            True
        """
        return cls(**read(path))
