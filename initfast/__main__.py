"""``python -m initfast``: see :mod:`initfast.cli.main`."""

import os
import sys

from initfast.cli.main import main

if __name__ == "__main__":
    try:
        status = main()
    except BrokenPipeError:
        # The reader (`| head`) has gone: end quietly, also when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    raise SystemExit(status)
