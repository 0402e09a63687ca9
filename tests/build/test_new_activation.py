"""An activation takes one entry in C++ and one in Python: a copy of the sources is given one."""

import os
import runpy
import shutil
import subprocess
import sys

import pytest
from cases.sources import ROOT

LINE_IN_CPP = """ \\
  X(Softshrink, "softshrink", alpha >= 0, "softshrink's lambd is ", alpha, "; expected 0 or more")\
"""

CLASS_IN_CPP = """template <class V>
struct Softshrink : NeverSaturates<V> {  // alpha: lambd
  using S = ScalarOf<V>;
  S alpha;
  INITFAST_INLINE Softshrink(S a, S) : alpha(a) {}
  INITFAST_INLINE V value(V z) const {
    return select(z > alpha, z - alpha, select(z < -alpha, z + alpha, z * S(0)));
  }
  INITFAST_INLINE V backward(V grad, V z) const {
    return select((z >= -alpha) & (z <= alpha), splat<V>(0), grad);
  }
};

"""

IN_PYTHON = """\
    "softshrink": Activation(
        lambda z, a, b: torch.where(z.abs() > a, F.softshrink(z, a), 0 * z),  # zero's sign stays
        lambda g, z, a, b: torch.where((z >= -a) & (z <= a), 0.0, g),
        parameters=("lambd",),
        defaults=(0.5, 0.0),
        limit=Limit(lambda a, b: a >= 0, "softshrink's lambd is {alpha}; expected 0 or more"),
        module=nn.Softshrink,
        rectifier=True,
        examples=((1.0, 0.0),),
    ),
"""

CHECKS = """
import sys

import pytest
import torch
import torch.nn.functional as F
from cases import operators
from torch import nn

import initfast
from initfast import ops
from initfast.diagnosis.advice import needed

info = initfast.build_info()
assert info.backend == sys.argv[1], info
assert initfast.__file__.startswith(sys.argv[2]), initfast.__file__
assert {("softshrink", 0.5, 0.0), ("softshrink", 1.0, 0.0)} <= set(operators.ACTIVATIONS)
assert ops.activation_defaults("softshrink") == (0.5, 0.0)

z = (2 * torch.randn(40, 30)).requires_grad_()
y, moments, live = ops.act(z, "softshrink", 0.75)
torch.testing.assert_close(y, F.softshrink(z, 0.75))
operators.assert_row(moments[0], z)
operators.assert_row(moments[1], y)
assert live.all()
for size in (1.0, float("inf")):
    (grad,) = torch.autograd.grad(y, z, torch.full_like(y, size), retain_graph=True)
    assert torch.equal(grad, torch.where(z.abs() > 0.75, size, 0.0))

x, weight, bias = torch.randn(8, 30), torch.randn(20, 30), torch.randn(20)
y, moments, live = ops.linear_act(x, weight, bias, "softshrink")
torch.testing.assert_close(y, F.softshrink(F.linear(x, weight, bias)), rtol=1e-4, atol=1e-4)
operators.assert_row(moments[1], y)
with pytest.raises(RuntimeError, match="initfast: softshrink's lambd is -1.*; expected 0 or more"):
    ops.act(z.detach(), "softshrink", -1.0)
with pytest.raises(RuntimeError, match="unknown activation 'none'; expected one of .*, softshrink"):
    torch.ops.initfast.act(z.detach(), "none", 0.0, 0.0, -1)

linears = [nn.Linear(64, 64) for _ in range(12)]
for act, number in [(nn.Softshrink(), 0.5), (nn.Softshrink(0.25), 0.25), (F.softshrink, 0.5)]:
    def net(x):
        for linear in linears:
            x = act(linear(x))
        return x

    report = initfast.profile(net, torch.randn(256, 64))
    assert {(layer.op, layer.alpha) for layer in report} == {("linear + softshrink", number)}
    assert "linear + softshrink" in str(report)
    assert [finding.rule for finding in report.findings] and all(map(str, report.findings))
    assert any("softshrink" in str(finding) for finding in report.findings)
square = F.softshrink(torch.randn(1_000_000, dtype=torch.float64)).square().mean().item()
assert abs(needed("softshrink") * square - 1) < 0.02
print("checked")
"""


def insert(path, before, block, after):
    """Put one block of text between two that stand together in a file."""
    text = path.read_text()
    assert text.count(before + after) == 1
    path.write_text(text.replace(before + after, before + block + after))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the sources with one more activation, built into a folder of its own."""
    command, reason = runpy.run_path(str(ROOT / "csrc" / "build_backend.py"))["find_compiler"]()
    if not command:
        pytest.skip(reason)
    copy = tmp_path_factory.mktemp("sources")
    built = shutil.ignore_patterns("_build.json", "_C*", "__pycache__")
    for folder in ("csrc", "initfast", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=built)
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    cpp, python = copy / "csrc/math", copy / "initfast/ops/activations.py"
    insert(cpp / "activation.h", '  X(Hardswish, "hardswish")', LINE_IN_CPP, "\n\n}  // namespace")
    classes = cpp / "piecewise_activations.h"
    insert(classes, "", CLASS_IN_CPP, "template <class V>\nstruct Identity")
    insert(python, "module=nn.Hardswish,\n    ),\n", IN_PYTHON, "}\n")
    environment = {**os.environ, "INITFAST_NATIVE": "1", "INITFAST_CUDA": "0"}
    build = [sys.executable, "setup.py", "-q", "build", "--build-lib", "built"]
    run = subprocess.run(build, cwd=copy, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return copy


def run_in(copy, backend, *arguments):
    """Run Python on what was built from a copy."""
    path = os.pathsep.join([str(copy / "built"), str(copy / "tests")])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, "INITFAST_BACKEND": backend},
        cwd=copy / "tests",
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_everything_knows_it(copy, backend):
    run = run_in(copy, backend, "-c", CHECKS, backend, str(copy / "built"))
    assert run.stdout == "checked\n", run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_the_tests_of_activations_take_it_in_and_pass(copy, backend):
    files = ["act", "activations", "autograd", "chain_backward", "linear_act"]
    paths = [f"ops/test_{name}.py" for name in files] + ["interception/test_function_mode.py"]
    run = run_in(copy, backend, "-m", "pytest", *paths, "-v", "-k", "softshrink")
    assert run.returncode == 0, run.stdout + run.stderr
    assert all(f"{path}::" in run.stdout for path in paths), run.stdout
