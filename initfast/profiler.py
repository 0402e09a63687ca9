"""profile(): run a net once and report the scale of the signal at every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from initfast.fusion import Fusion
from initfast.names import NetNames
from initfast.outputs import Outputs
from initfast.report import Report
from initfast.sequential import shortened
from initfast.state import unchanged
from initfast.structure import tensors
from initfast.tape import NonFinite, Tape


def profile(net: Callable[..., Any], x: Any, *, stop_at_nonfinite: bool = False) -> Report:
    """Run net once on x, without gradients, and measure the signal at every layer.

    A linear layer and the activation that follows it, as a module, a function or a method, are one
    layer of the report and run as one operator. Activations that stand alone and the outputs of all
    other modules are measured too; integers and booleans are not. Statistics stay on their
    device until the end.

    The net runs in the mode, training or evaluation, that it is in. Gradients, hooks, the buffers
    of modules in training mode and torch's random state are left as they were, whatever the forward
    raises. What else the forward itself writes stays, as after any forward. Scripted modules run
    unmeasured.

    Args:
        net: a module, a bound method of one, or any callable. In a plain callable's report an
            operator is named by its position.
        x: the input: a tensor, a tuple of arguments or a dict of keyword arguments.
        stop_at_nonfinite: end the forward after the first layer with a NaN or an infinity, even
            inside a module that catches exceptions. This waits for the device at every layer.

    Returns:
        The :class:`Report`: one :class:`Layer` for each operator, in execution order.

    Raises:
        TypeError: net cannot be called.
        Exception: whatever the forward raises, with a note that names the layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 10))
        >>> report = profile(net, torch.randn(16, 256))
        >>> [layer.op for layer in report.layers]
        ['linear + tanh', 'linear']
    """
    if not callable(net):
        raise TypeError(f"profile: net is a {type(net).__name__}; expected a module or a callable")
    root = net if isinstance(net, nn.Module) else getattr(net, "__self__", None)
    names = NetNames(root if isinstance(root, nn.Module) else None)
    tape = Tape(stop_at_nonfinite)
    fusion = Fusion(tape, names)
    outputs = Outputs(names, tape, fusion)
    with torch.no_grad(), unchanged(names.modules):
        try:
            for _, t in tensors(x):
                tape.net_input(t)
            with outputs.measured(), shortened(names.modules, fusion), fusion:
                _call(net, x)
                fusion.settle()
        except NonFinite:
            pass
        except Exception as error:
            names.blame_running(error)
            raise
        finally:
            fusion.release()
    recording = tape.read(names.paths(), list(map(type, names.modules)))
    return Report(recording.read, skipped=list(outputs.skipped))


def _call(net: Callable[..., Any], x: Any) -> Any:
    if type(x) is tuple:
        return net(*x)
    if isinstance(x, Mapping):
        return net(**x)
    return net(x)
