"""audit() of well-known nets as their libraries build them finds no fault.

A few are looked at always, all with INITFAST_REAL_NETS=1, which also says that the libraries are
installed.
"""

import os
import warnings

import pytest
import torch
from repair.nets_as_built import BUILDERS

from initfast.repair.auditing import audit

WHOLE = os.environ.get("INITFAST_REAL_NETS") == "1"
SLICE = {
    "torchvision": ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"),
    "timm": ("regnety_004", "visformer_tiny", "convnextv2_atto"),
    "transformers": ("Bert", "GPT2", "Llama", "T5", "Mamba", "ViT"),
}
NETS = [(lib, name) for lib in BUILDERS for name in (BUILDERS[lib][1] if WHOLE else SLICE[lib])]


@pytest.mark.parametrize("lib, name", NETS)
def test_no_fault_is_found(lib, name):
    if not WHOLE:
        pytest.importorskip(lib)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = BUILDERS[lib][0](name)
    found = audit(net)
    assert len(found) == len(list(net.parameters()))
    serious = [f for f in found.findings if f.severity != "info"]
    assert not serious, serious[0]


def test_the_lists_are_of_nets_that_are_there():
    for lib, (_, names) in BUILDERS.items():
        assert len(names) == len(set(names)) >= 40, lib
        assert set(SLICE[lib]) <= set(names)


def test_schemes_of_well_known_nets():
    pytest.importorskip("transformers")
    build = BUILDERS["transformers"][0]
    torch.manual_seed(0)
    assert "gpt2" in audit(build("GPT2")).schemes
    bert = audit(build("Bert")).schemes
    assert "hf" in bert and "gpt2" not in bert
