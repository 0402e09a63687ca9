"""Reports that were kept: baselines, and what `initfast compare` takes."""

from __future__ import annotations

from pathlib import Path

from initfast.cli.failure import Failure, one_line
from initfast.report.report import Report


def read_report(path: str, what: str) -> Report:
    """The report in a file that `--format json` or `Report.to_json` has written, or a page of it.

    Args:
        path: of the file.
        what: which argument it is.

    Raises:
        Failure: there is no such file, or it holds no report that this version reads.
    """
    try:
        if not Path(path).is_file():
            raise Failure(f"{what}: there is no file {path!r}")
        report = Report.load(path)
        report.findings  # noqa: B018  (a layer that lacks numbers is found here)
        return report
    except OSError as error:
        raise Failure(f"{what} {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(
            f"{what} {path} holds no report that this initfast can read ({one_line(error)}); "
            "expected what --format json or html writes"
        ) from error
