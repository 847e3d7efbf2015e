"""The block table: which lanes of a block are touched, and which slot it has."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, PAIR, ChipConfig
from ..queue import Queue
from ..unary import lowest, one_of
from .hashing import OVERFLOW, hashed, position, record
from .place import BANK_BITS, TABLES, WAYS, entry_layout, place_layout, set_bits, where_layout

CLEARS = 4
"""Walks whose tags can wait to be cleared."""


def walk_layout(config: ChipConfig) -> data.StructLayout:
    """A place to read and clear, and with ``pair`` also bank ``second`` of the same word; or none.

    ``closes`` marks the last one of a context, ``evicts`` those of an eviction (the others are the
    drain's).
    """
    place = place_layout(config)
    return data.StructLayout(
        {"place": place, "second": BANK_BITS, "pair": 1, "none": 1, "closes": 1, "evicts": 1}
    )


def sets_layout(config: ChipConfig) -> data.ArrayLayout:
    """The numbers of a block's sets in both tables."""
    return data.ArrayLayout(set_bits(config), TABLES)


def match_layout(config: ChipConfig) -> data.StructLayout:
    """What a pair of sets has: the way with the tag, if any, and its entry; the free ways."""
    return data.StructLayout(
        {"hit": TABLES * WAYS, "free": TABLES * WAYS, "entry": entry_layout(config)}
    )


def entry_write(config: ChipConfig) -> data.StructLayout:
    """An entry to write; with ``insert`` it is a new block's, and ``displaced`` if it is in neither
    of the block's sets.
    """
    return data.StructLayout(
        {
            "enable": 1,
            "insert": 1,
            "displaced": 1,
            "where": where_layout(set_bits(config)),
            "place": place_layout(config),
            "entry": entry_layout(config),
        }
    )


def entry_update(config: ChipConfig) -> data.StructLayout:
    """Touched lanes to write of a tag that is there."""
    where = where_layout(set_bits(config))
    return data.StructLayout({"enable": 1, "where": where, "touched": LANES})


class Entries(wiring.Component):
    """An entry for each place (block of a context), found by hash (`hashing`).

    The lookups read two places a cycle, and so does the walk (drain or eviction), which clears what
    it has read; neither waits for the other. A walk of a displaced tag takes two cycles for each
    set that it searches.

    Members
    -------
    read : In, array of 2
        ``enable``, ``at``: the sets to read.
    key : In, match : Out, array of 2
        In the cycles after a read: the place to look for in the sets that were read last, and what
        is there. A write is seen by reads from the next cycle on.
    write : In, array of 2, update : In
        Always done; not two to the same way and table.
    walk : In(stream)
        Places to read and clear, through a registered queue of two.
    room : In(1)
        The walk's entries can be taken. From a register.
    walked : Out(1), evicts : Out(1), walk_entry : Out, array of 2
        The entries of the next places, and whether they are the eviction's.
    closed : Out(1)
        A walk with ``closes`` and all walks before it have been cleared.
    mark : In(1), mark_set : In, searching : In(1), overflow : Out
        ``overflow`` has a bit for each set of table 0, modulo `OVERFLOW`. ``mark`` sets one. It is
        cleared when no displaced tag is left, but not while ``searching``.
    sweep : In(1), sweep_set : In
        Clears the set in both tables; without any other access.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        place = place_layout(config)
        entry = entry_layout(config)
        bits = set_bits(config)
        read = data.StructLayout({"enable": 1, "at": sets_layout(config)})
        super().__init__(
            {
                "read": In(data.ArrayLayout(read, PAIR)),
                "key": In(data.ArrayLayout(place, PAIR)),
                "match": Out(data.ArrayLayout(match_layout(config), PAIR)),
                "write": In(data.ArrayLayout(entry_write(config), PAIR)),
                "update": In(entry_update(config)),
                "walk": In(stream.Signature(walk_layout(config))),
                "room": In(1),
                "walked": Out(1),
                "evicts": Out(1),
                "walk_entry": Out(data.ArrayLayout(entry, PAIR)),
                "closed": Out(1),
                "mark": In(1),
                "mark_set": In(bits),
                "searching": In(1),
                "overflow": Out(OVERFLOW),
                "sweep": In(1),
                "sweep_set": In(bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        place = place_layout(config)
        bits = set_bits(config)
        tag_layout = data.StructLayout({"valid": 1, "place": place, "slot": config.slot_bits})

        # Ports 0 and 1 are the lookups', 2 and 3 the walk's.
        enable = [Signal(name=f"enable_{port}") for port in range(2 * PAIR)]
        at = [Signal(sets_layout(config), name=f"at_{port}") for port in range(2 * PAIR)]
        key = [Signal(place, name=f"key_{port}") for port in range(2 * PAIR)]
        for n in range(PAIR):
            m.d.comb += [
                enable[n].eq(self.read[n].enable),
                at[n].eq(self.read[n].at),
                key[n].eq(self.key[n]),
            ]

        # Of each way of each table: the tags are written by insertions and clears, the touched
        # lanes by all writes.
        clear = [Signal(name=f"clear_{n}") for n in range(TABLES * WAYS)]
        clear_set = [Signal(bits, name=f"clear_set_{n}") for n in range(TABLES * WAYS)]
        inserted = Signal(TABLES * WAYS)
        rows: list[list[tuple[Any, Value]]] = [[] for _ in range(2 * PAIR)]
        for n in range(TABLES * WAYS):
            tags = memory.Memory(shape=tag_layout, depth=1 << bits, init=[])
            touched = memory.Memory(shape=LANES, depth=1 << bits, init=[])
            m.submodules[f"tags_{n}"] = tags
            m.submodules[f"touched_{n}"] = touched
            for port in range(2 * PAIR):
                found = []
                for of in (tags, touched):
                    read = of.read_port(transparent_for=())
                    m.d.comb += [read.en.eq(enable[port]), read.addr.eq(at[port][n // WAYS])]
                    found.append(read.data)
                rows[port].append((found[0], found[1]))
            tag = tags.write_port()
            lanes = touched.write_port()
            here = [put.enable & (Cat(put.where.way, put.where.table) == n) for put in self.write]
            at_update = Cat(self.update.where.way, self.update.where.table)
            updates = self.update.enable & (at_update == n)
            chosen = Mux(here[1], self.write[1].as_value(), self.write[0].as_value())
            put = data.View(entry_write(config), chosen)
            m.d.comb += [
                inserted[n].eq((here[0] & self.write[0].insert) | (here[1] & self.write[1].insert)),
                lanes.en.eq(here[0] | here[1] | updates),
                lanes.addr.eq(Mux(updates, self.update.where.set, put.where.set)),
                lanes.data.eq(Mux(updates, self.update.touched, put.entry.touched)),
                tag.en.eq(inserted[n] | clear[n] | self.sweep),
                tag.addr.eq(
                    Mux(inserted[n], put.where.set, Mux(self.sweep, self.sweep_set, clear_set[n]))
                ),
                tag.data.valid.eq(inserted[n]),
                tag.data.place.eq(put.place),
                tag.data.slot.eq(put.entry.slot),
            ]

        matches = []
        for port in range(2 * PAIR):
            match = Signal(match_layout(config), name=f"match_{port}")
            for n, (tag, _) in enumerate(rows[port]):
                m.d.comb += [
                    match.hit[n].eq(tag.valid & (tag.place.as_value() == key[port].as_value())),
                    match.free[n].eq(~tag.valid),
                ]
            m.d.comb += match.entry.eq(
                one_of(
                    (match.hit[n], Cat(touched, tag.slot))
                    for n, (tag, touched) in enumerate(rows[port])
                )
            )
            matches.append(match)
        for n in range(PAIR):
            m.d.comb += self.match[n].eq(matches[n])

        # what the walk has read: the tags to clear
        where = data.ArrayLayout(where_layout(bits), PAIR)
        walked = Signal(data.StructLayout({"where": where, "closes": 1}))
        needed = Signal(PAIR)
        more = self._clear(m, walked, needed, inserted, clear, clear_set)
        moved = self._walk(
            m, walked, needed, more, enable[PAIR:], at[PAIR:], key[PAIR:], matches[PAIR:]
        )

        # displaced tags
        displaced = Signal(range(config.slots + 1))
        come = [put.enable & put.insert & put.displaced for put in self.write]
        m.d.sync += displaced.eq(displaced + come[0] + come[1] - moved[0] - moved[1])
        with m.If((displaced == 0) & ~self.searching):
            m.d.sync += self.overflow.eq(0)
        with m.If(self.mark):
            m.d.sync += record(self.overflow, self.mark_set).eq(1)
        return m

    def _walk(
        self,
        m: Module,
        walked: Any,
        needed: Signal,
        more: Value,
        enable: list[Signal],
        at: list[Any],
        key: list[Any],
        match: list[Any],
    ) -> list[Value]:
        """Read the walk's places, and clear them as soon as ``more`` can be; return which displaced
        tags leave.
        """
        config = self._config
        bits = set_bits(config)
        m.submodules.walks = walks = Queue(walk_layout(config), 2)
        wiring.connect(m, wiring.flipped(self.walk), walks.i)

        next_ = walks.o.payload
        walk = Signal(walk_layout(config), reset_less=True)
        valid = Signal()
        sets = Signal(data.ArrayLayout(sets_layout(config), PAIR), reset_less=True)
        again = Signal(PAIR)  # the sets are to be read first
        further = Signal(PAIR)  # they are not the place's own
        here = Signal(PAIR)
        issue = Signal()

        def places(item: Any) -> tuple[Value, Value]:
            """Return the places of both blocks."""
            second = Cat(item.second, item.place.word, item.place.context)
            return item.place.as_value(), second

        m.d.comb += [
            needed.eq(Cat(~walk.none, walk.pair)),
            self.walked.eq(valid & (here | ~needed).all() & self.room & more),
            self.evicts.eq(walk.evicts),
            issue.eq(walks.o.valid & (~valid | self.walked)),
            walks.o.ready.eq(issue),
            walked.closes.eq(walk.closes),
        ]
        with m.If(issue):
            m.d.sync += [walk.eq(next_), again.eq(0), further.eq(0)]
        m.d.sync += valid.eq(issue | (valid & ~self.walked))
        for n in range(PAIR):
            own = Signal(sets_layout(config), name=f"own_{n}")
            miss = Signal(name=f"miss_{n}")
            m.d.comb += [
                own.eq(hashed(places(next_)[n], bits)),
                key[n].eq(places(walk)[n]),
                here[n].eq(match[n].hit.any() & ~again[n]),
                enable[n].eq(issue | again[n]),
                at[n].eq(Mux(again[n], sets[n].as_value(), own.as_value())),
                miss.eq(valid & needed[n] & ~again[n] & ~here[n]),
                self.walk_entry[n].eq(match[n].entry),
            ]
            with m.If(issue):
                m.d.sync += sets[n].eq(own)
            with m.Else():
                with m.If(miss):
                    m.d.sync += [sets[n][t].eq(sets[n][t] + 1) for t in range(TABLES)]
                    m.d.sync += [again[n].eq(1), further[n].eq(1)]
                with m.If(again[n]):
                    m.d.sync += again[n].eq(0)
            m.d.comb += walked.where[n].eq(position(match[n].hit, sets[n]))
        return [self.walked & needed[n] & further[n] for n in range(PAIR)]

    def _clear(
        self,
        m: Module,
        walked: Any,
        enable: Signal,
        inserted: Signal,
        clear: list[Signal],
        clear_set: list[Signal],
    ) -> Value:
        """Clear the tags that were walked; return whether more can be taken. Insertions have
        priority.

        Of each way the oldest clear is next, so one that waits for its way holds up no others; but
        walks are done in order.
        """
        items = [Signal.like(walked, name=f"item_{k}", reset_less=True) for k in range(CLEARS)]
        level = Signal(CLEARS)  # unary
        pending = [Signal(PAIR, name=f"pending_{k}") for k in range(CLEARS)]
        left = [Signal(PAIR, name=f"left_{k}") for k in range(CLEARS)]
        done = Signal()
        m.d.comb += [
            done.eq(level[0] & ~left[0].any()),
            self.closed.eq(done & items[0].closes),
        ]

        waiting = [(pending[k][n], items[k].where[n]) for k in range(CLEARS) for n in range(PAIR)]
        cleared: list[Value] = [Value.cast(0)] * len(waiting)
        for way in range(TABLES * WAYS):
            of_way = [flag & (Cat(w.way, w.table) == way) for flag, w in waiting]
            first = Signal(len(waiting), name=f"first_{way}")
            m.d.comb += [
                first.eq(lowest(Cat(of_way))),
                clear[way].eq(Cat(of_way).any() & ~inserted[way]),
                clear_set[way].eq(
                    one_of((f, w.set) for f, (_, w) in zip(first, waiting, strict=True))
                ),
            ]
            goes = first & (~inserted[way]).replicate(len(waiting))
            cleared = [was | now for was, now in zip(cleared, goes, strict=True)]
        for k in range(CLEARS):
            m.d.comb += left[k].eq(pending[k] & ~Cat(cleared[PAIR * k : PAIR * (k + 1)]))

        # The oldest walk leaves when it is done, and the others move up.
        stay = Signal(CLEARS)
        m.d.comb += stay.eq(Mux(done, level >> 1, level))
        m.d.sync += level.eq(Mux(self.walked, Cat(Const(1, 1), stay), stay))
        for k in range(CLEARS):
            behind = k + 1 if k + 1 < CLEARS else k
            with m.If(stay[k]):
                with m.If(done):
                    m.d.sync += [items[k].eq(items[behind]), pending[k].eq(left[behind])]
                with m.Else():
                    m.d.sync += pending[k].eq(left[k])
            with m.Else():
                arrives = self.walked & (stay[k - 1] if k else 1)
                m.d.sync += pending[k].eq(Mux(arrives, enable, 0))
                with m.If(arrives):
                    m.d.sync += items[k].eq(walked)
        return ~level[CLEARS - 1]
