"""The glossary's terms are in the files that it names, and replaced phrases do not return."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
FOLDERS = ("docs", "hw", "sim", "sw", "tb", "tests")

REPLACED = {
    "wanted by nobody": "that cannot match",
    "nobody wants": "that cannot match",
    "nobody can see": "unobservable",
    "belongs to the past": "is stale",
    "belong to the past": "are stale",
    "replay's past": "stale",
    "falls silent": "stops answering",
    "fall silent": "stop answering",
    "spoilt": "corrupted",
    "what was to be reached": "the target",
    "in no time": "without, or the time that it takes",
    "whoever": "whichever",
    "take the same way": "use the same path",
    "is no tensor": "is not a tensor",
    "is no array": "is not an array",
    "is no number": "is not a number",
    "is no part": "is not part",
}
"""Phrases, and what to write instead."""


def terms() -> list[tuple[str, str]]:
    """Return each term of the glossary and the file that it names."""
    rows = re.findall(r"^\| (.+?) \| .+ \| `(.+?)` \|$", GLOSSARY.read_text(), re.M)
    return [(term.strip("`"), path) for names, path in rows for term in names.split(", ")]


def prose(text: str) -> str:
    """Return a text in lower case, its line breaks, comment signs and markup taken out."""
    return re.sub(r"[\s#`*]+", " ", text).lower()


@pytest.mark.parametrize(("term", "path"), terms())
def test_glossary(term: str, path: str) -> None:
    """A term stands in the file that it is said to be defined in."""
    words = prose((ROOT / path).read_text())
    assert re.search(rf"\b{re.escape(term.lower())}", words), f"{term}: not in {path}"


def test_every_term_has_one_row() -> None:
    """No row of the tables has another form, and no term is there twice."""
    text = GLOSSARY.read_text()
    rows = text.count("\n| ") - text.count("\n| term |")
    names = [term for term, _ in terms()]
    assert len(names) == len(set(names)) >= rows > 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_replaced_phrases(folder: str) -> None:
    """Code and documentation have none of them."""
    pages = [ROOT / "README.md"]
    pages += [p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".md", ".toml")]
    assert len(pages) > 5
    for page in pages:
        if page != Path(__file__):
            text = prose(page.read_text())
            for phrase, instead in REPLACED.items():
                assert phrase not in text, (
                    f"{page.relative_to(ROOT)}: {phrase!r}: write {instead!r}"
                )
