"""`initfast compare`: what differs between two reports that were kept."""

from __future__ import annotations

import argparse
from typing import Any

from initfast.cli.formats import coloured, write
from initfast.cli.reports import read_report
from initfast.cli.values import tolerance
from initfast.report.comparison import TOLERANCE, compare
from initfast.stats.as_dict import json_text


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "compare",
        help="what differs between two reports",
        description="What differs between two reports. The exit status is 1 where something does.",
    )
    parser.add_argument("a", metavar="A", help="a report that --format json or html has written")
    parser.add_argument("b", metavar="B", help="another")
    parser.add_argument(
        "--tolerance", type=tolerance, default=TOLERANCE, help="of scales (default: 0.05)"
    )
    parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")
    parser.add_argument("--output", metavar="FILE", help="in the place of standard output")
    parser.add_argument("--verbose", action="store_true", help="with the traceback of a failure")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare the reports; the exit status."""
    a, b = read_report(options.a, "A"), read_report(options.b, "B")
    found = compare(a, b, tolerance=options.tolerance)
    if options.format == "json":
        write(json_text(found.to_dict()), options.output)
    else:
        write(coloured(str(found)) if options.output is None else str(found), options.output)
    return int(not found.is_same)
