"""The documentation of initfast as a site, from the docstrings: python .github/build_docs.py DIR"""

import sys
from pathlib import Path

import pdoc

import initfast

if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python .github/build_docs.py DIR")
    for name in initfast.__all__:  # pdoc does not ask a module for what it imports later
        setattr(initfast, name, getattr(initfast, name))
    pdoc.pdoc("initfast", "!initfast._C", output_directory=Path(sys.argv[1]))
