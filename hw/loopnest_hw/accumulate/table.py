"""The accumulator's block table: lookups, slot allocation and passes."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, PAIR, ChipConfig
from ..queue import Queue
from ..tokens import found, lookup
from .entries import entry_update, entry_write, match_layout, sets_layout
from .hashing import OVERFLOW, chosen, hashed, position, record
from .passes import Passes
from .place import (
    BLOCK,
    TABLES,
    WAYS,
    context_pointer,
    entry_layout,
    place_layout,
    set_bits,
    where_layout,
)

RETIRED = data.StructLayout({"again": 1})
"""A row-0 token is done; ``again``: it has to be replayed."""


def asked_layout(config: ChipConfig) -> data.StructLayout:
    """A lookup in the table's pipeline.

    ``inside``: the block is at or above the pass's lower bound. ``at``: its sets. ``bare``: it is
    a fiber's only one, and has no blocks.
    """
    asked_block = data.StructLayout(
        {"block": BLOCK, "inside": 1, "mask": LANES, "at": sets_layout(config)}
    )
    return data.StructLayout(
        {
            "block": data.ArrayLayout(asked_block, PAIR),
            "end": 1,
            "retire": 1,
            "stale": 1,
            "bare": 1,
            "context": context_pointer(config),
        }
    )


class Table(wiring.Component):
    """Answers lookups in order, one per cycle, 4 cycles later.

    A lookup waits for a context, for ``ends_room``, for slots, and while a block is evicted; and
    for a search where a tag may be displaced, or has to be. Where both its blocks' entries are
    written to the same way, one that is not new is written a cycle later. A lookup without blocks
    that is its fiber's only one takes no context.

    `Passes` has the bounds of the blocks that are kept.

    Members
    -------
    lookup : In(stream), found : Out(stream)
        A lookup's blocks ascend.
    retired : Out(stream(RETIRED))
        For each lookup with ``retire`` (and for the end of a pass that is not the last) that is not
        stale.
    replayable : In(1)
        Each result fiber belongs to one row-0 token.
    error : Out(1)
        A fiber that cannot be replayed has lost blocks; sticky.
    context : Out
        Pointer of the context whose lookup is decided next.
    freed : In
        Pointer of the oldest context in use.
    ended : Out(1), again : Out(1), bare : Out(1), ends_room : In(1)
        A pass's lookups are done; ``again``: it is not the fiber's last one; ``bare``: it has no
        context. With ``ends_room``, lookups can be taken: `Ends`.
    short : Out(1), candidate : Out
        The next lookup needs more slots than are free, block ``candidate`` is the first one
        without, and all slots that could be freed belong to its own context (``settled`` : In(1)
        says that all older contexts are drained). Waits for ``bounded`` : In(1), with ``bound`` :
        In, the lowest evicted block.
    swept : In(1)
        Lookups can begin.
    read, key, match, write, update, mark, mark_set, searching, overflow
        `Entries`.
    slot, some, take, free
        `FreeList`.
    put, room
        `Directory`.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        place = place_layout(config)
        pointer = context_pointer(config)
        place_enable = data.StructLayout({"enable": 1, "place": place})
        read = data.StructLayout({"enable": 1, "at": sets_layout(config)})
        super().__init__(
            {
                "lookup": In(stream.Signature(lookup(config))),
                "found": Out(stream.Signature(found(config))),
                "retired": Out(stream.Signature(RETIRED)),
                "replayable": In(1),
                "error": Out(1),
                "context": Out(pointer),
                "freed": In(pointer),
                "ended": Out(1),
                "again": Out(1),
                "bare": Out(1),
                "ends_room": In(1),
                "short": Out(1),
                "candidate": Out(BLOCK),
                "settled": In(1),
                "bounded": In(1),
                "bound": In(BLOCK),
                "swept": In(1),
                "read": Out(data.ArrayLayout(read, PAIR)),
                "key": Out(data.ArrayLayout(place, PAIR)),
                "match": In(data.ArrayLayout(match_layout(config), PAIR)),
                "write": Out(data.ArrayLayout(entry_write(config), PAIR)),
                "update": Out(entry_update(config)),
                "mark": Out(1),
                "mark_set": Out(set_bits(config)),
                "searching": Out(1),
                "overflow": In(OVERFLOW),
                "slot": In(data.ArrayLayout(config.slot_bits, PAIR)),
                "some": In(PAIR),
                "take": Out(range(PAIR + 1)),
                "free": In(range(config.slots + 1)),
                "put": Out(data.ArrayLayout(place_enable, PAIR)),
                "room": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        asked = asked_layout(self._config)
        m.submodules.passes = self._passes = Passes(self._config)
        self._replay = self._passes.replay
        # A lookup passes three registers. Its sets are read at the end of the first and are
        # available in the second; the third decides its outcome.
        self._advance = Signal()
        self._reading = Signal(asked, reset_less=True)
        self._reading_valid = Signal()
        self._answered = Signal(asked, reset_less=True)
        self._answered_valid = Signal()
        self._deciding = Signal(asked, reset_less=True)
        self._deciding_valid = Signal()

        self._accept(m)
        self._read(m)
        self._match(m)
        self._search(m)
        self._decide(m)
        return m

    def _place(self, context: Value, block: Any) -> Value:
        """Return the place of a block."""
        return Cat(block, context[:-1])

    def _accept(self, m: Module) -> None:
        """Accept lookups."""
        config = self._config
        item = self.lookup.payload
        reading = self._reading
        context = Signal(context_pointer(config))
        # An end is in the pipeline after which the lower bound may change.
        settling = Signal()
        stale = (item.epoch != self._passes.epoch) | self._replay
        in_use = Signal(len(context))
        usable = Signal()
        accept = Signal()
        begun = Signal()  # the fiber has had a lookup
        bare = item.end & ~begun & (item.count == 0)
        m.d.comb += [
            in_use.eq(context - self.freed),
            usable.eq(
                (~in_use[-1] | bare)
                & self.ends_room
                & self.swept
                & ~settling
                & ~self._passes.moving
            ),
            self.lookup.ready.eq((stale | usable) & self._advance),
            accept.eq(self.lookup.valid & self.lookup.ready),
        ]
        with m.If(self._advance):
            m.d.sync += self._reading_valid.eq(accept)
        # `accept` arrives late, and what is loaded in vain does not matter
        with m.If(self._advance & self.lookup.valid):
            m.d.sync += [
                reading.end.eq(item.end),
                reading.retire.eq(item.retire),
                reading.stale.eq(stale),
                reading.bare.eq(bare),
                reading.context.eq(context),
            ]
            for n in range(PAIR):
                inside = (item.count > n) & (item.block[n] >= self._passes.lower.as_value())
                m.d.sync += [
                    reading.block[n].block.eq(item.block[n]),
                    reading.block[n].inside.eq(inside),
                    reading.block[n].mask.eq(item.mask[n]),
                    reading.block[n].at.eq(
                        hashed(self._place(context, item.block[n]), set_bits(config))
                    ),
                ]
        with m.If(accept & ~stale):
            m.d.sync += begun.eq(~item.end)
        with m.If(accept & ~stale & item.end):
            m.d.sync += [context.eq(context + ~bare), settling.eq(self._passes.further)]
        with m.If(self.ended):
            m.d.sync += settling.eq(0)
        with m.If(self._replay):
            # what followed was stale
            m.d.sync += [context.eq(self.context + 1), begun.eq(0)]

    def _read(self, m: Module) -> None:
        """Read the blocks' sets."""
        reading = self._reading
        for n in range(PAIR):
            m.d.comb += [
                self.read[n].enable.eq(self._reading_valid & self._advance),
                self.read[n].at.eq(reading.block[n].at),
                self.key[n].eq(self._place(self._answered.context, self._answered.block[n].block)),
            ]
        with m.If(self._advance):
            m.d.sync += self._answered_valid.eq(self._reading_valid)
        with m.If(self._advance & self._reading_valid):
            m.d.sync += [
                self._answered.eq(reading),
                self._answered.stale.eq(reading.stale | self._replay),
            ]

    def _match(self, m: Module) -> None:
        """Take what the sets have, corrected by the writes that were decided since."""
        config = self._config
        where = where_layout(set_bits(config))
        seen = data.StructLayout(
            {"hit": 1, "where": where, "entry": entry_layout(config), "free": TABLES * WAYS}
        )
        answered = self._answered
        deciding = self._deciding
        # A search reads other sets while the lookup waits: `kept` has what its own have.
        held = Signal()
        kept = Signal(data.ArrayLayout(seen, PAIR), reset_less=True)
        # Writes as they were decided: in this cycle, in the last one, and one before that which is
        # late, or was in the last cycle.
        self._write = Signal.like(self.write)
        self._late = Signal(entry_write(config), reset_less=True)
        self._late_valid = Signal()
        late_written = Signal()
        written = Signal.like(self.write)
        m.d.sync += [
            late_written.eq(self._late_valid),
            held.eq(self._answered_valid & ~self._advance),
        ]
        for before, write in zip(written, self._write, strict=True):
            m.d.sync += before.enable.eq(write.enable)
            with m.If(write.enable):
                m.d.sync += [
                    before[name].eq(write[name])
                    for name in write.shape().members
                    if name != "enable"
                ]

        # Of the lookup that is decided: whether a block has an entry, and which; where it is, or
        # will be; whether a tag may be displaced, or has to be.
        self._hit = Signal(PAIR)
        self._entry = [Signal(entry_layout(config), name=f"old_{n}") for n in range(PAIR)]
        self._where = [Signal(where, name=f"where_{n}") for n in range(PAIR)]
        self._unsure = Signal(PAIR)
        self._keep = Signal(PAIR)
        self._drop = Signal(PAIR)
        bounded = self._passes.upper_valid & (self._passes.upper_context == answered.context)
        now = [Signal(seen, name=f"now_{n}") for n in range(PAIR)]
        for n in range(PAIR):
            block = answered.block[n]
            match = self.match[n]
            past = Signal(seen, name=f"past_{n}")
            read = Signal(seen, name=f"read_{n}")
            m.d.comb += [
                read.hit.eq(match.hit.any()),
                read.entry.eq(match.entry),
                read.free.eq(match.free),
                read.where.eq(position(match.hit, block.at)),
                past.eq(Mux(held, kept[n].as_value(), read.as_value())),
                now[n].eq(past),
            ]
            for writes, relevant in (
                ([self._late], (self._late_valid | late_written) & ~held),
                (written, ~held),
                (self._write, 1),
            ):
                for write in writes:
                    here = write.enable & relevant
                    with m.If(here & (write.place.as_value() == self.key[n].as_value())):
                        m.d.comb += [
                            now[n].hit.eq(1),
                            now[n].where.eq(write.where),
                            now[n].entry.eq(write.entry),
                        ]
                    number = Cat(write.where.way, write.where.table)
                    for table in range(TABLES):
                        same_set = Signal(name=f"same_set_{n}_{table}")
                        m.d.comb += same_set.eq(
                            here & write.insert & (write.where.set == block.at[table])
                        )
                        for way in range(table * WAYS, (table + 1) * WAYS):
                            with m.If(same_set & (number == way)):
                                m.d.comb += now[n].free[way].eq(0)
            with m.If(self._answered_valid):
                m.d.sync += kept[n].eq(now[n])

        # Where a new block goes. The second one does not take the way that the first one would.
        first = chosen(m, now[0].free, answered.block[0].block.bank)
        ways = [now[0].free, Signal(TABLES * WAYS, name="second_free")]
        taken = answered.block[0].inside & ~now[0].hit
        m.d.comb += ways[1].eq(now[1].free & ~Mux(taken, first, 0))
        choice = [first, chosen(m, ways[1], answered.block[1].block.bank)]

        stale = answered.stale | self._replay
        with m.If(self._advance):
            m.d.sync += self._deciding_valid.eq(self._answered_valid)
        with m.If(self._advance & self._answered_valid):
            for n in range(PAIR):
                block = answered.block[n]
                fits = ~(bounded & self._passes.beyond(block.block))
                m.d.sync += [
                    self._hit[n].eq(now[n].hit),
                    self._entry[n].eq(now[n].entry),
                    self._where[n].eq(
                        Mux(now[n].hit, now[n].where.as_value(), position(choice[n], block.at))
                    ),
                    self._unsure[n].eq(
                        ~now[n].hit & (~ways[n].any() | record(self.overflow, block.at[0]))
                    ),
                    self._keep[n].eq(block.inside & fits & ~stale),
                    self._drop[n].eq(block.inside & ~fits & ~stale),
                ]
            m.d.sync += [
                deciding.eq(answered),
                deciding.stale.eq(answered.stale | self._replay),
            ]

    def _search(self, m: Module) -> None:
        """Search behind a block's sets, one set of each table at a time: for its tag, which may be
        displaced, or for a free way.

        Port 0 of the entries is free meanwhile. The sets are all those that the search would go
        through again: those with a bit in ``overflow``, which is set where there was no free way.
        """
        config = self._config
        deciding = self._deciding
        bits = set_bits(config)
        second = Signal()
        other = ~second
        at = Signal(sets_layout(config), reset_less=True)
        steps = Signal(bits)
        spare = Signal(where_layout(bits), reset_less=True)
        spare_valid = Signal()
        spare_further = Signal()
        idle = Signal()
        self._displaced = Signal(PAIR)
        unsure = Signal(PAIR)
        m.d.comb += unsure.eq(self._unsure & self._keep)
        self._resolved = ~(self._deciding_valid & unsure.any())
        m.d.comb += [
            self.searching.eq(~idle | (self._deciding_valid & (unsure | self._displaced).any())),
            self.mark_set.eq(at[0]),
        ]
        with m.If(self._advance):
            m.d.sync += self._displaced.eq(0)

        match = self.match[0]
        block = Mux(second, deciding.block[1].block.as_value(), deciding.block[0].block.as_value())
        # not the way that the other block takes
        others = Signal(where_layout(bits))
        others_valid = Signal()
        m.d.comb += [
            others.eq(Mux(second, self._where[0].as_value(), self._where[1].as_value())),
            others_valid.eq((self._keep & ~self._hit & ~unsure).bit_select(other, 1)),
        ]
        free = Signal(TABLES * WAYS, name="search_free")
        for way in range(TABLES * WAYS):
            taken = (
                others_valid
                & (Cat(others.way, others.table) == way)
                & (others.set == at[way // WAYS])
            )
            m.d.comb += free[way].eq(match.free[way] & ~taken)
        some = free.any()
        first = Cat(free[way] & ~free[:way].any() for way in range(TABLES * WAYS))
        choice = position(first, at)

        def resolve(where: Any, *, hit: bool, displaced: Value) -> None:
            for n in range(PAIR):
                with m.If(second == n):
                    m.d.sync += [
                        self._unsure[n].eq(0),
                        self._hit[n].eq(hit),
                        self._where[n].eq(where),
                        self._displaced[n].eq(displaced),
                    ]
                    if hit:
                        m.d.sync += self._entry[n].eq(match.entry)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += idle.eq(1)
                m.d.sync += [
                    second.eq(~unsure[0]),
                    at.eq(Mux(unsure[0], deciding.block[0].at, deciding.block[1].at)),
                    steps.eq(0),
                    spare_valid.eq(0),
                ]
                with m.If(self._deciding_valid & unsure.any()):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [self.read[0].enable.eq(1), self.read[0].at.eq(at)]
                m.next = "MATCH"
            with m.State("MATCH"):
                m.d.comb += self.key[0].eq(self._place(deciding.context, block))
                more = record(self.overflow, at[0]) & (steps != (1 << bits) - 1)
                none = ~some & ~spare_valid
                with m.If(match.hit.any()):
                    resolve(position(match.hit, at), hit=True, displaced=Value.cast(0))
                    m.next = "IDLE"
                with m.Elif(more | none):
                    m.d.comb += self.mark.eq(none)
                    m.d.sync += [at[t].eq(at[t] + 1) for t in range(TABLES)]
                    m.d.sync += steps.eq(steps + 1)
                    with m.If(some & ~spare_valid):
                        m.d.sync += [
                            spare.eq(choice),
                            spare_valid.eq(1),
                            spare_further.eq(steps != 0),
                        ]
                    m.next = "READ"
                with m.Else():
                    resolve(
                        Mux(spare_valid, spare.as_value(), choice),
                        hit=False,
                        displaced=Mux(spare_valid, spare_further, steps != 0),
                    )
                    m.next = "IDLE"

    def _decide(self, m: Module) -> None:
        """Allocate slots, write the entries, and answer the lookup."""
        config = self._config
        deciding = self._deciding
        m.submodules.answers = answers = Queue(found(config), 2)
        m.submodules.replies = replies = Queue(RETIRED, 2)
        wiring.connect(m, answers.o, wiring.flipped(self.found))
        wiring.connect(m, replies.o, wiring.flipped(self.retired))

        new = Signal(PAIR)
        needed = Signal(range(PAIR + 1))
        enough = Signal()
        rebounding = Signal()
        able = Signal()
        go = Signal()
        # Both entries are written to the same way: one that is not new is written later, when no
        # lookup writes to that way, but at most two cycles later. If both are new, the lookup waits
        # until the first one is written.
        clash = Signal()
        late = Signal(PAIR)
        late_old = Signal()
        late_waits = Signal()
        half = Signal()
        touches = Signal(PAIR)
        meets = Signal(PAIR)  # a write to the way of the late one
        ways = [Cat(where.way, where.table) for where in self._where]
        late_way = Cat(self._late.where.way, self._late.where.table)
        m.d.comb += [
            clash.eq(touches.all() & (ways[0] == ways[1])),
            late[0].eq(clash & new[1] & ~new[0]),
            late[1].eq(clash & ~new[1]),
            meets.eq(Cat(touches[n] & (ways[n] == late_way) for n in range(PAIR))),
            new.eq(self._keep & ~self._hit),
            needed.eq(new[0] + new[1]),
            enough.eq(~new.any() | (self.room & Mux(new.all(), self.some[1], self.some[0]))),
            able.eq(
                self._deciding_valid
                & self._resolved
                & enough
                & ~rebounding
                & ~(self._late_valid & late.any())
                & ~(late_old & meets.any())
                & answers.i.ready
                & replies.i.ready
            ),
            go.eq(able & (~(clash & new.all()) | half)),
            self._advance.eq(~self._deciding_valid | go),
            self.take.eq(Mux(go, needed, 0)),
            self.context.eq(deciding.context),
            late_waits.eq(Cat(self.write[n].enable & meets[n] for n in range(PAIR)).any()),
            self.update.enable.eq(self._late_valid & ~late_waits),
            self.update.where.eq(self._late.where),
            self.update.touched.eq(self._late.entry.touched),
        ]
        with m.If(able):
            m.d.sync += half.eq(clash & new.all() & ~half)
        # a write to the same entry includes what is late
        again = Cat(
            self.write[n].enable & (self._where[n].as_value() == self._late.where.as_value())
            for n in range(PAIR)
        ).any()
        with m.If(go & late.any()):
            m.d.sync += [
                self._late.eq(Mux(late[0], self._write[0].as_value(), self._write[1].as_value())),
                self._late_valid.eq(1),
            ]
        with m.Else():
            m.d.sync += self._late_valid.eq(self._late_valid & late_waits & ~again)
        m.d.sync += late_old.eq(self._late_valid & late_waits)

        answer = answers.i.payload
        for n in range(PAIR):
            block = deciding.block[n]
            old = self._entry[n]
            place = self._place(deciding.context, block.block)
            slot = Signal(config.slot_bits, name=f"slot_{n}")
            given = Mux(new[0], self.slot[1], self.slot[0]) if n else self.slot[0]
            touched = Mux(new[n], 0, old.touched)
            first = Mux(self._keep[n], block.mask & ~touched, 0)
            write = self._write[n]
            m.d.comb += [
                slot.eq(Mux(new[n], given, old.slot)),
                touches[n].eq(first.any()),
                write.enable.eq(touches[n] & (able & ~half if n == 0 else go)),
                write.insert.eq(new[n]),
                write.displaced.eq(self._displaced[n]),
                write.where.eq(self._where[n]),
                write.place.eq(place),
                write.entry.touched.eq(touched | block.mask),
                write.entry.slot.eq(slot),
                self.write[n].eq(write),
                self.write[n].enable.eq(write.enable & ~late[n]),
                self.put[n].enable.eq(go & new[n]),
                self.put[n].place.eq(place),
                answer.keep[n].eq(self._keep[n]),
                answer.slot[n].eq(slot),
                answer.first[n].eq(first),
            ]
        m.d.comb += [
            answers.i.valid.eq(go),
            answer.stale.eq(deciding.stale),
        ]

        self._pass(m, go, replies)
        self._give_way(m, new, needed, rebounding)

    def _pass(self, m: Module, go: Value, replies: Queue) -> None:
        """Decide at a fiber's end whether a further pass follows."""
        deciding = self._deciding
        passes = self._passes
        m.d.comb += [
            passes.go.eq(go),
            passes.drop.eq(self._drop),
            passes.end.eq(deciding.end & ~deciding.stale),
            passes.context.eq(deciding.context),
            passes.replayable.eq(self.replayable),
            passes.bounded.eq(self.bounded),
            passes.bound.eq(self.bound),
            self.error.eq(passes.error),
            self.ended.eq(go & deciding.end & ~deciding.stale),
            self.again.eq(passes.replay),
            self.bare.eq(deciding.bare),
            replies.i.valid.eq(go & ~deciding.stale & (deciding.retire | passes.replay)),
            replies.i.payload.again.eq(passes.replay),
        ]
        for n in range(PAIR):
            m.d.comb += passes.block[n].eq(deciding.block[n].block)

    def _give_way(self, m: Module, new: Value, needed: Value, rebounding: Signal) -> None:
        """Slots have run out, and no other context can free one: lower the upper bound."""
        deciding = self._deciding
        asking = Signal()
        compare = Signal()
        # the first block without a slot, though slots are freed while it waits
        second = Signal()
        block = Mux(second, deciding.block[1].block.as_value(), deciding.block[0].block.as_value())
        m.d.comb += [
            rebounding.eq(asking),
            self.short.eq(asking & ~self.bounded & ~compare),
            self.candidate.eq(block),
        ]
        alone = (self.freed == self.context) & self.settled
        with m.If(self._deciding_valid & self._resolved & ~asking & (self.free < needed) & alone):
            m.d.sync += [asking.eq(1), second.eq(new[1] & ~(new[0] & (self.free == 0)))]
        # one more cycle, to compare the waiting lookup with the new bound
        m.d.sync += compare.eq(self.bounded)
        with m.If(compare):
            m.d.sync += asking.eq(0)
            for n in range(PAIR):
                out = self._keep[n] & self._passes.beyond(deciding.block[n].block)
                m.d.sync += [
                    self._keep[n].eq(self._keep[n] & ~out),
                    self._drop[n].eq(self._drop[n] | out),
                ]
