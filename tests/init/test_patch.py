"""The patch of torch.nn.init: whom it reaches, and that it is put back."""

import copy
import functools
import math
import pickle
import sys
import types

import pytest
import torch
from torch import nn

from initfast import init


def test_patch_draws_from_our_stream():
    torch.manual_seed(3)
    with init.patch_torch():
        net = nn.Linear(6, 4)
    torch.manual_seed(3)
    weight = init.kaiming_uniform_(torch.empty(4, 6), a=math.sqrt(5))
    assert torch.equal(net.weight, weight)
    torch.manual_seed(3)
    assert not torch.equal(nn.Linear(6, 4).weight, weight)


@pytest.fixture
def library():
    """A module that has imported functions by name."""
    module = types.ModuleType("library_that_imports_by_name")
    module.normal_ = nn.init.normal_
    module.renamed = nn.init.trunc_normal_
    module.unrelated = torch.nn.Linear
    module.table = {"normal_": nn.init.normal_, 3: nn.init.normal_, "other": len}
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_patch_reaches_names_and_puts_them_back(library):
    before = dict(vars(nn.init))
    with init.patch_torch():
        assert nn.init.normal_ is library.normal_ is not before["normal_"]
        for name in ("normal_", "trunc_normal_", "kaiming_uniform_", "orthogonal_", "sparse_"):
            assert getattr(nn.init, name) is not before[name]
            assert getattr(nn.init, name).__name__ == name
        assert library.table == {"normal_": nn.init.normal_, 3: nn.init.normal_, "other": len}
        w = library.renamed(torch.empty(5), generator=torch.Generator().manual_seed(1))
        assert torch.equal(w, init.trunc_normal_(w, generator=torch.Generator().manual_seed(1)))
        late = types.ModuleType("library_loaded_meanwhile")
        sys.modules[late.__name__] = late
        late.normal_ = nn.init.normal_
    del sys.modules[late.__name__]
    assert dict(vars(nn.init)) == before
    assert library.normal_ is late.normal_ is before["normal_"]
    assert library.unrelated is torch.nn.Linear
    assert library.table == {"normal_": nn.init.normal_, 3: nn.init.normal_, "other": len}


def test_patch_ends_with_an_exception(library):
    before = nn.init.normal_
    with pytest.raises(ZeroDivisionError):
        with init.patch_torch():
            raise ZeroDivisionError
    assert nn.init.normal_ is library.normal_ is before


def test_patch_nests_and_decorates(library):
    before = nn.init.uniform_

    @init.patch_torch()
    def draw():
        with init.patch_torch():
            pass
        return nn.init.uniform_(torch.empty(4), generator=torch.Generator().manual_seed(5))

    expected = init.uniform_(torch.empty(4), generator=torch.Generator().manual_seed(5))
    assert torch.equal(draw(), expected)
    assert nn.init.uniform_ is before


def test_patches_overlap(library):
    before = nn.init.normal_
    first, second = init.patch_torch(), init.patch_torch()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert nn.init.normal_ is library.normal_ is not before
    second.__exit__(None, None, None)
    assert nn.init.normal_ is library.normal_ is before


def test_patch_warns_where_it_is_called():
    with init.patch_torch():
        with pytest.warns(UserWarning, match="zero-element") as caught:
            nn.init.kaiming_normal_(torch.empty(0, 3))
    assert caught[0].filename == __file__


def test_patch_keeps_the_old_names():
    with init.patch_torch():
        with pytest.warns(FutureWarning, match="nn.init.normal_"):
            w = nn.init.normal(torch.empty(4), generator=torch.Generator().manual_seed(5))
    assert torch.equal(w, init.normal_(w, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("name", ["normal_", "kaiming_uniform_", "orthogonal_", "normal"])
def test_functions_are_pickled_by_name_in_the_patch_and_after_it(name):
    """Torch's, kept from before; ours, in a config; ours, kept until after the end."""
    theirs = getattr(nn.init, name)
    before = functools.partial(theirs, std=0.02)
    with init.patch_torch():
        ours = getattr(nn.init, name)
        config = functools.partial(ours, std=0.02)
        assert pickle.loads(pickle.dumps(before)).func is theirs
        assert pickle.loads(pickle.dumps(config)).func is ours
        assert copy.deepcopy(config).func is ours
        inside = pickle.dumps(ours)
    assert pickle.loads(inside) is theirs  # by the name in torch.nn.init
    assert pickle.loads(pickle.dumps(config)).func is ours
    assert pickle.loads(pickle.dumps(before)).func is theirs
    assert b"initfast" not in pickle.dumps(theirs) + inside
    with init.patch_torch():
        assert pickle.loads(pickle.dumps(config)).func is ours is getattr(nn.init, name)


def test_torchscript_compiles_what_calls_patched_functions():
    def draw(x: torch.Tensor):
        return torch.nn.init.normal_(torch.nn.init.constant_(x, 5.0), 0.0, 2.0)

    class Net(nn.Module):
        def forward(self, x):
            return nn.init.uniform_(x, 3.0, 4.0)

    with init.patch_torch():
        w = torch.jit.script(draw)(torch.empty(1000))
        u = torch.jit.script(Net())(torch.empty(1000))
        one = torch.jit.script(nn.init.zeros_)(torch.ones(3))
    assert 1.8 < w.std() < 2.2 and 3 <= u.min() and u.max() < 4 and not one.any()
