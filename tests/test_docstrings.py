"""The examples in the docstrings run, and give what they say."""

import doctest
import importlib
import os
import pkgutil

import pytest
import torch
from torch import nn

import initfast

NOT_IMPORTED = ("initfast._C", "initfast.__main__")  # operators only; the command line
MODULES = [m.name for m in pkgutil.walk_packages(initfast.__path__, "initfast.")]
TORCHS = "initfast.init.patch.Replaced."  # torch's own functions, once they have been replaced
LIBRARIES = {  # what a module of `integrations` imports; the test extra lacks them
    f"initfast.integrations.{name}": name
    for name in ("lightning", "tensorboard", "transformers", "wandb")
}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", [m for m in MODULES if m not in NOT_IMPORTED])
def test_examples(name):
    if name in LIBRARIES and os.environ.get("INITFAST_REAL_NETS") != "1":
        pytest.importorskip(LIBRARIES[name])
    module = importlib.import_module(name)
    known = {"torch": torch, "nn": nn, "initfast": initfast}
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for example in doctest.DocTestFinder().find(module, extraglobs=known):
        if not example.name.startswith(TORCHS):
            assert runner.run(example).failed == 0
