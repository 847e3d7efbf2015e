"""The network from the banks' answers to the clients."""

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..queue import Queue
from ..stream.round_robin import RoundRobin
from ..unary import one_of
from .geometry import CacheConfig, answer, reply

LANE_STAGES = 2
"""Replies that wait in a lane: the fewest for one per cycle."""


class Replies(wiring.Component):
    """Passes the answers of ``banks`` banks to the clients, one reply per client and cycle.

    A client has ``lanes`` lanes. Each takes the answers of the banks whose numbers end with its
    number, round-robin, one per cycle, into a queue; the client takes from the lanes' queues
    round-robin. So a client that several banks answer at once delays few of them.

    An answer for several clients is taken by each of them on its own. A client's reply is on its
    port one cycle after it is taken, or later. While an answer waits for a client, that client gets
    at most ``banks + lanes`` other replies.

    Members
    -------
    i : In(`geometry.answer`), waits : In(clients), array of banks
        As `bank.Bank`'s ``o`` and ``waits``.
    taken : Out(clients), array of banks
    o : array of streams of `geometry.reply`, out
        ``ready`` is assumed.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(answer(config)).array(config.banks),
                "waits": In(config.clients).array(config.banks),
                "taken": Out(config.clients).array(config.banks),
                "o": Out(stream.Signature(reply(config))).array(config.clients),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        for c in range(config.clients):
            m.submodules[f"turn_{c}"] = turn = RoundRobin(config.lanes)
            queues = []
            for lane in range(config.lanes):
                banks = range(lane, config.banks, config.lanes)
                m.submodules[f"lane_{c}_{lane}"] = queue = Queue(reply(config), LANE_STAGES)
                m.submodules[f"arbiter_{c}_{lane}"] = arbiter = RoundRobin(len(banks))
                m.d.comb += [
                    arbiter.requests.eq(Cat(self.waits[b][c] for b in banks)),
                    arbiter.granted.eq(queue.i.ready),
                    queue.i.valid.eq(arbiter.requests.any()),
                ]
                choices = list(zip(arbiter.grant, (self.i[b] for b in banks), strict=True))
                for name, part in (
                    ("data", lambda i: i.data),
                    ("error", lambda i: i.error),
                    ("slot", lambda i, c=c: i.slot[c]),
                ):
                    chosen = one_of((grant, part(i)) for grant, i in choices)
                    m.d.comb += queue.i.payload[name].eq(chosen)
                for grant, b in zip(arbiter.grant, banks, strict=True):
                    m.d.comb += self.taken[b][c].eq(grant & queue.i.ready)
                queues.append(queue)
            m.d.comb += [
                turn.requests.eq(Cat(queue.o.valid for queue in queues)),
                turn.granted.eq(1),
                self.o[c].valid.eq(turn.requests.any()),
                self.o[c].payload.eq(
                    one_of(
                        (grant, queue.o.payload)
                        for grant, queue in zip(turn.grant, queues, strict=True)
                    )
                ),
            ]
            for grant, queue in zip(turn.grant, queues, strict=True):
                m.d.comb += queue.o.ready.eq(grant)
        return m
