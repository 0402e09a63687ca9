"""How every figure looks, and how it is written: the one place that knows matplotlib's settings."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initfast.stats.text import printable, shorten
from initfast.whole_file import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (9, 2, 1, 1.5, 1, 2)))
"""Of curves, so that nothing depends on colours alone."""

_LIGHT = ("#0072b2", "#b34700", "#00664d", "#7a3b69", "#1a1a1a")
_DARK = ("#56b4e9", "#e69f00", "#4cd0a8", "#dd9fcb", "#e8e8e8")
"""After Okabe & Ito 2008, "Color universal design", darkened or lightened for contrast."""

_WIDTH = 7.5  # inches, all figures
_MOST_CHARACTERS = 48
_LINE = 100  # characters of a legend's size across a figure


@contextmanager
def theme(dark: bool) -> Iterator[None]:
    """Within it figures are made and drawn on.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from cycler import cycler  # comes with it
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib; install it with: pip install 'initfast[plots]'"
        ) from error
    paper, ink, line = ("#15181b", "#e8e8e8", "#555b60") if dark else ("#fff", "#1a1a1a", "#ccc")
    inks = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    settings: dict[str, Any] = {
        **dict.fromkeys(inks, ink),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "legend.facecolor"), paper),
        "savefig.facecolor": "auto",
        "axes.prop_cycle": cycler(color=_DARK if dark else _LIGHT),
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": line,
        "grid.linewidth": 0.5,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "font.size": 10,
        "text.usetex": False,
        "text.parse_math": True,
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A figure of axes one below the other, of these heights in inches; no window is opened."""
    figure = _figure_class()(figsize=(_WIDTH, sum(heights) + 0.3), layout="constrained")
    axes = figure.subplots(len(heights), squeeze=False, gridspec_kw={"height_ratios": heights})
    return figure, list(axes[:, 0])


def drawn_on(ax: Axes | None, height: float) -> tuple[Figure, Axes]:
    """The axes with their figure; new ones of this height in inches where there are none."""
    if ax is not None:
        return ax.figure.figure, ax  # of axes in a subfigure, the whole
    figure, (ax,) = new_figure([height])
    return figure, ax


def styles(count: int) -> list[tuple[str, Any]]:
    """A colour and dashes for each of so many curves; of the theme, so to be asked within it."""
    import matplotlib

    colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    return list(islice(zip(cycle(colours), cycle(DASHES), strict=False), count))


def legend(axes: Axes) -> None:
    """Names of the curves above the axes, in as many columns as their lengths allow."""
    _, labels = axes.get_legend_handles_labels()
    columns = max(1, _LINE // (max(map(len, labels), default=0) + 8))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def plain(text: str) -> str:
    """A text as a label: without mathematics and control characters, and never hidden."""
    text = shorten(printable(text), _MOST_CHARACTERS).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to a file, whole or not at all; in SVG and PDF text stays text.

    Args:
        figure: what one of this package's functions returned.
        path: of the file; its suffix says what it is: .svg, .pdf, .png.

    Raises:
        ValueError: matplotlib does not write files of that suffix.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     initfast.plots.save(initfast.plots.activation("tanh"), f"{folder}/tanh.svg")
    """
    write_whole(path, _file(figure, Path(path).suffix[1:].lower() or "svg"))


def _file(figure: Figure, kind: str) -> bytes:
    """The figure as a file: the same bytes whenever it is written, with text as text."""
    import matplotlib

    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    text_as_text = {"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "initfast"}
    content = io.BytesIO()
    with matplotlib.rc_context(text_as_text):
        figure.savefig(content, format=kind, dpi=150, metadata=undated)
    return content.getvalue()


@cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        """A figure that notebooks show without pyplot, whose list of open figures only grows."""

        def _repr_svg_(self) -> str:
            return _file(self, "svg").decode()

    return ShownFigure
