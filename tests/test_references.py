"""Every paper that is cited has its line, with a link, in .github/REFERENCES.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = {".h", ".inl", ".cpp", ".cu", ".cuh"}
SOURCES = [
    *(ROOT / "initfast").rglob("*.py"),
    *(path for path in (ROOT / "csrc").rglob("*") if path.suffix in CODE),
    *(ROOT / "benchmarks").glob("*.[mp][dy]"),
    ROOT / "README.md",
]
NAME = r"[A-Z][a-zé]+[A-Z]?[a-zé]*"
CITATION = re.compile(
    rf"({NAME})((?:, {NAME})*)( et al\.| & {NAME})?,? \(?((?:19|20)\d\d)(?![\d-])"
)
# In a comment, in a docstring, or between two literals.
LINE_BREAK = re.compile(r"""\s*"?\n\s*(?://|#|\*|")?\s*""")
LINES = (ROOT / ".github" / "REFERENCES.md").read_text("utf-8").splitlines()
PAPERS = [
    paper for line in LINES if (paper := re.match(r"- (\w+)[^:]*? ((?:19|20)\d\d)\b.*", line))
]


def cited(text):
    """The first author and the year of each citation."""
    return {(c[1], c[4]) for c in CITATION.finditer(LINE_BREAK.sub(" ", text))}


def test_what_a_citation_is():
    text = '"(Chan, Golub & "\n    "LeVeque 1979)", as He et\n    // al. 2015, eq. 5, Theil (1950)'
    assert cited(text) == {("Chan", "1979"), ("He", "2015"), ("Theil", "1950")}


def test_every_paper_that_is_cited_is_listed_and_none_else():
    found = {c: path.name for path in SOURCES for c in cited(path.read_text("utf-8"))}
    assert len(found) > 60
    for (author, year), name in found.items():
        assert any(author in paper[0] and year in paper[0] for paper in PAPERS), (
            author,
            year,
            name,
        )
    for paper in PAPERS:
        assert (paper[1], paper[2]) in {*found, ("AUTOTRAINER", "2021")}, paper[0]


def test_every_paper_has_a_link_or_a_publisher():
    for paper in PAPERS:
        assert "](http" in paper[0] or paper[0].endswith(")"), paper[0]
