"""Runs the README's examples and pastes what they print: python tests/paste_readme.py"""

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
EXAMPLE = re.compile(r"```python\n((?:(?!```).)*?)```(\s*)```text\n.*?```", re.DOTALL)


def with_output(example: re.Match[str]) -> str:
    """The example, followed by what it prints now."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(example[1], {})
    return f"```python\n{example[1]}```{example[2]}```text\n{out.getvalue()}```"


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(EXAMPLE.sub(with_output, text), encoding="utf-8")
