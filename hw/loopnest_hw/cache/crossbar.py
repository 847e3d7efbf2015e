"""The crossbar from the clients' windows to the banks."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..queue import Queue
from ..stream.round_robin import RoundRobin
from ..unary import one_of
from .geometry import CacheConfig, bank_of, lookup, prefetch, request, upper_of
from .window import Window

BANK_STAGES = 2
"""Queue depth before a bank: the smallest for one item per cycle and a registered ready."""


class Crossbar(wiring.Component):
    """Sends requests of the clients to their banks: of each bank, those of one line per cycle.

    Each client has a `Window`, which offers each bank one request. A bank's leader is the next
    client in turn that has a request for it, and every client whose offer has the leader's line
    goes with it: a line that all clients request costs one lookup. A client's further requests of
    the same line go in the next cycles, since it takes one reply per cycle anyway. So a bank
    compares one line with one of each client, not with all of each window.

    A line to prefetch goes alone, in a cycle in which no client requests its bank.

    A request is at its bank two cycles after its transfer. It waits for at most ``clients - 1``
    others of each older request of its own client for the bank, and of itself.

    Members
    -------
    i : array of streams of `geometry.request`, in
        Ready while the client's window has a place.
    prefetch : array of streams of `geometry.prefetch`, in
        Of each memory port's lines.
    o : array of streams of `geometry.lookup`, out
        To each bank. The slot of a client that is not in the group is undefined.
    waits : Out(clients)
        Clients that have an older request than this cycle's that was not sent in this cycle.
    conflicts : Out(clients)
        Those of them of which a request's bank takes another line in this cycle.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(request(config))).array(config.clients),
                "prefetch": In(stream.Signature(prefetch(config))).array(config.ports),
                "o": Out(stream.Signature(lookup(config))).array(config.banks),
                "waits": Out(config.clients),
                "conflicts": Out(config.clients),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        windows = [Window(config) for _ in range(config.clients)]
        for n, window in enumerate(windows):
            m.submodules[f"window_{n}"] = window
            wiring.connect(m, wiring.flipped(self.i[n]), window.i)
            m.d.comb += self.waits[n].eq((window.wants & ~window.granted).any())

        ahead = [self.prefetch[port].payload.line for port in range(config.ports)]
        ahead_bank = [Signal(config.bank_bits, name=f"ahead_bank_{p}") for p in range(config.ports)]
        m.d.comb += [
            bank.eq(bank_of(config, ln)) for bank, ln in zip(ahead_bank, ahead, strict=True)
        ]

        conflicts = [Signal(config.banks, name=f"conflicts_{n}") for n in range(config.clients)]
        m.d.comb += self.conflicts.eq(Cat(of_client.any() for of_client in conflicts))
        for b in range(config.banks):
            m.submodules[f"arbiter_{b}"] = arbiter = RoundRobin(config.clients)
            m.submodules[f"queue_{b}"] = queue = Queue(lookup(config), BANK_STAGES)
            wants = Cat(window.wants[b] for window in windows)
            line = Signal(config.upper_bits, name=f"line_{b}")
            joins = Signal(config.clients, name=f"joins_{b}")
            port = b % config.ports
            alone = Signal(name=f"alone_{b}")  # a line to prefetch
            offers = [(arbiter.grant[n], window.upper[b]) for n, window in enumerate(windows)]
            with m.If(alone & queue.i.ready):
                m.d.comb += self.prefetch[port].ready.eq(1)
            m.d.comb += [
                arbiter.requests.eq(wants),
                arbiter.granted.eq(queue.i.ready),
                alone.eq(self.prefetch[port].valid & (ahead_bank[port] == b) & ~wants.any()),
                line.eq(one_of([*offers, (alone, upper_of(config, ahead[port]))])),
                joins.eq(Cat(w.wants[b] & (w.upper[b] == line) for w in windows)),
                queue.i.valid.eq(wants.any() | alone),
                queue.i.payload.upper.eq(line),
                queue.i.payload.group.mask.eq(joins),
            ]
            for n, window in enumerate(windows):
                m.d.comb += [
                    window.granted[b].eq(joins[n] & queue.i.ready),
                    conflicts[n][b].eq(window.wants[b] & ~joins[n] & queue.i.ready),
                    queue.i.payload.group.slot[n].eq(window.slot[b]),
                ]
            wiring.connect(m, queue.o, wiring.flipped(self.o[b]))
        return m
