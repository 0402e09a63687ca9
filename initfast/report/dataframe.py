"""A report as a table of plain columns, one row for each layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from initfast.stats.layer import Layer
from initfast.stats.moments import Moments
from initfast.stats.text import dtype_name
from initfast.stats.unit_moments import UnitMoments, UnitStatistics
from initfast.stats.weight import Weight

if TYPE_CHECKING:
    import pandas

    from initfast.stats.attention import Attention


def frame_of(layers: Sequence[Layer]) -> pandas.DataFrame:
    """One row for each layer; of a layer with several weights, columns with each one's name.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "to_dataframe needs pandas; install it with: pip install 'initfast[frame]'"
        ) from error
    columns, rows = flat_rows(layers)
    return pandas.DataFrame(rows, columns=columns)


def flat_rows(layers: Sequence[Layer]) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of such a table, and its rows, which lack the columns that do not apply."""
    rows = [_flat(layer) for layer in layers]
    several = dict.fromkeys(column for row in rows for column in row if column not in _COLUMNS)
    return [*_COLUMNS, *several], rows


_OWN = ("name", "op", "type", "input_shape", "shape", "dtype")
_OUTPUT = (
    *("mean", "std", "rms", "min", "max", "zeros", "saturated", "nonfinite", "nan", "inf"),
    *("skew", "kurtosis", "smallest", "dynamic_range", "crest"),
    *("correlation", "batch_std", "unit_spread", "outlier_ratio"),
)
_DERIVED = ("dead_units", "gain", "grad_to_weight")
_COLUMNS = (
    *_OWN,
    *_OUTPUT,
    *("pre_mean", "pre_std", "weight_std", "fan_in", "fan_out", "dead_units", "gain"),
    *("grad_mean", "grad_std", "grad_rms", "weight_grad_std", "weight_grad_rms", "grad_to_weight"),
)


def _flat(layer: Layer) -> dict[str, Any]:
    row = {name: getattr(layer, name) for name in (*_OWN, *_OUTPUT, *_DERIVED)}
    row["dtype"] = dtype_name(layer.dtype)
    row |= _of("pre", layer.pre, ("mean", "std"))
    row |= _of("grad", layer.grad, ("mean", "std", "rms"))
    row |= _of("weight", layer.weight, ("std",)) | _of("", layer.weight, ("fan_in", "fan_out"))
    row |= _of("weight_grad", layer.weight_grad, ("std", "rms"))
    row |= _of("", layer.attention, ("largest_logit", "logit_std"))
    row |= _of("attention", layer.attention, ("entropy",))
    row |= _of("per_sample", layer.per_sample, ("correlation", "batch_std"))
    if layer.branch is not None:
        row |= {name: getattr(layer, name) for name in ("branch_ratio", "branch_cosine")}
    for name, weight in layer.weights.items():
        row |= _of(name, weight, ("std", "fan_in", "fan_out"))
    for name, grad in layer.weight_grads.items():
        row |= _of(f"{name}_grad", grad, ("std", "rms"))
    return row


def _of(
    what: str,
    known: Moments | Weight | Attention | UnitMoments | UnitStatistics | None,
    columns: Iterable[str],
) -> dict[str, Any]:
    if known is None:
        return {}
    return {f"{what}_{name}" if what else name: getattr(known, name) for name in columns}
