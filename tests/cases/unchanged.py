"""What a profile must leave as it was, to be compared before and after."""

import torch
from cases.profiles import WIDTH
from torch import nn


def state(net):
    """Everything of a net and of torch that a profile must leave alone."""
    return [
        (
            m.training,
            list(m._forward_hooks),
            list(m._forward_pre_hooks),
            list(m._backward_hooks),
            sorted(vars(m)),
            [
                (k, id(p), None if p.grad is None else p.grad.clone())
                for k, p in m._parameters.items()
                if p is not None
            ],
            [(k, id(b), b.clone()) for k, b in m._buffers.items() if b is not None],
        )
        for m in net.modules()
    ] + [
        torch.get_rng_state(),
        (torch.is_grad_enabled(), torch.overrides._get_current_function_mode()),
    ]


def equal(a, b):
    """Equality of nested structures, bit by bit where they hold tensors."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) or torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


class Stateful(nn.Module):
    def __init__(self, fails=None):
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(WIDTH, 4)
        self.register_buffer("calls", torch.zeros(()))
        self.fails = fails

    def forward(self, x):
        x = self.norm(torch.tanh(self.first(x)))
        self.calls = self.calls + 1
        x = self.drop(x)
        if self.fails is not None:
            raise self.fails
        return self.last(x)


def attributes(net):
    return [
        (
            sorted(vars(m)),
            *(len(hooks) for name, hooks in sorted(vars(m).items()) if name.endswith("_hooks")),
            [p._backward_hooks for p in m._parameters.values() if p is not None],
        )
        for m in net.modules()
    ]


def notes(error):
    return "\n".join([str(error), *getattr(error, "__notes__", [])])
