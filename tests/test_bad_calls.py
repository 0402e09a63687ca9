"""Public functions called with anything: a result or an error that says what is wrong."""

import random
import traceback

import pytest
import torch
import torch._dynamo  # whose place among torch's is looked at
from cases import bad_calls, interrupts
from cases.switches import times
from torch import nn

import initfast

ROUND = 250  # of calls, before the values are made anew
NEVER = (AttributeError, NameError, RecursionError, SystemError, StopIteration, MemoryError)
"""What tells a user nothing of what was wrong."""

TORCHS = ("init/kaiming.py", "init/fans.py")  # torch's own lines: mode.lower() of what is no text


def told(error):
    """Whether an error says what was wrong: by itself, or since the caller's own code raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    if "/initfast/" not in last.replace("\\", "/") or last.endswith(TORCHS):
        return True
    return not isinstance(error, NEVER) and bool(str(error)) and "INTERNAL ASSERT" not in str(error)


@pytest.mark.parametrize("seed", range(times(2, 400)))
@pytest.mark.filterwarnings("ignore")
def test_a_call_returns_or_says_what_is_wrong_and_leaves_torch_as_found(seed):
    rng, functions = random.Random(seed), bad_calls.functions()
    names, kinds, before = sorted(functions), bad_calls.values(), interrupts.of_torch()
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), torch.ones(3, 4)
    expected = str(initfast.profile(net, x))
    for number in range(ROUND):
        name = rng.choice(names)
        arguments = bad_calls.a_call(rng, kinds, functions[name])
        error = None
        try:
            functions[name](**arguments)
        except Exception as raised:
            error = raised
        place = f"call {number}: {name}({', '.join(arguments)})"
        assert error is None or told(error), (place, repr(error))
        assert not interrupts.changed(before, interrupts.of_torch()), place
    assert str(initfast.profile(net, x)) == expected
