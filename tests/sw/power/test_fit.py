"""Energies of events from windows of runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from loopnest.power.__main__ import main, publish
from loopnest.power.fit import error, fit
from loopnest.power.measure import Measured
from loopnest.report.energy import EVENTS

ENERGIES = {
    "lanes": {"multiplies": 12.0, "leaf_steps": 3.0},
    "clock": {"cycles": 200.0, "leaf_steps": 20.0},
}


def window(name: str, seed: int) -> Measured:
    """Return a window whose energy is exactly that of its events."""
    generator = np.random.default_rng(seed)
    events = {event: generator.integers(0, 256, 8).astype(float) for event in EVENTS}
    events["cycles"] = np.full(8, 256.0)
    parts = {
        part: sum(pj * 1e-12 * events[event] for event, pj in energies.items()) + np.zeros(8)
        for part, energies in ENERGIES.items()
    }
    return Measured(name, 2048, parts, events)


def test_fit() -> None:
    found = fit([window("a", 1), window("b", 2), window("c", 3)])
    assert {part: pytest.approx(energies, rel=1e-3) for part, energies in found.items()} == ENERGIES
    assert abs(error(found, window("d", 4))) < 1e-3
    found["clock"]["cycles"] *= 2
    assert error(found, window("d", 4)) > 0.1


def test_figures_of_a_window() -> None:
    measured = window("a", 1)
    found = measured.to_dict()
    per_cycle = sum(found["pj_per_cycle"].values())
    assert per_cycle == pytest.approx(measured.total * 1e12 / 2048)
    per_multiply = sum(found["pj_per_multiply"].values())
    assert per_multiply == pytest.approx(measured.total * 1e12 / measured.multiplies)


def test_publish(tmp_path: Path) -> None:
    """A chip's energies replace those of its preset and number format, and no others."""
    file = tmp_path / "energy.json"
    file.write_text(json.dumps({"chips": []}))
    for dtype, pj in (("bf16", 1.0), ("int8", 2.0), ("bf16", 3.0)):
        found = {"preset": "single", "dtype": dtype, "energies": pj, "windows": [1, 2]}
        publish(found, file)
    chips = json.loads(file.read_text())["chips"]
    assert [(chip["dtype"], chip["energies"]) for chip in chips] == [("int8", 2.0), ("bf16", 3.0)]
    assert all("windows" not in chip for chip in chips)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fit", "idle"], "expected all workloads"),
        (["--publish"], "expected --fit"),
        (["--cycles", "10"], "at least 256 cycles"),
    ],
)
def test_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SpMVV"], "workload 'SpMVV': expected 'idle' or one of 'dense GEMM'"),
        (["--preset", "small"], "preset 'small': expected one PE"),
        (["--liberty", "missing.lib"], "no Liberty file missing.lib"),
    ],
)
def test_refusals(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is built."""
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
