"""Every kind of kernel once, on a card, for programs that watch kernels run."""

from __future__ import annotations

import argparse

import torch

import initfast
from initfast import ops


def main() -> None:
    """Run them, large as for a profiler or small as for a sanitizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    count, units = (2**14, 128) if small else (2**24, 4096)
    numbers = torch.randn(count // units, units, device="cuda")
    x = torch.randn(16, units, device="cuda")
    w = torch.randn(units, units, device="cuda") / units**0.5
    for dtype in (torch.float32, torch.bfloat16):
        z = numbers.to(dtype)
        ops.moments(z)
        ops.act(z, "tanh")
        torch.ops.initfast.act_backward(z, z, "tanh", 0.0, 0.0)
        ops.linear_act(x.to(dtype), w.to(dtype), act="tanh")
        initfast.init.normal_(torch.empty_like(z), key=1)
        initfast.init.uniform_(torch.empty_like(z), key=1)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
