"""`Initialiser` against its golden function."""

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, RisingEdge
from numpy.typing import NDArray

from loopnest_hw.chip.initialise import Initialiser
from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.kernel import kernel_layout
from loopnest_hw.tokens import LINE_WRITE
from loopnest_sim.image import Image
from loopnest_sim.model.initialise import initialise, initialised_lines
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source, encode

CONFIG = make_config("shrunk")
RESULT = kernel_layout(CONFIG).members["result"]
KERNELS = 60
ALL = (1 << LINE_BYTES) - 1
GUARD = 0xA5
WINDOW = 1 << 16
"""The regions lie within this many bytes, which lie anywhere."""


def random_result(rng: Any, base: int) -> dict[str, int]:
    """Return the result's fields of a kernel."""
    fields = {name: rng.getrandbits(32) for name in ("background", "fill")}
    for name in ("table", "values"):
        begin = rng.randrange(1, 64) * LINE_BYTES
        size = rng.choice((0, 1, LINE_BYTES - 1, LINE_BYTES, rng.randrange(20 * LINE_BYTES)))
        fields |= {name: base + begin, f"{name}_end": base + begin + size}
    return fields | {"compressed": rng.randrange(2), "initialise": int(rng.random() < 0.8)}


def golden(fields: dict[str, int], base: int) -> tuple[NDArray[np.uint8], int]:
    """Return the memory after the initialisation, without ``base``, and the port's lines of it, if
    the other ports initialise nothing.
    """
    ports, port = bench.parameters["ports"], bench.parameters["port"]
    places = ("table", "table_end", "values", "values_end")
    moved = fields | {name: fields[name] - base for name in places}
    kernel = {f"result.{name}": value for name, value in moved.items()}
    kernel |= {"counters": 0, "result.blocks": 0, "result.blocks_end": 0}
    image = Image()
    image.write(0, bytes([GUARD]) * WINDOW)
    initialise(kernel, image)
    memory = image.read(0, WINDOW).reshape(-1, LINE_BYTES)
    others = np.arange(len(memory)) % ports != port
    written = (memory != GUARD).any(1)
    assert written.sum() == initialised_lines(kernel)
    memory[others] = GUARD
    return memory.reshape(-1), int((written & ~others).sum())


@cocotb.test()
async def equals_the_model(dut: Any) -> None:
    """The region's lines come first, then the PE's; without initialisation nothing waits."""
    rng, stall = bench.rng(), bench.parameters["stall"]
    source = Source(dut, "i", LINE_WRITE, bench.rng(), stall=stall)
    sink = Sink(dut, "o", LINE_WRITE, bench.rng(), stall=stall)
    dut.result.value = 0
    await bench.start(dut)
    partial = 0
    for _ in range(KERNELS):
        base = rng.choice((0, (1 << 32) - WINDOW, rng.getrandbits(16) << 16))
        fields = random_result(rng, base)
        wanted, lines = golden(fields, base)
        items = [
            {
                "line": rng.getrandbits(27),
                "data": rng.getrandbits(256),
                "strobe": rng.getrandbits(32),
            }
            for _ in range(rng.randrange(1, 6))
        ]
        dut.rst.value = 1
        dut.result.value = encode(RESULT, fields)
        await RisingEdge(dut.clk)
        dut.rst.value = 0
        before = len(sink.received)
        sending = cocotb.start_soon(source.send_all(items))
        await RisingEdge(dut.clk)
        while len(sink.received) < before + lines:
            assert not int(dut.done.value)
            await RisingEdge(dut.clk)
        await sink.wait_for(before + lines + len(items))
        await sending
        await ClockCycles(dut.clk, 4)
        assert int(dut.done.value)
        received = sink.received[before:]
        assert received[lines:] == items
        memory = bytearray([GUARD]) * WINDOW
        for write in received[:lines]:
            partial += write["strobe"] != ALL
            for byte in range(LINE_BYTES):
                if write["strobe"] >> byte & 1:
                    place = LINE_BYTES * write["line"] + byte - base
                    memory[place] = write["data"] >> 8 * byte & 0xFF
        assert bytes(memory) == wanted.tobytes()
        if not stall:
            took = sink.cycles[-1] - sink.cycles[before]
            assert took <= len(received), "a line in each cycle"
    assert partial > 5


@pytest.mark.parametrize(
    ("port", "ports", "stall"), [(0, 1, 0), (0, 1, 0.4), (0, 2, 0), (1, 2, 0.4)]
)
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_initialise(simulator: str, port: int, ports: int, stall: float) -> None:
    run_bench(
        Initialiser(make_config("shrunk", pes=ports, memory_ports=ports), port),
        module=__name__,
        simulator=simulator,
        parameters={"port": port, "ports": ports, "stall": stall},
    )
