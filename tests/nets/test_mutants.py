"""Faults put into healthy nets: how many are found, at the right layer, for the right reason.

A slice of the nets written here runs always; with INITFAST_LONG_FUZZ=1 all of them and those of
torchvision, timm and transformers, of which none is written here.
"""

import os
import zlib
from collections import Counter

import pytest
import torch
from nets.faults import FAULTS, distance, does_harm, effect
from nets.healthy import OWN
from nets.healthy_sequences import ON_SEQUENCES
from nets.labelled import rules_of

from initfast import profile

LONG = os.environ.get("INITFAST_LONG_FUZZ") == "1"
SLICE = 4
"""One in so many mutants runs in the gate."""


def everything():
    if not LONG:
        return OWN + ON_SEQUENCES
    from nets.healthy_libraries import libraries

    return OWN + ON_SEQUENCES + libraries()


ONLY_FLOAT32 = {"experts", "graph convolution"}
"""Their code makes tensors of torch's default dtype."""


def in_bfloat16(x):
    """An input with its floating tensors in bfloat16."""
    if isinstance(x, tuple):
        return tuple(map(in_bfloat16, x))
    if isinstance(x, dict):
        return {name: in_bfloat16(value) for name, value in x.items()}
    return x.to(torch.bfloat16) if x.is_floating_point() else x


def built(healthy):
    torch.manual_seed(zlib.crc32(healthy.name.encode()))
    return healthy.build().train(), healthy.x()


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_healthy_nets_have_no_finding_to_worry_about():
    alarms = []
    for healthy in everything():
        net, x = built(healthy)
        for how in ("train", "loss", "eval", "bfloat16"):
            if how == "bfloat16":
                if healthy.name in ONLY_FLOAT32:
                    continue
                net, x = net.to(torch.bfloat16), in_bfloat16(x)
            loss = distance if how == "loss" else None
            said = rules_of(profile(net.train(how != "eval"), x, loss=loss))
            alarms += [(healthy.name, how, *sorted(said))] if said else []
    assert len({name for name, *_ in alarms}) <= len(everything()) / 120, alarms


def mutants():
    """Each fault in each net where it has a place and does harm."""
    for healthy in everything():
        before = None
        for fault in FAULTS:
            if not LONG and zlib.crc32(f"{healthy.name}{fault.name}".encode()) % SLICE:
                continue
            if before is None:
                before = effect(*built(healthy))
            net, x = built(healthy)
            with torch.no_grad():
                names = fault.put(net)
            if names is not None and does_harm(before, effect(net, x)):
                yield healthy, fault, names, profile(net, x, loss=distance)


def at_place(report, finding, names):
    """Whether a finding is on the layers of these modules, or on those beside them."""
    inner = tuple(f"{name}." for name in names)
    on = [i for i, x in enumerate(report) if set(x.names) & set(names) or x.name.startswith(inner)]
    return bool(on) and finding.first <= on[-1] + 1 and finding.last >= on[0] - 1


def test_faults_are_found_named_and_explained():
    table, wrong = Counter(), []
    for healthy, fault, names, report in mutants():
        found = [f for f in report.findings if f.severity != "info"]
        table["mutants"] += 1
        table["found"] += bool(found)
        right = any(f.rule in fault.causes for f in found)
        table["cause"] += right
        table["place"] += bool(found) and (
            not names or any(at_place(report, f, names) for f in found[:3])
        )
        wrong += [] if right else [(healthy.name, fault.name, [f.rule for f in found])]
    print(dict(table), wrong)
    assert table["mutants"] >= 30
    assert table["found"] >= 0.95 * table["mutants"], (table, wrong)
    assert table["cause"] >= 0.9 * table["found"], (table, wrong)
    assert table["place"] >= 0.95 * table["found"], (table, wrong)
