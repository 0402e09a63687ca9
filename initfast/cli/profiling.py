"""`initfast profile`: a net of one's own, from the shell."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from initfast.cli import inputs, losses
from initfast.cli.failure import Failure, one_line
from initfast.cli.formats import FORMATS, coloured, write
from initfast.cli.outcome import Outcome
from initfast.cli.progress import Progress
from initfast.cli.reports import read_report
from initfast.cli.sources import place_of
from initfast.cli.targets import Target, add_target, target_of
from initfast.cli.values import seed, tolerance
from initfast.profiling.profile import profile
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
    parser.add_argument("--input", action="append", metavar="INPUT", help=inputs.HELP)
    floats = [name for name, dtype in inputs.DTYPES.items() if dtype.is_floating_point]
    parser.add_argument("--dtype", choices=floats, help="of the net and of its inputs")
    parser.add_argument("--loss", metavar="LOSS", help=losses.HELP)
    parser.add_argument(
        "--backward", choices=["random"], help="go back from normal gradients at the output"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--train", action="store_true", help="in training mode (default: as made)")
    mode.add_argument("--eval", action="store_true", help="in evaluation mode")
    parser.add_argument("--seed", type=seed, default=0, help="of every draw (default: 0)")
    parser.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")
    parser.add_argument("--baseline", metavar="FILE", help="a report that this one must match")
    parser.add_argument(
        "--tolerance", type=tolerance, default=TOLERANCE, help="of its scales (default: 0.05)"
    )
    parser.add_argument(
        "--fail-on", choices=["error", "warning", "never"], default="error", help="default: error"
    )
    parser.add_argument("--format", choices=list(FORMATS), default="text", help="default: text")
    parser.add_argument("--output", metavar="FILE", help="in the place of standard output")
    parser.add_argument("--verbose", action="store_true", help="with the traceback of a failure")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Profile the net; the exit status."""
    _check_output(options.output)
    baseline = None if options.baseline is None else read_report(options.baseline, "--baseline")
    target = target_of(options)
    loss = losses.loss_of(options.loss, options.backward, options.seed)
    with Progress() as progress:
        progress.stage(f"making {target.name}")
        net = _made(target, options)
        x = _input(target, options)
        progress.stage(f"profiling {target.name}")
        report = _profiled(net, x, loss, target.name)
    comparison = None if baseline is None else _compared(baseline, report, options)
    place = partial(place_of, net, target=target.source)
    outcome = Outcome(target.name, report, options.fail_on, comparison, place)
    text = FORMATS[options.format](outcome)
    is_shown = options.output is None and options.format == "text"
    write(coloured(text) if is_shown else text, options.output)
    return outcome.status


def _check_output(path: str | None) -> None:
    """Know before a long run that its result can be written."""
    if path is None:
        return
    if Path(path).is_dir():
        raise Failure(f"--output {path} is a folder; expected a file")
    if not Path(path).parent.is_dir():
        raise Failure(f"--output {path}: there is no folder {str(Path(path).parent)!r}")


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise Failure(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device


def _seed_all(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)


def _made(target: Target, options: argparse.Namespace) -> nn.Module:
    device = _device(options.device)
    _seed_all(options.seed)
    net: nn.Module = target.make()
    try:
        net = net.to(device, None if options.dtype is None else inputs.DTYPES[options.dtype])
    except Exception as error:
        raise Failure(f"moving {target.name} raised {one_line(error)}") from error
    if options.train or options.eval:
        net.train(options.train)
    return net


def _input(target: Target, options: argparse.Namespace) -> Any:
    """Drawn by itself, so that it does not depend on how much the net has drawn."""
    _seed_all(options.seed)
    texts: Sequence[str] = options.input or [target.default_input]
    if not texts[0]:
        raise Failure(
            "--input is missing; expected a shape such as --input 16,256, or file.py:make_input"
        )
    dtype = None if options.dtype is None else inputs.DTYPES[options.dtype]
    return inputs.moved(inputs.input_of(texts, dtype), _device(options.device))


def _profiled(net: nn.Module, x: Any, loss: Any, name: str) -> Report:
    try:
        with redirect_stdout(sys.stderr):
            report = profile(net, x, loss=loss)
            report.findings  # noqa: B018  (found here, with the failures of this run)
            return report
    except Failure:
        raise
    except (Exception, SystemExit) as error:
        hint = inputs.wanted(net)
        raise Failure(f"{name} raised {one_line(error)}{'; ' * bool(hint)}{hint}") from error


def _compared(baseline: Report, report: Report, options: argparse.Namespace) -> Comparison:
    comparison = compare(baseline, report, tolerance=options.tolerance)
    if baseline.layers and report.layers and not comparison.matched:
        raise Failure(
            f"--baseline {options.baseline} is of another net: it begins with "
            f"{baseline[0].name!r}, this net with {report[0].name!r}, and no name is in both"
        )
    return comparison
