"""Registers that stand for a unit."""

from typing import Any

from amaranth.hdl import Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from loopnest_hw.port_registers import PortRegisters


def test_every_input_reaches_an_output() -> None:
    """Two cycles later; so synthesis removes nothing that drives one."""
    ports = PortRegisters(
        {
            "a": In(7),
            "i": In(stream.Signature(4)),
            "o": Out(stream.Signature(2)),
            "done": Out(1),
        }
    )
    values = [(m.flow, Value.cast(v)) for _, m, v in ports.signature.flatten(ports)]
    inputs = [bit for flow, value in values if flow is In for bit in value]
    outputs = [value for flow, value in values if flow is Out]
    assert len(inputs) == 7 + 4 + 1 + 1 and sum(map(len, outputs)) == 1 + 2 + 1 + 1

    async def bench(ctx: Any) -> None:
        for changed in inputs:
            seen = set()
            for level in (0, 1):
                ctx.set(changed, level)
                await ctx.tick().repeat(2)
                seen.add(tuple(ctx.get(value) for value in outputs))
            assert len(seen) == 2
            ctx.set(changed, 0)

    simulator = Simulator(ports)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
