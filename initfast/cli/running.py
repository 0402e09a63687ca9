"""Making the net that a command is about, and its input, and running it."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import nn

from initfast.cli import inputs, losses
from initfast.cli.failure import Failure, one_line, user_code
from initfast.cli.targets import Target
from initfast.cli.values import seed
from initfast.nets.names import is_blamed
from initfast.profiling.profile import profile
from initfast.report.report import Report

_MISFITS = (RuntimeError, IndexError, ValueError, TypeError)
"""What torch raises for an input that does not fit; profile() notes in which layer."""


def add_net_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`made`."""
    floats = [name for name, dtype in inputs.DTYPES.items() if dtype.is_floating_point]
    parser.add_argument("--dtype", choices=floats, help="of the net and of its inputs")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--train", action="store_true", help="in training mode (default: as made)")
    mode.add_argument("--eval", action="store_true", help="in evaluation mode")
    parser.add_argument("--scheme", metavar="NAME", help="initialise the net by it first")
    parser.add_argument("--seed", type=seed, default=0, help="of every draw (default: 0)")
    parser.add_argument("--device", default="cpu", help="such as cuda (default: cpu)")
    parser.add_argument("--verbose", action="store_true", help="with the traceback of a failure")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run: the net's, its input and its loss."""
    add_net_options(parser)
    parser.add_argument("--input", action="append", metavar="INPUT", help=inputs.HELP)
    parser.add_argument("--loss", metavar="LOSS", help=losses.HELP)
    parser.add_argument(
        "--backward", choices=["random"], help="without a loss: from a random cotangent"
    )


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


def made(target: Target, options: argparse.Namespace) -> nn.Module:
    """The net, in the dtype and mode and on the device that the options say."""
    device = _device(options.device)
    _seed_all(options.seed)
    net: nn.Module = target.make()
    try:
        net = net.to(device, None if options.dtype is None else inputs.DTYPES[options.dtype])
    except Exception as error:
        raise Failure(f"moving {target.name} raised {one_line(error)}") from error
    if options.scheme is not None:
        from initfast.repair.initialize import initialize_

        with user_code(f"--scheme {options.scheme}"):
            initialize_(net, scheme=options.scheme, seed=options.seed)
    if options.train or options.eval:
        net.train(options.train)
    return net


def input_for(target: Target, options: argparse.Namespace) -> Any:
    """What the net is given: the same numbers however many the net has drawn."""
    _seed_all(options.seed)
    texts: Sequence[str] = options.input or [target.default_input]
    if not texts[0]:
        raise Failure(
            "--input is missing; expected a shape such as --input 16,256, or file.py:make_input"
        )
    dtype = None if options.dtype is None else inputs.DTYPES[options.dtype]
    return inputs.moved(inputs.input_of(texts, dtype), _device(options.device))


def profiled(net: nn.Module, x: Any, name: str, **options: Any) -> Report:
    """The report of one run, with its findings; the options are those of profile()."""
    with running(net, name):
        report = profile(net, x, **options)
        report.findings  # noqa: B018  (found here, with the failures of this run)
        return report


@contextmanager
def running(net: nn.Module, name: str) -> Iterator[None]:
    """Run the net: an error is a Failure that says what the first layer wants."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Failure:
        raise
    except (Exception, SystemExit) as error:
        is_misfit = isinstance(error, _MISFITS) and is_blamed(error)
        hint = inputs.wanted(net) if is_misfit else ""
        raise Failure(f"{name} raised {one_line(error)}{'; ' * bool(hint)}{hint}") from error
