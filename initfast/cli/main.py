"""The command line: ``python -m initfast`` runs the classic experiments."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

import torch

from initfast.cli.theory import explanation
from initfast.experiments.classic import EXPERIMENTS
from initfast.ops.activations import ACTIVATIONS
from initfast.ops.library import load

_MAX_SEED = 2**63 - 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process where None.

    Returns:
        The exit status, 0.

    Raises:
        SystemExit: with status 2 where the arguments are wrong, with 0 after ``--help``.

    Example:
        >>> main(["gain", "--seed", "1"])  # doctest: +ELLIPSIS
        x.std() / tanh(x).std()...
        0
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    names = options.names or list(EXPERIMENTS)
    if options.list:
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
                f"no experiment {unknown[0]!r}; expected one of {known}, or info alone, or theory"
            )
        _run(names, options.seed, options.threads)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m initfast",
        description="Run the classic experiments on signal propagation and print what each shows.",
        epilog="`python -m initfast info` prints what is loaded: kernels, instruction set, torch; "
        "`python -m initfast theory [ACTIVATION]` how a layer and an activation change the scale.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="an experiment; all of them where none is named"
    )
    parser.add_argument("--list", action="store_true", help="list the experiments")
    parser.add_argument("--seed", type=_seed, default=0, help="of every draw (default: 0)")
    parser.add_argument("--threads", type=_threads, help="CPU threads (default: torch's choice)")
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 0 to 2^63 - 1")
    return int(text)


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to 1024")
    return int(text)


def _run(names: Sequence[str], seed: int, threads: int | None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        for number, name in enumerate(names):
            print(*[""] * (number > 0), EXPERIMENTS[name](seed), sep="\n", flush=True)
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
