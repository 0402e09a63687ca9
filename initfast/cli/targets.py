"""TARGET: the net that a command is about, from a module, a file or another library."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from initfast.cli.failure import Failure, user_code


@dataclass(frozen=True)
class Target:
    """A net that is to be made.

    Attributes:
        name: as the user wrote it.
        make: makes the net.
        default_input: an `--input` that fits; "" where the user must say.
        source: the function or class that makes the net, where the user wrote it.
    """

    name: str
    make: Callable[[], Any]
    default_input: str = ""
    source: Any = None


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that :func:`target_of` reads."""
    parser.add_argument(
        "target",
        nargs="?",
        metavar="TARGET",
        help="module:callable or file.py:callable: a net, its class, or a function that makes it",
    )
    group = parser.add_argument_group("nets of other libraries, in the place of TARGET")
    group.add_argument(
        "--hf", metavar="CONFIG", help="a config.json of transformers, or its folder"
    )
    group.add_argument("--timm", metavar="NAME", help="a model of timm, without its weights")
    group.add_argument("--torchvision", metavar="NAME", help="a model of torchvision, likewise")


def target_of(options: argparse.Namespace) -> Target:
    """The net that the arguments name.

    Raises:
        Failure: they name none or several, or what they name cannot be had.
    """
    given = [options.target, options.hf, options.timm, options.torchvision]
    if sum(value is not None for value in given) != 1:
        raise Failure(
            "expected one TARGET (module:callable, file.py:callable), --hf, --timm, or "
            "--torchvision"
        )
    if options.hf is not None:
        return _hf(options.hf)
    if options.timm is not None:
        return _timm(options.timm)
    if options.torchvision is not None:
        return _torchvision(options.torchvision)
    found = resolve(options.target, "TARGET")
    return Target(options.target, lambda: _net_of(found, options.target), source=found)


def resolve(text: str, what: str) -> Any:
    """What ``module:name`` or ``file.py:name`` stands for.

    Args:
        text: the words.
        what: which argument they are.

    Raises:
        Failure: there is no such file, module or name, or importing it raises.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place or not all(map(str.isidentifier, name.split("."))):
        raise Failure(f"{what} is {text!r}; expected module:callable or file.py:callable")
    with user_code(f"importing {place}"):
        module = _from_file(Path(place)) if place.endswith(".py") else _from_module(place)
        value: Any = module
        for part in name.split("."):
            if not hasattr(value, part):
                raise Failure(f"{place} has no {name!r}; it has {_names(module)}")
            value = getattr(value, part)
    return value


def _from_file(path: Path) -> ModuleType:
    """Run a file as a module; its folder is where it imports from, as for a script."""
    if not path.is_file():
        raise Failure(f"there is no file {str(path)!r}")
    _import_from(path.resolve().parent)
    known = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    name = f"initfast_target_{path.stem}" if known else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Failure(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look for it there
    spec.loader.exec_module(module)
    return module


def _from_module(name: str) -> ModuleType:
    _import_from(Path.cwd())
    return pkgutil.resolve_name(name)


def _import_from(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _names(module: ModuleType) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, nn.Module) or getattr(value, "__module__", "") == module.__name__)
    ]
    return ", ".join(own[:8]) or "nothing that makes a net"


def _net_of(found: Any, name: str) -> nn.Module:
    """The net itself, or what a class or function without arguments makes."""
    if isinstance(found, nn.Module):
        return found
    if isinstance(found, type) and not issubclass(found, nn.Module):
        raise Failure(f"{name} is the class {found.__name__}, which is no torch.nn.Module")
    if not callable(found):
        raise Failure(
            f"{name} is a {type(found).__name__}; expected a net or a function that makes one"
        )
    needed = _needed(found)
    if needed:
        raise Failure(
            f"{name} needs arguments ({', '.join(needed)}); name a function without arguments "
            "that makes the net"
        )
    with user_code(name):
        net = found()
    if not isinstance(net, nn.Module):
        raise Failure(f"{name} returned a {type(net).__name__}; expected a torch.nn.Module")
    return net


def _needed(function: Callable[..., Any]) -> list[str]:
    """The arguments that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]


def _hf(config: str) -> Target:
    if not Path(config).exists():
        raise Failure(
            f"there is no file or folder {config!r}; expected a config.json, or its folder"
        )
    os.environ["HF_HUB_OFFLINE"] = "1"
    with user_code("--hf"):
        transformers = _library("transformers")
        known = transformers.AutoConfig.from_pretrained(config, local_files_only=True)

    def make() -> Any:
        kinds = [getattr(transformers, name, None) for name in known.architectures or ()]
        kind = next((kind for kind in kinds if kind is not None), None)
        with user_code(f"--hf {config}"):
            return transformers.AutoModel.from_config(known) if kind is None else kind(known)

    words = getattr(known, "vocab_size", None)
    longest = getattr(known, "max_position_embeddings", None) or 64
    return Target(config, make, f"2,{min(64, longest)}:int64:0:{words}" if words else "")


def _timm(name: str) -> Target:
    with user_code("--timm"):
        timm = _library("timm")
        if not timm.is_model(name):
            raise Failure(f"timm has no model {name!r}")
        size = timm.get_pretrained_cfg(name)
    shape = getattr(size, "input_size", None) or (3, 224, 224)

    def make() -> Any:
        with user_code(f"--timm {name}"):
            return timm.create_model(name, pretrained=False)

    return Target(name, make, ",".join(map(str, (8, *shape))))


def _torchvision(name: str) -> Target:
    with user_code("--torchvision"):
        models = _library("torchvision").models
        if name not in models.list_models():
            raise Failure(f"torchvision has no model {name!r}")

    def make() -> Any:
        with user_code(f"--torchvision {name}"):
            return models.get_model(name, weights=None)

    return Target(name, make, "8,3,224,224")


def _library(name: str) -> Any:
    try:
        return pkgutil.resolve_name(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise Failure(f"there is no {name}; install it with: pip install {name}") from error
