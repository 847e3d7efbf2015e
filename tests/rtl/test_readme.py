"""The README's example."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.xdist_group("single/bf16")
def test_python(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the output shown there, to the cycle."""
    found = re.search(r"```python\n(.*?)```\n+```\n(.*?)```", README.read_text(), re.S)
    assert found
    code, printed = found.groups()
    exec(compile(code, str(README), "exec"), {})
    assert capsys.readouterr().out.split() == printed.split()
