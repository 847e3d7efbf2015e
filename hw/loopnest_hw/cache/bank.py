"""A bank of the cache: tags, lines, and reads in flight."""

from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BYTES
from ..formal import FORMAL
from ..queue import Queue
from ..unary import lowest, number, one_of
from .epoch import tag_clear
from .geometry import CacheConfig, answer, group, lookup, miss, place, set_of, tag_of
from .waiters import Waiters, arrival

MISS_STAGES = 2
"""Misses that wait for the memory port: the fewest for one per cycle."""


def tag_row(config: CacheConfig) -> data.StructLayout:
    """The tags of a set; it is empty if ``epoch`` is not the bank's.

    A way that is ``valid`` has the line of its ``tag``. It is ``pending`` as long as it has
    waiters: their list ends with ``tail``. It is ``used`` if its line was found here. ``oldest`` is
    the way behind the one that was replaced last.
    """
    way = data.StructLayout(
        {"valid": 1, "pending": 1, "used": 1, "tail": config.waiter_bits, "tag": config.tag_bits}
    )
    return data.StructLayout(
        {
            "epoch": config.epoch_bits,
            "oldest": config.way_bits,
            "way": data.ArrayLayout(way, config.ways),
        }
    )


def next_from(bits: Value, first: Value) -> Value:
    """Return the first bit that is set, alone, counted cyclically from number ``first`` on."""
    ahead = bits & (Const((1 << len(bits)) - 1, len(bits)) << first)[: len(bits)]
    return Mux(ahead.any(), lowest(ahead), lowest(bits))


class Bank(wiring.Component):
    """Looks up one group of requests per cycle; a miss does not block those behind it.

    A group whose line is here is answered in the second cycle after its transfer, or later. A group
    that misses takes a way and waits; groups for a line that is on its way join those that wait for
    it. Each takes one of ``waiters``. When the line arrives, each waiter passes through the bank
    again, and is answered. They use the line where it is stored, so its way is not replaced before.

    Of the other ways, a miss replaces one that was not found here since it came, if there is one,
    the next in turn. Golden function: `loopnest_sim.model.replace.hits`.

    A group without clients brings its line here, like any other, and gets no answer.

    A group that finds no free waiter, or only ways with waiters, stays and blocks the groups behind
    it until waiters have been answered, which it does not block.

    No line is in two ways of its set. An error is passed to the waiters, and is not kept.

    Members
    -------
    i : stream of `geometry.lookup`, in
        Not ready while the sets are swept.
    clear : In(`epoch.tag_clear`)
    misses : stream of `geometry.miss`, out
    fill : stream of `waiters.arrival`, in
        The line, or an error, for the list that starts with this waiter. ``ready`` is assumed.
    fill_data : In
        The line, one cycle later.
    o : Out(`geometry.answer`), waits : Out(clients)
        An answer, and the clients that have not taken it yet.
    taken : In(clients)
        Clients that take the answer in this cycle; only those in ``waits`` count.
    hit, missed, joined : Out(1)
        A group was found, missed or joined others in this cycle.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(lookup(config))),
                "clear": In(tag_clear(config)),
                "misses": Out(stream.Signature(miss(config))),
                "fill": In(stream.Signature(arrival(config))),
                "fill_data": In(8 * LINE_BYTES),
                "o": Out(answer(config)),
                "waits": Out(config.clients),
                "taken": In(config.clients),
                "hit": Out(1),
                "missed": Out(1),
                "joined": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.waiters = waiters = Waiters(config)
        m.submodules.misses = misses = Queue(miss(config), MISS_STAGES)
        m.submodules.tags = tags = memory.Memory(shape=tag_row(config), depth=config.sets, init=[])
        m.submodules.lines = lines = memory.Memory(
            shape=8 * LINE_BYTES, depth=config.sets * config.ways, init=[]
        )
        m.submodules.places = places = memory.Memory(
            shape=place(config), depth=config.waiters, init=[]
        )
        tag_read, tag_write = tags.read_port(transparent_for=()), tags.write_port()
        line_read, line_write = lines.read_port(transparent_for=()), lines.write_port()
        place_read, place_write = places.read_port(transparent_for=()), places.write_port()
        wiring.connect(m, misses.o, wiring.flipped(self.misses))

        # Two operations may wait for the tags of their set: a replay, which goes first, and a
        # lookup. Each reads them again in every cycle until it is done.
        replay = waiters.o.payload
        replay_done = Signal()
        replay_stays = Signal()
        of_replay = Signal()  # the tags were read for the replay
        looking = Signal()
        upper = Signal(config.upper_bits, reset_less=True)
        requests = Signal(group(config), reset_less=True)
        look_done = Signal()
        look_stays = Signal()
        of_look = Signal()
        accepts = Signal()
        comes = Signal()
        m.d.comb += [
            replay_stays.eq(waiters.o.valid & ~replay_done),
            look_stays.eq(looking & ~look_done),
            accepts.eq(~replay_stays & ~look_stays & ~self.clear.sweeping),
            comes.eq(accepts & self.i.valid),
            self.i.ready.eq(accepts),
        ]
        with m.If(look_done | ~looking):
            m.d.sync += looking.eq(comes)
        with m.If(comes):
            m.d.sync += [upper.eq(self.i.payload.upper), requests.eq(self.i.payload.group)]

        # the tags as the last cycle left them
        at = Signal(config.set_bits)
        row = Signal(tag_row(config))
        new = Signal(tag_row(config))
        rewritten = Signal()
        rewrite = Signal(tag_row(config), reset_less=True)
        m.d.comb += [
            tag_read.en.eq(1),
            tag_read.addr.eq(
                Mux(
                    replay_stays,
                    replay.waiter.place.set,
                    set_of(config, Mux(look_stays, upper, self.i.payload.upper)),
                )
            ),
            row.eq(Mux(rewritten, rewrite, tag_read.data)),
        ]
        m.d.sync += [
            at.eq(tag_read.addr),
            of_replay.eq(replay_stays),
            of_look.eq(~replay_stays & (look_stays | comes)),
            rewritten.eq(tag_write.en & (tag_write.addr == tag_read.addr)),
            rewrite.eq(tag_write.data),
        ]

        # the outcome
        current = Signal()
        matches = Signal(config.ways)
        pending = Signal(config.ways)
        used = Signal(config.ways)
        replaced = Signal(config.ways)
        unused = Signal()  # some way that may be replaced was not found
        hit = Signal()
        joins = Signal()
        misses_it = Signal()
        room = Signal()  # for an answer
        m.d.comb += [
            current.eq(row.epoch == self.clear.epoch),
            matches.eq(Cat(current & w.valid & (w.tag == tag_of(config, upper)) for w in row.way)),
            pending.eq(Cat(current & w.pending for w in row.way)),
            used.eq(Cat(current & w.used for w in row.way)),
            unused.eq((~pending & ~used).any()),
            # chosen late: the tags are
            replaced.eq(
                Mux(
                    unused, next_from(~pending & ~used, row.oldest), next_from(~pending, row.oldest)
                )
            ),
            hit.eq((matches & ~pending).any()),
            joins.eq((matches & pending).any()),
            misses_it.eq(~matches.any()),
            replay_done.eq(of_replay & room),
            look_done.eq(
                of_look
                & (
                    (hit & room)
                    | (joins & waiters.some)
                    | (misses_it & waiters.some & ~pending.all() & misses.i.ready)
                )
            ),
            self.hit.eq(look_done & hit),
            self.joined.eq(look_done & joins),
            self.missed.eq(look_done & misses_it),
        ]

        # waiters
        replayed = Signal(config.ways)
        m.d.comb += [
            replayed.eq(Const(1, config.ways) << replay.waiter.place.way),
            waiters.o.ready.eq(replay_done),
            waiters.last.eq(
                one_of(zip(replayed, (w.tail for w in row.way), strict=True)) == replay.number
            ),
            waiters.take.eq(self.joined | self.missed),
            waiters.join.eq(self.joined),
            waiters.behind.eq(one_of(zip(matches, (w.tail for w in row.way), strict=True))),
            waiters.content.group.eq(requests),
            waiters.content.place.set.eq(at),
            waiters.content.place.way.eq(number(Mux(joins, matches, replaced), config.way_bits)),
            misses.i.valid.eq(self.missed),
            misses.i.payload.upper.eq(upper),
            misses.i.payload.waiter.eq(waiters.free),
        ]

        # the new tags
        found = Signal()  # for the first time
        m.d.comb += [
            found.eq(self.hit & (matches & ~used).any()),
            new.epoch.eq(self.clear.epoch),
            new.oldest.eq(Mux(self.missed, number(replaced, config.way_bits) + 1, row.oldest)),
            tag_write.en.eq(
                self.clear.sweeping | waiters.take | (replay_done & waiters.last) | found
            ),
            tag_write.addr.eq(Mux(self.clear.sweeping, self.clear.set, at)),
            tag_write.data.eq(Mux(self.clear.sweeping, 0, new)),
        ]
        for n, (old, way) in enumerate(zip(row.way, new.way, strict=True)):
            m.d.comb += [
                way.eq(old),
                way.valid.eq(current & old.valid),
                way.pending.eq(pending[n]),
                # where all are used, this begins anew
                way.used.eq(Mux(self.missed, used[n] & unused, used[n] | self.hit & matches[n])),
            ]
            with m.If(of_replay & replayed[n]):
                m.d.comb += way.pending.eq(0)
                with m.If(replay.error):
                    m.d.comb += way.valid.eq(0)
            with m.If(self.joined & matches[n]):
                m.d.comb += way.tail.eq(waiters.free)
            with m.If(self.missed & replaced[n]):
                m.d.comb += [
                    way.valid.eq(1),
                    way.pending.eq(1),
                    way.used.eq(0),
                    way.tail.eq(waiters.free),
                    way.tag.eq(tag_of(config, upper)),
                ]

        # lines from memory
        came = Signal()
        m.d.sync += came.eq(self.fill.valid)
        m.d.comb += [
            self.fill.ready.eq(1),
            place_write.en.eq(self.missed),
            place_write.addr.eq(waiters.free),
            place_write.data.eq(waiters.content.place),
            place_read.en.eq(self.fill.valid),
            place_read.addr.eq(self.fill.payload.number),
            line_write.en.eq(came),
            line_write.addr.eq(Cat(place_read.data)),
            line_write.data.eq(self.fill_data),
            waiters.arrive.valid.eq(self.fill.valid),
            waiters.arrive.payload.eq(self.fill.payload),
        ]

        # the answer, whose line is at the memory's output
        answers = Signal()
        left = Signal(config.clients)
        slots = Signal(data.ArrayLayout(config.slot_bits, config.clients), reset_less=True)
        error = Signal(reset_less=True)
        answered = Signal(group(config))
        way = Mux(of_replay, replay.waiter.place.way, number(matches, config.way_bits))
        m.d.comb += [
            left.eq(self.waits & ~self.taken),
            room.eq(left == 0),
            answers.eq(self.hit | replay_done),
            answered.eq(Mux(of_replay, replay.waiter.group, requests)),
            line_read.en.eq(answers),
            line_read.addr.eq(Cat(way, at)),
            self.o.data.eq(line_read.data),
            self.o.error.eq(error),
            self.o.slot.eq(slots),
        ]
        m.d.sync += self.waits.eq(Mux(answers, answered.mask, left))
        with m.If(answers):
            m.d.sync += [slots.eq(answered.slot), error.eq(of_replay & replay.error)]

        if platform == FORMAL:
            # No line is in two ways, and no way with waiters is replaced: for one line.
            line = Signal(config.upper_bits, init=1)
            here = at == set_of(config, line)
            m.d.comb += [
                Assert(~self.missed | ((replaced & pending) == 0)),
                Assert(~self.missed | ((replaced & used) == 0) | (pending | used).all()),
            ]
            # the tags of its set, as they are in the memory
            copy = Signal(tag_row(config))
            copy_read = Signal(tag_row(config))
            with m.If(tag_write.en & (tag_write.addr == set_of(config, line))):
                m.d.sync += copy.eq(tag_write.data)
            with m.If(tag_read.addr == set_of(config, line)):
                m.d.sync += copy_read.eq(copy)
            has = [w.valid & (w.tag == tag_of(config, line)) for w in copy.way]
            m.d.comb += [
                Assume(~here | (tag_read.data == copy_read)),
                # a sweep begins in a reset
                Assume(~self.clear.sweeping | ~(looking | waiters.o.valid)),
                Assert(~here | (row == copy)),
                Assert(~of_look | (looking & ~of_replay & (at == set_of(config, upper)))),
                Assert((Cat(has) & (Cat(has) - 1)[: config.ways]) == 0),
            ]
        return m
