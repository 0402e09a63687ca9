"""Report: what a profile found, to read, to print and to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, reduce
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, overload

from initfast.collectives import gather
from initfast.diagnosis.findings import Finding, SkippedCheck, summary, summary_html
from initfast.diagnosis.origin import origin
from initfast.report.dataframe import frame_of
from initfast.report.select import Pattern, named
from initfast.report.table import Table, remarks
from initfast.report.tree import tree_lines
from initfast.stats.as_dict import as_plain, json_text, moments_from_dict
from initfast.stats.layer import Layer, Skipped
from initfast.stats.merge import merge_layers, pairwise, with_shared_loss
from initfast.stats.moments import Moments
from initfast.stats.run_facts import NO_FACTS, RunFacts
from initfast.stats.text import WIDTH, escape, shown

if TYPE_CHECKING:
    import pandas

    from initfast.diagnosis.diagnosing import Diagnosis

Name: TypeAlias = "str | tuple[str, int] | tuple[str, int, int]"


class Report:
    """The layers of a net, in execution order, with what was measured at each.

    Args:
        layers: the layers; or a function that makes them and the inputs when somebody first asks.
        inputs: the moments of the net's own inputs.
        skipped: what was not measured, and why.
        notes: what else a reader must know of how the net ran.
        root: what the layers' names are paths in, as code: "net", or "net.module" of a net that
            is wrapped; "" where nothing has them all, as of a plain callable.
        run: what the run came to beside its layers: the loss, where NaN begin.

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
        run: RunFacts = NO_FACTS,
    ) -> None:
        self._source = layers if callable(layers) else lambda: (layers, inputs)
        self.skipped = list(skipped)
        self.notes = list(notes)
        self.root = root
        self.run = run

    @cached_property
    def _contents(self) -> tuple[list[Layer], tuple[Moments, ...]]:
        layers, inputs = self._source()
        del self._source
        return list(layers), tuple(inputs)

    def __getstate__(self) -> dict[str, Any]:
        self._contents  # noqa: B018  (what makes it need not pickle)
        return self.__dict__

    @property
    def layers(self) -> list[Layer]:
        """One :class:`Layer` for each operator, in execution order."""
        return self._contents[0]

    @property
    def inputs(self) -> tuple[Moments, ...]:
        """The moments of the net's own inputs."""
        return self._contents[1]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, key: Name | SupportsIndex) -> Layer: ...

    @overload
    def __getitem__(self, key: slice) -> list[Layer]: ...

    def __getitem__(self, key: Name | SupportsIndex | slice) -> Layer | list[Layer]:
        """A layer by its name, or by its place in the order; a range of places finds a list.

        `report[name]` is the module's first call, `report[name, call]` another (0 is the first),
        and `report[name, call, i]`, where a call returns several tensors, the i-th of them that
        was measured: of an LSTM's output, h and c, `report["lstm", 0, 1]` is h.

        The name of a module finds its output, whichever layer made it; what functions within the
        module have made on the way is found where its output was not measured.

        Raises:
            KeyError: no layer has that name, the name has fewer calls, or the call fewer tensors.
            IndexError: there are fewer layers.
        """
        if not isinstance(key, (str, tuple)):
            return self.layers[key]
        return named(self.layers, *(key if isinstance(key, tuple) else (key,)))

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
            A :class:`Report` of the same inputs and notes; patterns are as in :mod:`fnmatch`.

        Example:
            >>> net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh()))
            >>> [layer.name for layer in initfast.profile(net, torch.ones(2, 4)).select("1.*")]
            ['1.0']
        """

        fits = Pattern(name, type, depth).fits
        layers = [x for x in self if fits(x.names, (x.type, x.op, *x.also_types))]
        skipped = [item for item in self.skipped if fits([item.name], [item.op])]
        return Report(layers, self.inputs, skipped, self.notes, self.root, self.run)

    @property
    def first_nonfinite(self) -> Layer | None:
        """The first layer with a NaN or an infinity, in its output or pre-activation.

        It made it, unless :attr:`origin` says that its input or parameters had it already.
        """
        return next((layer for layer in self.layers if layer.has_nonfinite), None)

    @property
    def origin(self) -> str:
        """Where the first NaN or infinity comes from, in a sentence; "" where there is none."""
        return origin(self.layers, self.inputs, source=self.run.source)

    @property
    def loss(self) -> float | None:
        """The value of the loss; None without one."""
        return self.run.loss

    @cached_property
    def _diagnosis(self) -> Diagnosis:
        from initfast.diagnosis.diagnosing import diagnose  # a third of this package, when asked

        return diagnose(self)

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, worst first; :func:`initfast.diagnose` takes other thresholds."""
        return self._diagnosis.findings

    @property
    def skipped_checks(self) -> list[SkippedCheck]:
        """Each check that was not made, with its reason."""
        return self._diagnosis.skipped

    def merge(self, other: Report) -> Report:
        """The report of the two batches as one: layers of the same name, op and call merge exactly.

        Args:
            other: of a later batch of the same net.

        Returns:
            A new report. The weights are the other's; shapes add in their first dimension.

        Example:
            >>> net = nn.Linear(4, 2)
            >>> both = initfast.profile(net, torch.ones(3, 4)).merge(
            ...     initfast.profile(net, torch.zeros(5, 4))
            ... )
            >>> both[0].shape, both[0].post.count
            ((8, 2), 16)
        """
        return Report(
            merge_layers(self.layers, other.layers),
            pairwise(self.inputs, other.inputs),
            list(dict.fromkeys([*self.skipped, *other.skipped])),
            list(dict.fromkeys([*self.notes, *other.notes])),
            self.root if self.root == other.root else "",
            self.run.merge(other.run),
        )

    def all_reduce(self, group: Any = None) -> Report:
        """The report of the batch that all ranks have together, the same on each; collective.

        One exchange for the whole report. The loss of that batch is the mean of the ranks' losses:
        gradients at outputs are divided by the number of ranks, and those at weights are merged
        unless all ranks have the same.

        Args:
            group: of torch.distributed's; None: the default group. Where there is none, nothing
                is merged.

        Returns:
            This report where a process is alone, else a new one.
        """
        ranks = gather(self, group)
        if len(ranks) == 1:
            return self
        whole = reduce(Report.merge, ranks)
        layers = with_shared_loss(whole.layers, [rank.layers for rank in ranks])
        return Report(layers, whole.inputs, whole.skipped, whole.notes, whole.root, whole.run)

    def __repr__(self) -> str:
        return f"Report({len(self)} layers)"

    def __str__(self) -> str:
        below = [fill(text, WIDTH) for text in remarks(self.notes, self.skipped)]
        found = [""] * bool(self.findings) + [summary(self.findings)]
        return shown("\n".join([Table(self.layers).text(), *below, *found]).rstrip())

    def tree(self) -> str:
        """The table with the layers below the modules that contain them, as they nest.

        Example:
            >>> net = nn.Sequential(nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
            >>> tree = initfast.profile(net, torch.ones(3, 4)).tree()
            >>> [line[:5].rstrip() for line in tree.splitlines()[2:]]
            ['(net)', '0', '  0', '  1']
        """
        return shown(Table(*tree_lines(self.layers)).text())

    def _repr_html_(self) -> str:
        below = "".join(f"<p>{escape(text)}</p>" for text in remarks(self.notes, self.skipped))
        return Table(self.layers).html() + below + summary_html(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Everything in the report as numbers, strings, lists and dicts."""
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "inputs": as_plain(self.inputs),
            "skipped": as_plain(self.skipped),
            "notes": self.notes,
            "root": self.root,
            "run": as_plain(self.run._asdict()),
            "findings": [finding.to_dict() for finding in self.findings],
            "skipped_checks": as_plain(self.skipped_checks),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """The report that :meth:`to_dict` wrote, directly or through JSON.

        Args:
            data: what it returned, or what JSON made of it; findings are found anew.

        Raises:
            KeyError: it has no layers, or a layer lacks what every layer has.

        Example:
            >>> import json
            >>> report = initfast.profile(nn.Linear(4, 2), torch.ones(3, 4))
            >>> Report.from_dict(json.loads(report.to_json())).layers == report.layers
            True
        """
        return cls(
            [Layer.from_dict(layer) for layer in data["layers"]],
            list(map(moments_from_dict, data.get("inputs", ()))),
            [Skipped(*item) for item in data.get("skipped", ())],
            data.get("notes", ()),
            data.get("root", "net"),
            RunFacts.from_dict(data.get("run", {})),
        )

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as JSON, also written to a file if a path is given.

        JSON has no NaN and no infinities: they are the strings "NaN", "Infinity" and "-Infinity",
        which Python's float() reads, and so does :meth:`from_dict`.

        Args:
            path: of the file, which is overwritten.

        Raises:
            OSError: the file cannot be written.
        """
        text = json_text(self.to_dict())
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def to_dataframe(self) -> pandas.DataFrame:
        """One row for each layer, the output's statistics in columns.

        The weights of a layer that has several are in columns with their names, as
        "weight_hh_l0_std" and "weight_hh_l0_grad_std" of an LSTM.

        Raises:
            ImportError: pandas is not installed.
        """
        return frame_of(self.layers)
