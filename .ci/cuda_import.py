"""Shows that a CUDA build of the package loads where there is no driver, and what it then says.

usage: python cuda_import.py TORCH
"""

import sys

import torch
from torch._C import DispatchKey, DispatchKeySet

import initfast

info = initfast.build_info()
print(info)
assert info.backend == "native" and info.cuda is not None
assert torch.__version__.split("+")[0] == sys.argv[1]

x, weight = torch.randn(4, 5), torch.randn(3, 5)
assert torch.ops.initfast.moments(x)[0] == 20  # the CPU kernels are there as well
calls = {
    "moments": (x,),
    "unit_moments": (x, -1, True),
    "act": (x, "relu", 0.0, 0.0, -1),
    "act_": (x, "relu", 0.0, 0.0, -1),
    "act_backward": (x, x, "relu", 0.0, 0.0),
    "linear_act": (x, weight, None, "relu", 0.0, 0.0, False),
    "linear_act_chain": (x, [weight], [None], ["relu"], [0.0], [0.0]),
    "linear_act_chain_backward": (
        *(x[:, :3], [x], [weight], [x[:, :3]], ["relu"], [0.0], [0.0], [True], True, [2], [True]),
    ),
    "sample_": (x, "uniform", None, 1.0, 0.0, 0.0, 1.0, 1, 0, [5, 1]),
    "zero_rows_": (x, 1, 1, 4, 0, 0),
}
registered = torch._C._dispatch_get_registrations_for_dispatch_key("CUDA")
operators = {name.partition("::")[2] for name in registered if name.startswith("initfast::")}
assert operators == set(calls), operators ^ set(calls)
for name, arguments in calls.items():
    operator = getattr(torch.ops.initfast, name).default
    try:
        operator.redispatch(DispatchKeySet(DispatchKey.CUDA), *arguments)
    except RuntimeError as error:
        print(f"{name}: {str(error).splitlines()[0]}")
        assert f"initfast::{name}" in str(error) and "CUDA device" in str(error)
    else:
        raise AssertionError(f"{name} took a CPU tensor for a CUDA tensor")

if torch.cuda.is_available():
    print("NOT TESTED: there is a driver, so its lack was not seen")
else:
    try:
        torch.ops.initfast.moments(torch.ones(3, device="cuda"))
    except RuntimeError as error:
        print(str(error).splitlines()[0])
        assert "NVIDIA driver" in str(error)
