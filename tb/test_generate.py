"""Bench of `SharedModule`: instances of a module behave as components of their own."""

from typing import Any

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from loopnest_hw.generate import SharedModule, to_verilog
from loopnest_hw.queue import Queue
from tb.harness import SIMULATORS, bench, run_bench
from tb.streams import Sink, Source

DEPTH = 4
ITEMS = 100


class Chain(wiring.Component):
    """Two instances of a queue, one after the other."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))
    clear: In(1)

    def elaborate(self, platform: Any) -> Module:
        """Connect the queues."""
        m = Module()
        queue = Queue(8, DEPTH)
        m.submodules.first = first = SharedModule(queue, "queue", reset=self.clear)
        m.submodules.second = second = SharedModule(queue, "queue", reset=self.clear)
        connect(m, flipped(self.i), first.i)
        connect(m, first.o, second.i)
        connect(m, second.o, flipped(self.o))
        return m


@cocotb.test()
async def passes_items_on(dut: Any) -> None:
    """Items pass both, in order, and a reset drops those inside."""
    rng = bench.rng()
    source = Source(dut, "i", 8, bench.rng(), stall=0.3)
    sink = Sink(dut, "o", 8, bench.rng(), stall=0.3)
    await bench.start(dut)
    items = [rng.randrange(256) for _ in range(ITEMS)]
    await source.send_all(items)
    await sink.wait_for(ITEMS)
    assert sink.received == items


@cocotb.test()
async def a_reset_empties_both(dut: Any) -> None:
    """More items fit than one instance holds; none is left after a reset."""
    await bench.start(dut)
    dut.o__ready.value = 0
    for clear in (0, 1):
        dut.i__valid.value, dut.clear.value = 1 - clear, clear
        for _ in range(4 * DEPTH):
            await cocotb.triggers.RisingEdge(dut.clk)
        await cocotb.triggers.ReadOnly()
        assert int(dut.o__valid.value) == 1 - clear
        assert int(dut.i__ready.value) == clear
        await cocotb.triggers.RisingEdge(dut.clk)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_shared_module(simulator: str) -> None:
    run_bench(Chain(), module=__name__, simulator=simulator)


def test_the_module_is_there_once() -> None:
    text = to_verilog(Chain(), "chain")
    assert text.count("\nmodule queue(") == 1
    assert text.count("  queue ") == 2


def test_a_conversion_is_required() -> None:
    with pytest.raises(ValueError, match="module 'queue': expected a conversion by to_verilog"):
        Chain().elaborate(None).submodules.first.elaborate(None)
