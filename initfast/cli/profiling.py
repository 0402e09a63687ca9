"""`initfast profile`: a net of one's own, from the shell."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

from initfast.cli import losses
from initfast.cli.failure import Failure
from initfast.cli.formats import FORMATS, WITHOUT_COMPARISON, check_output, coloured, write
from initfast.cli.outcome import Outcome
from initfast.cli.progress import Progress
from initfast.cli.reports import read_report
from initfast.cli.running import add_run_options, input_for, made, profiled
from initfast.cli.sources import place_of
from initfast.cli.targets import add_target, target_of
from initfast.cli.values import tolerance
from initfast.report.comparison import TOLERANCE, Comparison, compare
from initfast.report.report import Report


def add_parser(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "profile",
        help="run a net once and report the scale of the signal at every layer",
        description="Run a net once and report the scale of the signal at every layer. The exit "
        "status is 1 where a finding or a change since the baseline fails the run, 2 where the run "
        "itself failed.",
    )
    add_target(parser)
    add_run_options(parser)
    parser.add_argument("--baseline", metavar="FILE", help="a report that this one must match")
    parser.add_argument(
        "--tolerance", type=tolerance, default=TOLERANCE, help="of its scales (default: 0.05)"
    )
    parser.add_argument(
        "--fail-on", choices=["error", "warning", "never"], default="error", help="default: error"
    )
    parser.add_argument("--format", choices=list(FORMATS), default="text", help="default: text")
    parser.add_argument("--output", metavar="FILE", help="in the place of standard output")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Profile the net; the exit status."""
    check_output(options.output)
    baseline = None if options.baseline is None else read_report(options.baseline, "--baseline")
    target = target_of(options)
    loss = losses.loss_of(options.loss, options.backward, options.seed)
    with Progress() as progress:
        progress.stage(f"making {target.name}")
        net = made(target, options)
        x = input_for(target, options)
        progress.stage(f"profiling {target.name}")
        how = {"loss": loss, "backward": options.backward}
        told = partial(_told, progress)
        report = profiled(net, x, target.name, progress=told, **how)
    comparison = None if baseline is None else _compared(baseline, report, options)
    place = partial(place_of, net, target=target.source)
    outcome = Outcome(target.name, report, options.fail_on, comparison, place)
    text = FORMATS[options.format](outcome)
    if options.format in WITHOUT_COMPARISON and comparison and not comparison.is_same:
        print(comparison, file=sys.stderr)
    is_shown = options.output is None and options.format == "text"
    write(coloured(text) if is_shown else text, options.output)
    return outcome.status


def _told(progress: Progress, stage: str, done: int, total: int) -> None:
    progress.at(done, total)


def _compared(baseline: Report, report: Report, options: argparse.Namespace) -> Comparison:
    comparison = compare(baseline, report, tolerance=options.tolerance)
    if baseline.layers and report.layers and not comparison.matched:
        raise Failure(
            f"--baseline {options.baseline} is of another net: it begins with "
            f"{baseline[0].name!r}, this net with {report[0].name!r}, and no name is in both"
        )
    return comparison
