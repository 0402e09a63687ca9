"""Interrupts at every place where Python calls something, one after the other."""

import sys
from collections import OrderedDict
from contextlib import contextmanager

import torch
import torch.utils.checkpoint
import torch.utils.dlpack
from torch import nn
from torch.autograd import Function
from torch.overrides import _get_current_function_mode_stack

EVENTS = ("call", "return", "c_return")
"""Where a signal's handler can run: as a function of Python begins, and where any has returned.

(Since Python 3.11 not after those of Python; it may also run where a loop goes round.)
"""


class Interrupt:
    """Raises KeyboardInterrupt at one place of those where a handler could.

    Args:
        at: which, from 0; None: none.
        spared: whether what runs here, by its code and event, is left alone.

    Attributes:
        count: of the places so far.
        place: where it was raised; None: nowhere yet.
    """

    def __init__(self, at=None, spared=lambda code, event: False):
        self.at, self.spared = at, spared
        self.count, self.place = 0, None

    def __call__(self, frame, event, argument):
        code = frame.f_code
        if event not in EVENTS or code.co_filename == __file__ or self.spared(code, event):
            return
        self.count += 1
        if self.count - 1 == self.at:
            sys.setprofile(None)
            self.place = f"{code.co_filename}:{frame.f_lineno}: {event} of {code.co_name}"
            raise KeyboardInterrupt

    def during(self, run):
        """The error that run raises, or None; and what it returns."""
        try:
            sys.setprofile(self)
            result = run()
            sys.setprofile(None)
            return None, result
        except BaseException as error:
            sys.setprofile(None)
            return error, None


@contextmanager
def swallowed():
    """The errors that Python swallows meanwhile: those raised in destructors and callbacks."""
    found, before = [], sys.unraisablehook
    sys.unraisablehook = lambda raised: found.append(raised.exc_type)
    try:
        yield found
    finally:
        sys.unraisablehook = before


def of_the_net(net):
    """What the modules and parameters hold: their own objects, and what is in their dicts."""
    return [
        [(name, _held(value)) for name, value in vars(module).items()] for module in net.modules()
    ] + [[(p, p.grad, _held(p._backward_hooks)) for p in net.parameters()]]


def _held(value):
    return (value, list(value.items())) if isinstance(value, (dict, OrderedDict)) else (value, [])


def values(net):
    """The numbers in a net, and torch's random state."""
    return [
        torch.get_rng_state(),
        *(t.detach().clone() for t in (*net.parameters(), *net.buffers())),
    ]


def of_torch():
    """Under what code runs now, and what stands in torch's places."""
    dynamo = sys.modules.get("torch._dynamo")
    return [
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        *(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")),
        torch._C._is_torch_function_enabled(),
        torch._C._len_torch_dispatch_stack(),
        torch._C._get_tracing_state(),
        torch._C._autograd._top_saved_tensors_default_hooks(True),
        torch._C._functorch.peek_interpreter_stack(),
        torch.is_anomaly_enabled(),
        *_get_current_function_mode_stack(),
        vars(Function)["apply"],
        torch.to_dlpack,
        torch.utils.dlpack.to_dlpack,
        torch._C._to_dlpack,
        torch.utils.checkpoint.CheckpointFunction,
        None if dynamo is None else dynamo.eval_frame._stance,
        nn.Module.__call__,
    ]


def same(a, b):
    """Whether two structures hold the same objects."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b or (isinstance(a, (bool, int, str)) and a == b)
