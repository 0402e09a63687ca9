"""audit() of parameters that are rare: named and explained, never an exception."""

import json

import pytest
import torch
from torch import nn

from initfast.repair.auditing import audit


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def odd_parameters():
    weight = torch.randn(20, 20)
    freed = torch.randn(9, 9)
    freed.untyped_storage().resize_(0)
    yield "meta", torch.empty(3, 3, device="meta"), "meta device"
    yield "complex", weight + 1j * weight, "complex"
    yield "coo", weight.relu().to_sparse(), "sparse"
    yield "csr", weight.relu().to_sparse_csr(), "sparse"
    yield "empty", torch.empty(0, 5), "empty"
    yield "scalar", torch.tensor(3.0), ""
    yield "integers", torch.arange(30), "int64"
    yield "booleans", torch.ones(3) > 0, "bool"
    yield "bits8", weight.to(torch.float8_e4m3fn), ""
    yield "brain", weight.bfloat16(), ""
    yield "quantised", torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "quantised"
    yield "freed", freed, "given away"
    yield "nested", torch.nested.nested_tensor([weight, weight[:3]]), "nested"
    yield "jagged", torch.nested.nested_tensor([weight, weight[:3]], layout=torch.jagged), "nested"
    yield "expanded", torch.randn(4, 1).expand(4, 8), ""
    yield "turned", weight.t(), ""


@pytest.mark.filterwarnings("ignore")
def test_odd_parameters_are_named_and_explained():
    net = nn.Module()
    notes = {}
    for name, tensor, note in odd_parameters():
        trainable = tensor.is_floating_point() or tensor.is_complex()
        net.register_parameter(name, nn.Parameter(tensor, requires_grad=trainable))
        notes[name] = note
    found = audit(net)
    assert [f.name for f in found] == list(notes) and found.findings == []
    for name, note in notes.items():
        assert note in found[name].note
        assert (found[name].family is None) == (name in ("meta", "freed")), found[name].note
        assert name in str(found)
    json.loads(found.to_json())


def test_modules_whose_parameters_are_not_plain():
    net = nn.ModuleDict({"lazy": nn.LazyLinear(4), "frozen": nn.Linear(30, 30)})
    net["frozen"].requires_grad_(False)
    net["normed"] = torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
    found = audit(net)
    assert "lazy" in found["lazy.weight"].note and found["frozen.weight"].note == "frozen"
    assert "parametrised" in found["normed.parametrizations.weight.original1"].note
    assert found.findings == []


def test_what_is_no_module_and_what_has_no_parameters():
    assert str(audit(nn.Identity())).startswith("no parameters")
    with pytest.raises(TypeError, match="net is a Tensor; expected"):
        audit(torch.ones(3))
