"""Kernels on more and more PEs."""

import json
from pathlib import Path

import pytest
import scipy.sparse as sp

from loopnest.benchmarks import scaling
from loopnest.formats.files import write_tensor
from tests.rtl.chips import SEVERAL, on

FILES = {"output": "scaling.json", "plot": "scaling.png"}


@on(SEVERAL)
def test_table_and_plot(pair: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of the command on a chip that is built already; its figures, table and plot."""
    write_tensor(tmp_path / "drawn.mtx.gz", sp.random_array((20, 20), density=0.2, rng=1))
    preset, dtype, pes = SEVERAL.split("/")
    names = [f"--{name}={tmp_path / file}" for name, file in FILES.items()]
    options = [f"--preset={preset}", f"--dtype={dtype}", f"--{pes}", "--latency=4", *names]
    assert scaling.main([f"--matrices={tmp_path}", *options, "drawn"]) == 0
    runs = json.loads((tmp_path / FILES["output"]).read_text())["runs"]
    assert [run["name"] for run in runs] == ["SpMV drawn", "SpMM drawn", "SpGEMM drawn"]
    for run in runs:
        assert run["right"] and run["pes"] == 3 and 0 < run["share"] < 1
    printed = capsys.readouterr().out
    assert "3 PEs" in printed and "3 runs, 0 wrong" in printed
    assert f"{runs[0]['cycles']:,}" in printed
    assert (tmp_path / FILES["plot"]).stat().st_size > 1000
