"""The CPU's energy, from a folder as the kernel shows it."""

from pathlib import Path

import pytest

from loopnest.benchmarks.cpu.power import Meter, energy_range


def counter(folder: Path, name: str, domain: str, microjoules: int, most: int = 1000) -> Path:
    """Make a counter, and return its file."""
    place = folder / name
    place.mkdir()
    (place / "name").write_text(f"{domain}\n")
    (place / "max_energy_range_uj").write_text(f"{most}\n")
    (place / "energy_uj").write_text(f"{microjoules}\n")
    return place / "energy_uj"


def test_counters_of_all_packages_are_added(tmp_path: Path) -> None:
    first = counter(tmp_path, "intel-rapl:0", "package-0", 100)
    second = counter(tmp_path, "intel-rapl:1", "package-1", 990)
    cores = counter(tmp_path, "intel-rapl:0:0", "core", 7)
    counter(tmp_path, "intel-rapl:0:1", "dram", 7)
    counter(tmp_path, "intel-rapl-mmio:0", "package-0", 7)
    meter = Meter(tmp_path)
    assert set(meter.domains) == {"core", "package"} and meter.note == ""
    before = meter.read()
    first.write_text("150\n")
    second.write_text("9\n")  # it began again
    cores.write_text("27\n")
    assert meter.since(before) == pytest.approx({"package": 70e-6, "core": 20e-6})


def test_what_is_not_measured_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Meter(tmp_path / "none").note == "RAPL of core and package: not shown by this machine"
    counter(tmp_path, "intel-rapl:0", "package-0", 100)
    assert Meter(tmp_path).note == "RAPL of core: not shown by this machine"
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    meter = Meter(tmp_path)
    assert meter.note == "RAPL of core and package: not readable, except by root"
    assert meter.since(meter.read()) == {}


def test_estimates_take_the_place_of_what_is_not_measured() -> None:
    watts = (3.0, 50.0)
    assert energy_range(2.0, 4, {}, watts) == (24.0, 100.0)
    assert energy_range(2.0, 4, {"package": 70.0}, watts) == (24.0, 70.0)
    assert energy_range(2.0, 4, {"package": 70.0, "core": 30.0}, watts) == (30.0, 70.0)
