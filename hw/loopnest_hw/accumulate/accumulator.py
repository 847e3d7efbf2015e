"""The accumulator."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..config import ChipConfig
from ..descriptor import Reduction
from ..tokens import RESULT_BLOCK, StageState, found, lookup, terms
from .directory import Directory
from .drain import Drain
from .ends import Ends
from .entries import Entries
from .eviction import Eviction
from .fill import Fill
from .free_list import FreeList
from .lane_banks import LaneBanks
from .place import context_pointer, set_bits
from .table import RETIRED, Table


class Accumulator(wiring.Component):
    """Sums terms into blocks of result fibers, and outputs the blocks of finished fibers in order.

    A fiber's blocks are in a context from its first lookup until they are drained. The lookups run
    ahead; the terms of the contexts follow in order, and then the drain. The drain never waits for
    the fill, so a lookup that waits for a slot or a context eventually gets one.

    Members
    -------
    lookup : In(stream), found : Out(stream)
        See `Table`: one per cycle, answered in order 4 cycles later.
    terms : In(stream)
        See `Fill`: one step per cycle. For each ``end`` of a lookup that was not stale, a step with
        ``end`` follows.
    reduction : In(Reduction)
        See `Fill`.
    pairs : In(1)
        See `Drain`. Constant.
    o : Out(stream(RESULT_BLOCK))
        See `Drain`: up to one item per cycle.
    retired : Out(stream(RETIRED))
        A lookup with ``retire`` is done; ``again``: its token has to be replayed, and lookups of
        the old epoch are stale from now on.
    replayable : In(1)
        Each result fiber belongs to exactly one row-0 token. Constant.
    error : Out(1)
        Slots ran out in a fiber that cannot be replayed; sticky.
    overflow : Out(1)
        A sum does not fit int32; sticky.
    evicted : Out(1)
        A pulse for each evicted slot.
    sweep : In(1), sweep_set : In
        Clears the set of all tables; no lookup is accepted meanwhile, and none may be in progress.
        The tables are empty whenever all results have left.
    fill_state, drain_state : Out(StageState)
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "lookup": In(stream.Signature(lookup(config))),
                "found": Out(stream.Signature(found(config))),
                "terms": In(stream.Signature(terms(config))),
                "reduction": In(Reduction),
                "pairs": In(1),
                "o": Out(stream.Signature(RESULT_BLOCK)),
                "retired": Out(stream.Signature(RETIRED)),
                "replayable": In(1),
                "error": Out(1),
                "overflow": Out(1),
                "evicted": Out(1),
                "sweep": In(1),
                "sweep_set": In(set_bits(config)),
                "fill_state": Out(StageState),
                "drain_state": Out(StageState),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.table = table = Table(config)
        m.submodules.entries = entries = Entries(config)
        m.submodules.free_list = free_list = FreeList(config)
        m.submodules.directory = directory = Directory(config)
        m.submodules.eviction = eviction = Eviction(config)
        m.submodules.fill = fill = Fill(config)
        m.submodules.banks = banks = LaneBanks(config)
        m.submodules.drain = drain = Drain(config)
        m.submodules.ends = ends = Ends(config)

        for port, outer in (
            (table.lookup, self.lookup),
            (fill.terms, self.terms),
        ):
            wiring.connect(m, wiring.flipped(outer), port)
        for port, outer in (
            (table.found, self.found),
            (table.retired, self.retired),
            (drain.o, self.o),
        ):
            wiring.connect(m, port, wiring.flipped(outer))

        self._contexts(m, table, entries, directory, fill, drain, ends)

        # the table and its memories
        m.d.comb += [
            fill.reduction.eq(self.reduction),
            drain.pairs.eq(self.pairs),
            table.replayable.eq(self.replayable),
            entries.read.eq(table.read),
            entries.key.eq(table.key),
            entries.write.eq(table.write),
            entries.update.eq(table.update),
            entries.mark.eq(table.mark),
            entries.mark_set.eq(table.mark_set),
            entries.searching.eq(table.searching),
            table.match.eq(entries.match),
            table.overflow.eq(entries.overflow),
            table.swept.eq(~self.sweep),
            table.slot.eq(free_list.slot),
            table.some.eq(free_list.some),
            table.free.eq(free_list.free),
            free_list.take.eq(table.take),
            directory.put.eq(table.put),
            table.room.eq(directory.room),
        ]

        m.d.comb += [
            entries.sweep.eq(self.sweep),
            entries.sweep_set.eq(self.sweep_set),
            directory.sweep.eq(self.sweep),
            directory.sweep_set.eq(self.sweep_set),
        ]

        # The drain and the eviction share the walk: an eviction starts when the drain is idle, and
        # then has priority over it.
        m.d.comb += [
            table.settled.eq(
                drain.idle & directory.idle & ~eviction.busy & ~free_list.back_valid.any()
            ),
            eviction.ask.eq(table.short),
            eviction.candidate.eq(table.candidate),
            eviction.context.eq(table.context),
            table.bounded.eq(eviction.done),
            table.bound.eq(eviction.bound),
            directory.of.eq(table.context),
            directory.look.eq(eviction.look),
            directory.next.eq(eviction.next),
            directory.keep.eq(eviction.keep),
            directory.keep_valid.eq(eviction.keep_valid),
            eviction.looked.eq(directory.looked),
            eviction.none.eq(directory.none),
            eviction.top.eq(directory.top),
            eviction.mask.eq(directory.mask),
            entries.walk.valid.eq(drain.walk.valid | eviction.walk.valid),
            entries.walk.payload.eq(
                Mux(
                    eviction.walk.valid,
                    eviction.walk.payload.as_value(),
                    drain.walk.payload.as_value(),
                )
            ),
            eviction.walk.ready.eq(entries.walk.ready),
            drain.walk.ready.eq(entries.walk.ready & ~eviction.walk.valid),
            entries.room.eq(drain.room),
            drain.walked.eq(entries.walked & ~entries.evicts),
            drain.walk_entry.eq(entries.walk_entry),
            eviction.walked.eq(entries.walked & entries.evicts),
            eviction.walk_entry.eq(entries.walk_entry[0]),
        ]
        wiring.connect(m, directory.word, drain.word)
        # The drain's read of an item is known late in the cycle, so its slots are freed one cycle
        # later.
        m.d.sync += [
            free_list.back[0].eq(Mux(eviction.back_valid, eviction.back, drain.back[0])),
            free_list.back[1].eq(drain.back[1]),
            free_list.back_valid.eq(drain.back_valid | eviction.back_valid),
        ]

        # the sums
        m.d.comb += [
            banks.read.eq(fill.read),
            banks.write.eq(fill.write),
            banks.drain_banks.eq(drain.banks),
            banks.drain_following.eq(drain.following),
            banks.drain_second.eq(drain.second),
            banks.drain_slot.eq(drain.slot),
            fill.value.eq(banks.value),
            drain.value.eq(banks.value),
        ]
        for bank, read in enumerate(fill.read):
            m.d.comb += [
                drain.taken[bank].eq(read.enable),
                fill.reserved[bank].eq(drain.wanted[bank] & drain.urgent),
            ]

        m.d.comb += [
            self.error.eq(table.error),
            self.evicted.eq(eviction.evicted),
            self.fill_state.eq(fill.state),
            self.drain_state.eq(drain.state),
        ]
        with m.If(fill.overflow):
            m.d.sync += self.overflow.eq(1)
        return m

    def _contexts(
        self,
        m: Module,
        table: Table,
        entries: Entries,
        directory: Directory,
        fill: Fill,
        drain: Drain,
        ends: Ends,
    ) -> None:
        """Keep the contexts in a ring, in the order of their fibers' passes.

        A context is walked when its lookups have reached the directory, and drained when its terms
        have reached the banks. A fiber without blocks has none.
        """
        pointer = context_pointer(self._config)
        looked_up = Signal(pointer)
        freed = Signal(pointer)
        m.d.comb += [
            directory.ended.eq(looked_up),
            table.freed.eq(freed),
        ]
        m.d.sync += [
            looked_up.eq(looked_up + (table.ended & ~table.bare)),
            freed.eq(freed + entries.closed),
        ]
        m.d.comb += [
            ends.decides.eq(table.ended),
            ends.decided.bare.eq(table.bare),
            ends.decided.again.eq(table.again),
            table.ends_room.eq(ends.room),
            ends.last.eq(fill.ended),
            ends.ended.fiber.eq(fill.fiber),
            ends.ended.final.eq(fill.ends_nest),
            ends.filled.eq(fill.filled),
            fill.expecting.eq(ends.expecting),
            drain.waiting.eq(ends.waiting),
            drain.ready.eq(ends.ready),
            drain.end.eq(ends.end),
            ends.next.eq(drain.next),
        ]
