"""What a report is given out as: a dict, JSON, a page, a figure, a data frame, scalars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from initfast.report.dataframe import frame_of
from initfast.report.layer_sequence import LayerSequence, Name
from initfast.report.saving import as_dict
from initfast.stats.as_dict import json_text
from initfast.whole_file import write_whole

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class Exports(LayerSequence):
    """Layers in execution order, with the ways in which a report of them is given out."""

    def to_dict(self) -> dict[str, Any]:
        """Everything in the report as numbers, strings, lists and dicts; "schema": their form."""
        return as_dict(self)

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as JSON, also written to a file if a path is given.

        :meth:`Report.load` reads the file. JSON has no NaN and no infinities: they are the strings
        "NaN", "Infinity" and "-Infinity", which Python's float() reads, and so does
        :meth:`Report.from_dict`.

        Args:
            path: of the file, which is overwritten in one step.

        Raises:
            OSError: the file cannot be written.
        """
        text = json_text(self.to_dict())
        if path is not None:
            write_whole(path, f"{text}\n".encode())
        return text

    def to_html(self, path: str | Path | None = None, *, beside: Any = None) -> str:
        """The report as one HTML file, which needs no network and works without scripts.

        The report's JSON is in it, compressed; :meth:`Report.load` reads it.

        Args:
            path: of the file, which is overwritten in one step.
            beside: another report, whose findings, curves and layers are set beside this one's.

        Returns:
            The text of the file.

        Raises:
            OSError: the file cannot be written.

        Example:
            >>> text = initfast.profile(torch.nn.Linear(4, 2), torch.ones(3, 4)).to_html()
            >>> text[:15], "<h1>" in text
            ('<!DOCTYPE html>', True)
        """
        from initfast.report.page import html_page  # when asked: its templates and digests

        report: Any = self
        text = html_page(report, beside)
        if path is not None:
            write_whole(path, text.encode())
        return text

    def plot(self, path: str | Path | None = None) -> Figure:
        """The signal by depth as a figure of matplotlib; :func:`initfast.plots.by_depth` has more.

        Args:
            path: also write it there, as .svg, .pdf or .png.

        Raises:
            ImportError: matplotlib is not installed.
            OSError: the file cannot be written.

        Example:
            >>> figure = initfast.profile(torch.nn.Linear(4, 2), torch.ones(3, 4)).plot()
            >>> figure.axes[0].get_yscale()
            'log'
        """
        from initfast.plots import by_depth, save  # when asked

        report: Any = self
        figure = by_depth(report)
        if path is not None:
            save(figure, path)
        return figure

    def explain(self, name: Name) -> str:
        """What a layer did to the scale of the signal, derived step by step with its own numbers.

        Var(y) = fan_in Var(w) E x²; what the activation makes of it, and whether the gain that
        makes up for that holds the scale: that of GELU, SiLU and Mish does not, for a deviation
        grows at every layer; what a gradient becomes. ``python -m initfast theory`` derives it of a
        layer 256 wide.

        Args:
            name: of the layer, as `report[name]` takes it.

        Raises:
            KeyError: no layer has that name.

        Example:
            >>> report = initfast.profile(torch.nn.Linear(256, 8), torch.randn(64, 256))
            >>> "multiplied" in report.explain(""), "Weights N(0, 1)" in report.explain("")
            (True, True)
        """
        from initfast.report.explaining import explanation  # when asked: theory, with it

        return explanation(self[name])

    def to_dataframe(self) -> pandas.DataFrame:
        """One row for each layer, the output's statistics in columns.

        The weights of a layer that has several are in columns with their names, as
        "weight_hh_l0_std" and "weight_hh_l0_grad_std" of an LSTM.

        Raises:
            ImportError: pandas is not installed.
        """
        return frame_of(self.layers)

    def scalars(self, prefix: str = "initfast") -> dict[str, float]:
        """The numbers by tag, as loggers take them: `{"initfast/activations/0/std": 0.57, ...}`.

        See :func:`initfast.report.scalars.scalars_of`.
        """
        from initfast.report.scalars import scalars_of  # in training loops alone

        report: Any = self
        return scalars_of(self.layers, prefix, report.outcome.updates)
