"""What a net must be before it can run, told by the name of the layer that is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import Parameter, is_lazy

from initfast.nets.pytree import tensors


def check_ready(modules: Iterable[tuple[str, nn.Module]]) -> None:
    """Raise ValueError where a parameter or a buffer has no values.

    Args:
        modules: of the net, each with its path.
    """
    for name, module in modules:
        for own in (module._parameters, module._buffers):
            for own_name, t in own.items() if own else ():
                if t is not None and (t.is_meta or (type(t) not in _PLAIN and is_lazy(t))):
                    raise ValueError(_refusal(name, module, own_name, t))


def check_differentiable(
    modules: Iterable[tuple[str, nn.Module]], given: Mapping[str, Any], asked: str
) -> None:
    """Raise ValueError where no graph can be made of the net's parameters, or of what it is given.

    Args:
        modules: of the net, each with its path.
        given: what takes part by its name: the input and the targets.
        asked: the argument of profile() that asks for a backward.
    """
    expected = (
        f"expected with {asked} what was made outside torch.inference_mode(), as .clone() there "
        "makes it"
    )
    for name, module in modules:
        for own_name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_inference():
                raise ValueError(
                    f"profile: {_layer(name, module)}: its {own_name} is an inference tensor, "
                    f"which no graph can hold; {expected}"
                )
        if any(kind.__qualname__ in _SHARDED for kind in type(module).__mro__):
            raise ValueError(
                f"profile: {_layer(name, module)} is sharded by FSDP, whose parameters come and go "
                f"during the backward; expected a profile without {asked}, or "
                "initfast.Profiler(net) around steps of training, which has gradients too"
            )
    for what, value in given.items():
        for path, t in tensors(value):
            if t.is_inference():
                raise ValueError(
                    f"profile: {what}{path} is an inference tensor, which no graph can hold; "
                    f"{expected}"
                )


_SHARDED = ("FSDPModule", "FullyShardedDataParallel")
_PLAIN = (Parameter, Tensor)


def _layer(name: str, module: nn.Module) -> str:
    return f"layer {name or 'the net'!r} ({type(module).__name__})"


def _refusal(name: str, module: nn.Module, own_name: str, t: Tensor) -> str:
    what = f"profile: {_layer(name, module)}: its {own_name}"
    if is_lazy(t):
        return (
            f"{what} is not initialised yet; expected a net that has run once: call it on one "
            "input first, and lazy modules take their shapes from it"
        )
    return (
        f"{what} is on the meta device and has no values; expected real parameters: "
        "net.to_empty(device=...) and an initialiser make them"
    )
