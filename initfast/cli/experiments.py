"""The classic experiments, what is loaded, and what theory says: without a subcommand."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from initfast.cli.theory import explanation
from initfast.cli.values import Parser, seed, threads
from initfast.experiments.classic import EXPERIMENTS
from initfast.ops.activations import ACTIVATIONS
from initfast.ops.library import load
from initfast.version import __version__

COMMANDS = """\
commands:
  initfast profile TARGET       a net of your own: what explodes, vanishes, saturates, and why
  initfast compare A B          what differs between two reports
  initfast audit TARGET         what its weights were drawn from, without running it
  initfast repair TARGET        do what the findings say, and save the weights
  initfast theory [ACTIVATION]  how a layer and an activation change the scale
  initfast info                 what is loaded: kernels, instruction set, torch
`initfast profile --help` lists its options, and so do the others."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments that are named, all of them where none is.

    Args:
        arguments: without the program's name; those of the process where None.

    Returns:
        The exit status, 0.

    Raises:
        SystemExit: with status 2 where the arguments are wrong, with 0 after ``--help``.

    Example:
        >>> run(["gain", "--seed", "1"])  # doctest: +ELLIPSIS
        x.std() / tanh(x).std()...
        0
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    names = options.names or list(EXPERIMENTS)
    if options.version:
        print(f"initfast {__version__}")
    elif options.list:
        print(_list())
    elif names == ["info"]:
        print(_info())
    elif names[0] == "theory":
        _theory(parser, names[1:])
    else:
        unknown = [name for name in names if name not in EXPERIMENTS]
        if unknown:
            known = ", ".join(EXPERIMENTS)
            parser.error(
                f"no experiment {unknown[0]!r}; expected one of {known}, or alone a command: "
                "profile, compare, audit, repair, theory or info"
            )
        try:
            _run(names, options.seed, options.threads, options.plot)
        except (ImportError, OSError) as error:
            if options.plot is None or isinstance(error, BrokenPipeError):
                raise
            parser.error(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="initfast",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run the classic experiments on signal propagation and print what each shows.",
        epilog=COMMANDS,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="an experiment; all of them where none is named"
    )
    parser.add_argument("--list", action="store_true", help="list the experiments")
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("--seed", type=seed, default=0, help="of every draw (default: 0)")
    parser.add_argument("--threads", type=threads, help="CPU threads (default: torch's choice)")
    parser.add_argument(
        "--plot", type=Path, metavar="DIR", help="also draw each experiment, to DIR/NAME.svg"
    )
    return parser


def _run(names: Sequence[str], number: int, count: int | None, plots: Path | None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        for place, name in enumerate(names):
            result = EXPERIMENTS[name](number)
            print(*[""] * (place > 0), result, sep="\n", flush=True)
            if plots is not None:
                from initfast.cli.figures import write_figure  # matplotlib's second, when asked

                write_figure(result, number, plots / f"{name}.svg")
    finally:
        torch.set_num_threads(before)


def _theory(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    if len(names) > 1 or not set(names) <= set(ACTIVATIONS):
        known = ", ".join(ACTIVATIONS)
        parser.error(f"theory takes one activation of {known}; it was given {' '.join(names)}")
    print(explanation(*names))


def _list() -> str:
    width = max(map(len, EXPERIMENTS))
    return "\n".join(
        f"{name:<{width}}  {(function.__doc__ or '').splitlines()[0]}"
        for name, function in EXPERIMENTS.items()
    )


def _info() -> str:
    facts = dataclasses.asdict(load())
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())
