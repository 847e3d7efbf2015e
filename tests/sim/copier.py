"""A small chip for the simulator's tests: it copies lines, and has the ports of a real one."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from loopnest_hw.generate import SharedModule

START, SOURCE, TARGET, LINES, ERRORS, SCRATCH = range(0, 24, 4)
"""Register offsets. ``START`` starts with bit 0, clears the interrupt with bit 1."""

IDENTIFIERS = 16
LIMIT = 512
"""Lines in flight."""


class Buffer(wiring.Component):
    """Four items between two streams; while it is empty an item passes within the cycle, and while
    it is full it takes one if one leaves.
    """

    i: In(stream.Signature(256))
    o: Out(stream.Signature(256))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        items = [Signal(256, name=f"item_{n}") for n in range(4)]
        count = Signal(range(5))
        m.d.comb += [
            self.o.valid.eq(self.i.valid | (count != 0)),
            self.o.payload.eq(Mux(count == 0, self.i.payload, items[0])),
            self.i.ready.eq((count != 4) | self.o.ready),
        ]
        put, get = self.i.valid & self.i.ready, self.o.valid & self.o.ready
        m.d.sync += count.eq(count + put - get)
        with m.If(get):
            m.d.sync += [item.eq(after) for item, after in pairwise(items)]
        for n, item in enumerate(items):
            with m.If(put & (count == n + get)):
                m.d.sync += item.eq(self.i.payload)
        return m


class Copier(wiring.Component):
    """Copies ``lines`` lines; read n has identifier ``n % IDENTIFIERS``.

    Lines are written in the order of their answers; ``SCRATCH`` counts the answers that came out of
    the requests' order. `fault` breaks the AXI4 port on purpose. Counters to sample: cycles between
    start and interrupt, and lines written. `shared`: the buffers are instances of one module.
    """

    def __init__(self, fault: str = "", *, shared: bool = False) -> None:
        self.fault = fault
        self.shared = shared
        ports: dict[str, Any] = {"irq": Out(1)}
        for name, width in {"awaddr": 12, "wdata": 32, "wstrb": 4, "araddr": 12}.items():
            ports[f"s_axil_{name}"] = In(width)
        for name in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
            ports[f"s_axil_{name}"] = In(1)
        for name, width in {"bresp": 2, "rresp": 2, "rdata": 32}.items():
            ports[f"s_axil_{name}"] = Out(width)
        for name in ("awready", "wready", "bvalid", "arready", "rvalid"):
            ports[f"s_axil_{name}"] = Out(1)
        for channel in ("ar", "aw"):
            widths = {"id": 10, "addr": 32, "len": 8, "size": 3, "burst": 2, "valid": 1}
            for name, width in widths.items():
                ports[f"m_axi_{channel}{name}"] = Out(width)
            ports[f"m_axi_{channel}ready"] = In(1)
        for name, width in {"wdata": 256, "wstrb": 32, "wlast": 1, "wvalid": 1}.items():
            ports[f"m_axi_{name}"] = Out(width)
        ports |= {"m_axi_wready": In(1), "m_axi_bready": Out(1), "m_axi_rready": Out(1)}
        for name, width in {"bid": 10, "bresp": 2, "bvalid": 1}.items():
            ports[f"m_axi_{name}"] = In(width)
        for name, width in {"rid": 10, "rdata": 256, "rresp": 2, "rlast": 1, "rvalid": 1}.items():
            ports[f"m_axi_{name}"] = In(width)
        super().__init__(ports)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        values = {offset: Signal(32) for offset in (SOURCE, TARGET, LINES, ERRORS, SCRATCH)}
        busy, done, start = Signal(), Signal(), Signal()
        m.d.comb += self.irq.eq(done)
        self._registers(m, values, start, done)

        asked, answered, stored = Signal(32), Signal(32), Signal(32)
        lines = values[LINES]
        with m.If(start):
            m.d.sync += [busy.eq(1), asked.eq(0), answered.eq(0), stored.eq(0)]
            m.d.sync += values[ERRORS].eq(0)
        self._read(m, busy & (asked != lines) & (asked - stored < LIMIT), values[SOURCE], asked)
        self._write(m, values, answered)
        with m.If(self.m_axi_bvalid):
            m.d.sync += stored.eq(stored + 1)
        failed = self.m_axi_bvalid & self.m_axi_bresp[1]
        failed_read = self.m_axi_rvalid & self.m_axi_rready & self.m_axi_rresp[1]
        with m.If(failed | failed_read):
            m.d.sync += values[ERRORS].eq(values[ERRORS] + failed + failed_read)
        m.d.comb += self.m_axi_bready.eq(1)
        with m.If(busy & (stored == lines)):
            m.d.sync += [busy.eq(0), done.eq(1)]
        counters = [Signal(32, name=f"counters__{n}") for n in range(2)]
        with m.If(start):
            m.d.sync += [counter.eq(0) for counter in counters]
        with m.Elif(busy):
            m.d.sync += [counters[0].eq(counters[0] + 1), counters[1].eq(stored)]
        return m

    def _registers(self, m: Module, values: dict[int, Signal], start: Signal, done: Signal) -> None:
        write = self.s_axil_awvalid & self.s_axil_wvalid & ~self.s_axil_bvalid
        m.d.comb += [self.s_axil_awready.eq(write), self.s_axil_wready.eq(write)]
        with m.If(self.s_axil_bready):
            m.d.sync += self.s_axil_bvalid.eq(0)
        with m.If(write):
            m.d.sync += self.s_axil_bvalid.eq(1)
            with m.Switch(self.s_axil_awaddr):
                for offset, value in values.items():
                    with m.Case(offset):
                        m.d.sync += [value.eq(self.s_axil_wdata), self.s_axil_bresp.eq(0)]
                with m.Case(START):
                    m.d.comb += start.eq(self.s_axil_wdata[0])
                    m.d.sync += self.s_axil_bresp.eq(0)
                    with m.If(self.s_axil_wdata[1]):
                        m.d.sync += done.eq(0)
                with m.Default():
                    m.d.sync += self.s_axil_bresp.eq(2)
        read = self.s_axil_arvalid & ~self.s_axil_rvalid & (self.s_axil_araddr < 0x800)
        m.d.comb += self.s_axil_arready.eq(read)
        with m.If(self.s_axil_rready):
            m.d.sync += self.s_axil_rvalid.eq(0)
        with m.If(read):
            m.d.sync += [self.s_axil_rvalid.eq(1), self.s_axil_rresp.eq(0)]
            with m.Switch(self.s_axil_araddr):
                for offset, value in values.items():
                    with m.Case(offset):
                        m.d.sync += self.s_axil_rdata.eq(value)
                with m.Default():
                    m.d.sync += self.s_axil_rresp.eq(2)

    def _read(self, m: Module, more: Any, source: Signal, asked: Signal) -> None:
        m.d.comb += [
            self.m_axi_arvalid.eq(more),
            self.m_axi_araddr.eq(source + (asked << 5)),
            self.m_axi_arid.eq(asked[:4]),
            self.m_axi_arsize.eq(4 if self.fault == "size" else 5),
            self.m_axi_arburst.eq(1),
        ]
        if self.fault == "hold":
            flip = Signal()
            m.d.sync += flip.eq(~flip)
            m.d.comb += self.m_axi_arvalid.eq(more & flip)
        with m.If(self.m_axi_arvalid & self.m_axi_arready):
            m.d.sync += asked.eq(asked + 1)

    def _write(self, m: Module, values: dict[int, Signal], answered: Signal) -> None:
        """Write an answer's line to its place."""
        if self.shared:
            buffer = Buffer()
            buffers: list[Any] = [SharedModule(buffer, "buffer", reset=Const(0)) for _ in range(2)]
        else:
            buffers = [Buffer(), Buffer()]
        m.submodules.addresses, m.submodules.data = addresses, data = buffers
        room = addresses.i.ready & data.i.ready
        take = self.m_axi_rvalid & room
        # the number of this identifier's answers before: it gives the line's number
        counts = [Signal(28, name=f"count_{i}") for i in range(IDENTIFIERS)]
        number = Signal(32)
        with m.Switch(self.m_axi_rid[:4]):
            for i, count in enumerate(counts):
                with m.Case(i):
                    m.d.comb += number.eq((count << 4) | i)
                    with m.If(take):
                        m.d.sync += count.eq(count + 1)
        with m.If(self.irq):
            m.d.sync += [count.eq(0) for count in counts]
        m.d.comb += [
            self.m_axi_rready.eq(room),
            addresses.i.valid.eq(take),
            addresses.i.payload.eq(values[TARGET] + (number << 5)),
            data.i.valid.eq(take),
            data.i.payload.eq(self.m_axi_rdata),
            self.m_axi_awvalid.eq(addresses.o.valid),
            self.m_axi_awaddr.eq(addresses.o.payload),
            self.m_axi_awsize.eq(5),
            self.m_axi_awburst.eq(1),
            addresses.o.ready.eq(self.m_axi_awready),
            self.m_axi_wvalid.eq(data.o.valid),
            self.m_axi_wdata.eq(data.o.payload),
            # byte 31 of each line is not written
            self.m_axi_wstrb.eq((1 << 31) - 1),
            self.m_axi_wlast.eq(1),
            data.o.ready.eq(self.m_axi_wready),
        ]
        with m.If(take):
            m.d.sync += answered.eq(answered + 1)
            with m.If(self.m_axi_rid[:4] != answered[:4]):
                m.d.sync += values[SCRATCH].eq(values[SCRATCH] + 1)


class TwoPorts(wiring.Component):
    """A copier that uses the first of its two memory ports for all lines."""

    def __init__(self) -> None:
        self._copier = Copier()
        members = self._copier.signature.members
        ports = {n: member for n, member in members.items() if not n.startswith("m_axi_")}
        for name, member in members.items():
            if name.startswith("m_axi_"):
                signal = name.removeprefix("m_axi_")
                ports |= {f"m{port}_axi_{signal}": member for port in range(2)}
        super().__init__(ports)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.copier = copier = self._copier
        for name, member in copier.signature.members.items():
            outer = getattr(self, name.replace("m_axi_", "m0_axi_"))
            inner = getattr(copier, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        return m
