"""The fuzzers keep one simulation of each chip, however many memories their cases have, and export
Verilog in another process.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from loopnest import Memory
from loopnest_hw.config import ChipConfig, make_config
from tests.fuzz.__main__ import export, main
from tests.rtl import chips


class Simulation:
    """Stands for a simulation: counts how many are open."""

    open = max_open = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        Simulation.open += 1
        Simulation.max_open = max(Simulation.open, Simulation.max_open)

    def step(self, cycles: int) -> None:
        pass

    def close(self) -> None:
        Simulation.open -= 1


@pytest.fixture
def simulations(monkeypatch: pytest.MonkeyPatch) -> type[Simulation]:
    """Return the count, with nothing that is open."""
    monkeypatch.setattr("loopnest_sim.simulator.Simulator", Simulation)
    monkeypatch.setattr("loopnest.kernel.backends.cached_verilog", lambda config: "")
    monkeypatch.setattr(Simulation, "open", 0)
    monkeypatch.setattr(Simulation, "max_open", 0)
    return Simulation


@pytest.mark.parametrize("kept", [1, 3])
def test_pair_closes_what_it_does_not_keep(kept: int, simulations: type[Simulation]) -> None:
    pair = chips.Pair("tiny/int8", max_chips=kept)
    for latency in range(1, 8):
        assert pair.chip(Memory(latency=latency)) is pair.chip(Memory(latency=latency))
    assert simulations.max_open == simulations.open == kept


def test_fuzzers_keep_one(
    simulations: type[Simulation],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_seed(pair: chips.Pair, seed: int) -> str:
        pair.chip(Memory(seed=seed))
        return "right"

    exported: list[str] = []
    monkeypatch.setattr("tests.fuzz.__main__.KINDS", {"expressions": run_seed})
    monkeypatch.setattr("tests.fuzz.__main__.export", exported.append)
    names = ("tiny/int8", "shrunk/int8")
    assert main(["60", "--chips", ",".join(names)]) == 0
    assert simulations.max_open == len(names)
    assert sorted(exported) == sorted(names)
    (peak,) = re.findall(r"peak memory: (\d+) MiB", capsys.readouterr().out)
    assert 10 < int(peak) < 4096


def note(config: ChipConfig) -> None:
    """Stand for an export: leave its process and its chip."""
    Path(os.environ["NOTE"]).write_text(f"{os.getpid()} {config == make_config('tiny', 'int8')}")


def test_export_is_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTE", str(tmp_path / "note"))
    monkeypatch.setattr("tests.fuzz.__main__.cached_verilog", note)
    export("tiny/int8")
    pid, same = (tmp_path / "note").read_text().split()
    assert int(pid) != os.getpid() and same == "True"
