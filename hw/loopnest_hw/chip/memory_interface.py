"""The chip's side of memory: its ports, between which the lines are interleaved."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ADDRESS_BITS, ChipConfig
from ..kernel import kernel_layout
from ..tokens import LINE_WRITE, line_reply, line_request
from .axi import (
    CLIENT_BITS,
    ReadClient,
    axi_read,
    axi_write,
    read_clients,
    read_slot_bits,
)
from .memory_port import ReadPort, WritePort
from .overlap import FOUND, OverlapWatch


def port_of(config: ChipConfig, line: Value) -> Value:
    """Return the memory port of a line."""
    return line[: config.memory_ports.bit_length() - 1]


class MemoryInterface(wiring.Component):
    """Sends line reads and writes through the memory ports, and watches them.

    A `ReadPort`, a `WritePort` and an `OverlapWatch` for each port; port p carries the lines whose
    number modulo ``config.memory_ports`` is p. All clients but the command processor know the port
    of their lines. The command processor has one stream for all: where two ports have an answer for
    it in the same cycle, the higher one's waits, and with it that port's bus.

    Members
    -------
    request : arrays of streams of `tokens.line_request`, in
        ``[p][c]`` is port p's of client c of `axi.read_clients`, without the command processor;
        slots have `axi.read_slot_bits`.
    reply : arrays of streams of `tokens.line_reply`, out
        The answers; ``ready`` is assumed.
    command_request, command_reply : streams of the same, in and out
        The command processor's; ``ready`` of a reply is assumed.
    write : array of streams of `tokens.LINE_WRITE`, in
        Each port's.
    running : In(1)
        A kernel runs.
    reading : In(1)
        So it does, or the cache reads ahead for it. Otherwise the clients but the command processor
        send and get nothing: what they still present as they go into reset is not transferred.
    clear : In(1)
        A run starts: what was found so far is forgotten.
    result, counters : In
        The descriptor's members of these names (`OverlapWatch`).
    overlap, next_overlap : Out(FOUND)
        `OverlapWatch.found` and ``next_found`` of the first port that has any.
    reads_idle, writes_idle, clean, write_error, forget
        As `ReadPort` and `WritePort`, of all ports together.
    due, moves : Out
        The same, of each port by itself: bit p is that of port p's reads and writes.
    lines_read, lines_written : Out
        Lines requested, and written, in this cycle, without the command processor's.
    read_bus, write_bus : arrays of the channels AR and R, and AW, W and B
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        ports = config.memory_ports
        self._clients = len(read_clients(config)) - 1
        slots = read_slot_bits(config)
        request, reply = line_request(config, slot_bits=slots), line_reply(config, slot_bits=slots)
        super().__init__(
            {
                "request": In(stream.Signature(request)).array(ports, self._clients),
                "reply": Out(stream.Signature(reply)).array(ports, self._clients),
                "command_request": In(stream.Signature(line_request(config))),
                "command_reply": Out(stream.Signature(line_reply(config))),
                "write": In(stream.Signature(LINE_WRITE)).array(ports),
                "running": In(1),
                "reading": In(1),
                "clear": In(1),
                "result": In(kernel_layout(config).members["result"]),
                "counters": In(ADDRESS_BITS),
                "overlap": Out(FOUND),
                "next_overlap": Out(FOUND),
                "reads_idle": Out(1),
                "writes_idle": Out(1),
                "clean": Out(1),
                "write_error": Out(1),
                "forget": In(1),
                "due": Out(ports),
                "moves": Out(ports),
                "lines_read": Out(range(ports + 1)),
                "lines_written": Out(range(ports + 1)),
                "read_bus": Out(axi_read(config)).array(ports),
                "write_bus": Out(axi_write(config)).array(ports),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ports = range(self._config.memory_ports)
        reads = [ReadPort(self._config) for _ in ports]
        writes = [WritePort(self._config) for _ in ports]
        watches = [OverlapWatch(self._config) for _ in ports]
        for p in ports:
            m.submodules[f"reads_{p}"] = reads[p]
            m.submodules[f"writes_{p}"] = writes[p]
            m.submodules[f"overlap_{p}"] = watches[p]
            wiring.connect(m, wiring.flipped(self.write[p]), writes[p].i)
            wiring.connect(m, reads[p].bus, wiring.flipped(self.read_bus[p]))
            wiring.connect(m, writes[p].bus, wiring.flipped(self.write_bus[p]))
            for c in range(self._clients):
                request, reply = self.request[p][c], self.reply[p][c]
                port_request, port_reply = reads[p].request[c], reads[p].reply[c]
                m.d.comb += [
                    port_request.valid.eq(request.valid & self.reading),
                    port_request.payload.eq(request.payload),
                    request.ready.eq(port_request.ready & self.reading),
                    reply.valid.eq(port_reply.valid & self.reading),
                    reply.payload.eq(port_reply.payload),
                    port_reply.ready.eq(1),
                ]
            self._watch(m, watches[p], reads[p].bus)
            m.d.comb += [
                reads[p].forget.eq(self.forget),
                writes[p].forget.eq(self.forget),
                writes[p].clear.eq(self.clear),
                self.due[p].eq(reads[p].due | writes[p].due),
                self.moves[p].eq(reads[p].moves | writes[p].moves),
            ]
        self._command(m, reads)
        m.d.comb += [
            self.reads_idle.eq(Cat(port.idle for port in reads).all()),
            self.writes_idle.eq(Cat(port.idle for port in writes).all()),
            self.clean.eq(Cat(port.clean for port in (*reads, *writes)).all()),
            self.write_error.eq(Cat(port.error for port in writes).any()),
            self.lines_read.eq(sum((port.accepted[:-1].any() for port in reads), Value.cast(0))),
            self.lines_written.eq(sum((port.accepted for port in writes), Value.cast(0))),
        ]
        for name, found in (("found", self.overlap), ("next_found", self.next_overlap)):
            chosen = getattr(watches[-1], name)
            for watch in reversed(watches[:-1]):
                first = getattr(watch, name)
                chosen = Mux(first.valid, first, chosen)
            m.d.comb += found.eq(chosen)
        return m

    def _command(self, m: Module, reads: list[ReadPort]) -> None:
        """Connect the command processor to all ports."""
        request, reply = self.command_request, self.command_reply
        earlier: Value = Value.cast(0)  # a lower port has an answer
        for p, port in enumerate(reads):
            port_request, port_reply = port.request[-1], port.reply[-1]
            here = Signal(name=f"here_{p}")
            m.d.comb += [
                here.eq(port_of(self._config, request.payload.line) == p),
                port_request.valid.eq(request.valid & here),
                port_request.payload.line.eq(request.payload.line),
                port_request.payload.slot.eq(request.payload.slot),
                port_reply.ready.eq(~earlier),
            ]
            with m.If(here):
                m.d.comb += request.ready.eq(port_request.ready)
            with m.If(port_reply.valid & ~earlier):
                m.d.comb += [
                    reply.valid.eq(1),
                    reply.payload.data.eq(port_reply.payload.data),
                    reply.payload.error.eq(port_reply.payload.error),
                    reply.payload.slot.eq(port_reply.payload.slot),
                ]
            earlier = earlier | port_reply.valid

    def _watch(self, m: Module, watch: OverlapWatch, bus: Any) -> None:
        """Let a watch see a port's reads."""
        command = read_clients(self._config).index(ReadClient.COMMAND)
        client = bus.arid.bit_select(read_slot_bits(self._config), CLIENT_BITS)
        m.d.comb += [
            watch.result.eq(self.result),
            watch.counters.eq(self.counters),
            watch.running.eq(self.running),
            watch.clear.eq(self.clear),
            watch.read.eq(bus.arvalid & bus.arready),
            watch.address.eq(bus.araddr),
            watch.descriptor.eq(client == command),
        ]
