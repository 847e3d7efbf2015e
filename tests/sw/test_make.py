"""The page of make targets lists those of the Makefile, with their variables."""

import re
from pathlib import Path

import pytest

import loopnest
from loopnest.commands.cli import main

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
ROWS = dict(re.findall(r"^\| `make (\w+)` \|(.*)\|$", (ROOT / "docs/make.md").read_text(), re.M))
EVERYWHERE = {"PYTHON"}
"""Variables of the environment, which all targets take."""


def recipes() -> dict[str, str]:
    """Return the targets with a description, and their lines."""
    parts = re.split(r"^(\w+):.*## ", MAKEFILE, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_target_is_listed():
    assert list(ROWS) == list(recipes())
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)
    assert phony and phony[1].split() == list(ROWS)


def test_every_variable_is_listed():
    variables = set(re.findall(r"^(\w+) \?=", MAKEFILE, re.M)) | {"WAVES"}
    for target, lines in recipes().items():
        lines = re.split(r"^\$\(READY\):", lines, flags=re.M)[0]
        used = {name for name in variables if re.search(rf"\$\({name}\)", lines)}
        listed = set(re.findall(r"`([A-Z]+)`", ROWS[target]))
        assert listed == used - EVERYWHERE, target


def test_the_version_is_that_of_the_package(capsys):
    written = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert written and loopnest.__version__ == written[1]
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0 and capsys.readouterr().out == f"loopnest {written[1]}\n"
