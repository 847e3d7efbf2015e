"""The energy of runs: scaled, added, printed, and beside that of another run."""

import json
from dataclasses import replace

import pytest

from loopnest.report.run_energy import RunEnergy, added, largest

ONE = RunEnergy({"clock": 3e-6, "DRAM": 1e-6}, 1000, ("HBM2",))
TWO = RunEnergy({"clock": 6e-6, "SRAM": 12e-6}, 0, ("HBM2", "not scaled"))


def test_added() -> None:
    found = added({"h": ONE, "y": TWO})
    assert found.parts == pytest.approx({"clock": 9e-6, "DRAM": 1e-6, "SRAM": 12e-6})
    assert (found.multiplies, found.sources) == (1000, ("HBM2", "not scaled"))
    assert found.layers == {"h": ONE, "y": TWO}


def test_sum() -> None:
    """Without layers: those of one have no part in the other's."""
    assert replace(added({"h": ONE, "y": TWO}), layers={}) == ONE + TWO


def test_scaled() -> None:
    """Of a part of a run: joules and multiplies, also of its layers; the source says so."""
    found = added({"h": ONE}).scaled(30, "2 of 60 images")
    assert found.parts == pytest.approx({"clock": 90e-6, "DRAM": 30e-6})
    assert found.multiplies == 30_000 and found.per_multiply == pytest.approx(ONE.per_multiply)
    assert found.layers["h"].total == found.total == pytest.approx(30 * ONE.total)
    assert found.sources == ("estimated from 2 of 60 images", "HBM2")


def test_printed() -> None:
    """The layers and all, and the sources."""
    lines = [" ".join(line.split()) for line in str(added({"h": ONE, "y": TWO})).split("\n")]
    assert lines[0] == "uJ pJ a multiply of which"
    assert lines[2:5] == [
        "h 4 4,000 clock 75%, DRAM 25%",
        "y 18 - SRAM 67%, clock 33%",
        "all 22 22,000 SRAM 55%, clock 41%, DRAM 5%",
    ]
    assert lines[-2:] == ["HBM2", "not scaled"]


def test_beside() -> None:
    """Two runs by layer and by part, with what only one of them has."""
    found = added({"h": ONE, "y": ONE}).beside(added({"h": TWO, "z": TWO}))
    assert found.times == pytest.approx(36 / 8)
    lines = [" ".join(line.split()) for line in str(found).split("\n")]
    assert lines[0] == "sparse, uJ dense, uJ times"
    rows = [line for line in lines[2:] if line]
    assert rows == [
        *("h 4 18 4.5", "y 4 - -", "z - 18 -", "all 8 36 4.5"),
        *("clock 6 12 2", "DRAM 2 - -", "SRAM - 24 -", "dense: not scaled"),
    ]
    written = found.to_dict()
    assert json.loads(json.dumps(written)) == written
    assert written["layers"]["h"] == {"sparse": ONE.total, "dense": TWO.total}
    assert written["layers"]["z"] == {"sparse": None, "dense": TWO.total}
    assert written["parts"]["DRAM"] == {"sparse": 2 * 1e-6, "dense": None}
    assert written["total"] == {"sparse": 2 * ONE.total, "dense": 2 * TWO.total}
    named = ONE.beside(TWO, ("pruned", "before")).to_dict()
    assert named["total"] == {"pruned": ONE.total, "before": TWO.total}


def test_largest() -> None:
    assert largest({"a": 1.0, "b": 6.0, "c": 0.5, "d": 0.5, "e": 2.0}) == (
        "b 60%, e 20%, a 10%, c 5%"
    )
    assert largest({"a": 0.0}) == largest({}) == "-"
