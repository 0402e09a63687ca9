"""Every speed claim of initfast, measured side by side in one run.

    python benchmarks/bench.py                  # everything
    python benchmarks/bench.py --quick          # the same cases, fewer repeats
    python benchmarks/bench.py --only profile   # cases whose name contains a word
    python benchmarks/bench.py --json out.json --threads 2
    python benchmarks/bench.py --device cuda --budget 300 --no-compile --json out.json

A line gives a case's time, a reference's, and the first as a multiple of the second: under 1 is
faster. Where a target stands, the line passes or misses it. The limit is computed beforehand: the
bytes over the measured bandwidth, or the operations over the measured rate of a matrix product,
whichever takes longer. Peers are lines of their own below their case. On a card the operators and
samplers stand beside a copy of as many bytes too (card_cases.py), and weights are taken in turn,
so that no cache holds them. --budget is the seconds after which no case begins, --no-compile
leaves out what torch.compile compiles first, and a JSON file has each line once it is measured.
A line is noisy where medians and shortest times disagree by more than 15 %. A case that fails says
so on its line, the others go on, and the exit status is 1; a missed target leaves it 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import card_cases
import growth
import net_cases
import operator_cases
import profile_cases
import samplers
import torch
import training_cases
from case import Case, Peer, Reference, Run
from import_cost import BUDGET, import_seconds
from lines import HEADER, Line, duration, geometric_means
from timing import FULL, QUICK, Machine

import initfast

SUITES = (profile_cases, net_cases, training_cases, operator_cases, samplers, card_cases)


# ---- measuring ----


def suite_cases(machine: Machine) -> Iterator[Case]:
    """The cases of every suite."""
    for suite in SUITES:
        yield from suite.cases(machine)


def measure(machine: Machine, case: Case, compiling: bool = True) -> Iterator[Line]:
    """The lines of one case: one for each reference, then one for each peer that is wanted."""
    try:
        work = case.build()
        timed = machine.compare([work.run, *(reference.run for reference in work.references)])
    except Exception as error:
        yield Line(case.group, case.name, "", failure=f"failed: {error!r}")
        return
    for i, reference in enumerate(work.references, start=1):
        yield Line(
            case.group,
            case.name,
            reference.name,
            timed.seconds[0],
            timed.seconds[i],
            timed.ratios[i],
            timed.best_ratios[i],
            reference.target,
            work.limit,
        )
    for peer in work.peers:
        if not compiling and "torch.compile" in peer.name:
            continue
        yield measure_peer(machine, case, peer, work.references[0])


def measure_peer(machine: Machine, case: Case, peer: Peer, reference: Reference) -> Line:
    """A peer beside the case's first reference."""
    try:
        run: Run = peer.build()
        run()
    except ImportError:
        return Line(case.group, peer.name, reference.name, peer=True, failure="not installed")
    except Exception as error:
        failure = f"failed: {error!r}"
        return Line(case.group, peer.name, reference.name, peer=True, failure=failure)
    timed = machine.compare([run, reference.run])
    return Line(
        case.group,
        peer.name,
        reference.name,
        timed.seconds[0],
        timed.seconds[1],
        timed.ratios[1],
        timed.best_ratios[1],
        peer=True,
    )


class OutOfTime(Exception):
    """Says which case did not begin, as the budget was spent."""


def measured(machine: Machine, options: argparse.Namespace) -> Iterator[Line | growth.Growth]:
    """The lines and sweeps that are asked for, as they are measured; OutOfTime where time ends."""
    end = time.monotonic() + options.budget

    def begin(name: str) -> None:
        if time.monotonic() > end:
            raise OutOfTime(f"{options.budget:g} s are over: from {name!r} on nothing was measured")

    for case in suite_cases(machine):
        if options.only in case.name:
            begin(case.name)
            yield from measure(machine, case, options.compile)
    if options.only in "import initfast after torch":
        begin("import initfast after torch")
        yield import_line(3 if options.quick else 9)
    for name in growth.names(options.only):
        begin(name)
        yield growth.sweep(machine, name)


def import_line(rounds: int) -> Line:
    """The cost of the import, against its budget."""
    _, seconds = import_seconds(rounds)
    return Line(
        "import",
        "import initfast after torch",
        "budget",
        seconds,
        BUDGET,
        seconds / BUDGET,
        target=1.0,
    )


# ---- showing ----


def show_growth(sweep: growth.Growth) -> None:
    """Print one sweep as a table."""
    title = f"growth with {sweep.name} ({sweep.fixed})"
    print(f"\n{title:<42}{'profile':>10}{'per layer':>12}{'plain forward':>16}{'ratio':>9}")
    for size, layers, profile, plain in zip(
        sweep.sizes, sweep.layers, sweep.profile, sweep.plain, strict=True
    ):
        print(
            f"    {size:<38}{duration(profile):>10}{duration(profile / layers):>12}"
            f"{duration(plain):>16}{profile / plain:>9.3g}"
        )
    print(
        f"    time ~ {sweep.name}^{sweep.profile_exponent:.2f}, plain forward "
        f"{sweep.name}^{sweep.plain_exponent:.2f}; target: at most {growth.ALLOWANCE} more  "
        f"{'PASS' if sweep.passed else 'MISS'}"
    )


def machine_facts(machine: Machine) -> dict[str, object]:
    """Where the figures were taken."""
    cuda = machine.device.type == "cuda"
    size = 2**30 if cuda else 2**26  # more than any cache
    return {
        "device": torch.cuda.get_device_name(machine.device) if cuda else platform.machine(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **dataclasses.asdict(initfast.build_info()),
        "gflops": machine.flop_rate / 1e9,
        "moved_mib": size >> 20,
        **{f"{k}_gb_per_s": machine.byte_rate(k, size) / 1e9 for k in ("read", "copy", "fill")},
    }


def show_facts(facts: dict[str, object]) -> None:
    """Print where the figures are taken, in two lines."""
    print(
        f"initfast {initfast.__version__}, {facts['backend']} kernels ({facts['isa']}), "
        f"torch {facts['torch_running']}, {facts['device']}, {facts['threads']} threads"
    )
    print(
        f"matrix product {facts['gflops']:.0f} GFLOP/s; at {facts['moved_mib']} MiB: read "
        f"{facts['read_gb_per_s']:.1f}, copy {facts['copy_gb_per_s']:.1f}, "
        f"fill {facts['fill_gb_per_s']:.1f} GB/s; load before {facts['load']:.1f}\n"
    )


def main() -> int:
    """Measure and print; 1 where a case failed, 2 where none was asked for."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = Machine(options.device, QUICK if options.quick else FULL)
    facts = machine_facts(machine)
    show_facts(facts)
    print(HEADER)
    lines: list[Line] = []
    sweeps: list[growth.Growth] = []
    try:
        with torch.no_grad():
            for found in measured(machine, options):
                if isinstance(found, Line):
                    print(found, flush=True)
                    lines.append(found)
                else:
                    show_growth(found)
                    sweeps.append(found)
                if options.json:
                    write_json(options.json, facts, lines, sweeps)
    except OutOfTime as left_out:
        print(f"\n{left_out}")
    else:
        if not lines and not sweeps:
            print(f"bench.py: --only {options.only}: no case has it in its name", file=sys.stderr)
            return 2
    summarise(lines, sweeps)
    return int(any(line.failure and not line.peer for line in lines))


def parse() -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description="Measure every speed claim of initfast.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--only", default="", metavar="WORD", help="cases whose name contains it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--device", type=_device, default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds (default: all)")
    parser.add_argument(
        "--no-compile", dest="compile", action="store_false", help="leave out torch.compile"
    )
    options = parser.parse_args()
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads {options.threads}: expected 1 or more")
    return options


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no device of torch's") from error
    if device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise argparse.ArgumentTypeError(
            f"{text!r}: torch {torch.__version__} finds {found} CUDA devices"
        )
    return device


def summarise(lines: list[Line], sweeps: list[growth.Growth]) -> None:
    """Print the geometric means and the count of targets reached."""
    means = geometric_means(lines)
    if means:
        print("\ngeometric means of the ratios")
    for name, mean in means.items():
        print(f"    {name:<62}{mean:>9.3g}")
    verdicts = [line.passed for line in lines if line.passed is not None]
    verdicts += [sweep.passed for sweep in sweeps]
    print(f"\ntargets: {sum(verdicts)} reached, {len(verdicts) - sum(verdicts)} missed")


def write_json(
    path: Path, facts: dict[str, object], lines: list[Line], sweeps: list[growth.Growth]
) -> None:
    """Everything measured, in seconds."""
    document = {
        "machine": facts,
        "lines": [{**dataclasses.asdict(line), "passed": line.passed} for line in lines],
        "growth": [
            {
                **dataclasses.asdict(sweep),
                "profile_exponent": sweep.profile_exponent,
                "plain_exponent": sweep.plain_exponent,
                "passed": sweep.passed,
            }
            for sweep in sweeps
        ],
        "geometric_means": geometric_means(lines),
    }
    unfinished = path.with_name(f"{path.name}.part")  # so that a cut run leaves a whole file
    unfinished.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
