"""`initfast profile` and `initfast compare`."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest
import torch

import initfast
from initfast.cli import progress
from initfast.cli.formats import coloured
from initfast.cli.main import main
from initfast.diagnosis.diagnosing import RULES

NETS = """
import sys, torch
from torch import nn

print("printed by the user")

class Block(nn.Module):
    def __init__(self, std):
        super().__init__()
        self.fc = nn.Linear(64, 64)
        nn.init.normal_(self.fc.weight, std=std)
    def forward(self, x):
        return torch.relu(self.fc(x))

def loud():
    return nn.Sequential(*[Block(1.0) for _ in range(12)])

def sound():
    return nn.Sequential(*[Block((2 / 64) ** 0.5) for _ in range(12)])

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)
    def forward(self, x, y=0):
        return self.fc(x + y)

class Wide(Small):
    def __init__(self, width, depth): ...

class Plain: ...

made = Small()
number = 3

def words(): return nn.Embedding(100, 8)
def image(): return nn.Conv2d(3, 4, 3)
def fails(): raise ValueError("no\\nluck")
def leaves(): sys.exit(0)
def nothing(): return {}
def make_input(): return {"x": torch.ones(4, 64), "y": torch.ones(64)}
def loss(output): return output.square().sum()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    (tmp_path / "toys.py").write_text(NETS)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    yield tmp_path
    for name in set(sys.modules) & {"toys", "torch_nets", "initfast_target_torch"} - known:
        del sys.modules[name]


def profile(*arguments):
    return main(["profile", *arguments, "--input", "16,64"])


@pytest.mark.parametrize("target", ["toys:Small", "toys.py:made"])
def test_targets(target, capsys):
    assert profile(target) == 0
    out, err = capsys.readouterr()
    assert "fc" in out and out.splitlines()[-1].startswith("no ")
    assert "printed by the user" not in out and "printed by the user" in err


def test_findings_fail_the_run_from_the_level_on(capsys):
    assert profile("toys:loud") == 1
    assert "error: explosion in layers 0 to 11 ('0.fc' to '11.fc')" in capsys.readouterr().out
    assert profile("toys:loud", "--fail-on", "never") == 0
    assert profile("toys:sound", "--fail-on", "warning") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toys:fails"], "toys:fails raised ValueError: no luck"),
        (["toys:leaves"], "toys:leaves raised SystemExit: 0"),
        (["toys:nothing"], "toys:nothing returned a dict; expected a torch.nn.Module"),
        (["toys:number"], "toys:number is a int; expected a net or a function that makes one"),
        (["toys:Plain"], "toys:Plain is the class Plain, which is no torch.nn.Module"),
        (["toys:Wide"], "toys:Wide needs arguments (width, depth); name a function"),
        (["toys:nosuch"], "toys has no 'nosuch'; it has Block, loud, sound"),
        (["toys"], "TARGET is 'toys'; expected module:callable or file.py:callable"),
        (["nosuch:net"], "importing nosuch raised ModuleNotFoundError"),
        (["nosuch.py:net"], "there is no file 'nosuch.py'"),
        ([], "expected one TARGET"),
        (["toys:Small", "--timm", "resnet18"], "expected one TARGET"),
        (["--hf", "nosuch"], "there is no file or folder 'nosuch'"),
        (["toys:Small", "--loss", "l1"], "--loss is 'l1'; expected mse, cross_entropy or"),
        (["toys:Small", "--loss", "mse", "--backward", "random"], "are both given"),
        (["toys:Small", "--device", "nosuch"], "--device nosuch: "),
        (["toys:Small", "--output", "no/file"], "--output no/file: there is no folder 'no'"),
        (["toys:Small", "--output", "."], "--output . is a folder; expected a file"),
        (["toys:Small", "--baseline", "no.json"], "--baseline: there is no file 'no.json'"),
        (["toys:Small", "--baseline", "toys.py"], "--baseline toys.py holds no report"),
    ],
)
def test_a_run_that_fails_says_so_in_one_line(arguments, message, capsys):
    assert profile(*arguments) == 2
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert last.startswith("initfast: ") and message in last
    assert out == "" and err.count("initfast: ") == 1 and "Traceback" not in err


@pytest.mark.parametrize(
    ("target", "given", "message"),
    [
        (
            "toys:Small",
            "16,65",
            "the first layer, fc (Linear), takes float inputs whose last dimens",
        ),
        ("toys:words", "2,8", "takes integers from 0 to 99, as 2,16:int64:0:100"),
        ("toys:image", "2,4,8,8", "the first layer, the net (Conv2d), takes N,3,H,W"),
        ("toys:Small", "16;64", "--input is '16;64'; expected a shape such as 16,256"),
        ("toys:Small", "16,64:float7", "no dtype 'float7'; expected one of float32"),
        ("toys:words", "2,8:int64", "integers need a range, such as 2,8:int64:0:50257"),
        ("toys:words", "2,8:int64:5:5", "the range 5:5 is empty"),
        ("toys:words", "2,8:uint8:0:300", "torch.uint8 holds 0 to 255"),
        ("toys:words", "toys.py:nosuch", "toys.py has no 'nosuch'"),
    ],
)
def test_an_input_that_does_not_fit(target, given, message, capsys):
    assert main(["profile", target, "--input", given]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_inputs(capsys):
    assert main(["profile", "toys:words", "--input", "2,8:int64:0:100"]) == 0
    assert main(["profile", "toys:Small", "--input", "toys.py:make_input"]) == 0
    assert main(["profile", "toys:Small", "--input", "4,64", "--input", "64"]) == 0
    assert main(["profile", "toys:Small"]) == 2
    assert "--input is missing" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["mse", "cross_entropy", "toys.py:loss", "random"])
def test_losses_give_gradients(loss, capsys):
    how = ["--backward", loss] if loss == "random" else ["--loss", loss]
    assert profile("toys:Small", *how, "--format", "json") == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert layers[-1]["grad"]["std"] > 0


def test_the_seed_decides_every_number_and_dtype_and_mode_hold(capsys):
    texts = []
    for seed in ("1", "1", "2"):
        profile("toys:loud", "--seed", seed, "--format", "json")
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert profile("toys:Small", "--dtype", "bfloat16", "--eval", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["dtype"] == "bfloat16"


def test_a_verbose_failure_has_its_traceback(capsys):
    assert profile("toys:fails", "--verbose") == 2
    err = capsys.readouterr().err
    assert 'raise ValueError("no' in err and err.splitlines()[-1].startswith("initfast: toys:fails")


def test_a_file_with_a_librarys_name_is_itself(folder):
    (folder / "torch.py").write_text(NETS)
    assert profile("torch.py:Small") == 0


def test_the_baseline_names_what_changed(folder, capsys):
    assert profile("toys:sound", "--format", "json", "--output", "init.json") == 0
    assert capsys.readouterr().out == ""
    assert profile("toys:sound", "--baseline", "init.json") == 0
    text = NETS.replace("range(12)])\n\nclass Small", "range(11)])\n\nclass Small")
    (folder / "other.py").write_text(text.replace("(2 / 64) ** 0.5", "(1.6 / 64) ** 0.5"))
    capsys.readouterr()
    assert profile("other.py:sound", "--baseline", "init.json", "--fail-on", "never") == 1
    out = capsys.readouterr().out
    assert "changed: 0.fc: std " in out and "weight std 0.17" in out
    assert "vanished: 11.fc (linear + relu)" in out
    wide = ["--tolerance", "0.9"]
    assert profile("toys:sound", "--seed", "3", "--baseline", "init.json", *wide) == 0


def test_a_baseline_of_another_net_or_schema_fails_the_run(folder, capsys):
    assert profile("toys:Small", "--format", "json", "--output", "init.json") == 0
    assert profile("toys:sound", "--baseline", "init.json") == 2
    assert (
        "init.json is of another net: it begins with 'fc', this net with" in capsys.readouterr().err
    )
    (folder / "init.json").write_text('{"layers": [{"name": "fc"}], "schema": 99}')
    assert profile("toys:sound", "--baseline", "init.json") == 2
    assert "holds no report that this initfast can read" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_leaves_nothing(folder, capsys, monkeypatch):
    (folder / "out.txt").write_text("before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    assert profile("toys:Small", "--output", "out.txt") == 2
    assert "--output out.txt: disk full" in capsys.readouterr().err
    assert (folder / "out.txt").read_text() == "before"
    assert {path.suffix for path in folder.iterdir()} <= {".txt", ".py", ""}
    assert not [path for path in folder.iterdir() if path.name.startswith(".out")]


def test_csv_has_the_data_frames_columns(capsys):
    assert profile("toys:sound", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[3]["name"] == "3.fc" and float(rows[3]["weight_std"]) > 0
    assert list(rows[0])[:3] == ["name", "op", "type"]


def test_junit_has_a_case_for_each_check(capsys):
    assert profile("toys:loud", "--format", "junit") == 1
    (suite,) = ElementTree.fromstring(capsys.readouterr().out)
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == list(RULES)
    assert "explosion in layers 0 to 11" in cases["explosion"].find("failure").text
    assert cases["weight_scale"].find("failure") is None  # a warning is below the level
    assert "warning: weight scale" in cases["weight_scale"].find("system-out").text
    assert "loss" in cases["gradient_explosion"].find("skipped").get("message")
    assert [suite.get("failures"), suite.get("tests")] == ["1", str(len(RULES))]


def test_github_points_at_the_class_and_writes_the_summary(folder, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    assert profile("toys:loud", "--format", "github") == 1
    first, *_, last = capsys.readouterr().out.splitlines()
    line = NETS.splitlines().index("class Block(nn.Module):") + 1
    assert first.startswith(f"::error file=toys.py,line={line},title=explosion in layers 0 to 11 (")
    assert "%0A" in first and first.count("::") == 2
    assert last.startswith("toys:loud: 1 error, 1 warning")
    summary = (folder / "summary.md").read_text()
    assert summary.startswith("### initfast: `toys:loud`\n\n1 error") and "explosion" in summary


def test_compare(folder, capsys):
    for seed, name in (("0", "a.json"), ("0", "b.json"), ("5", "c.json")):
        assert profile("toys:sound", "--seed", seed, "--format", "json", "--output", name) == 0
    assert main(["compare", "a.json", "b.json"]) == 0
    assert "0 of 12 rows changed" in capsys.readouterr().out
    assert main(["compare", "a.json", "c.json", "--tolerance", "0", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["matched"] == 12
    assert main(["compare", "a.json", "nosuch"]) == 2
    assert capsys.readouterr().err == "initfast: B: there is no file 'nosuch'\n"


def test_wrong_arguments_of_a_command_are_one_line(capsys):
    for arguments in (["profile", "--nosuch"], ["compare", "a"], ["profile", "--tolerance", "-1"]):
        with pytest.raises(SystemExit) as raised:
            main(arguments)
        assert raised.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"initfast {initfast.__version__}\n"


def test_colour_on_terminals_only(monkeypatch):
    text = "error: explosion\n    warning: none\nchanged: 0"
    assert coloured(text) == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured(text).startswith(
        "\x1b[31;1merror:\x1b[0m explosion\n    warning: none\n\x1b[33m"
    )
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured(text) == text


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_is_shown_on_terminals_after_a_while(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    with progress.Progress() as shown:
        shown.stage("profiling x")
        shown.at(1, 4)
        while stream.isatty() and "profiling x" not in stream.getvalue():
            time.sleep(0.01)
    if stream.isatty():
        assert "1 of 4, about 0 s left" in stream.getvalue()
        assert stream.getvalue().endswith("\r\x1b[K")
    else:
        assert stream.getvalue() == ""


def test_the_estimate_is_in_proportion(monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 100.0)
    shown = progress.Progress()
    shown.stage("profiling")
    shown.at(1, 4)
    assert shown.line(110.0) == "profiling: 10 s, 1 of 4, about 30 s left"


def start(folder, *arguments):
    """The console script, in a folder with a package of our name."""
    (folder / "initfast").mkdir()
    (folder / "initfast" / "__init__.py").write_text("raise SystemExit('the wrong initfast')")
    (folder / "bin").mkdir()
    script = folder / "bin" / "run"
    script.write_text("import sys\nfrom initfast.cli.main import run\nsys.exit(run())\n")
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_interrupt_is_one_line_and_leaves_nothing_half_written(folder):
    (folder / "slow.py").write_text(
        NETS
        + "\n\ndef slow():\n    import time\n    print('here', flush=True)\n    time.sleep(60)\n"
    )
    process = start(folder, "profile", "slow:slow", "--input", "1", "--output", "out.txt")
    while process.stderr.readline() != "here\n":
        pass
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "initfast: interrupted\n"
    assert process.returncode == 130
    assert not (folder / "out.txt").exists()


def test_a_reader_that_leaves_gets_the_runs_status(folder):
    process = start(folder, "profile", "toys:loud", "--input", "16,64")
    process.stdout.close()
    assert process.stderr.read() == "printed by the user\n"
    assert process.wait() == 1
    process.stderr.close()


def test_random_state_of_the_caller_is_no_part_of_the_result(capsys):
    profile("toys:Small", "--format", "json")
    first = capsys.readouterr().out
    torch.manual_seed(99)
    profile("toys:Small", "--format", "json")
    assert capsys.readouterr().out == first
