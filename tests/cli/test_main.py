"""The command line of ``python -m initfast``."""

import subprocess
import sys

import pytest
import torch

from initfast import experiments, theory
from initfast.cli.main import main
from initfast.experiments import EXPERIMENTS
from initfast.ops.activations import ACTIVATIONS
from initfast.ops.library import load


def test_without_arguments_every_experiment_runs_and_prints(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "initfast"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    expected = "\n\n".join(str(function(0)) for function in EXPERIMENTS.values())
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [
        line.split("  ")[0] for line in expected.splitlines()
    ]
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_reader_that_leaves_early_meets_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "initfast", "sigmoid", "gain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0  # 1 would say that something is wrong
    process.stderr.close()


FULL = "initfast: cannot write standard output: No space left on device\n"


@pytest.mark.parametrize(("end", "status", "said"), [(">/dev/full", 2, FULL), (">&-", 0, "")])
def test_a_full_disk_is_one_line_and_status_2_and_a_closed_output_no_error(end, status, said):
    command = f'"{sys.executable}" -m initfast sigmoid {end}'
    run = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True)
    assert (run.returncode, run.stderr) == (status, said)


def test_named_experiments_run_in_the_order_given(capsys):
    assert main(["sigmoid", "gain", "--seed", "7"]) == 0
    assert capsys.readouterr().out == f"{experiments.sigmoid()}\n\n{experiments.gain(7)}\n"


def test_list_names_every_experiment(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)
    assert all(line.endswith(".") and len(line) <= 100 for line in lines)


def test_info_prints_what_is_loaded(capsys):
    assert main(["info"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["backend"] == load().backend
    assert facts["torch_running"] == torch.__version__


def test_theory_derives_the_scale_with_numbers(capsys):
    assert main(["theory"]) == 0
    text = capsys.readouterr().out
    assert "Var(y) = 256 * 1 * 1 = 256: the std of y is 16" in text
    assert "Weights N(0, 1/fan_in): Var(y) = 256 * 0.003906 * 1 = 1" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("  ")]
    for name in ACTIVATIONS:
        ((_, gain, slope, chi, *note),) = [row for row in rows if row[0] == name]
        assert float(gain) == pytest.approx(theory.gain(name), abs=1e-8)
        assert float(slope) == pytest.approx(theory.q_slope(name), abs=1e-5)
        assert float(chi) == pytest.approx(theory.chi(name), abs=1e-5)
        unstable = name in ("gelu", "gelu_tanh", "silu", "mish", "hardswish")
        assert (note == ["does", "not", "hold"]) == unstable


@pytest.mark.parametrize(
    "name, said",
    [
        (
            "gelu",
            ["1.533530441", "multiplied by 1.144", "21 layers", "1.983058257", "0.1729223908"],
        ),
        (
            "tanh",
            ["1.59253742", "1.66667, a factor that has worked", "Var(w) = 1.4242053 / fan_in"],
        ),
        (
            "relu",
            ["1.414213562", "Every q is kept", "keeps its size", "there is none. relu has no"],
        ),
        ("softplus", ["chi = 1 where q settles, with Var(b) = 0: there is none. softplus has no"]),
        ("identity", ["the gain 1 / sqrt(1) = 1"]),
    ],
)
def test_theory_of_one_activation(name, said, capsys):
    assert main(["theory", name]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    one_line = " ".join(text.split())
    for words in said:
        assert words.lower() in one_line.lower()


def test_threads_hold_for_the_run_only(monkeypatch):
    seen = []
    monkeypatch.setitem(EXPERIMENTS, "gain", lambda seed: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    main(["gain", "--threads", str(before + 1)])
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["theory", "swish"], "theory takes one activation of identity, relu,"),
        (["theory", "relu", "gelu"], "it was given relu gelu"),
        (["gain", "theory"], "no experiment 'theory'"),
        (["nosuch"], "no experiment 'nosuch'; expected one of exploding, steady,"),
        (["gain", "info"], "no experiment 'info'"),
        (["profle"], "or alone a command: profile, compare, audit, repair, theory or info"),
        (["--seed", "-1"], "'-1' is not an integer from 0 to"),
        (["--seed", "1e3"], "'1e3' is not an integer"),
        (["--seed", str(2**63)], "is not an integer from 0 to 2^63 - 1"),
        (["--threads", "0"], "'0' is not an integer from 1 to 1024"),
        (["--nosuch"], "unrecognized arguments: --nosuch"),
    ],
)
def test_wrong_arguments_are_an_error_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    output = capsys.readouterr()
    assert message in output.err and output.out == ""
