"""The command line: ``initfast`` and ``python -m initfast``."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from initfast.cli import comparing, experiments, profiling, repairing
from initfast.cli.failure import Failure, one_line
from initfast.cli.formats import drop_output
from initfast.cli.values import Parser

COMMANDS = {
    "profile": profiling.add_parser,
    "compare": comparing.add_parser,
    "audit": repairing.add_audit_parser,
    "repair": repairing.add_repair_parser,
}
"""What adds each subcommand to argparse's; without one, the arguments name experiments."""

_INTERRUPTED = 130
"""The status of a process that SIGINT has ended, as shells count: 128 + 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process where None.

    Returns:
        The exit status: 0, 1 where findings or changes fail the run, 2 where the run itself failed.

    Raises:
        SystemExit: with status 2 where the arguments are wrong, with 0 after ``--help``.

    Example:
        >>> main(["gain", "--seed", "1"])  # doctest: +ELLIPSIS
        x.std() / tanh(x).std()...
        0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in COMMANDS:
        return experiments.run(given)
    parser = Parser(prog="initfast")
    commands = parser.add_subparsers(parser_class=Parser)
    COMMANDS[given[0]](commands)
    options = parser.parse_args(given)
    try:
        return int(options.run(options))
    except Exception as error:  # whatever is not a Failure is a fault of ours, and no finding
        if options.verbose:
            traceback.print_exception(error)
        text = str(error) if isinstance(error, Failure) else f"initfast raised {one_line(error)}"
        print(f"initfast: {text}", file=sys.stderr)
        return 2


def run() -> int:
    """The same for a process: interrupted, or with a reader that goes, it ends quietly."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    try:
        status = main()
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader (`| head`) has seen enough of the experiments
        drop_output()
        return 0
    except OSError as error:
        drop_output()
        print(f"initfast: cannot write standard output: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("initfast: interrupted", file=sys.stderr)
        return _INTERRUPTED
