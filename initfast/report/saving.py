"""A report as a dict or a file of JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from initfast.report.page_json import embedded_json
from initfast.report.run_facts import RunFacts
from initfast.stats.as_dict import as_plain, moments_from_dict
from initfast.stats.layer import Layer, Skipped
from initfast.stats.outcome import RunOutcome

SCHEMA = 2
"""The version of what :func:`as_dict` writes: raised where an older initfast would lose a part.

1: without what layers have of their units (correlation and so on).
"""

_NO_REPORT = "is no report as to_json or to_html writes it"

_KEPT = ("run", "outcome", "inputs", "skipped", "notes", "root", "findings", "skipped_checks")


def as_dict(report: Any) -> dict[str, Any]:
    """Everything in a report as numbers, strings, lists and dicts."""
    layers = [layer.to_dict() for layer in report.layers]
    kept = {name: as_plain(getattr(report, name)) for name in _KEPT}
    return {"schema": SCHEMA, "layers": layers, **kept}


def contents(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of Report from what :func:`as_dict` wrote, directly or through JSON.

    Raises:
        KeyError: it has no layers, or a layer lacks what every layer has.
        ValueError: a later initfast has written it.
    """
    schema = data.get("schema", SCHEMA)
    if schema > SCHEMA:
        raise ValueError(
            f"the report is of schema {schema}, from initfast {data['run']['initfast']}; this "
            f"initfast reads schemas up to {SCHEMA}"
        )
    run = data.get("run")
    return {
        "layers": [Layer.from_dict(layer) for layer in data["layers"]],
        "inputs": list(map(moments_from_dict, data.get("inputs", ()))),
        "skipped": [Skipped(*item) for item in data.get("skipped", ())],
        "notes": list(data.get("notes", ())),
        "root": data.get("root", "net"),
        "run": None if run is None else RunFacts(**run),
        "outcome": RunOutcome.from_dict(data.get("outcome", {})),
    }


def read(path: str | Path) -> dict[str, Any]:
    """The arguments of Report from a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no report, a damaged one, or one of a later initfast.
    """
    file = Path(path).read_bytes()
    try:
        text = file.decode("utf-8-sig")  # editors of Windows write a byte order mark
        data = json.loads(embedded_json(text) if text.startswith("<!DOCTYPE html>") else text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} {_NO_REPORT}: {error}") from error
    if not isinstance(data, dict) or "layers" not in data:
        raise ValueError(f"{path} {_NO_REPORT}: it has no layers")
    try:
        return contents(data)
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} {_NO_REPORT}: its entries do not fit ({what})") from error
