"""The README's examples print what it says they print."""

import contextlib
import io
import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```(?:\s*```text\n(.*?)```)?", TEXT, re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")


@pytest.mark.parametrize("code, printed", EXAMPLES)
def test_an_example(code, printed):
    """Words as they stand there; numbers to two digits, for kernels round as they may."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    got, expected = (" ".join(text.split()) for text in (out.getvalue(), printed))
    assert NUMBER.sub("#", got) == NUMBER.sub("#", expected)
    for a, b in zip(NUMBER.findall(got), NUMBER.findall(expected), strict=True):
        assert float(a) == pytest.approx(float(b), rel=0.02)


def test_there_are_examples():
    assert len(EXAMPLES) >= 3 and sum(bool(printed) for _, printed in EXAMPLES) >= 2
