"""A DeferredTensor is a tensor: no use of it can tell that its layer waits."""

import copy
import io
import pickle
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases.profiles import linear, same, x_of
from torch import Tensor

from initfast.interception.deferred_tensor import DeferredTensor
from initfast.profiling.profile import profile


def test_metadata_does_not_run_the_layer():
    layer, x = linear(), x_of(2, 3, 5)

    def function(x):
        z = layer(x)
        assert isinstance(z, Tensor)
        assert z.shape == (2, 3, 7) and z.size(-1) == 7 and z.size() == (2, 3, 7)
        assert (z.dim(), z.ndim, z.numel(), len(z)) == (3, 3, 42, 2)
        assert z.dtype is torch.float32 and z.device == x.device and z.layout is torch.strided
        assert z.is_contiguous() and z.stride() == (21, 7, 1) and z.is_cpu and not z.is_cuda
        assert z.is_floating_point() and torch.is_floating_point(z) and z.element_size() == 4
        assert not z.requires_grad
        assert type(z) is Tensor or (type(z) is DeferredTensor and z.value is None)
        return torch.tanh(z)

    same(function, x, ops=["linear + tanh"])


def test_ordinary_things_with_a_pending():
    layer = linear()

    def function(x):
        z = layer(x)
        array = z.numpy()
        buffer = io.BytesIO()
        torch.save(z, buffer)
        buffer.seek(0)
        return [
            torch.from_numpy(array),
            copy.deepcopy(z),
            copy.copy(z),
            pickle.loads(pickle.dumps(z)),
            torch.load(buffer),
            torch.from_numpy(np.asarray(z)),
            torch.stack([z, z]),
            torch.cat((z, z)),
            z.data_ptr() != 0,
            len(repr(z)) + len(f"{z}"),
            z.tolist(),
            bool((z == z).all()),
            [row.sum() for row in z],
            z[0, 0].item(),
            z.T,
            torch.from_dlpack(z),
            torch.einsum("ij,kj->ik", z, z),
            z.is_leaf,
            z.grad_fn,
            z.to(torch.float64),
            z.detach(),
        ]

    same(function, x_of(4, 5), ops=["linear"])


def test_pendings_that_escape_become_ordinary_tensors():
    layer, x = linear(), x_of(4, 5)
    kept = {}

    def function(x):
        kept["used"] = layer(x)
        y = torch.tanh(kept["used"])
        kept["waits"] = layer(x)
        kept["in place"] = layer(x)
        F.relu_(kept["in place"])
        return y

    profile(function, x)
    with torch.no_grad():
        z = F.linear(x, layer.weight, layer.bias)
        layer.weight.zero_()
        x.zero_()
    for name in ("used", "waits"):
        torch.testing.assert_close(kept[name], z)
    torch.testing.assert_close(kept["in place"], z.relu())
    for tensor in kept.values():
        assert type(tensor) is Tensor
        assert pickle.loads(pickle.dumps(tensor)).equal(tensor)
        tensor.requires_grad_()


def test_a_pending_with_weak_references_still_works_afterwards():
    import weakref

    layer, x = linear(), x_of(4, 5)
    kept = []

    def function(x):
        kept.append(layer(x))
        kept.append(weakref.ref(kept[0]))
        return torch.tanh(kept[0])

    profile(function, x)
    with torch.no_grad():
        torch.testing.assert_close(kept[0] + 1, layer(x) + 1)


def test_escape_from_a_forward_that_raises():
    layer, x = linear(), x_of(4, 5)
    kept = []

    def function(x):
        kept.extend([layer(x), layer(x)])
        torch.tanh(kept[0])
        raise KeyError("stop")

    with pytest.raises(KeyError):
        profile(function, x)
    with torch.no_grad():
        for z in kept:
            torch.testing.assert_close(z, layer(x))


def test_a_custom_operator_and_a_custom_function_see_values():
    layer = linear()

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z * 2

    def function(x):
        return Double.apply(layer(x)), torch.ops.aten.mul(layer(x), 2)

    same(function, x_of(4, 5))


HELD = torch.utils.dlpack.to_dlpack
EXPORTS = {
    "torch.utils.dlpack": lambda z: torch.utils.dlpack.to_dlpack(z),
    "torch": lambda z: torch.to_dlpack(z),
    "torch._C": lambda z: torch._C._to_dlpack(z),
    "method": lambda z: z.__dlpack__(),
}


@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
def test_dlpack_exports_values(export):
    layer = linear()

    def function(x):
        z, y = layer(x), torch.tanh(layer(x))
        shared = torch.from_dlpack(export(x))
        shared += 1  # past everything that counts versions
        return torch.from_dlpack(export(z)), torch.from_dlpack(export(y)), layer(x)

    same(function, x_of(4, 5))
    assert torch.utils.dlpack.to_dlpack is torch.to_dlpack is torch._C._to_dlpack is HELD


def test_an_export_that_nobody_sees_is_refused():
    layer = linear()
    with pytest.raises(RuntimeError, match="data pointer"):
        profile(lambda x: HELD(torch.tanh(layer(x))), x_of(4, 5))


class Pair(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor


class Several(list):
    pass


@pytest.mark.parametrize("kind", [Pair, lambda *values: Several(values)])
def test_results_in_a_structure_of_ones_own(kind):
    a, b = linear(), linear()
    same(lambda x: torch.cat(kind(a(x), torch.relu(b(x)))), x_of(4, 5))
