"""The line builder: chunks at any offset, compared byte by byte."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import ClockCycles

from loopnest_hw.config import LINE_BYTES
from loopnest_hw.result.line_builder import LINE_NUMBER_BITS, LineBuilder, chunk
from loopnest_hw.tokens import LINE_WRITE
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source

CHUNKS = 150
RUNS = 8


def ref_lines(
    chunks: list[dict[str, int]], base: int, room: int, unit: int
) -> tuple[list[tuple[int, dict[int, int]]], bool]:
    """Return the lines in order, each with its bytes, and whether a chunk did not fit."""
    lines: list[tuple[int, dict[int, int]]] = []
    full = False
    for item in chunks:
        if item["strobe"] and item["end"] > room:
            full = True
            continue
        for k in range(item["strobe"].bit_length()):
            if not item["strobe"] >> k & 1:
                continue
            for byte in range(k * unit, (k + 1) * unit):
                number, place = divmod(item["offset"] + byte, LINE_BYTES)
                number = (base + number) % (1 << LINE_NUMBER_BITS)
                if not lines or lines[-1][0] != number:
                    lines.append((number, {}))
                lines[-1][1][place] = item["data"] >> 8 * byte & 0xFF
    return lines, full


def random_chunks(rng: random.Random, room: int) -> list[dict[str, int]]:
    """Return chunks that mostly follow each other; the last one is final."""
    size, unit = bench.parameters["chunk_bytes"], bench.parameters["unit_bytes"]
    at = 0
    chunks = []
    whole = rng.random() < 0.5
    jumps = rng.choice([0.1, 0.5])
    for n in range(CHUNKS):
        if rng.random() < jumps:
            # anywhere, also far beyond the region
            at = rng.choice([rng.randrange(room), 1 << 34]) // unit * unit
        every = (1 << size // unit) - 1
        strobe = every if whole else rng.choice([every, rng.getrandbits(size // unit), 0])
        chunks.append(
            {
                "offset": at,
                "end": at + strobe.bit_length() * unit,
                "data": rng.getrandbits(8 * size),
                "strobe": strobe,
                "final": int(n == CHUNKS - 1),
            }
        )
        at += size if whole else rng.randrange(size // unit + 1) * unit
    if rng.random() < 0.5:
        chunks[-1]["strobe"] = 0
    return chunks


@cocotb.test()
@cocotb.parametrize(stall=[0.0, 0.4])
async def random_arrays(dut: Any, stall: float) -> None:
    """Several arrays, each after a reset, with guards around the region."""
    rng = bench.rng()
    source = Source(dut, "i", chunk(**bench.parameters), bench.rng(), stall)
    sink = Sink(dut, "o", LINE_WRITE, bench.rng(), stall)
    await bench.start(dut)
    done = 0
    runs = bench.count(RUNS)
    for _ in range(runs):
        room = rng.choice([1 << 32, 1000, 400])
        base = rng.choice([rng.getrandbits(LINE_NUMBER_BITS), (1 << LINE_NUMBER_BITS) - 1])
        dut.rst.value = 1
        dut.base.value, dut.room.value = base, room
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 1)
        chunks = random_chunks(rng, min(room, 2000))
        expected, full = ref_lines(chunks, base, room, bench.parameters["unit_bytes"])
        await source.send_all(chunks)
        for _ in range(400):
            await ClockCycles(dut.clk, 1)
            if int(dut.flushed.value):
                break
        else:
            raise AssertionError("not flushed")
        # every line has left by then
        lines = len(sink.received) - done
        await ClockCycles(dut.clk, 30)
        assert lines == len(sink.received) - done == len(expected)
        for item, (number, content) in zip(sink.received[done:], expected, strict=True):
            assert item["line"] == number
            assert item["strobe"] == sum(1 << place for place in content)
            for place, byte in content.items():
                assert item["data"] >> 8 * place & 0xFF == byte
        assert bool(int(dut.full.value)) == full
        done = len(sink.received)
    assert done >= 10 * runs


@cocotb.test()
async def a_chunk_a_cycle(dut: Any) -> None:
    """Chunks that follow each other are taken without a bubble."""
    rng = bench.rng()
    size, unit = bench.parameters["chunk_bytes"], bench.parameters["unit_bytes"]
    source = Source(dut, "i", chunk(size, unit), bench.rng())
    sink = Sink(dut, "o", LINE_WRITE, bench.rng())
    await bench.start(dut)
    dut.room.value = 1 << 32
    strobe = (1 << size // unit) - 1
    chunks = [
        {
            "offset": at,
            "end": at + size,
            "data": rng.getrandbits(8 * size),
            "strobe": strobe,
            "final": int(at + size == 64 * LINE_BYTES),
        }
        for at in range(0, 64 * LINE_BYTES, size)
    ]
    await source.send_all(chunks)
    await sink.wait_for(64)
    # one cycle for each chunk of a line
    assert sink.cycles[-2] - sink.cycles[0] == 62 * (LINE_BYTES // size)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(
    ("chunk_bytes", "unit_bytes", "waiting"), [(16, 16, 3), (8, 4, 2), (32, 1, 1)]
)
def test_line_builder(simulator: str, chunk_bytes: int, unit_bytes: int, waiting: int) -> None:
    run_bench(
        LineBuilder(chunk_bytes=chunk_bytes, unit_bytes=unit_bytes, waiting=waiting),
        module=__name__,
        simulator=simulator,
        parameters={"chunk_bytes": chunk_bytes, "unit_bytes": unit_bytes},
    )
