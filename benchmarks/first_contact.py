"""The first minutes on a card: the facts that matter most come first, and stay if time runs out.

    python benchmarks/first_contact.py --out DIR                        # every stage, in 520 s
    python benchmarks/first_contact.py --out DIR --only facts,smoke     # some of them
    python benchmarks/first_contact.py --out DIR --wheel WHEEL          # built elsewhere
    python benchmarks/first_contact.py --out DIR --device cpu --small   # a rehearsal, no card

Each stage is a process of its own with a time limit, so that one that hangs, or a card that fails,
costs its own facts alone; a rehearsal's have no limit but the whole's. DIR/results.jsonl has one
line for each fact, on the disk before the next is measured; DIR/log.txt has what the stages print.
An installed initfast is taken, or the wheel's. Where there is a toolkit, one for the H100 comes by

    TORCH_CUDA_ARCH_LIST=9.0 INITFAST_CUDA=1 pip wheel --no-deps --wheel-dir wheels .

The exit status is 1 where a stage failed or was cut off.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from contact import Results

ROOT = Path(__file__).parents[1]
LEAST = 15.0
"""Seconds that must be left for a stage to begin."""

KERNELS = "regex:(moments|act|exact|tensor_core|sample)_kernel"
STALLS = "regex:smsp__average_warps_issue_stalled_.*_per_issue_active"
PYTEST = (sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider")
OPERATORS = (sys.executable, str(Path(__file__).with_name("contact_operators.py")))
SANITIZER = ("compute-sanitizer", "--error-exitcode", "9", "--kernel-name", "kns=initfast")


class Stage(NamedTuple):
    """One process.

    Attributes:
        name: as --only takes it.
        seconds: that it may take at most.
        command: what runs; empty: the function of that name in contact_stages.py.
        needs_card: whether it is left out without one.
    """

    name: str
    seconds: float
    command: tuple[str, ...] = ()
    needs_card: bool = True


STAGES = (
    Stage("facts", 30, needs_card=False),
    Stage("smoke", 75, needs_card=False),
    Stage("timing", 100, needs_card=False),
    Stage("profile", 90, needs_card=False),
    Stage(
        "tests",
        150,
        (*PYTEST, "-k", "not sanitizer", "tests/cuda", "--ignore=tests/cuda/test_large.py"),
    ),
    Stage("large", 60, (*PYTEST, "tests/cuda/test_large.py")),
    Stage(
        "ncu",
        60,
        (
            *("ncu", "--clock-control", "none", "-k", KERNELS, "--launch-count", "12"),
            *("--section", "SpeedOfLight", "--section", "WarpStateStats"),
            *(
                "--section",
                "Occupancy",
                "--section",
                "LaunchStats",
                "--section",
                "InstructionStats",
            ),
            *("--section", "MemoryWorkloadAnalysis", "--metrics", STALLS, *OPERATORS),
        ),
    ),
    Stage("memcheck", 75, (*SANITIZER, "--tool", "memcheck", *OPERATORS, "--small")),
    Stage("racecheck", 75, (*SANITIZER, "--tool", "racecheck", *OPERATORS, "--small")),
)
"""In the order of their worth: what is known if everything stops after one of them."""


def run(stage: Stage, options: argparse.Namespace, results: Results, left: float) -> bool:
    """Run one stage; whether it ended well in its time."""
    if stage.needs_card and options.device != "cuda":
        results.say("stage", stage=stage.name, outcome="left out: there is no card")
        return True
    if left < LEAST:
        results.say("stage", stage=stage.name, outcome=f"left out: {max(left, 0):.0f} s are left")
        return False
    limit = left - 3 if options.small else min(stage.seconds, left - 3)
    command = stage.command or (
        *(sys.executable, str(Path(__file__).with_name("contact_stages.py")), stage.name),
        *("--out", str(options.out), "--device", options.device, *["--small"] * options.small),
    )
    start, outcome = time.monotonic(), ""
    with results.log.open("a") as log:
        log.write(f"\n=== {stage.name}\n")
        log.flush()
        try:
            done = subprocess.run(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=limit,
                cwd=ROOT,
                env=environment(options),
                check=False,
            )
            outcome = "passed" if done.returncode == 0 else f"exit status {done.returncode}"
        except subprocess.TimeoutExpired:
            outcome = "cut off at its time limit"
        except OSError as error:
            outcome = f"could not start: {error}"
    seconds = round(time.monotonic() - start, 1)
    results.say("stage", stage=stage.name, outcome=outcome, seconds=seconds)
    return outcome == "passed"


def environment(options: argparse.Namespace) -> dict[str, str]:
    """With the initfast of the wheel, not of these sources, and what stages share, on the path."""
    paths = [str(options.out / "site")] if options.wheel else []
    paths += [str(ROOT / "benchmarks"), str(ROOT / "tests")]
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    # From Python 3.11 on; before, the tests' working directory comes first, and the wheel later.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def install(options: argparse.Namespace) -> None:
    """Put the wheel's initfast beside the results."""
    words = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--upgrade")
    target = ("--target", str(options.out / "site"), str(options.wheel))
    subprocess.run([sys.executable, *words, *target], check=True)


def parse() -> argparse.Namespace:
    """The options, checked."""
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(description="Measure what matters most on a card, first.")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the results")
    parser.add_argument("--budget", type=float, default=520.0, help="seconds for all stages")
    parser.add_argument("--only", default="", help=f"some of {','.join(names)}")
    parser.add_argument("--wheel", type=Path, help="of the initfast to measure")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="small tensors, for a rehearsal")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name] or names
    if unknown := set(options.only) - set(names):
        parser.error(f"--only {','.join(sorted(unknown))}: expected some of {','.join(names)}")
    if options.wheel is not None and not options.wheel.is_file():
        parser.error(f"--wheel {options.wheel}: there is no such file")
    return options


def main() -> int:
    """Run the stages in turn; 1 where one did not end well."""
    options = parse()
    options.out = options.out.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.wheel:
        install(options)
    results, end = Results(options.out), time.monotonic() + options.budget
    asked = [stage for stage in STAGES if stage.name in options.only]
    return int(not all([run(s, options, results, end - time.monotonic()) for s in asked]))


if __name__ == "__main__":
    sys.exit(main())
