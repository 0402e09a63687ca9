"""Shows that the native operators of a wheel work in a torch that it was not built against.

usage: python smoke.py TORCH_BUILT TORCH_RUNNING
"""

import sys

import torch

import initfast

info = initfast.build_info()
print(info)
assert info.backend == "native"
versions = [version.split("+")[0] for version in (info.torch_built, info.torch_running)]
assert versions == sys.argv[1:], versions

torch.manual_seed(0)
x, weight, bias = torch.randn(16, 256), torch.randn(256, 256) / 16, torch.randn(256)
y, z, moments, live = torch.ops.initfast.linear_act(x, weight, bias, "tanh", 0.0, 0.0, True)
expected = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
torch.testing.assert_close(z.double(), expected, rtol=1e-5, atol=1e-5)
torch.testing.assert_close(y.double(), expected.tanh(), rtol=1e-5, atol=1e-5)
for row, values in zip(moments.tolist(), (z, y, weight), strict=True):
    count, nonfinite, _, _, mean, m2, low, high, *_ = row
    assert (count, nonfinite) == (values.numel(), 0)
    assert (low, high) == (values.min().item(), values.max().item())
    assert abs(mean - values.double().mean().item()) < 1e-7
    std = values.double().std().item()
    assert abs((m2 / (count - 1)) ** 0.5 / std - 1) < 1e-6
assert live.all()

net = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.Tanh(), torch.nn.Linear(256, 10))
report = initfast.profile(net, x)
assert len(report.layers) == 2
assert "<h1>" in report.to_html()  # its templates travel in the wheel
print(report)
