"""The cache between the clients and the memory ports."""

from typing import Any

from amaranth.hdl import Module, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BYTES
from .bank import Bank
from .crossbar import Crossbar
from .epoch import Epoch
from .geometry import CacheConfig, fill, prefetch, read, reply, request
from .misses import Misses
from .replies import Replies


def events(config: CacheConfig) -> data.StructLayout:
    """What happened in a cycle, for the performance counters.

    ``requests`` of clients and prefetchers were accepted. A bank looks up requests of one line that
    go together as one group: of these, ``hits`` were answered from the cache, ``misses`` went to
    memory, and ``joined`` waited for a line that was on its way. In ``waits`` clients a request
    waited for its bank; in ``conflicts`` of them, its bank took another line. Over a run,
    ``requests - hits - misses - joined`` requests were merged with others.
    """
    banks, clients = range(config.banks + 1), range(config.clients + 1)
    return data.StructLayout(
        {
            **{
                "requests": range(config.clients + config.ports + 1),
                "hits": banks,
                "misses": banks,
                "joined": banks,
            },
            **{"waits": clients, "conflicts": clients},
        }
    )


class Cache(wiring.Component):
    """A banked, non-blocking, read-only cache of lines for several clients.

    `Crossbar` sends the clients' requests to the banks, `Bank` looks them up, `Misses` reads lines
    from memory, `Replies` passes answers back. Answers come in any order; a hit's, without
    conflicts, is on its port five cycles after the transfer of its request.

    Writes pass the cache by: a line that is read must not be written between two flushes. Errors of
    memory go to the clients that waited, and are not kept.

    Members
    -------
    request : array of streams of `geometry.request`, in
        Requests of a client in flight differ in their slots. A client may withdraw a request.
    reply : array of streams of `geometry.reply`, out
        One per client and cycle; ``ready`` is assumed.
    prefetch : array of streams of `geometry.prefetch`, in
        Lines of each memory port to read ahead, where the clients leave a bank a cycle.
    memory : array of streams of `geometry.read`, out
        A memory port's reads; the bits above the line are the identifier.
    fill : array of streams of `geometry.fill`, in
        A memory port's answers, in any order. ``ready`` is assumed.
    flush : In(1)
        Resets everything, for as long as it is high, and empties the cache: before each kernel.
        Nothing from before is answered or kept. The memory port must drop the answers to reads
        that are in flight, and may have to withdraw a read.
    events : Out(`events`)
        One cycle late; ``waits`` and ``conflicts`` two.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        super().__init__(
            {
                "request": In(stream.Signature(request(config))).array(config.clients),
                "reply": Out(stream.Signature(reply(config))).array(config.clients),
                "prefetch": In(stream.Signature(prefetch(config))).array(config.ports),
                "memory": Out(stream.Signature(read(config))).array(config.ports),
                "fill": In(stream.Signature(fill(config))).array(config.ports),
                "flush": In(1),
                "events": Out(events(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        resets = ResetInserter(self.flush)
        crossbar = Crossbar(config)
        replies = Replies(config)
        banks = [Bank(config) for _ in range(config.banks)]
        m.submodules.epoch = epoch = Epoch(config)
        m.submodules.crossbar = resets(crossbar)
        m.submodules.replies = resets(replies)
        m.d.comb += epoch.flush.eq(self.flush)
        for c in range(config.clients):
            wiring.connect(m, wiring.flipped(self.request[c]), crossbar.i[c])
            wiring.connect(m, replies.o[c], wiring.flipped(self.reply[c]))
        for b, bank in enumerate(banks):
            m.submodules[f"bank_{b}"] = resets(bank)
            wiring.connect(m, crossbar.o[b], bank.i)
            m.d.comb += [
                bank.clear.eq(epoch.clear),
                replies.i[b].eq(bank.o),
                replies.waits[b].eq(bank.waits),
                bank.taken.eq(replies.taken[b]),
            ]

        for port in range(config.ports):
            wiring.connect(m, wiring.flipped(self.prefetch[port]), crossbar.prefetch[port])
            misses = Misses(config, port)
            m.submodules[f"misses_{port}"] = resets(misses)
            wiring.connect(m, misses.o, wiring.flipped(self.memory[port]))
            fill_ = self.fill[port]
            line = Signal(8 * LINE_BYTES, name=f"line_{port}", reset_less=True)
            with m.If(fill_.valid):
                m.d.sync += line.eq(fill_.payload.data)
            m.d.comb += fill_.ready.eq(1)
            for n, b in enumerate(range(port, config.banks, config.ports)):
                bank = banks[b]
                wiring.connect(m, bank.misses, misses.i[n])
                m.d.comb += [
                    bank.fill.valid.eq(fill_.valid & (fill_.payload.bank == b)),
                    bank.fill.payload.number.eq(fill_.payload.waiter),
                    bank.fill.payload.error.eq(fill_.payload.error),
                    bank.fill_data.eq(line),
                ]

        def count(flags: list[Value]) -> Value:
            return sum(flags, start=Value.cast(0))

        # the path through the crossbar is long enough without the sum
        waits, conflicts = Signal(config.clients), Signal(config.clients)
        requests = [*self.request, *self.prefetch]
        m.d.sync += [
            waits.eq(crossbar.waits),
            conflicts.eq(crossbar.conflicts),
            self.events.requests.eq(count([r.valid & r.ready for r in requests])),
            self.events.waits.eq(count(list(waits))),
            self.events.conflicts.eq(count(list(conflicts))),
            self.events.hits.eq(count([bank.hit for bank in banks])),
            self.events.misses.eq(count([bank.missed for bank in banks])),
            self.events.joined.eq(count([bank.joined for bank in banks])),
        ]
        return m
