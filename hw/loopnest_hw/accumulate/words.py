"""The word table: which blocks of a directory word are held."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from ..unary import one_of
from .hashing import OVERFLOW, chosen, hashed, position, record
from .place import (
    BANKS,
    TABLES,
    WAYS,
    place_layout,
    set_bits,
    where_layout,
    word_place_layout,
)


def word_set_bits(config: ChipConfig) -> int:
    """Return the bits of a set's number: there are at least as many tags as slots."""
    return max(1, set_bits(config) - 1)


class Words(wiring.Component):
    """The masks of words' blocks, found by hash (`hashing`): a block is entered, and a word found,
    every cycle.

    Members
    -------
    put : In(stream)
        A block to enter.
    added : Out(1), place : Out
        The block ``place`` is entered in this cycle, and it is its word's first one.
    hold : In(1)
        No word's first block is entered.
    stalled : Out(1)
        A block waits for a search behind its sets.
    busy : Out(1)
        A block is being entered.
    find : In(stream), mask : Out(stream)
        The mask of a word that has blocks, from the next cycle on. With ``remove`` the word is
        gone when its mask is transferred.
    keep, keep_valid : In
        Replaces the mask of the word that was found last; with 0 the word is gone. Only while
        nothing is entered or found.
    sweep : In(1), sweep_set : In
        Clears the set in both tables; without any other access.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        word = word_place_layout(config)
        super().__init__(
            {
                "put": In(stream.Signature(place_layout(config))),
                "added": Out(1),
                "place": Out(place_layout(config)),
                "hold": In(1),
                "stalled": Out(1),
                "busy": Out(1),
                "find": In(stream.Signature(data.StructLayout({"place": word, "remove": 1}))),
                "mask": Out(stream.Signature(BANKS)),
                "keep": In(BANKS),
                "keep_valid": In(1),
                "sweep": In(1),
                "sweep_set": In(word_set_bits(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        bits = word_set_bits(config)
        word = word_place_layout(config)
        sets = data.ArrayLayout(bits, TABLES)
        where = where_layout(bits)
        tag_layout = data.StructLayout({"valid": 1, "place": word})

        # Port 0 enters, port 1 finds. A memory has all ways of a table.
        enable = [Signal(name=f"enable_{port}") for port in range(2)]
        at = [Signal(sets, name=f"at_{port}") for port in range(2)]
        key = [Signal(word, name=f"key_{port}") for port in range(2)]
        rows: list[list[Any]] = [[], []]
        masks: list[Value] = []
        tag_writes, mask_writes = [], []
        for table in range(TABLES):
            tags = memory.Memory(shape=data.ArrayLayout(tag_layout, WAYS), depth=1 << bits, init=[])
            bank = memory.Memory(shape=WAYS * BANKS, depth=1 << bits, init=[])
            m.submodules[f"tags_{table}"] = tags
            m.submodules[f"masks_{table}"] = bank
            for port in range(2):
                read = tags.read_port(transparent_for=())
                m.d.comb += [read.en.eq(enable[port]), read.addr.eq(at[port][table])]
                rows[port] += [read.data[way] for way in range(WAYS)]
            read = bank.read_port(transparent_for=())
            m.d.comb += [read.en.eq(enable[1]), read.addr.eq(at[1][table])]
            masks += [read.data.word_select(way, BANKS) for way in range(WAYS)]
            tag_writes.append(tags.write_port(granularity=1))
            mask_writes.append(bank.write_port(granularity=1))

        hit = [Signal(TABLES * WAYS, name=f"hit_{port}") for port in range(2)]
        for port in range(2):
            for n, tag in enumerate(rows[port]):
                m.d.comb += hit[port][n].eq(
                    tag.valid & (tag.place.as_value() == key[port].as_value())
                )

        entered = Signal(data.StructLayout({"enable": 1, "insert": 1, "where": where, "bank": 5}))
        displaces = Signal()
        removed = Signal(data.StructLayout({"enable": 1, "where": where}))
        replaces = Signal()
        last_found = Signal(where, reset_less=True)
        last_further = Signal(reset_less=True)
        free = Cat(~tag.valid for tag in rows[0])
        overflow = Signal(OVERFLOW)
        displaced = Signal(range(config.slots + 1))
        with m.If((displaced == 0) & ~self.busy):
            m.d.sync += overflow.eq(0)
        self._enter(
            m, enable[0], at[0], key[0], hit[0], free, overflow, entered, displaces, removed
        )

        # finding
        next_ = self.find.payload
        found = Signal(self.find.payload.shape(), reset_less=True)
        valid = Signal()
        again = Signal()
        further = Signal()
        found_sets = Signal(sets, reset_less=True)
        here = Signal()
        done = Signal()
        found_where = Signal(where)
        m.d.comb += [
            done.eq(self.mask.valid & self.mask.ready),
            self.find.ready.eq(~valid | done),
            enable[1].eq((self.find.valid & self.find.ready) | again),
            at[1].eq(Mux(again, found_sets.as_value(), hashed(next_.place.as_value(), bits))),
            key[1].eq(found.place),
            here.eq(valid & ~again & hit[1].any()),
            self.mask.valid.eq(here),
            self.mask.payload.eq(one_of((hit[1][n], mask) for n, mask in enumerate(masks))),
            found_where.eq(position(hit[1], found_sets)),
        ]
        # a tag is removed one cycle after its word was found
        leaves = Signal()
        m.d.comb += leaves.eq(done & found.remove)
        m.d.sync += [removed.enable.eq(leaves), removed.where.eq(found_where)]
        m.d.sync += valid.eq(self.find.valid | ~self.find.ready)
        with m.If(self.find.valid & self.find.ready):
            m.d.sync += [
                found.eq(next_),
                found_sets.eq(hashed(next_.place.as_value(), bits)),
                again.eq(0),
                further.eq(0),
            ]
        with m.Elif(valid & ~again & ~here):
            m.d.sync += [found_sets[t].eq(found_sets[t] + 1) for t in range(TABLES)]
            m.d.sync += [again.eq(1), further.eq(1)]
        with m.Else():
            m.d.sync += again.eq(0)
        with m.If(done):
            m.d.sync += [last_found.eq(found_where), last_further.eq(further)]
        with m.If(self.keep_valid):
            m.d.comb += [replaces.eq(1), leaves.eq(~self.keep.any())]
            m.d.sync += removed.where.eq(last_found)

        # writes
        for table in range(TABLES):
            tag, mask = tag_writes[table], mask_writes[table]
            inserts = entered.enable & entered.insert & (entered.where.table == table)
            removes = removed.enable & (removed.where.table == table)
            fresh = Signal(tag_layout, name=f"fresh_{table}")
            m.d.comb += [
                fresh.valid.eq(inserts),
                fresh.place.eq(key[0]),
                tag.addr.eq(
                    Mux(
                        self.sweep,
                        self.sweep_set,
                        Mux(inserts, entered.where.set, removed.where.set),
                    )
                ),
            ]
            enters = entered.enable & (entered.where.table == table)
            keeps = replaces & (last_found.table == table)
            m.d.comb += mask.addr.eq(Mux(keeps, last_found.set, entered.where.set))
            bit = Signal(BANKS, name=f"bit_{table}")
            m.d.comb += bit.eq(1 << entered.bank)
            for way in range(WAYS):
                into = Mux(inserts, entered.where.way, removed.where.way) == way
                write_tag = self.sweep | ((inserts | removes) & into)
                m.d.comb += [
                    tag.data[way].eq(fresh),
                    tag.en[way].eq(write_tag),
                    mask.data.word_select(way, BANKS).eq(Mux(keeps, self.keep, bit)),
                    mask.en.word_select(way, BANKS).eq(
                        Mux(
                            keeps,
                            (last_found.way == way).replicate(BANKS),
                            Mux(
                                enters & (entered.where.way == way),
                                Mux(entered.insert, ~0, bit),
                                0,
                            ),
                        )
                    ),
                ]

        goes = leaves & Mux(self.keep_valid, last_further, further)
        m.d.sync += displaced.eq(displaced + displaces - goes)
        return m

    def _enter(
        self,
        m: Module,
        enable: Signal,
        at: Any,
        key: Any,
        hit: Signal,
        free: Value,
        overflow: Signal,
        entered: Any,
        displaces: Signal,
        removed: Any,
    ) -> None:
        """Enter blocks.

        A block's sets are read, and written in the next cycle. What the block before it has written
        in the cycle of the read is seen by comparison.
        """
        config = self._config
        bits = word_set_bits(config)
        sets = data.ArrayLayout(bits, TABLES)
        where = where_layout(bits)
        next_ = self.put.payload
        next_key = Cat(next_.word, next_.context)
        item = self.place
        held = Signal(place_layout(config), reset_less=True)
        valid = Signal()
        own = Signal(sets, reset_less=True)
        again = Signal()  # the sets are to be read first
        searching = Signal()
        steps = Signal(bits)
        spare = Signal(where, reset_less=True)  # the first free way that the search has found
        spare_valid = Signal()
        spare_further = Signal()
        done = Signal()
        m.d.comb += [
            item.eq(held),
            key.eq(Cat(held.word, held.context)),
            self.put.ready.eq(~valid | done),
            self.stalled.eq(valid & ~done),
            self.busy.eq(valid),
            enable.eq((self.put.valid & self.put.ready) | again),
            at.eq(Mux(again, own.as_value(), hashed(next_key, bits))),
        ]
        with m.If(self.put.valid & self.put.ready):
            m.d.sync += [held.eq(next_), own.eq(hashed(next_key, bits))]
        m.d.sync += valid.eq(self.put.valid | ~self.put.ready)

        # the write in the cycle of the read
        before = Signal.like(entered)
        before_key = Signal.like(key)
        blocked = Signal()
        with m.If(~blocked):
            m.d.sync += [before.eq(entered), before_key.eq(key)]
        same = Signal()
        ways = Signal(TABLES * WAYS)
        m.d.comb += same.eq(before.enable & (before_key.as_value() == key.as_value()))
        for n in range(TABLES * WAYS):
            taken = (
                before.enable
                & before.insert
                & (Cat(before.where.way, before.where.table) == n)
                & (before.where.set == own[n // WAYS])
            )
            m.d.comb += ways[n].eq(free[n] & ~taken)

        choice = Signal(where)
        target = Signal(where)
        chain = record(overflow, own[0])
        some = ways.any()
        last = steps == (1 << bits) - 1
        m.d.comb += [
            choice.eq(position(chosen(m, ways, held.word), own)),
            entered.bank.eq(held.bank),
            target.eq(Mux(spare_valid, spare.as_value(), choice.as_value())),
            entered.where.eq(target),
        ]
        with m.If(valid & ~again):
            with m.If(same | hit.any()):
                m.d.comb += [
                    done.eq(1),
                    entered.enable.eq(1),
                    entered.where.eq(Mux(same, before.where.as_value(), position(hit, own))),
                ]
            with m.Elif(chain & ~last | (~some & ~spare_valid)):
                # on to the next sets
                m.d.sync += [own[t].eq(own[t] + 1) for t in range(TABLES)]
                m.d.sync += [again.eq(1), searching.eq(1), steps.eq(steps + 1)]
                with m.If(~some & ~spare_valid):
                    m.d.sync += chain.eq(1)
                with m.If(some & ~spare_valid):
                    m.d.sync += [spare.eq(choice), spare_valid.eq(1), spare_further.eq(searching)]
            with m.Elif(self.hold | (removed.enable & (removed.where.table == target.table))):
                m.d.comb += blocked.eq(1)
            with m.Else():
                m.d.comb += [
                    done.eq(1),
                    entered.enable.eq(1),
                    entered.insert.eq(1),
                    self.added.eq(1),
                    displaces.eq(Mux(spare_valid, spare_further, searching)),
                ]
        with m.If(again):
            m.d.sync += again.eq(0)
        with m.If(done):
            m.d.sync += [searching.eq(0), steps.eq(0), spare_valid.eq(0)]
