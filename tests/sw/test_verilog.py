"""The cache of exported Verilog."""

import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from loopnest.kernel.verilog import cached_verilog, sources_digest
from loopnest_hw.config import make_config

EXPORT = """
import pathlib
def chip_verilog(config):
    with open(pathlib.Path(__file__).with_name("exports"), "a") as log:
        log.write(f"{config.slots} ")
    return f"module loopnest; // {config.slots}"
"""


@pytest.fixture
def hardware(tmp_path, monkeypatch):
    """A hardware package that notes its exports, and an empty cache."""
    package = tmp_path / "hw"
    (package / "row").mkdir(parents=True)
    (package / "export.py").write_text(EXPORT)
    (package / "row" / "row.py").write_text("ROW = 1\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = spec_from_file_location("loopnest_hw.export", package / "export.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "loopnest_hw.export", module)
    return package


def test_the_same_chip_is_exported_once(hardware):
    config = make_config("tiny")
    texts = {cached_verilog(config) for _ in range(3)}
    assert texts == {"module loopnest; // 128"}
    assert (hardware / "exports").read_text().split() == ["128"]


def test_another_configuration_or_source_is_another_chip(hardware):
    def later_process(slots=128):
        sources_digest.cache_clear()
        cached_verilog(make_config("tiny", slots=slots))

    later_process()
    later_process(slots=100)
    (hardware / "row" / "row.py").write_text("ROW = 2\n")
    later_process()
    (hardware / "row" / "row.py").rename(hardware / "row" / "line.py")
    later_process()
    later_process()
    assert (hardware / "exports").read_text().split() == ["128", "100", "128", "128"]


def test_sources_that_change_while_a_process_runs_are_not_its_own(hardware):
    cached_verilog(make_config("tiny"))
    (hardware / "row" / "row.py").write_text("ROW = 2\n")
    cached_verilog(make_config("tiny", slots=100))
    sources_digest.cache_clear()
    cached_verilog(make_config("tiny", slots=100))
    assert (hardware / "exports").read_text().split() == ["128", "100", "100"]
