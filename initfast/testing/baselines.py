"""Baselines: a file of reports by test; Checks: the pytest plugin's fixture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from initfast.profiling.arguments import NO_TARGETS
from initfast.profiling.profile import profile
from initfast.report.comparison import TOLERANCE, compare
from initfast.report.report import Report
from initfast.stats.as_dict import json_text
from initfast.testing.health import assert_healthy
from initfast.whole_file import write_whole

_SCHEMA = 1


class Baselines:
    """The reports that tests compare with, in one JSON file.

    Args:
        path: of the file; None: there is none, and asking for a report fails.
        update: take the reports of this run in the place of those in the file.

    Raises:
        ValueError: the file is no such file.
        OSError: it cannot be read.
    """

    def __init__(self, path: str | None, update: bool) -> None:
        self.path = None if path is None else Path(path)
        self.update = update
        self._reports: dict[str, Any] = {}
        self._is_changed = False
        if self.path is not None and (self.path.exists() or not update):
            self._reports = _read(self.path)

    def of(self, key: str) -> Report:
        """The report that is kept under a key.

        Raises:
            AssertionError: there is no file, or no such report in it.
        """
        if self.path is None:
            raise AssertionError("assert_unchanged needs pytest's --initfast-baseline FILE")
        if key not in self._reports:
            raise AssertionError(
                f"{self.path} has no report of {key}; write it with --initfast-update"
            )
        return Report.from_dict(self._reports[key])

    def keep(self, key: str, report: Report) -> None:
        """Take a report for the file."""
        self._reports[key] = report.to_dict()
        self._is_changed = True

    def save(self) -> None:
        """Write the file if a report was kept; those of tests that did not run stay."""
        if self.path is None or not self._is_changed:
            return
        plain = {"schema": _SCHEMA, "reports": dict(sorted(self._reports.items()))}
        write_whole(self.path, f"{json_text(plain)}\n".encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {plain['schema']!r}")
        return dict(plain["reports"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no baseline of schema {_SCHEMA} ({error}); write it anew with "
            "--initfast-update"
        ) from error


class Checks:
    """What the fixture `initfast` gives a test.

    Args:
        baselines: of the run.
        test: the test's name, under which its reports are kept.
    """

    assert_healthy = staticmethod(assert_healthy)

    def __init__(self, baselines: Baselines, test: str) -> None:
        self._baselines = baselines
        self._test = test

    def assert_unchanged(
        self,
        net: Callable[..., Any],
        x: Any,
        *,
        loss: Callable[..., Any] | None = None,
        targets: Any = NO_TARGETS,
        name: str = "",
        tolerance: float = TOLERANCE,
    ) -> Report:
        """Profile a net and raise AssertionError where it differs from the baseline.

        Args:
            net: as :func:`initfast.profile` takes it.
            x: the input, likewise.
            loss: makes a scalar of the output, so that gradients are compared too.
            targets: loss is called as loss(output, targets).
            name: tells several nets of one test apart.
            tolerance: by what share a scale may differ.

        Returns:
            The report.

        Raises:
            AssertionError: its text is what has changed, by the layers' names; or there is no
                baseline of this test.
        """
        key = f"{self._test}[{name}]" if name else self._test
        report = profile(net, x, loss=loss, targets=targets)
        if self._baselines.update:
            self._baselines.keep(key, report)
            return report
        comparison = compare(self._baselines.of(key), report, tolerance=tolerance)
        if not comparison.is_same:
            raise AssertionError(str(comparison))
        return report
