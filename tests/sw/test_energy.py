"""The energy of a run, from its counters."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import loopnest
from loopnest import Chip, RunReport
from loopnest.kernel.backends import Counters
from loopnest.report import energy
from loopnest.report.energy import DRAM, EVENTS, load_figures
from loopnest.report.report import combine
from loopnest_hw.registers import counters


def counted(preset: str = "single", **counts: int) -> RunReport:
    """Return the report of a run with these counters, and 0 for the others."""
    chip = Chip(preset, backend="model")
    chip.compute("y[i] = A[i,j] * x[j]", A=np.ones((4, 4)), x=np.ones(4))
    assert chip.report is not None
    (run,) = chip.report._runs
    names = [name for name, _ in counters(chip.config.pes)]
    values = Counters(dict.fromkeys(names, 0) | counts)
    return replace(chip.report, cycles=counts.get("cycles"), _runs=(replace(run, counters=values),))


def figures(monkeypatch: pytest.MonkeyPatch, **energies: dict[str, float]) -> None:
    """Set the energies of events to these, of a chip of the preset `single`."""
    chip: dict[str, Any] = {
        "preset": "single",
        "dtype": "bf16",
        "configuration": {"slots": 512, "multipliers": 4},
        "sources": ["measured"],
        "energies": energies,
    }
    monkeypatch.setattr(energy, "load_figures", lambda: {"chips": [chip]})


def test_figures() -> None:
    """The file has parts of events that are counted, and sources."""
    for chip in load_figures()["chips"]:
        assert chip["sources"] and chip["configuration"] and chip["versions"]
        for part, energies in chip["energies"].items():
            assert set(energies) <= set(EVENTS), part
            assert all(pj > 0 for pj in energies.values())


def test_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    figures(monkeypatch, lanes={"multiplies": 5.0}, clock={"cycles": 100.0, "leaf_steps": 10.0})
    report = counted(cycles=1000, multiplies=400, leaf_steps=100, lines_read=10, lines_written=5)
    found = report.energy
    assert found is not None
    assert found.parts == pytest.approx(
        {"lanes": 2000e-12, "clock": 101_000e-12, "DRAM": 15 * 256 * 3.9e-12}, rel=1e-6, abs=0
    )
    assert found.total == pytest.approx(sum(found.parts.values()), rel=1e-6, abs=0)
    assert found.per_multiply == pytest.approx(found.total * 1e12 / 400)
    assert found.sources[0] == "measured"
    assert any("HBM2: 3.9 pJ a bit: O'Connor" in source for source in found.sources)
    assert not any("not scaled" in source for source in found.sources)
    assert json.loads(json.dumps(report.to_dict()))["energy"] == found.to_dict()
    printed = str(report)
    assert "0.118 uJ, 295 pJ a multiply" in printed
    assert "clock 86%, DRAM 13%, lanes 2%" in printed


def test_dram(monkeypatch: pytest.MonkeyPatch) -> None:
    figures(monkeypatch, clock={"cycles": 1.0})
    report = counted(cycles=10, lines_read=1)
    for name, (pj, source) in DRAM.items():
        found = report.energy_with(name)
        assert found is not None
        assert found.parts["DRAM"] == pytest.approx(256 * pj * 1e-12, rel=1e-6, abs=0)
        assert source in found.sources[-1]
        assert found.per_multiply is None
    given = report.energy_with(40.0)
    assert given is not None and given.sources[-1] == "DRAM: 40.0 pJ a bit: as given"
    assert given.parts["DRAM"] == pytest.approx(256 * 40e-12, rel=1e-6, abs=0)
    with pytest.raises(ValueError, match=r"dram 'SRAM': expected pJ a bit, or one of HBM2"):
        report.energy_with("SRAM")


def test_other_chips(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not measured, or not scaled, is said."""
    figures(monkeypatch, clock={"cycles": 1.0})
    found = counted("small", cycles=1000, cache_hits=7, cache_misses=3).energy
    assert found is not None
    assert found.parts["clock"] == pytest.approx(4000e-12, rel=1e-6, abs=0)
    assert any(source.startswith("4 PEs") for source in found.sources)
    tiny = counted("tiny", cycles=1000).energy
    assert tiny is not None
    assert any("not scaled for slots=128" in source for source in tiny.sources)


def test_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup reads a line of the cache, once; a miss writes it before."""
    figures(monkeypatch, clock={"cycles": 1.0})

    def cache(**counts: int) -> float:
        found = counted("small", cycles=1000, cache_requests=500, **counts).energy
        assert found is not None
        return found.parts["cache"]

    hit, joined, miss = (cache(**{f"cache_{n}": 1}) for n in ("hits", "joined", "misses"))
    assert miss > hit == joined > 0
    assert cache(cache_hits=7, cache_misses=3) == pytest.approx(7 * hit + 3 * miss)
    assert cache() == 0


def test_without_cycles() -> None:
    chip = Chip(backend="model")
    chip.compute("y[i] = A[i,j] * x[j]", A=np.ones((4, 4)), x=np.ones(4))
    assert chip.report is not None
    assert chip.report.energy is None and chip.report.to_dict()["energy"] is None


def test_kernels() -> None:
    """Each kernel of a statement has its energy."""
    whole = counted(cycles=1000, multiplies=400)
    both = combine("two kernels", [whole, counted(cycles=3000, multiplies=10)])
    kernels = both.to_dict()["kernels"]
    assert both.energy is not None and whole.energy is not None
    assert kernels[0]["energy"] == whole.energy.total < kernels[1]["energy"]
    assert both.energy.total == pytest.approx(sum(kernel["energy"] for kernel in kernels))
    assert both.energy.layers == {} and "largest layers" not in str(both)


def test_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The energy of a program is that of its statements, and has it by their names."""
    figures(monkeypatch, lanes={"multiplies": 5.0}, clock={"cycles": 100.0})
    steps = ["h[i] = A[i,j] * x[j]", "y[i] = A[i,j] * h[j]"]
    given = {"A": np.eye(4), "x": np.ones(4)}
    program = loopnest.compile(steps, given, chip=Chip(backend="model"))
    program()
    assert program.report is not None and program.report.energy is None
    layers = {"h": counted(cycles=30, multiplies=20), "y": counted(cycles=10, lines_read=4)}
    monkeypatch.setattr(program, "_reports", SimpleNamespace(value=layers))
    report = program.report
    found = report.energy
    assert found is not None and list(found.layers) == ["h", "y"]
    assert found.layers["h"].parts == pytest.approx(
        {"lanes": 100e-12, "clock": 3000e-12, "DRAM": 0.0}, rel=1e-6, abs=0
    )
    assert found.total == pytest.approx(sum(layer.total for layer in found.layers.values()))
    assert found.parts["clock"] == pytest.approx(4000e-12, rel=1e-6, abs=0)
    assert found.multiplies == 20 and len(set(found.sources)) == len(found.sources)
    written = report.to_dict()["energy"]["layers"]
    assert written["y"] == {
        "parts": dict(found.layers["y"].parts),
        "total": found.layers["y"].total,
        "per_multiply": None,
    }
    other = report.energy_with("DDR")
    assert other is not None
    assert other.layers["y"].parts["DRAM"] == pytest.approx(4 * 256 * 30e-12, rel=1e-6, abs=0)
    assert "largest layers │ y 62%, h 38%" in " ".join(str(report).split())
