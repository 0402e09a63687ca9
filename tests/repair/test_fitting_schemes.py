"""What initialize_ draws by a scheme, audit() finds to fit that scheme, and no quite other one."""

import pytest
import torch
from cases import small_nets
from repair.small_transformers import mlp
from torch import nn

import initfast
from initfast.repair.fitting_schemes import Fit, fit
from initfast.repair.schemes import SCHEMES

NETS = {
    "decoder": lambda: small_nets.Decoder(32, 48, 2),
    "decoder in bfloat16": lambda: small_nets.Decoder(32, 48, 2, gated=False).bfloat16(),
    "decoder without norms": lambda: small_nets.Decoder(32, 48, 2, norms=False),
    "convolutional": lambda: small_nets.ResNet(16, 2),
    "convolutional without norms": lambda: small_nets.ResNet(16, 2, norms=False),
    "recurrent": lambda: nn.Sequential(nn.LSTM(16, 24, 2), nn.Linear(24, 10)),
    "of one number": lambda: nn.Sequential(nn.Linear(3, 2), nn.GELU(), nn.Linear(2, 1)),
}


@pytest.mark.parametrize("kind", NETS)
def test_each_scheme_fits_what_it_has_drawn(kind):
    tried = 0
    for seed, name in enumerate(SCHEMES):
        net = NETS[kind]()
        try:
            initfast.initialize_(net, scheme=name, seed=seed)
        except ValueError:  # the scheme is for other nets
            continue
        assert name in initfast.audit(net).schemes, name
        tried += 1
    assert tried >= 7


@pytest.mark.parametrize(
    ("drawn", "others"),
    [
        ("gpt2", {"hf", "llama2", "torch", "flax", "auto"}),
        ("olmo_core", {"hf", "olmo_core_llama", "gpt2"}),
        ("torch", {"keras", "flax", "mup", "timm_vit"}),
        ("olmo_core_llama", {"olmo_core_llama_depth", "torchtitan"}),
    ],
)
def test_other_schemes_do_not_fit(drawn, others):
    net = small_nets.Decoder()
    initfast.initialize_(net, scheme=drawn, seed=0)
    assert not others & {*initfast.audit(net).schemes}


def test_one_weight_that_departs_is_enough():
    net = mlp(3)
    assert "torch" in initfast.audit(net).schemes
    nn.init.normal_(net[2].weight, std=0.2)
    assert initfast.audit(net).schemes == ()


def test_frozen_parameters_are_none_of_the_schemes():
    net = small_nets.Decoder()
    net.tok_embeddings.weight.requires_grad_(False).fill_(3)
    initfast.initialize_(net, scheme="t5", seed=0)
    assert "t5" in initfast.audit(net).schemes
    assert initfast.audit(mlp(2).requires_grad_(False)).schemes


def test_nothing_is_known_of_what_has_no_shape():
    net = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 4))
    assert initfast.audit(net).schemes == () and fit(net, []) == Fit()


def test_spectral_norm_does_not_go_on():
    """Its power iteration, one step whenever the weight is computed in training."""
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Linear(8, 8))
    before = {name: value.clone() for name, value in net.state_dict().items()}

    def fails(w):
        raise RuntimeError("no")

    initfast.audit(net)
    with pytest.raises(RuntimeError, match="no"):
        initfast.initialize_(net, rules={"1.weight": fails})
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())


def test_a_checkpointed_block_draws_what_it_draws_by_itself():
    plain, wrapped = nn.Sequential(mlp(2)), nn.Sequential(nn.Module())
    wrapped[0].add_module("_checkpoint_wrapped_module", mlp(2))
    for net in (plain, wrapped):
        initfast.initialize_(net, scheme="torch", seed=0)
    assert all(map(torch.equal, plain.parameters(), wrapped.parameters()))
    assert "torch" in initfast.audit(wrapped).schemes
