"""The Python examples of the documentation do what they say."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["format.md"])
def test_examples(name):
    result = doctest.testfile(str(DOCS / name), module_relative=False)
    assert result.attempted > 10 and result.failed == 0
