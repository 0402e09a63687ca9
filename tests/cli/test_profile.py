"""`initfast profile` and `initfast compare`."""

import json
import os

import pytest
import torch
from cases.commands import NETS, profile

import initfast
from initfast.cli.main import main

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("target", ["toys:Small", "toys.py:made"])
def test_targets(target, capsys):
    assert profile(target) == 0
    out, err = capsys.readouterr()
    assert "fc" in out and ("no findings" in out or "no errors" in out)
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
        (["toys:Small", "--input", "99999999999999,8"], "--input 99999999999999,8 raised Runtime"),
        (["toys:Small", "--input", "9" * 20], f"--input {'9' * 20} raised TypeError: randn()"),
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
    layers = []
    for seed in ("1", "1", "2"):
        profile("toys:loud", "--seed", seed, "--format", "json")
        layers.append(json.loads(capsys.readouterr().out)["layers"])
    assert layers[0] == layers[1] != layers[2]
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
    plain = json.loads((folder / "init.json").read_text()) | {"run": {"initfast": "9.0"}}
    (folder / "init.json").write_text(json.dumps(plain))
    assert profile("toys:Small", "--baseline", "init.json") == 2
    assert (
        "(ValueError: the report is of schema 99, from initfast 9.0; this"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("form", ["csv", "html"])
def test_what_changed_is_said_where_the_format_has_no_place_for_it(form, capsys):
    assert profile("toys:sound", "--format", "json", "--output", "init.json") == 0
    given = ["toys:sound", "--baseline", "init.json", "--format", form, "--output", "out"]
    assert profile(*given) == 0
    assert "changed" not in capsys.readouterr().err
    assert profile(*given, "--seed", "5", "--tolerance", "0") == 1
    assert "changed: 0.fc: std" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_leaves_nothing(folder, capsys, monkeypatch):
    (folder / "out.txt").write_text("before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    assert profile("toys:Small", "--output", "out.txt") == 2
    assert "--output out.txt: cannot write 'out.txt': disk full" in capsys.readouterr().err
    assert (folder / "out.txt").read_text() == "before"
    assert {path.suffix for path in folder.iterdir()} <= {".txt", ".py", ""}
    assert not [path for path in folder.iterdir() if path.name.startswith(".out")]


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


def test_random_state_of_the_caller_is_no_part_of_the_result(capsys):
    profile("toys:Small", "--format", "json")
    first = capsys.readouterr().out
    torch.manual_seed(99)
    profile("toys:Small", "--format", "json")
    assert capsys.readouterr().out == first
