"""The Python examples of the documentation do what they say."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("name", "least"), [("format.md", 11), ("expressions.md", 7)])
def test_examples(name, least):
    result = doctest.testfile(str(DOCS / name), module_relative=False)
    assert result.attempted >= least and result.failed == 0
