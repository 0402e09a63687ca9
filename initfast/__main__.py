"""``python -m initfast``: see :mod:`initfast.cli.main`."""

from initfast.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run())
