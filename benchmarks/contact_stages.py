"""The stages of a first contact with a card that measure: facts, smoke, timing, profile.

python benchmarks/contact_stages.py STAGE --out DIR [--device cpu] [--small]
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from contact import Contact, Results, Run, device_seconds, host_seconds
from contact_profiles import profile

import initfast
from initfast import ops
from initfast.ops.activations import ACTIVATIONS

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}


# ---- facts ----


def facts(contact: Contact) -> bool:
    """The card, the versions, and the rates at which its memory is copied, filled and read."""
    say = contact.results.say
    say(
        "machine",
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        cores=os.cpu_count(),
        smi=output("nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm", "--format=csv"),
        nvcc=output("nvcc", "--version"),
        compiler=output("c++", "--version"),
    )
    say("initfast", version=initfast.__version__, build=repr(initfast.build_info()))
    if contact.device.type == "cuda":
        card = torch.cuda.get_device_properties(contact.device)
        capability = [card.major, card.minor]
        processors, cache = card.multi_processor_count, card.L2_cache_size
        say("card", name=card.name, processors=processors, cache=cache, capability=capability)
    a = torch.empty(contact.size(2**29, 2**16), device=contact.device)
    b = torch.empty_like(a)
    for name, run, moved in (
        ("copy", lambda: b.copy_(a), 2 * a.nbytes),
        ("fill", lambda: a.fill_(1.0), a.nbytes),
        ("sum", a.sum, a.nbytes),
    ):
        seconds = device_seconds([run], contact.device)
        say("bandwidth", name=name, gb_per_s=round(moved / seconds / 1e9, 1))
    return True


def output(*command: str) -> str:
    """The last lines that a program prints; "" where there is none."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    return done.stdout.strip()[-400:]


# ---- smoke ----


def smoke(contact: Contact) -> bool:
    """Every operator, dtype and activation against float64; the samplers against the CPU's bits."""
    passed = []

    def check(name: str, measure: Callable[..., None], *arguments: Any) -> None:
        def run() -> dict[str, Any]:
            measure(contact, *arguments)
            return {"right": True}

        passed.append(contact.attempt("smoke", name, run))

    for label, dtype in DTYPES.items():
        for count in (1, 31, 513, 4097, contact.size(2**20, 2**13)):
            check(f"moments {count} {label}", _check_moments, dtype, count, 0)
        check(f"moments unaligned {label}", _check_moments, dtype, 4099, 1)
        for name in ("tanh", "relu", "gelu") if contact.small else ACTIVATIONS:
            check(f"act {name} {label}", _check_act, dtype, name)
        wide = contact.size(4096, 96)
        for shape in ((16, 256, 256), (33, 70, 64), (300, 128, 96), (16, 512, wide)):
            check(f"linear_act {shape} {label}", _check_linear, dtype, shape)
        for name in ("uniform_", "normal_", "trunc_normal_"):
            check(f"{name} {label}", _check_bits, dtype, name)
    contact.results.say("smoke", name="all", right=sum(passed), wrong=len(passed) - sum(passed))
    return all(passed)


def _check_moments(contact: Contact, dtype: torch.dtype, count: int, start: int) -> None:
    from cases.cuda import check_row

    x = contact.randn(count + start, dtype=dtype)[start:]
    check_row(ops.moments(x), x)


def _check_act(contact: Contact, dtype: torch.dtype, name: str) -> None:
    from cases.cuda import check_row, check_values

    z, entry = contact.randn(65, 131, dtype=dtype), ACTIVATIONS[name]
    y, rows, live = ops.act(z, name)
    check_values(y, entry.value(z.cpu().double(), *entry.defaults), dtype)
    check_row(rows[0], z)
    check_row(rows[1], y)
    assert torch.equal(live.cpu(), (y.cpu() != 0).any(0)), "live units"
    back = torch.ops.initfast.act_backward
    grad, rows = back(torch.ones_like(z), z, name, *entry.defaults)
    check_values(grad, entry.slope(z.cpu().double(), *entry.defaults), dtype)
    check_row(rows[0], grad)


def _check_linear(contact: Contact, dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    from cases.cuda import check_product, check_row

    rows_of_x, depth, units = shape
    x = contact.randn(rows_of_x, depth, dtype=dtype)
    w = contact.randn(units, depth, dtype=dtype) / depth**0.5
    z, rows, _ = ops.linear_act(x, w)
    check_product(z, x.cpu(), w.cpu().t())
    check_row(rows[2], w)
    check_row(rows[1], z)


def _check_bits(contact: Contact, dtype: torch.dtype, name: str) -> None:
    draw = getattr(initfast.init, name)
    here = draw(torch.empty(257, 129, dtype=dtype, device=contact.device), key=5)
    there = draw(torch.empty(257, 129, dtype=dtype), key=5)
    assert torch.equal(here.cpu(), there), "other bits"


# ---- timing ----


def timing(contact: Contact) -> bool:
    """The operators and samplers on the device alone, beside a copy of as many bytes or torch's."""
    device, passed = contact.device, []

    def line(name: str, moved: int, *runs: Run) -> None:
        def measure() -> dict[str, Any]:
            seconds = device_seconds(runs, device)
            rate = round(moved / seconds / 1e9, 1)
            return {"us": round(seconds * 1e6, 2), "gb_per_s": rate}

        passed.append(contact.attempt("time", name, measure))

    units = contact.size(4096, 64)
    count = contact.size(2**26, 2**14)
    for label in ("f32", "bf16"):
        x = contact.randn(count // units, units, dtype=DTYPES[label])
        y = torch.empty_like(x)
        line(f"copy of {count} {label}", 2 * x.nbytes, lambda x=x, y=y: y.copy_(x))
        line(f"moments of {count} {label}", x.nbytes, lambda x=x: ops.moments(x))
        line(f"act tanh of {count} {label}", 2 * x.nbytes, lambda x=x: ops.act(x, "tanh"))
        back = torch.ops.initfast.act_backward
        run = functools.partial(back, x, x, "tanh", 0.0, 0.0)
        line(f"act_backward tanh of {count} {label}", 3 * x.nbytes, run)
        for name in ("uniform_", "normal_"):
            draw = functools.partial(getattr(initfast.init, name), y, key=1)
            line(f"{name} of {count} {label}", y.nbytes, draw)
        del x, y
    for small in (64, 4096, 2**16):  # what a launch costs, whatever it reads
        s = contact.randn(small)
        line(f"moments of {small} f32", s.nbytes, *[lambda s=s: ops.moments(s)] * 20)
        line(f"act relu of {small} f32", 2 * s.nbytes, *[lambda s=s: ops.act(s, "relu")] * 20)
        line(f"relu of {small} f32", 2 * s.nbytes, *[lambda s=s: torch.relu(s)] * 20)
    for label, batches in (("f32", (1, 16, 32)), ("bf16", (1, 16, 64))):
        for units in (256, 1024, 4096):
            for batch in batches:
                products(contact, line, batch, contact.size(units, 64), label)
    host(contact)
    return all(passed)


def products(
    contact: Contact, line: Callable[..., None], batch: int, units: int, label: str
) -> None:
    """A layer in one operator, as torch has it, and measured by operators apart."""
    dtype = DTYPES[label]
    # Together larger than the second-level cache, which would hold one of them, or many.
    count = contact.size(max(6, 2**27 // (units * units * dtype.itemsize)), 6)
    ws = [contact.randn(units, units, dtype=dtype) / units**0.5 for _ in range(count)]
    x = contact.randn(batch, units, dtype=dtype)
    name = f"{batch} x {units} x {units} {label}"
    for how, run in (
        ("linear_act", lambda w: ops.linear_act(x, w, act="tanh")),
        ("F.linear, tanh", lambda w: torch.tanh(F.linear(x, w))),
        ("moments, F.linear, act", lambda w: (ops.moments(w), ops.act(F.linear(x, w), "tanh"))),
    ):
        line(f"{how} {name}", ws[0].nbytes, *[functools.partial(run, w) for w in ws])


def host(contact: Contact) -> None:
    """What calling an operator costs the host."""
    s = contact.randn(16, 16)
    for name, run in (
        ("ops.moments", lambda: ops.moments(s)),
        ("ops.act relu", lambda: ops.act(s, "relu")),
        ("torch.relu", lambda: torch.relu(s)),
    ):
        seconds = host_seconds(run, contact.device, contact.size(500, 20))
        us = [round(1e6 * part, 2) for part in seconds]
        contact.results.say("host", name=name, host_us=us[0], wall_us=us[1])


STAGES = {"facts": facts, "smoke": smoke, "timing": timing, "profile": profile}


def main() -> int:
    """Run one stage; 1 where something in it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    contact = Contact(Results(options.out), torch.device(options.device), options.small)
    torch.manual_seed(0)
    return int(not STAGES[options.stage](contact))


if __name__ == "__main__":
    sys.exit(main())
