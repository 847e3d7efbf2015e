"""An AXI4 memory port of the chip: line reads of several clients, and line writes.

The two share nothing, so reads never wait on writes.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BITS, LINE_BYTES, LINE_SHIFT, ChipConfig
from ..queue import Queue
from ..stream.round_robin import RoundRobin
from ..tokens import LINE_WRITE, line_reply, line_request
from .axi import (
    CLIENT_BITS,
    INCREMENTING,
    LINE_SIZE,
    axi_read,
    axi_write,
    identifier_bits,
    read_clients,
    read_slot_bits,
)

WRITES_OUTSTANDING = 255
"""Writes that may be outstanding."""

BUS_STAGES = 2
"""Queue depth before a bus channel: the smallest for one item per cycle and a registered ready."""


class ReadPort(wiring.Component):
    """Sends line requests of the `axi.read_clients` as single-beat AXI4 reads.

    Clients are served in turn, one request per cycle in all; a request is on the bus in the cycle
    after its transfer. A read's identifier is ``{generation, client, slot}``, so requests in flight
    at once must differ in client or slot; answers may come in any order. At most
    ``reads_outstanding`` are in flight. An answer is passed on one cycle after it arrives. Clients
    have a place for what they requested, so they refuse no answer; the command processor may, if it
    gets one from another port in the same cycle: the bus waits meanwhile.

    A client may withdraw a request (it does so when reset); a request that was transferred is sent
    and answered in any case.

    Members
    -------
    request : array of streams of `tokens.line_request`, in
        Slots have `axi.read_slot_bits`.
    reply : array of streams of `tokens.line_reply`, out
        ``ready`` is assumed but for the last client's, the command processor's.
    accepted : Out
        Bit c: a request of client c is transferred in this cycle.
    idle : Out(1)
        No request is queued and no answer is outstanding.
    due : Out(1)
        A transfer is due: something is on the bus, or an answer is missing.
    moves : Out(1)
        Something is transferred on the bus in this cycle.
    forget : In(1)
        Gives up the requests in flight, only while ``clean``: the port is idle afterwards, and late
        answers are dropped, recognised by their generation.
    clean : Out(1)
        No answer that was given up is still outstanding.
    bus : the channels AR and R
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        self._clients = len(read_clients(config))
        self._slot_bits = read_slot_bits(config)
        request = line_request(config, slot_bits=self._slot_bits)
        self._reply = line_reply(config, slot_bits=self._slot_bits)
        super().__init__(
            {
                "request": In(stream.Signature(request)).array(self._clients),
                "reply": Out(stream.Signature(self._reply)).array(self._clients),
                "accepted": Out(self._clients),
                "idle": Out(1),
                "due": Out(1),
                "moves": Out(1),
                "forget": In(1),
                "clean": Out(1),
                "bus": Out(axi_read(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        address = data.StructLayout(
            {
                "line": LINE_BITS,
                "slot": self._slot_bits,
                "client": CLIENT_BITS,
                "generation": 1,
            }
        )
        m.submodules.queue = queue = Queue(address, BUS_STAGES, reset_less=False)

        in_flight = Signal(range(self._config.reads_outstanding + 1))
        lost = Signal.like(in_flight)
        generation = Signal()
        may_send = Signal()
        valid = Cat(request.valid for request in self.request)
        m.submodules.arbiter = arbiter = RoundRobin(self._clients)
        m.d.comb += [
            may_send.eq(in_flight != self._config.reads_outstanding),
            arbiter.requests.eq(valid),
            arbiter.granted.eq(self.accepted.any()),
            queue.i.valid.eq(may_send & valid.any()),
            queue.i.payload.generation.eq(generation),
        ]
        for number, request in enumerate(self.request):
            m.d.comb += [
                request.ready.eq(arbiter.grant[number] & may_send & queue.i.ready),
                self.accepted[number].eq(request.valid & request.ready),
            ]
            with m.If(arbiter.grant[number]):
                m.d.comb += [
                    queue.i.payload.line.eq(request.payload.line),
                    queue.i.payload.slot.eq(request.payload.slot),
                    queue.i.payload.client.eq(number),
                ]

        bus = self.bus
        m.d.comb += [
            bus.arid.eq(
                Cat(queue.o.payload.slot, queue.o.payload.client, queue.o.payload.generation)
            ),
            bus.araddr.eq(Cat(Const(0, LINE_SHIFT), queue.o.payload.line)),
            bus.arlen.eq(0),
            bus.arsize.eq(LINE_SIZE),
            bus.arburst.eq(INCREMENTING),
            bus.arvalid.eq(queue.o.valid),
            queue.o.ready.eq(bus.arready),
        ]

        came = Signal()
        refused = Signal()
        answer = Signal(self._reply)
        answer_to = Signal(CLIENT_BITS)
        answer_generation = Signal()
        current = Signal()
        arrived = Signal()
        late = Signal()
        m.d.comb += [
            refused.eq(self.reply[-1].valid & ~self.reply[-1].ready),
            bus.rready.eq(~refused),
            current.eq(came & (answer_generation == generation)),
            arrived.eq(current & ~refused),
            late.eq(came & ~current),
            self.due.eq(bus.arvalid | ~self.idle),
            self.moves.eq((bus.arvalid & bus.arready) | (bus.rvalid & bus.rready)),
            self.clean.eq(lost == 0),
        ]
        with m.If(self.forget):
            m.d.sync += [
                generation.eq(~generation),
                lost.eq(in_flight - arrived),
                in_flight.eq(0),
            ]
        with m.Else():
            m.d.sync += [
                in_flight.eq(in_flight + self.accepted.any() - arrived),
                lost.eq(lost - late),
            ]
        with m.If(~refused):
            m.d.sync += came.eq(bus.rvalid)
        with m.If(bus.rvalid & ~refused):
            m.d.sync += [
                answer.data.eq(bus.rdata),
                answer.error.eq(bus.rresp[1]),
                Cat(answer.slot, answer_to, answer_generation).eq(bus.rid),
            ]
        for number, reply in enumerate(self.reply):
            m.d.comb += [
                reply.valid.eq(current & (answer_to == number)),
                reply.payload.eq(answer),
            ]
        m.d.comb += self.idle.eq(in_flight == 0)
        return m


class WritePort(wiring.Component):
    """Sends line writes as single-beat AXI4 writes, one per cycle.

    A write that was transferred is completed: its address and its data are each sent once, as soon
    as the channel accepts them. All have identifier 0, so they take effect in order.

    Members
    -------
    i : stream of `tokens.LINE_WRITE`, in
        Ready while both channels have a free place and fewer than `WRITES_OUTSTANDING` are in
        flight.
    accepted : Out(1)
        A write is transferred in this cycle.
    idle : Out(1)
        Every write has its response.
    due : Out(1)
        A transfer is due: something is on the bus, or an answer is missing.
    moves : Out(1)
        Something is transferred on the bus in this cycle.
    forget : In(1)
        Gives up the outstanding responses, only while ``clean``: the port is idle afterwards.
        Responses arrive in order, so the first ones are those given up. A write that the bus has
        not accepted yet stays on it.
    clean : Out(1)
        No response that was given up is still outstanding.
    error : Out(1)
        A response was an error. It stays until ``clear``.
    clear : In(1)
    bus : the channels AW, W and B
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(LINE_WRITE)),
                "accepted": Out(1),
                "idle": Out(1),
                "due": Out(1),
                "moves": Out(1),
                "forget": In(1),
                "clean": Out(1),
                "error": Out(1),
                "clear": In(1),
                "bus": Out(axi_write(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        beat = data.StructLayout({"data": 8 * LINE_BYTES, "strobe": LINE_BYTES})
        m.submodules.addresses = addresses = Queue(LINE_BITS, BUS_STAGES, reset_less=False)
        m.submodules.beats = beats = Queue(beat, BUS_STAGES, reset_less=False)

        in_flight = Signal(range(WRITES_OUTSTANDING + 1))
        lost = Signal.like(in_flight)
        answered = Signal()
        bus = self.bus
        m.d.comb += [
            self.i.ready.eq(addresses.i.ready & beats.i.ready & (in_flight != WRITES_OUTSTANDING)),
            self.accepted.eq(self.i.valid & self.i.ready),
            addresses.i.valid.eq(self.accepted),
            addresses.i.payload.eq(self.i.payload.line),
            beats.i.valid.eq(self.accepted),
            beats.i.payload.data.eq(self.i.payload.data),
            beats.i.payload.strobe.eq(self.i.payload.strobe),
            bus.awid.eq(Const(0, identifier_bits(self._config))),
            bus.awaddr.eq(Cat(Const(0, LINE_SHIFT), addresses.o.payload)),
            bus.awlen.eq(0),
            bus.awsize.eq(LINE_SIZE),
            bus.awburst.eq(INCREMENTING),
            bus.awvalid.eq(addresses.o.valid),
            addresses.o.ready.eq(bus.awready),
            bus.wdata.eq(beats.o.payload.data),
            bus.wstrb.eq(beats.o.payload.strobe),
            bus.wlast.eq(1),
            bus.wvalid.eq(beats.o.valid),
            beats.o.ready.eq(bus.wready),
            bus.bready.eq(1),
            self.idle.eq(in_flight == 0),
            self.due.eq(bus.awvalid | bus.wvalid | ~self.idle),
            self.clean.eq(lost == 0),
            answered.eq(bus.bvalid & self.clean),
            self.moves.eq((bus.awvalid & bus.awready) | (bus.wvalid & bus.wready) | bus.bvalid),
        ]
        m.d.sync += self.error.eq(Mux(self.clear, 0, self.error | (answered & bus.bresp[1])))
        with m.If(self.forget):
            m.d.sync += [lost.eq(in_flight - answered), in_flight.eq(0)]
        with m.Else():
            m.d.sync += [
                in_flight.eq(in_flight + self.accepted - answered),
                lost.eq(lost - (bus.bvalid & ~self.clean)),
            ]
        return m
