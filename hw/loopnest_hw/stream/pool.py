"""The line pool: the memory that holds lines between their arrival and their use."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BYTES, ChipConfig
from ..register import payload_register
from ..tokens import line_reply, line_request
from ..unary import one_of
from .round_robin import RoundRobin


def ring(config: ChipConfig) -> data.StructLayout:
    """A stream's part of the pool: the lines ``base`` to ``last``, both included."""
    return data.StructLayout({"base": config.pool_bits, "last": config.pool_bits})


def pool_client(config: ChipConfig) -> wiring.Signature:
    """A stream's interface to the pool, from the stream's side.

    Members
    -------
    request : stream of `line_request`
        Lines to read. The slot is one of the stream's ring, and free.
    probe, arrived
        ``arrived`` answers for slot ``probe`` in the same cycle. It is 0 at reset and changes with
        each line that arrives there: 1 after the first line, 0 after the second, ...
    take, data
        ``take`` requests the line in a slot; it is on ``data`` in the cycle after the transfer, and
        only then.
    waiting
        The stream has a line to request, but its ring is full.
    """
    return wiring.Signature(
        {
            "request": Out(stream.Signature(line_request(config))),
            "probe": Out(config.pool_bits),
            "arrived": In(1),
            "take": Out(stream.Signature(config.pool_bits)),
            "data": In(8 * LINE_BYTES),
            "waiting": Out(1),
        }
    )


class LinePool(wiring.Component):
    """``lines`` lines of 1R1W memory between ``streams`` streams and the memory port.

    Requests and takes are served round-robin, one per cycle each. A request is on ``request`` one
    cycle after its transfer. Answers come in any order and are never refused; a line has arrived in
    the cycle after its answer. A slot must have at most one request in flight: the streams
    guarantee that.

    ``error`` rises when an answer reports one (its line counts as arrived) and stays until reset.
    ``pool_full``: some stream waits for a free line of its ring.
    """

    def __init__(self, config: ChipConfig, *, streams: int, lines: int) -> None:
        if lines > config.pool_lines:
            raise ValueError(f"lines={lines}: expected at most pool_lines={config.pool_lines}")
        self._streams = streams
        self._lines = lines
        super().__init__(
            {
                "client": In(pool_client(config)).array(streams),
                "request": Out(stream.Signature(line_request(config))),
                "reply": In(stream.Signature(line_reply(config))),
                "error": Out(1),
                "pool_full": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        clients = [self.client[n] for n in range(self._streams)]
        slot_bits = (self._lines - 1).bit_length()

        # asking
        m.submodules.asking = asking = RoundRobin(self._streams)
        room = Signal()
        m.d.comb += [
            room.eq(~self.request.valid | self.request.ready),
            asking.requests.eq(Cat(client.request.valid for client in clients)),
            asking.granted.eq(room),
        ]
        request = payload_register(m, self.request)
        with m.If(room):
            m.d.sync += self.request.valid.eq(asking.requests.any())
            with m.If(asking.requests.any()):
                m.d.sync += Cat(request).eq(
                    one_of(
                        (grant, client.request.payload)
                        for grant, client in zip(asking.grant, clients, strict=True)
                    )
                )
        for n, client in enumerate(clients):
            m.d.comb += client.request.ready.eq(asking.grant[n] & room)

        # arrival
        m.submodules.storage = storage = memory.Memory(
            shape=8 * LINE_BYTES, depth=self._lines, init=[]
        )
        write = storage.write_port()
        read = storage.read_port(transparent_for=())
        reply = self.reply.payload
        arrived = Signal(self._lines)
        m.d.comb += [
            self.reply.ready.eq(1),
            write.en.eq(self.reply.valid),
            write.addr.eq(reply.slot),
            write.data.eq(reply.data),
            self.pool_full.eq(Cat(client.waiting for client in clients).any()),
        ]
        with m.If(self.reply.valid):
            # The flag needs no clearing when the line is taken: the stream knows which value to
            # expect.
            m.d.sync += arrived.eq(arrived ^ (1 << reply.slot[:slot_bits]))
            with m.If(reply.error):
                m.d.sync += self.error.eq(1)

        # taking
        m.submodules.taking = taking = RoundRobin(self._streams)
        m.d.comb += [
            taking.requests.eq(Cat(client.take.valid for client in clients)),
            taking.granted.eq(1),
            read.en.eq(taking.requests.any()),
            read.addr.eq(
                one_of(
                    (grant, client.take.payload)
                    for grant, client in zip(taking.grant, clients, strict=True)
                )
            ),
        ]
        for n, client in enumerate(clients):
            m.d.comb += [
                client.take.ready.eq(taking.grant[n]),
                client.arrived.eq(arrived.bit_select(client.probe[:slot_bits], 1)),
                client.data.eq(read.data),
            ]
        return m
