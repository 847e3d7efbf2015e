"""`RegisterFile` over AXI4-Lite, in any order of its channels."""

from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.chip.axi import OKAY, SLAVE_ERROR
from loopnest_hw.chip.registers import RegisterFile
from loopnest_hw.config import ChipConfig, make_config
from loopnest_hw.registers import (
    IDENTITY,
    OFFSETS,
    ErrorCode,
    configuration_word,
    counters,
    registers,
)
from loopnest_hw.tokens import ERROR
from tb.chip.axi_lite import AxiLiteManager
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import encode

CONFIG = make_config("tiny", "int8")
SEVERAL = make_config("shrunk", "int8", pes=3)
PULSES = ("start", "soft_reset", "clear_done")
ACCESSES = 500


class Pulses:
    """Counts the cycles in which each of the outputs is high."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        self.count = dict.fromkeys(PULSES, 0)
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            await RisingEdge(self._dut.clk)
            for name in PULSES:
                self.count[name] += int(getattr(self._dut, name).value)


@cocotb.test()
async def accesses(dut: Any) -> None:
    """Random reads and writes, against a model of the registers."""
    rng = bench.rng()
    bus = AxiLiteManager(dut, "bus__", bench.rng(), stall=bench.parameters["stall"])
    await bench.start(dut)
    pulses = Pulses(dut)
    config = CONFIG if bench.parameters["pes"] == 1 else SEVERAL
    names = {register.offset: register.name for register in registers(config.pes)}
    offsets = {name: offset for offset, name in names.items()}
    values = dict.fromkeys(offsets, 0) | {
        "identity": IDENTITY,
        "configuration": configuration_word(config),
    }
    expected = dict.fromkeys(PULSES, 0)
    written = unmapped = 0
    for access in range(ACCESSES):
        if access % 20 == 0:
            busy, done, late = (rng.getrandbits(1) for _ in range(3))
            code = rng.choice(list(ErrorCode))
            values |= {
                "status": busy | done << 1 | (code != ErrorCode.NONE) << 2 | late << 3,
                "error": code,
                "error_where": rng.getrandbits(32),
                "kernel_index": rng.getrandbits(32),
            }
            dut.busy.value, dut.done.value, dut.late.value = busy, done, late
            dut.completed.value = values["kernel_index"]
            dut.error.value = encode(ERROR, {"code": code, "where": values["error_where"]})
            for n, (name, _) in enumerate(counters(config.pes)):
                values[name] = rng.getrandbits(32)
                getattr(dut, f"counters__{n}").value = values[name]
        word = rng.choice((rng.randrange(0, 1 << 12, 4), rng.choice(list(offsets.values()))))
        address = word + rng.randrange(4)
        if rng.random() < 0.5:
            expected_value = values[names[word]] if word in names else 0
            response = OKAY if word in names else SLAVE_ERROR
            assert await bus.read(address) == (expected_value, response), hex(address)
            unmapped += word not in names
            continue
        address = rng.choice((address, offsets["control"], offsets["kernels"], offsets["status"]))
        name = names.get(address & ~3, "")
        data, strobe = rng.getrandbits(32), rng.getrandbits(4)
        writable = name in ("control", "status", "kernels")
        assert await bus.write(address, data, strobe) == (OKAY if writable else SLAVE_ERROR)
        written += writable
        if name == "kernels":
            mask = sum(0xFF << 8 * b for b in range(4) if strobe >> b & 1)
            values[name] = values[name] & ~mask | data & mask
        if name == "control" and strobe & 1:
            values[name] = data & 0b100
            expected["start"] += data & 0b11 == 0b01
            expected["soft_reset"] += data >> 1 & 1
        if name == "status" and strobe & 1:
            expected["clear_done"] += data >> 1 & 1
        await ClockCycles(dut.clk, 2)
        assert pulses.count == expected
        assert int(dut.kernels.value) == values["kernels"]
        assert int(dut.irq.value) == values["control"] >> 2 & done
    assert written > 20 and unmapped > 5
    assert all(count > 2 for count in expected.values())
    dut.done.value = 0
    await bus.write(offsets["control"], 0b100)
    await ClockCycles(dut.clk, 3)
    assert int(dut.irq.value) == 0


@cocotb.test()
async def pulses_alone(dut: Any) -> None:
    """A single write of the start bit is a start pulse of one cycle."""
    bus = AxiLiteManager(dut, "bus__", bench.rng())
    await bench.start(dut)
    pulses = Pulses(dut)
    await bus.write(OFFSETS["control"], 0b101)
    await ClockCycles(dut.clk, 5)
    assert pulses.count == {"start": 1, "soft_reset": 0, "clear_done": 0}


@pytest.mark.parametrize("config", [CONFIG, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize("stall", [0, 0.6])
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_registers(simulator: str, stall: float, config: ChipConfig) -> None:
    """Without and with stalls."""
    run_bench(
        RegisterFile(config),
        module=__name__,
        simulator=simulator,
        parameters={"stall": stall, "pes": config.pes},
    )
