"""The wrapper of a chip on an FPGA."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from loopnest_hw.scan_wrapper import ScanWrapper


def test_wrapper_drives_all_inputs_and_sees_all_outputs() -> None:
    """Bits enter at the first input; the pin is the parity of the outputs, a cycle later."""

    class Wires(wiring.Component):
        a: In(3)
        b: In(2)
        o: Out(3)
        p: Out(2)

        def elaborate(self, platform: Any) -> Module:
            m = Module()
            m.d.comb += [self.o.eq(self.a), self.p.eq(self.b)]
            return m

    wires = Wires()
    wrapper = ScanWrapper(wires)
    stimulus = [1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0]
    seen = []

    async def drive(ctx: Any) -> None:
        for bit in stimulus:
            ctx.set(wrapper.scan_in, bit)
            await ctx.tick()
            inside = ctx.get(wires.a) | ctx.get(wires.b) << 3
            seen.append((inside, ctx.get(wrapper.scan_out)))

    simulator = Simulator(wrapper)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    held = [
        sum(bit << n for n, bit in enumerate(reversed(stimulus[max(0, t - 4) : t + 1])))
        for t in range(len(stimulus))
    ]
    assert [inside for inside, _ in seen] == held
    assert [pin for _, pin in seen[2:]] == [bin(bits).count("1") % 2 for bits in held[:-2]]
