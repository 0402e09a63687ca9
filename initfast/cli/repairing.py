"""`initfast audit` and `initfast repair`: a net's parameters, looked at and put right."""

from __future__ import annotations

import argparse
from typing import Any

from torch import nn

from initfast.cli.failure import Failure, one_line, user_code
from initfast.cli.formats import check_output, coloured, write
from initfast.cli.losses import loss_of
from initfast.cli.progress import Progress
from initfast.cli.running import add_net_options, add_run_options, input_for, made, running
from initfast.cli.targets import add_target, target_of
from initfast.profiling.random_cotangent import random_projection
from initfast.stats.text import printable
from initfast.testing.health import at_level
from initfast.whole_file import replacing

_LEVELS = ["error", "warning", "never"]


def add_audit_parser(commands: Any) -> None:
    """Add `audit` to argparse's subcommands."""
    parser = commands.add_parser(
        "audit",
        help="what a net's parameters were drawn from, without running it",
        description="What a net's parameters were drawn from, without running it.",
    )
    add_target(parser)
    add_net_options(parser)
    parser.add_argument("--fail-on", choices=_LEVELS, default="error", help="default: error")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")
    parser.add_argument("--output", metavar="FILE", help="in the place of standard output")
    parser.set_defaults(run=_run_audit)


def add_repair_parser(commands: Any) -> None:
    """Add `repair` to argparse's subcommands."""
    parser = commands.add_parser(
        "repair",
        help="do what the findings say, and keep what makes the net better",
        description="Do what the findings say, and keep what makes the net better.",
    )
    add_target(parser)
    add_run_options(parser)
    parser.add_argument("--save", metavar="FILE", help="write the weights, as safetensors")
    parser.add_argument("--fail-on", choices=_LEVELS, default="error", help="default: error")
    parser.set_defaults(run=_run_repair, output=None)


def _run_audit(options: argparse.Namespace) -> int:
    from initfast.repair.auditing import audit

    check_output(options.output)
    target = target_of(options)
    with Progress() as progress:
        progress.stage(f"making {target.name}")
        net = made(target, options)
        progress.stage(f"auditing {target.name}")
        with user_code(f"auditing {target.name}"):
            found = audit(net)
    is_shown = options.output is None and options.format == "text"
    text = found.to_json() if options.format == "json" else str(found)
    write(coloured(text) if is_shown else text, options.output)
    return int(bool(at_level(found.findings, options.fail_on)))


def _run_repair(options: argparse.Namespace) -> int:
    from initfast.repair.repairing import repair_

    check_output(options.save, "--save")
    target = target_of(options)
    loss = loss_of(options.loss, options.backward, options.seed)
    loss = random_projection if options.backward == "random" else loss
    with Progress() as progress:
        progress.stage(f"making {target.name}")
        net, x = made(target, options), input_for(target, options)
        progress.stage(f"repairing {target.name}")
        with running(net, target.name):
            done = repair_(net, x, loss=loss)
    if options.save is not None:
        _save(net, options.save)
    write(coloured(str(done)), None)
    return int(bool(at_level(done.after.findings, options.fail_on)))


def _save(net: nn.Module, path: str) -> None:
    try:
        from safetensors.torch import save_model
    except ImportError as error:
        raise Failure("--save needs safetensors: pip install safetensors") from error
    try:
        with replacing(path) as beside:
            save_model(net, str(beside))
    except Exception as error:
        raise Failure(f"--save {printable(path)}: {one_line(error)}") from error
