"""`StreamBank`: all of its streams at once on one pool."""

from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import ClockCycles, RisingEdge

from loopnest_hw.config import DISPATCHER_LINES, LINE_BYTES, ChipConfig, make_config
from loopnest_hw.format import OPEN_STRIDE, PACKED_STRIDE, WORD_BYTES
from loopnest_hw.stream.bank import StreamBank, equal_rings
from loopnest_hw.tokens import FIBER_BLOCKS, FIBER_REQUEST, gather_reply, gather_request
from loopnest_sim.model.scanner import scan
from tb.harness import SIMULATORS, bench, run_bench
from tb.stream.levels import place_level
from tb.stream.memory import LineMemory
from tb.stream.test_gather import golden, steps_of, value_bytes
from tb.stream.test_scanner import some_lengths
from tb.streams import Sink, Source

IMAGE_LINES = 1024
GATHER_LINES = 512
"""Lines that the gathers address; the levels follow them."""


def configuration() -> ChipConfig:
    """Return the running bench's configuration."""
    return make_config(**bench.parameters["config"])


async def start(dut: Any, lines: int, streams: int) -> None:
    """Reset, and share the pool equally."""
    config = configuration()
    await bench.start(dut)
    for n, (base, last) in enumerate(equal_rings(streams, lines)):
        getattr(dut, f"ring__{n}").value = base | last << config.pool_bits


@cocotb.test()
@cocotb.parametrize(timing=[(2, 0, 0.0), (30, 30, 0.0), (3, 10, 0.4)])
async def all_streams(dut: Any, timing: tuple[int, int, float]) -> None:
    """Scanners and gathers work side by side, each against its golden function."""
    rng = bench.rng()
    config = configuration()
    shape = bench.parameters["bank"]
    latency, spread, stall = timing
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    image[: GATHER_LINES * LINE_BYTES] = np.frombuffer(
        rng.randbytes(GATHER_LINES * LINE_BYTES), np.uint8
    )
    work: list[tuple[Source, Sink, list[Any], list[Any]]] = []
    settings: dict[str, int] = {}
    lines: list[int] = []

    def stream(name: str, i: Any, o: Any, requests: list[Any], expected: list[Any]) -> None:
        source = Source(dut, f"{name}__i", i, rng, stall=stall)
        work.append((source, Sink(dut, f"{name}__o", o, rng, stall=stall), requests, expected))

    free = GATHER_LINES
    for s in range(shape["scanners"]):
        stride = rng.choice([PACKED_STRIDE, OPEN_STRIDE])
        level, free = place_level(image, free, some_lengths(20, rng), stride, rng)
        positions = [rng.randrange(20) for _ in range(30)]
        items, _ = scan(image, positions, table=level.table, stride=stride, blocks=level.blocks)
        settings[f"scan__{s}__open"] = int(stride == OPEN_STRIDE)
        settings[f"scan__{s}__table"] = level.table
        settings[f"scan__{s}__blocks"] = level.blocks
        requests = [{"position": position, "empty": 0} for position in positions]
        stream(f"scan__{s}", FIBER_REQUEST, FIBER_BLOCKS, requests, items)
    values = value_bytes(config)
    gathers = [(f"value__{v}", config.multipliers, values) for v in range(shape["values"])]
    if shape["words"]:
        gathers.append(("words", shape["words"], [WORD_BYTES]))
    for name, lanes, sizes in gathers:
        kind = rng.choice(["packed", "lines", "sparse", "few", "anywhere"])
        steps = steps_of(kind, 40, lanes, rng, sizes=sizes)
        kept = 0 if name == "words" else config.kept_lines
        replies, wanted = golden(image, steps, lanes, kept)
        lines += wanted
        stream(name, gather_request(lanes), gather_reply(lanes), steps, replies)

    memory = LineMemory(dut, config, image, rng, latency=latency, spread=spread, stall=stall)
    await start(dut, shape["lines"], 2 * shape["scanners"] + len(gathers))
    for name, value in settings.items():
        getattr(dut, name).value = value
    await RisingEdge(dut.clk)
    for source, _, requests, _ in work:
        cocotb.start_soon(source.send_all(requests))
    for _, sink, _, expected in work:
        assert await sink.wait_for(len(expected), idle=4000) == expected
    await ClockCycles(dut.clk, 100)
    for _, sink, _, expected in work:
        assert len(sink.received) == len(expected)
    assert sorted(line for line in memory.lines if line < GATHER_LINES) == sorted(lines)
    assert not int(dut.error.value)


@cocotb.test()
async def fair(dut: Any) -> None:
    """Streams that each request one line per cycle get equal shares of the full bandwidth."""
    rng = bench.rng()
    config = configuration()
    shape = bench.parameters["bank"]
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    streams = 2 * shape["scanners"] + shape["values"] + bool(shape["words"])
    layout = gather_request(config.multipliers)
    sinks = []
    sources = []
    for v in range(shape["values"]):
        sources.append(Source(dut, f"value__{v}__i", layout, rng))
        sinks.append(Sink(dut, f"value__{v}__o", gather_reply(config.multipliers), rng))
    LineMemory(dut, config, image, rng, latency=2)
    await start(dut, shape["lines"], streams)
    await RisingEdge(dut.clk)
    for source in sources:
        steps = steps_of("lines", 300, config.multipliers, rng, sizes=value_bytes(config))
        cocotb.start_soon(source.send_all(steps))
    # First requests wait for each other; then the rings fill, and takes wait.
    for cycles, stall in ((80, 0.0), (80, 1.0), (20, 0.0), (100, 0.0)):
        for sink in sinks:
            sink.stall = stall
        await ClockCycles(dut.clk, cycles)
        counts = [len(sink.received) for sink in sinks]
        dut._log.info("replies %d cycles later: %s", cycles, counts)
        assert not counts or max(counts) - min(counts) <= 3
    if counts and config.stream_depth > 1:
        assert sum(counts) >= 180


@cocotb.test()
async def full_rings(dut: Any) -> None:
    """`pool_full` shows that a stream waits; `error` that a read failed, and it stays."""
    if configuration().stream_depth == 1:
        return
    rng = bench.rng()
    config = configuration()
    shape = bench.parameters["bank"]
    image = np.zeros(IMAGE_LINES * LINE_BYTES, np.uint8)
    scans = [Source(dut, f"scan__{s}__i", FIBER_REQUEST, rng) for s in range(shape["scanners"])]
    sinks = [Sink(dut, f"scan__{s}__o", FIBER_BLOCKS, rng) for s in range(shape["scanners"])]
    bad = LINE_BYTES * 3
    LineMemory(dut, config, image, rng, latency=60, bad_lines=frozenset({3}))
    await start(dut, shape["lines"], 2 * len(scans) + shape["values"] + bool(shape["words"]))
    dut.scan__0__table.value = bad
    await RisingEdge(dut.clk)
    assert not int(dut.pool_full.value)
    # Each entry is in another line.
    requests = [{"position": 4 * n, "empty": 0} for n in range(20)]
    cocotb.start_soon(scans[0].send_all(requests))
    await ClockCycles(dut.clk, 50)
    assert int(dut.pool_full.value)
    assert not int(dut.error.value)
    received = await sinks[0].wait_for(len(requests), idle=400)
    assert all(item["count"] == 0 and item["last"] for item in received)
    await ClockCycles(dut.clk, 2)
    assert not int(dut.pool_full.value)
    assert int(dut.error.value)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("kind", ["shallow", "deep", "dispatcher"])
def test_bank(simulator: str, kind: str) -> None:
    """The streams of a small PE, and those of its dispatcher."""
    if simulator == "verilator" and kind != "deep":
        pytest.skip("the build takes long; Icarus runs them")
    depth = 1 if kind == "shallow" else 16
    setting = {
        "operands": 2,
        "streams": 6,
        "multipliers": 2,
        "pool_lines": 128,
        "fifo_depth": depth,
        "stream_depth": depth,
    }
    scanners = 1 if kind == "deep" else 2
    bank = {"scanners": scanners, "values": 2, "words": 8, "lines": 64}
    if kind == "dispatcher":
        bank = {"scanners": 2, "values": 0, "words": 0, "lines": DISPATCHER_LINES}
    run_bench(
        StreamBank(make_config(**setting), **bank),
        module=__name__,
        simulator=simulator,
        parameters={"config": setting, "bank": bank},
    )
