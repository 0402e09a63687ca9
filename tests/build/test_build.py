"""The build backend, and finding and loading the native library.

.ci/run covers what takes an installation: with and without a compiler, from an sdist, in another
torch.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from cases.sources import ROOT, module_at
from cases.switches import times

import initfast
from initfast.ops import library as the_library

PACKAGE = Path(the_library.__file__).parents[1]
NATIVE = os.environ.get("INITFAST_BACKEND", "") != "reference"
needs_native = pytest.mark.skipif(not NATIVE, reason="INITFAST_BACKEND=reference")


@pytest.fixture
def library(tmp_path, monkeypatch):
    """library.py alone in a package directory of its own, with no facts of a build yet."""
    monkeypatch.delenv("INITFAST_BACKEND", raising=False)
    package = tmp_path / "initfast" / "ops"
    package.mkdir(parents=True)
    shutil.copy(the_library.__file__, package)
    yield module_at(package / "library.py", "initfast_library_copy")
    del sys.modules["initfast_library_copy"]


def write_facts(module, **facts):
    """Facts as a build writes them, of a library that is no shared object; and where that lies."""
    path = Path(module.__file__).parents[1] / module.FACTS_FILE
    library = path.with_name(module.LIBRARY_FILE)
    library.write_bytes(b"not a shared object")
    facts = {
        **{"native": True, "reason": "", "sources": "0" * 64, "torch": "2.10.0", "cuda": None},
        **module.library_facts(library),
        **facts,
    }
    path.write_text(json.dumps(facts))
    return library


def python(code, **environment):
    """Run code in a fresh interpreter, away from the source tree."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=os.path.dirname(sys.executable),
        capture_output=True,
        text=True,
    )


# What is loaded


def test_build_info_says_what_was_asked_for():
    info = initfast.build_info()
    assert info.torch_running == torch.__version__
    if NATIVE:
        assert info.backend == "native"
        assert info.isa == os.environ.get("INITFAST_ISA", info.isa)
        assert info.isa in ("baseline", "avx2", "avx512")
        assert info.torch_built
    else:
        assert (info.backend, info.isa, info.torch_built) == ("reference", None, None)


@needs_native
def test_facts_of_the_build_are_recorded():
    facts = json.loads((PACKAGE / the_library.FACTS_FILE).read_text())
    info = initfast.build_info()
    assert facts["native"] is True
    assert (facts["torch"], facts["cuda"]) == (info.torch_built, info.cuda)
    assert facts["compiler"]
    assert len(facts["sources"]) == 64


def test_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_import_loads_no_heavy_module():
    code = (
        "import torch, sys; before = set(sys.modules); import initfast; "
        "print(*set(sys.modules) - before)"
    )
    added = python(code).stdout.split()
    assert "initfast" in added
    heavy = {"pandas", "matplotlib", "torch.utils.cpp_extension", "torch._dynamo", "setuptools"}
    assert not heavy & set(added)
    assert not [name for name in added if name.startswith("initfast.theory")]


# A library that was never built


def test_unbuilt_package_warns_and_falls_back(library):
    with pytest.warns(RuntimeWarning, match=r"^initfast: the native kernels are missing: .*where"):
        info = library.load()
    assert (info.backend, info.isa, info.torch_built) == ("reference", None, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert library.load() is info


def test_missing_compiler_is_the_reason(library):
    write_facts(library, native=False, reason="no C++ compiler was on PATH")
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler was on PATH.*pip install"):
        assert library.load().reason == "no C++ compiler was on PATH"


def test_native_demanded_but_not_built(library, monkeypatch):
    monkeypatch.setenv("INITFAST_BACKEND", "native")
    with pytest.raises(ImportError, match="INITFAST_BACKEND=native forbids the reference"):
        library.load()


def test_reference_chosen_in_silence(library, monkeypatch):
    monkeypatch.setenv("INITFAST_BACKEND", "reference")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info = library.load()
    assert info.reason == "INITFAST_BACKEND=reference is set"


def test_unknown_backend_is_refused(library, monkeypatch):
    monkeypatch.setenv("INITFAST_BACKEND", "cuda")
    with pytest.raises(ImportError, match="INITFAST_BACKEND='cuda': expected one of native, ref"):
        library.load()


# A library that was built and does not load


def test_lost_library_is_an_error(library):
    path = write_facts(library)
    path.unlink()
    with pytest.raises(ImportError, match=rf"{path} is gone.*Install initfast again"):
        library.load()


def test_broken_library_is_an_error_with_its_cause(library):
    write_facts(library)
    with pytest.raises(ImportError, match=r"built against torch 2\.10\.0, into torch") as caught:
        library.load()
    assert isinstance(caught.value.__cause__, OSError)
    assert str(caught.value.__cause__) in str(caught.value)


DAMAGED = {
    "empty": b"",
    "cut": b'{"native": tr',
    "list": b"[]",
    "empty object": b"{}",
    "null": b"null",
    "number": b"1",
    "string": b'"native"',
    "binary": b"\xff\xfe\0",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_facts_are_an_error(library, what):
    write_facts(library).with_name(library.FACTS_FILE).write_bytes(DAMAGED[what])
    with pytest.raises(ImportError, match=r"damaged.*Install initfast again.*BACKEND=reference"):
        library.load()


@pytest.mark.parametrize("name", ["native", "reason", "sources", "torch", "cuda", "size", "digest"])
@pytest.mark.parametrize("value", ["missing", 7.5, [], {}])
def test_a_fact_that_is_none_is_an_error(library, name, value):
    path = write_facts(library).with_name(library.FACTS_FILE)
    facts = json.loads(path.read_text()) | {name: value}
    if value == "missing":
        del facts[name]
    path.write_text(json.dumps(facts))
    with pytest.raises(ImportError, match=f"'{name}'.*Install initfast again"):
        library.load()


def test_lost_facts_are_an_error_beside_a_library(library):
    write_facts(library).with_name(library.FACTS_FILE).unlink()
    with pytest.raises(ImportError, match=r"_build\.json is gone.*Install initfast again"):
        library.load()


def test_facts_that_cannot_be_read_are_an_error(library):
    path = write_facts(library).with_name(library.FACTS_FILE)
    path.unlink()
    path.mkdir()
    with pytest.raises(ImportError, match=r"damaged.*Install initfast again"):
        library.load()


@needs_native
@pytest.mark.parametrize("seed", range(times(12)))
def test_a_damaged_library_is_an_error_and_no_signal(tmp_path, seed):
    """Cut anywhere, longer, or with one bit flipped anywhere: the whole kind, by chance."""
    shutil.copytree(PACKAGE, tmp_path / "initfast", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "initfast" / the_library.LIBRARY_FILE
    contents, rng = bytearray(path.read_bytes()), random.Random(seed)
    at = rng.randrange(len(contents))
    path.unlink()
    if seed % 3 == 0:
        path.write_bytes(contents[:at])
    elif seed % 3 == 1:
        path.write_bytes(contents + bytes(at % 1000 + 1))
    else:
        contents[at] ^= 1 << rng.randrange(8)
        path.write_bytes(contents)
    run = python("import initfast", PYTHONPATH=str(tmp_path))
    assert run.returncode == 1, run.stderr
    assert run.stderr.strip().splitlines()[-1].startswith("ImportError")
    assert "damaged, or of another build" in run.stderr


@needs_native
@pytest.mark.parametrize("isa", ["sse9", "AVX2"])
def test_unknown_instruction_set_is_refused(isa):
    run = python("import initfast", INITFAST_ISA=isa)
    assert run.returncode != 0
    error = run.stderr.strip().splitlines()[-1]
    assert error.startswith("ImportError: initfast: ") and isa in error


# A clone that shadows the package installed from it


@needs_native
@pytest.mark.parametrize("same_sources", [True, False])
def test_clone_uses_the_library_built_from_its_sources(tmp_path, same_sources):
    if json.loads((PACKAGE / the_library.FACTS_FILE).read_text())["sources"] != (
        the_library.sources_digest(ROOT / "csrc")
    ):
        pytest.fail(f"{PACKAGE} was built from other sources than {ROOT / 'csrc'}: install again")
    shutil.copytree(PACKAGE, tmp_path / "initfast", ignore=shutil.ignore_patterns("_build*", "_C*"))
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    if not same_sources:
        (tmp_path / "csrc" / "new.h").touch()
    code = "import initfast; print(initfast.__file__); print(initfast.build_info().backend)"
    run = python(code, PYTHONPATH=str(tmp_path))
    where, backend = run.stdout.split()
    assert Path(where).is_relative_to(tmp_path)
    assert backend == ("native" if same_sources else "reference")
    assert ("was built from other sources" in run.stderr) is not same_sources


def test_digest_sees_names_and_contents(tmp_path):
    (tmp_path / "a.h").write_text("1")
    digests = [the_library.sources_digest(tmp_path)]
    (tmp_path / "a.h").write_text("2")
    digests.append(the_library.sources_digest(tmp_path))
    (tmp_path / "a.h").rename(tmp_path / "b.h")
    digests.append(the_library.sources_digest(tmp_path))
    (tmp_path / "notes.txt").write_text("not a source")
    assert len(set(digests)) == 3
    assert the_library.sources_digest(tmp_path) == digests[-1]
