"""`initfast profile` of other libraries' nets, by name.

They run where the libraries are installed. INITFAST_REAL_NETS=1 says that they are: a missing one
then fails.
"""

import importlib
import json
import os

import pytest

from initfast.cli.main import main


def needs(name):
    if os.environ.get("INITFAST_REAL_NETS") == "1":
        importlib.import_module(name)
    else:
        pytest.importorskip(name)


@pytest.mark.parametrize("is_file", [True, False])
def test_transformers(tmp_path, is_file, capsys):
    needs("transformers")
    config = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 32, "vocab_size": 99}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config | {"architectures": ["GPT2LMHeadModel"]}))
    given = str(path if is_file else tmp_path)
    assert main(["profile", "--hf", given, "--loss", "cross_entropy"]) in (0, 1)
    assert "transformer.h.1.mlp" in capsys.readouterr().out


@pytest.mark.parametrize(("library", "name"), [("timm", "resnet10t"), ("torchvision", "resnet18")])
def test_image_models(library, name, capsys):
    needs(library)
    sizes = ["--input", "2,3,64,64", "--format", "json"]
    assert main(["profile", f"--{library}", name, *sizes]) in (0, 1)
    assert "layer1.0.conv1" in capsys.readouterr().out
    assert main(["profile", f"--{library}", "nosuch", *sizes]) == 2
    assert f"{library} has no model 'nosuch'" in capsys.readouterr().err
