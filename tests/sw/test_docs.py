"""The documentation's examples work as shown."""

import doctest
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.commands.cli import main
from loopnest.formats.files import write_tensor
from loopnest.kernel.verilog import cached_verilog
from loopnest_hw.config import make_config
from loopnest_hw.processes import start_processes

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.mark.parametrize(
    ("name", "least"),
    [("format.md", 11), ("expressions.md", 20), ("operands.md", 8), ("programs.md", 15)],
)
def test_examples(name: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python."""
    monkeypatch.chdir(tmp_path)  # they write files
    result = doctest.testfile(str(DOCS / name), module_relative=False)
    assert result.attempted >= least and result.failed == 0


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line, on files of these names. The chip's Verilog is that which simulators of it
    are built of: to write it again takes most of a minute.
    """
    monkeypatch.chdir(tmp_path)
    config = make_config("single", "int8")
    known = {config: cached_verilog(config)}
    monkeypatch.setattr("loopnest_hw.export.chip_verilog", known.__getitem__)
    rng = np.random.default_rng(1)
    for name in "ABCM":
        matrix = sp.random_array((9, 9), density=0.3, rng=rng)
        matrix.data = np.ceil(9 * matrix.data)
        write_tensor(f"{name}.mtx", matrix)
    for name in "bd":
        write_tensor(f"{name}.npy", np.arange(9.0))
    lines = re.findall(r"^    loopnest (.*)$", (DOCS / "expressions.md").read_text(), re.M)
    assert len(lines) >= 6
    for line in lines:
        arguments = shlex.split(line)
        if arguments[0] in ("einsum", "compute"):  # without compiling a simulator
            arguments += ["--backend", "model"]
        assert main(arguments) == 0, line
        if arguments[0] == "verilog":
            (text,) = known.values()
            written = (tmp_path / "build" / "loopnest.v").read_text()
            assert written == start_processes(text)
        if "-o" in arguments:
            assert Path(arguments[arguments.index("-o") + 1]).exists()


def test_targets() -> None:
    """Every `make` target in the documentation is in the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        named = set(re.findall(r"(?:^    |`)make ([a-z]+)", page.read_text(), re.M))
        assert named <= targets, page.name
    assert "sim" in targets
