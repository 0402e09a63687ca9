"""--input: what the net is given, from a shape or from a function of the user's."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from initfast.cli.failure import Failure, one_line, user_code
from initfast.cli.targets import resolve

HELP = (
    "a shape (16,256: normal numbers), with a dtype and a range (2,128:int64:0:50257: from 0 to "
    "50256), or file.py:make_input; repeat it for several arguments"
)

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float32, torch.float64, torch.bfloat16, torch.float16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}

_SHAPE = re.compile(
    r"(?P<sizes>\d+(,\d+)*),?(:(?P<dtype>[a-z]\w*))?(:(?P<low>[^:]+):(?P<high>[^:]+))?"
)


def input_of(texts: Sequence[str], dtype: torch.dtype | None) -> Any:
    """What the net is called with: a tensor, or a tuple of the arguments.

    Args:
        texts: each `--input`, in order.
        dtype: of the inputs that name none.

    Raises:
        Failure: one is no shape and no function, or its function raises.
    """
    values = [_one(text, dtype or torch.float32) for text in texts]
    return values[0] if len(values) == 1 else tuple(values)


def _one(text: str, dtype: torch.dtype) -> Any:
    if not text[:1].isdecimal():
        found = resolve(text, "--input")
        if not callable(found) or isinstance(found, Tensor):
            return found
        with user_code(text):
            return found()
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise Failure(
            f"--input is {text!r}; expected a shape such as 16,256, or one with a dtype and a "
            "range such as 2,128:int64:0:50257, or file.py:make_input"
        )
    sizes = [int(size) for size in match["sizes"].split(",")]
    if match["dtype"] is not None:
        if match["dtype"] not in DTYPES:
            raise Failure(
                f"--input {text}: no dtype {match['dtype']!r}; expected one of {', '.join(DTYPES)}"
            )
        dtype = DTYPES[match["dtype"]]
    try:
        return _drawn(text, sizes, dtype, match["low"], match["high"])
    except (RuntimeError, TypeError) as error:  # more than memory, or than torch's sizes, can hold
        raise Failure(f"--input {text} raised {one_line(error)}") from error


def _drawn(
    text: str, sizes: Sequence[int], dtype: torch.dtype, low: str | None, high: str | None
) -> Tensor:
    if dtype is torch.bool:
        return torch.rand(tuple(sizes)) < 0.5
    if low is None or high is None:
        if not dtype.is_floating_point:
            raise Failure(f"--input {text}: integers need a range, such as {text}:0:50257")
        return torch.randn(tuple(sizes)).to(dtype)
    try:
        ends = [float(low), float(high)]
    except ValueError:
        raise Failure(f"--input {text}: {low}:{high} is no range of numbers") from None
    if not ends[0] < ends[1] or not all(map(math.isfinite, ends)):
        raise Failure(f"--input {text}: the range {low}:{high} is empty; the end is left out")
    if dtype.is_floating_point:
        return torch.empty(tuple(sizes), dtype=torch.float64).uniform_(*ends).to(dtype)
    kind = torch.iinfo(dtype)
    if not (kind.min <= ends[0] and ends[1] - 1 <= kind.max):
        raise Failure(f"--input {text}: {dtype} holds {kind.min} to {kind.max}")
    return torch.randint(int(ends[0]), int(ends[1]), tuple(sizes)).to(dtype)


def moved(value: Any, device: torch.device) -> Any:
    """The same on a device: tensors in tuples, lists and dicts too."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: moved(item, device) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(moved(item, device) for item in value)
    return value


def wanted(net: nn.Module) -> str:
    """What the first layer with weights takes, in words; "" where that is not known."""
    for name, module in net.named_modules():
        words = _wanted(module)
        if words:
            return f"the first layer, {name or 'the net'} ({type(module).__name__}), takes {words}"
    return ""


def _wanted(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return f"float inputs whose last dimension is {module.in_features}"
    if isinstance(module, nn.Embedding):
        return f"integers from 0 to {module.num_embeddings - 1}, as 2,16:int64:0:" + str(
            module.num_embeddings
        )
    if isinstance(module, nn.modules.conv._ConvNd):
        sizes = ("L", "H,W", "D,H,W")[len(module.kernel_size) - 1]
        return f"N,{module.in_channels},{sizes}"
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return f"float inputs whose last dimension is {module.input_size}"
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return f"{module.num_features} channels"
    if isinstance(module, nn.LayerNorm):
        return f"inputs whose last dimensions are {','.join(map(str, module.normalized_shape))}"
    return ""
