"""Holds build_info() of the installed package to what a CI step expects.

usage: python expect.py native|reference [instruction set]
"""

import os
import sys
from pathlib import Path

import torch

import initfast

backend, isa = [*sys.argv[1:], None][:2]
info = initfast.build_info()
print(info)
where = Path(initfast.__file__).resolve()
assert where.is_relative_to(Path(sys.prefix).resolve()), f"{where} is not the installed package"
assert info.backend == backend, f"expected the {backend} backend"
assert isa is None or info.isa == isa, f"expected the instruction set {isa}"
assert info.torch_running == torch.__version__
torch_version = os.environ["TORCH"]
assert torch.__version__.split("+")[0] == torch_version, f"expected torch {torch_version}"
if backend == "native":
    assert info.torch_built == torch.__version__, "built against another torch"
