"""What a user sees of the package: its names, their documentation, and nothing else."""

import importlib
import pkgutil
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import initfast

PACKAGES = ["experiments", "init", "ops", "plots", "theory", "thresholds"]


def test_dir_is_all():
    assert dir(initfast) == sorted(initfast.__all__)
    assert all(hasattr(initfast, name) for name in initfast.__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_public_packages_are_attributes_and_importable(name):
    assert getattr(initfast, name) is importlib.import_module(f"initfast.{name}")
    alone = f"import initfast.{name}; print(initfast.{name}.__name__)"
    run = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True)
    assert run.stdout.strip() == f"initfast.{name}", run.stderr


def test_every_package_that_is_public_says_what_it_has():
    for name in ("init", "ops", "plots", "theory", "experiments"):
        package = getattr(initfast, name)
        assert package.__all__ == sorted(package.__all__)
        assert all(hasattr(package, each) for each in package.__all__)


def test_importing_the_package_loads_what_a_compiler_may_meet_first_and_little_else():
    """What measures, judges and repairs is loaded when it is used: the import stays short."""
    code = "import sys, torch, initfast; print(*(m for m in sys.modules if m[:9] == 'initfast.'))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in run.stdout.split()}
    assert {"init", "ops"} <= rooms
    assert rooms.isdisjoint(
        {"diagnosis", "interception", "nets", "prediction", "profiling", "recording", "report"}
    )
    assert len(run.stdout.split()) < 45


def test_every_name_can_be_the_first_that_is_used():
    """Each is loaded by itself, whatever the order: in a process that has used no other."""
    code = """
import os, torch, initfast
for name in initfast.__all__:
    if (child := os.fork()) == 0:
        found = getattr(initfast, name)
        os._exit(found.__name__ not in (name, f"initfast.{name}"))
    print(name, os.waitpid(child, 0)[1])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:-1] == [f"{name} 0" for name in initfast.__all__], run.stderr


def test_help_begins_with_what_one_does():
    text = pydoc.plain(pydoc.render_doc(initfast))
    head = text[: text.index("PACKAGE CONTENTS")]
    assert head.index("See and repair") < head.index("initfast.profile(net, x)")


def test_no_module_is_named_as_a_function_beside_it():
    """Importing it would put the module in the function's place."""
    modules = {m.name for m in pkgutil.iter_modules(initfast.__path__)} - set(PACKAGES)
    assert modules.isdisjoint(initfast.__all__)


def test_no_module_of_a_public_package_is_named_as_a_function_in_it():
    for name in ("experiments", "init", "ops", "plots", "theory"):
        package = getattr(initfast, name)
        modules = {m.name for m in pkgutil.iter_modules(package.__path__)}
        assert modules.isdisjoint(package.__all__)


def test_what_the_readme_names_is_there():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"(?<![\w.])initfast((?:\.[A-Za-z_]+)+)", text))
    assert len(names) > 8
    for name in names:
        found = initfast
        for part in name[1:].split("."):
            found = getattr(found, part)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = initfast.nothing
