"""Interrupts at every place where Python calls something, one after the other."""

import sys
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
        never_called: the code of functions that are not interrupted as they begin.
        within: the code of functions that are left alone with all that they call.

    Attributes:
        count: of the places so far.
        place: where it was raised; None: nowhere.
    """

    def __init__(self, at=None, never_called=(), within=()):
        self.at, self.never_called, self.within = at, set(never_called), set(within)
        self.count, self.place = 0, None

    def __call__(self, frame, event, argument):
        if event in EVENTS:
            self.count += 1
            if self.count - 1 == self.at and not self._is_spared(frame, event):
                sys.setprofile(None)
                code = frame.f_code
                self.place = f"{code.co_filename}:{frame.f_lineno}: {event} of {code.co_name}"
                del frame  # the error would hold it, and with it what has ended
                raise KeyboardInterrupt

    def _is_spared(self, frame, event):
        code = frame.f_code
        if (event == "call" and code in self.never_called) or code is THIS:
            return True
        if event == "return" and code.co_name == "__enter__":
            return True  # `with` goes on in its block at once: no handler runs between
        callers = []
        while self.within and frame is not None:
            callers.append(frame.f_code)
            frame = frame.f_back
        return not self.within.isdisjoint(callers)

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


THIS = Interrupt.during.__code__


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
    found = {}
    for path, module in net.named_modules():
        for name, value in vars(module).items():
            found[path, name] = value, *_items(value)
        found[path, "keys"] = tuple(vars(module))
    for path, parameter in net.named_parameters():
        found[path, "grad"] = parameter, parameter.grad
        found[path, "hooks"] = parameter._backward_hooks, *_items(parameter._backward_hooks)
    return found


def _items(value):
    return (part for item in value.items() for part in item) if isinstance(value, dict) else ()


def of_torch():
    """Under what code runs now, and what stands in torch's places."""
    dynamo = sys.modules.get("torch._dynamo")
    return {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": tuple(map(torch.is_autocast_enabled, ("cpu", "cuda"))),
        "function modes": (*_get_current_function_mode_stack(),),
        "functions enabled": torch._C._is_torch_function_enabled(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "trace": torch._C._get_tracing_state(),
        "saved tensors": torch._C._autograd._top_saved_tensors_default_hooks(True),
        "transforms": torch._C._functorch.peek_interpreter_stack(),
        "autocast's and transforms' keys": repr(torch._C._dispatch_tls_local_exclude_set()),
        "Function.apply": vars(Function)["apply"],
        "DLPack": tuple(getattr(*place) for place in EXPORTS),
        "CheckpointFunction": torch.utils.checkpoint.CheckpointFunction,
        "stance": None if dynamo is None else dynamo.eval_frame._stance,
        "Module.__call__": nn.Module.__call__,
    }


EXPORTS = (
    (torch, "to_dlpack"),
    (torch.utils.dlpack, "to_dlpack"),
    (torch._C, "_to_dlpack"),
    (torch._C, "_to_dlpack_versioned"),
)


def numbers(net):
    """What is in a net's tensors, and torch's random state."""
    tensors = {"random state": torch.get_rng_state()}
    for path, module in net.named_modules():
        for name, t in (*module._parameters.items(), *module._buffers.items()):
            if t is not None:
                tensors[path, name] = t.detach().clone()
    return tensors


def changed(before, after):
    """The names of what is not the same objects, or the same numbers, any more."""
    return [
        name
        for name in before.keys() | after.keys()
        if name not in before or name not in after or not _same(before[name], after[name])
    ]


def _same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(x is y or _equal(x, y) for x, y in zip(a, b, strict=True))
    return a is b or _equal(a, b)


def _equal(a, b):
    return isinstance(a, (bool, int, str, tuple)) and a == b
