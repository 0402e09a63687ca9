"""A waiting linear layer: no change of memory, and no use of it, can tell that it waits."""

import copy
import io
import pickle
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from profile_cases import linear, same, x_of
from torch import Tensor, nn

from initfast.pending import Pending
from initfast.profiler import profile
from initfast.waiting import Waiting

# ---- in-place changes, one hazard at a time ----


def change_x(x, layer):
    x.mul_(3)


def change_x_by_item(x, layer):
    x[0] = 1.0


def change_x_by_view(x, layer):
    x.view(-1).add_(1)


def change_x_by_out(x, layer):
    torch.neg(x, out=x)


def change_x_by_operator(x, layer):
    torch.ops.aten.add_(x, 1)


def change_x_by_numpy(x, layer):
    x.numpy()[:] = 2.0


def change_x_by_augmented(x, layer):
    x += 1


def change_x_by_foreach(x, layer):
    torch._foreach_mul_([x], 2.0)


def change_x_by_init(x, layer):
    nn.init.ones_(x)


def change_weight(x, layer):
    layer.weight.zero_()


def change_weight_by_data(x, layer):
    layer.weight.data.fill_(1.0)


def change_weight_by_new_data(x, layer):
    layer.weight.data = torch.ones(7, 5)


def change_bias(x, layer):
    layer.bias.copy_(torch.ones(7))


def change_x_by_activation(x, layer):
    F.relu(x, inplace=True)


CHANGES = [value for name, value in list(globals().items()) if name.startswith("change_")]


@pytest.mark.parametrize("change", CHANGES)
def test_change_between_linear_and_activation(change):
    def function(x):
        layer = linear()
        z = layer(x)
        change(x, layer)
        return torch.tanh(z), x

    same(function, x_of(4, 5))


@pytest.mark.parametrize("change", CHANGES)
def test_change_between_activation_and_second_use(change):
    def function(x):
        layer = linear()
        z = layer(x)
        y = torch.tanh(z)
        change(x, layer)
        return z * 2, y, x

    same(function, x_of(4, 5))


@pytest.mark.parametrize("change", CHANGES)
def test_change_after_the_layer_is_done(change):
    def function(x):
        layer = linear()
        y = torch.tanh(layer(x))
        change(x, layer)
        return y, layer(x)

    same(function, x_of(4, 5))


def test_in_place_activation_writes_into_the_pre_activation():
    layer = linear()

    def function(x):
        z = layer(x)
        y = z.relu_()
        y.add_(1)
        return z, y

    same(function, x_of(4, 5), ops=["linear + relu"])


def test_in_place_activation_of_a_used_pre_activation():
    layer = linear()

    def function(x):
        z = layer(x)
        y = torch.tanh(z)
        z.relu_()
        return z, y

    same(function, x_of(4, 5), ops=["linear + tanh", "relu"])


def test_in_place_activation_of_a_value_that_a_layer_waits_on():
    a, b = linear(), linear(7, 7)

    def function(x):
        z = a(x)
        u = b(z)
        z.relu_()
        return torch.tanh(u), z

    same(function, x_of(4, 5))


def test_in_place_change_of_a_pending():
    layer = linear()

    def function(x):
        z = layer(x)
        view = z.view(-1)
        z += 1
        z[0] = 0
        view.mul_(2)
        return torch.tanh(z), z.t_(), z.shape

    same(function, x_of(4, 5))


# ---- a Pending is a tensor ----


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
        assert type(z) is Tensor or (type(z) is Pending and z.value is None)
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


def test_another_thread_uses_a_pending():
    layer = linear()

    def function(x):
        z, found = layer(x), []
        thread = threading.Thread(target=lambda: found.append(z + 1))
        thread.start()
        thread.join()
        return found[0]

    same(function, x_of(4, 5))


def test_a_custom_operator_and_a_custom_function_see_values():
    layer = linear()

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z * 2

    def function(x):
        return Double.apply(layer(x)), torch.ops.aten.mul(layer(x), 2)

    same(function, x_of(4, 5))


@pytest.mark.parametrize("ask", [lambda layer, x: layer(x), lambda layer, x: layer(x).tanh()])
def test_threads_that_use_one_pending_at_once(ask, monkeypatch):
    layer, asked = linear(), []
    plainly = Waiting.evaluate

    def slowly(waiting, pending):
        asked.append(pending)
        time.sleep(0.02)
        return plainly(waiting, pending)

    monkeypatch.setattr(Waiting, "evaluate", slowly)

    def function(x):
        z = ask(layer, x)
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda i: (z + i).detach(), range(4)))

    report = same(function, x_of(4, 5))
    assert len(asked) == 1
    assert [row.op for row in report if row.op.startswith("linear")] == [report.layers[0].op]


def test_a_thread_uses_results_while_the_net_goes_on():
    layers, x = [linear(5, 5) for _ in range(50)], x_of(4, 5)
    interval = sys.getswitchinterval()

    def function(x):
        asked, used = queue.SimpleQueue(), []

        def use():
            while (h := asked.get()) is not None:
                used.append((h + 1).detach())

        thread = threading.Thread(target=use)
        thread.start()
        try:
            for layer in layers:
                x = torch.tanh(layer(x))
                asked.put(x)
        finally:
            asked.put(None)
            thread.join()
        return x, used

    try:
        sys.setswitchinterval(1e-6)
        report = same(function, x)
    finally:
        sys.setswitchinterval(interval)
    assert [row.op for row in report if row.op.startswith("linear")] == ["linear + tanh"] * 50


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
