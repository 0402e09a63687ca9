"""What a net must be before it can run, told by the name of the layer that is not."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.parameter import Parameter, is_lazy


def check_ready(modules: Iterable[tuple[str, nn.Module]]) -> None:
    """Raise ValueError where a parameter or a buffer has no values.

    Args:
        modules: of the net, each with its path.
    """
    for name, module in modules:
        for own in (module._parameters, module._buffers):
            for key, t in own.items() if own else ():
                if t is not None and (t.is_meta or (type(t) not in _ORDINARY and is_lazy(t))):
                    raise ValueError(_refusal(name, module, key, t))


_ORDINARY = (Parameter, Tensor)


def _refusal(name: str, module: nn.Module, key: str, t: Tensor) -> str:
    what = f"profile: layer {name or 'the net'!r} ({type(module).__name__}): its {key}"
    if is_lazy(t):
        return (
            f"{what} is not initialised yet; expected a net that has run once: call it on one "
            "input first, and lazy modules take their shapes from it"
        )
    return (
        f"{what} is on the meta device and has no values; expected real parameters: "
        "net.to_empty(device=...) and an initialiser make them"
    )
