"""The block reader: reads runs of block words, two per cycle, and skips those below a bound."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arith.wire import wire
from ..config import COORDINATE_BITS, LANES, LINE_BITS, PAIR, POSITION_BITS, WIDE_BITS, ChipConfig
from ..format import BLOCK_COORDINATE_BITS, BLOCK_MASK_BITS, LINE_WORDS
from ..queue import Queue
from ..register import payload_register
from ..tokens import AHEAD, BLOCK_WORD, BOUND, BOUND_BITS, FIBER_BLOCKS, LEVEL_FAULT
from ..unary import at_least, lowest, one_of
from .line_reader import LineReader
from .pool import pool_client, ring

LINE = data.ArrayLayout(BLOCK_WORD, LINE_WORDS)
WORD_INDEX_BITS = (LINE_WORDS - 1).bit_length()
LANE_BITS = (LANES - 1).bit_length()
ONES_BITS = BLOCK_MASK_BITS.bit_length()

BLOCK_RUN = data.StructLayout(
    {
        "line": LINE_BITS,
        "first": WORD_INDEX_BITS,
        "length": WIDE_BITS,
        "child": POSITION_BITS,
    }
)
"""A fiber's blocks: ``length`` words from word ``first`` of a line on, in successive lines."""

PIECE = data.StructLayout(
    {
        "take": 1,
        "opens": 1,
        "lead": 1,
        "words": LINE_WORDS,
        "leaves": 1,
        "last": 1,
        "child": POSITION_BITS,
    }
)
"""A fiber's part of a line.

With ``take``, the line is the next one, otherwise the same again. ``words`` are the fiber's,
without the line's last one if ``leaves`` is set: that word is the next piece's ``lead``, so that
pairs may cross lines. ``opens`` and ``last``: the fiber's first and last piece.
"""


class BlockReader(wiring.Component):
    """Answers each run with its words, their ranks and the fiber's child.

    Two words per cycle, also across lines; one fiber per cycle if it has up to two words in one
    line.

    Words below the bound may be skipped. Before the first word of a line that is not below the
    bound, and after it up to ``bound.next``, skipping takes no cycle; a line of skipped words alone
    takes one. ``bound`` and ``ahead`` refer to the fiber of the next item at ``o``:

    - ``bound.head``: words below it cannot match. ``bound.next``: nor can words below this one,
      once a word that is not below ``head`` has been passed on. 0 if there is no bound.
    - ``ahead``: the first coordinate of the item after the one at ``o``, if it is of the same fiber
      and has been read.

    A bound may arrive at any time. Within a fiber it only rises, or is 0; in the cycle after the
    transfer of a fiber's last item it is 0.

    From a run to its first line's request: 1 cycle; from a line's arrival to its first words: 4.

    ``fault`` reports errors in the words that were read, including skipped ones, until reset:
    ``tensor`` for an empty mask or blocks that do not ascend, ``coordinate`` for a coordinate at or
    above ``size``.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(BLOCK_RUN)),
                "o": Out(stream.Signature(FIBER_BLOCKS)),
                "ahead": Out(AHEAD),
                "bound": In(BOUND),
                "size": In(COORDINATE_BITS + 1),
                "ring": In(ring(config)),
                "pool": Out(pool_client(config)),
                "fault": Out(LEVEL_FAULT),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.lines = lines = LineReader(self._config)
        m.submodules.pieces = pieces = Queue(PIECE, self._config.stream_depth)
        wiring.connect(m, lines.pool, wiring.flipped(self.pool))
        m.d.comb += lines.ring.eq(self.ring)
        self._ask(m, lines, pieces.i)
        self._pick(m, lines.o, pieces.o)
        return m

    def _ask(self, m: Module, lines: LineReader, pieces: Any) -> None:
        """Cut runs into pieces, one per cycle."""
        run = self.i.payload
        busy = Signal()
        line = Signal(LINE_BITS, reset_less=True)
        known = Signal()  # `line` is the one asked for last
        new = Signal()
        first = Signal(WORD_INDEX_BITS, reset_less=True)
        left = Signal(WIDE_BITS, reset_less=True)  # words, from `first` on
        piece = Signal(PIECE, reset_less=True)
        fires = Signal()
        leaves = Signal()
        begun = [*(first <= n for n in range(LINE_WORDS - 1)), 1]
        end = Signal(range(LINE_WORDS + 1))
        m.d.comb += [
            lines.wants.eq(busy & new),
            lines.i.valid.eq(busy & new & pieces.ready),
            lines.i.payload.eq(line),
            pieces.valid.eq(busy & (~new | lines.i.ready)),
            fires.eq(pieces.valid & pieces.ready),
            self.i.ready.eq(~busy | fires & piece.last),
            pieces.payload.eq(piece),
            pieces.payload.take.eq(new),
            pieces.payload.leaves.eq(leaves),
            pieces.payload.words.eq(Cat(begun[n] & (end > n) for n in range(LINE_WORDS))),
            leaves.eq(~piece.last & (piece.lead ^ first[0])),
            end.eq(Mux(piece.last, first + left, LINE_WORDS - leaves)),
        ]
        # A fiber may begin with the last word of the most recently requested line.
        same = wire(m, "same", known & (run.line == line))
        jumps = wire(m, "jumps", same & (run.first == LINE_WORDS - 1) & (run.length > 1))
        ends = wire(
            m,
            "ends",
            Mux(jumps, run.length <= LINE_WORDS + 1, run.length <= LINE_WORDS - run.first),
        )
        with m.If(self.i.ready):
            m.d.sync += [
                busy.eq(self.i.valid),
                new.eq((~same | jumps) & (run.length != 0)),
                left.eq(run.length - jumps),
                piece.last.eq(ends),
                piece.lead.eq(jumps),
                piece.opens.eq(1),
                piece.child.eq(run.child),
            ]
            with m.If(self.i.valid & (run.length != 0)):
                m.d.sync += [
                    line.eq(Mux(jumps, run.line + 1, run.line)),
                    first.eq(Mux(jumps, 0, run.first)),
                    known.eq(1),
                ]
        with m.Elif(fires):
            m.d.sync += [
                line.eq(line + 1),
                new.eq(1),
                first.eq(0),
                left.eq(left - LINE_WORDS + first),
                piece.last.eq(left <= 2 * LINE_WORDS - first),
                piece.lead.eq(leaves),
                piece.opens.eq(0),
            ]

    def _pick(self, m: Module, lines: Any, pieces: Any) -> None:
        """Choose the next words of the current piece, and advance to the next piece."""
        fresh = LINE(lines.payload)
        here = Signal()
        piece = Signal(
            PIECE, reset_less=True
        )  # `words` are the remaining ones; `lead` is used in the first cycle
        line = Signal(LINE, reset_less=True)
        ones = [Signal(ONES_BITS, name=f"ones_{n}", reset_less=True) for n in range(LINE_WORDS)]
        lead = Signal(BLOCK_WORD, reset_less=True)
        lead_ones = Signal(ONES_BITS, reset_less=True)
        # Compared with `bound.head` of the previous cycle, and with `bound.next` of the cycle in
        # which the line arrived.
        low = Signal(LINE_WORDS)
        low_next = Signal(LINE_WORDS)
        low_lead = Signal()

        # The lead is compared once; while it waits, the bound may rise above it and the words after
        # it.
        wants_lead = wire(m, "wants_lead", piece.lead & ~low_lead)
        unwanted = wire(m, "unwanted", piece.words & Mux(wants_lead, 0, low))
        wanted = wire(m, "wanted", piece.words & ~unwanted)
        lowest_wanted = wire(m, "lowest_wanted", lowest(wanted))
        others = wire(m, "others", wanted & ~lowest_wanted)
        following_low = wire(m, "following_low", Mux(wants_lead, 0, low_next))
        first = wire(m, "first", Mux(wants_lead, 0, lowest_wanted))
        # If words after the first one are skipped, the first one leaves alone.
        second = wire(m, "second", Mux(wants_lead, lowest_wanted, lowest(others) & ~following_low))
        some_low = at_least(m, "low", wanted & following_low, PAIR)[-1]
        some_high = at_least(m, "high", wanted & ~following_low, PAIR + 1)[-1]
        more = wire(
            m,
            "more",
            Mux(
                wants_lead,
                some_high[2],
                some_high[3] | (some_high[2] & some_low[1]) | (some_high[1] & some_low[2]),
            ),
        )
        advance = Signal()
        moves = Signal()
        leaves = Signal()  # the piece is done
        loads = Signal()
        m.d.comb += [
            moves.eq(here & advance),
            leaves.eq(~here | (advance & ~more)),
            loads.eq(leaves & pieces.valid & (~pieces.payload.take | lines.valid)),
            pieces.ready.eq(leaves & (~pieces.payload.take | lines.valid)),
            lines.ready.eq(leaves & pieces.valid & pieces.payload.take),
        ]
        with m.If(leaves):
            m.d.sync += here.eq(loads)
        with m.If(loads):
            m.d.sync += [
                piece.eq(pieces.payload),
                lead.eq(line[LINE_WORDS - 1]),
                lead_ones.eq(ones[LINE_WORDS - 1]),
            ]
            with m.If(pieces.payload.take):
                m.d.sync += line.eq(fresh)
                m.d.sync += [ones[n].eq(_count(fresh[n].mask)) for n in range(LINE_WORDS)]
        with m.Elif(moves):
            m.d.sync += [piece.words.eq(others & ~second & ~following_low), piece.lead.eq(0)]

        # The item and the words skipped before and after it, whose masks are counted in the next
        # cycle.
        choices = [*zip(first, line, ones, strict=True), (wants_lead, lead, lead_ones)]
        chosen = [
            one_of((flag, Cat(word, count)) for flag, word, count in choices),
            one_of((flag, Cat(w, c)) for flag, w, c in zip(second, line, ones, strict=True)),
        ]
        picked = [wire(m, f"picked_{n}", choice) for n, choice in enumerate(chosen)]
        some = wire(m, "some", wants_lead | wanted.any())
        both = wire(m, "both", second.any())
        item = Signal(FIBER_BLOCKS, reset_less=True)
        item_ones = [Signal(ONES_BITS, name=f"item_ones_{n}") for n in range(PAIR)]
        item_valid = Signal()
        counts = Signal()  # not all of the next ones are 0
        skipped = [Signal(ONES_BITS, name=f"skipped_{n}") for n in range(LINE_WORDS + 1)]
        dropped = [Signal(ONES_BITS, name=f"dropped_{n}") for n in range(LINE_WORDS)]
        reach = Signal(
            BLOCK_COORDINATE_BITS, reset_less=True
        )  # the last picked coordinate of this fiber
        reaches = Signal()
        word_bits = BLOCK_MASK_BITS + BLOCK_COORDINATE_BITS
        with m.If(advance):
            m.d.sync += item_valid.eq(here & (some | piece.last))
        with m.If(moves):
            m.d.sync += [
                item.count.eq(Mux(both, PAIR, some)),
                item.last.eq(piece.last & ~more),
                item.child.eq(piece.child),
                *(item.word[n].eq(picked[n][:word_bits]) for n in range(PAIR)),
            ]
        with m.If(advance):
            m.d.sync += counts.eq(here)
        with m.If(advance & (here | counts)):
            for n in range(PAIR):
                m.d.sync += item_ones[n].eq(Mux(here, picked[n][word_bits:], 0))
            for n in range(LINE_WORDS):
                m.d.sync += [
                    skipped[n].eq(Mux(here & unwanted[n], ones[n], 0)),
                    dropped[n].eq(Mux(here & others[n] & following_low[n], ones[n], 0)),
                ]
            m.d.sync += skipped[-1].eq(Mux(here & piece.lead & low_lead, lead_ones, 0))
        with m.If(moves):
            m.d.sync += reaches.eq((reaches | some) & (more | ~piece.last))
            with m.If(some):
                m.d.sync += reach.eq(
                    Mux(both, picked[1][:word_bits], picked[0][:word_bits])[BLOCK_MASK_BITS:]
                )

        foreign = self._hand_on(
            m, advance, advance & counts, item_valid, item, item_ones, skipped, dropped
        )

        # The bound refers to the item at `o`, so it applies only if no fiber has ended since. Once
        # a word at or above `head` is picked, later words are compared with `next`.
        head, following = self.bound.head, self.bound.next
        bound = Signal(BOUND_BITS)
        bound_next = Signal(BOUND_BITS)
        compared = Signal(BOUND_BITS)  # what `low` was compared with
        ends = wire(m, "ends_here", foreign | (loads & here & piece.last))
        takes = wire(m, "takes", loads & pieces.payload.take)
        picks = moves & wanted.any() & ~wants_lead & (compared == head)
        passed = wire(m, "passed", reaches & (reach >= head) | picks)
        m.d.sync += [
            bound.eq(Mux(foreign, 0, Mux(passed, following, head))),
            bound_next.eq(Mux(foreign | passed, 0, following)),
            compared.eq(Mux(ends, 0, Mux(passed, following, bound))),
        ]

        def below(coordinate: Value) -> Value:
            return Mux(passed, coordinate < following, coordinate < bound)

        for n in range(LINE_WORDS):
            coming, here_now = fresh[n].coordinate, line[n].coordinate
            m.d.sync += low[n].eq(~ends & Mux(takes, below(coming), below(here_now)))
            with m.If(takes):
                m.d.sync += low_next[n].eq(~ends & ~passed & (coming < bound_next))
            with m.Elif(ends):
                m.d.sync += low_next[n].eq(0)
        with m.If(loads):
            m.d.sync += low_lead.eq(~ends & below(line[LINE_WORDS - 1].coordinate))
        self._check(m, loads, pieces.payload, line, lead)

    def _hand_on(
        self,
        m: Module,
        advance: Signal,
        ranks: Value,
        item_valid: Signal,
        item: Any,
        ones: list[Signal],
        skipped: list[Signal],
        dropped: list[Signal],
    ) -> Value:
        """Add the ranks, and queue the items; return whether one of them ends its fiber."""
        rank = Signal(COORDINATE_BITS)
        behind = Signal(FIBER_BLOCKS, reset_less=True)
        behind_valid = Signal()
        out = self.o
        leaving = payload_register(m, out)
        before = [rank, *skipped]
        counted = Signal(FIBER_BLOCKS)
        m.d.comb += [
            advance.eq(~item_valid | ~behind_valid),
            counted.eq(item),
            counted.rank[0].eq(sum(before)),
            counted.rank[1].eq(sum([*before, ones[0]])),
        ]
        with m.If(ranks):
            after = sum([*before, *ones, *dropped])
            m.d.sync += rank.eq(Mux(item_valid & item.last, 0, after))
        taken = ~out.valid | out.ready
        with m.If(~behind_valid & item_valid & ~taken):
            m.d.sync += behind.eq(counted)
        m.d.sync += behind_valid.eq(~taken & (behind_valid | item_valid))
        with m.If(taken):
            m.d.sync += out.valid.eq(behind_valid | item_valid)
            with m.If(behind_valid | item_valid):
                m.d.sync += leaving.eq(Mux(behind_valid, behind, counted))
        m.d.comb += [
            self.ahead.valid.eq(behind_valid & (behind.count != 0) & ~out.payload.last),
            self.ahead.coordinate.eq(behind.word[0].coordinate),
        ]
        return wire(
            m,
            "foreign",
            (item_valid & item.last)
            | (behind_valid & behind.last)
            | (out.valid & out.payload.last),
        )

    def _check(self, m: Module, loads: Signal, piece: Any, line: Any, lead: Any) -> None:
        """Check a piece's words in the cycle after its arrival."""
        # The largest coordinate, as block and lanes.
        most = Signal(COORDINATE_BITS, reset_less=True)
        none = Signal(reset_less=True)
        lanes = Signal(LANES, reset_less=True)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                most.eq(self.size - 1),
                none.eq(self.size == 0),
                lanes.eq((2 << (self.size[:LANE_BITS] - 1)[:LANE_BITS]) - 1),
            ]
        # The fiber's words in this line, and the word before them, which may be in the previous
        # line.
        here = Signal(LINE_WORDS + 1)
        follows = Signal(LINE_WORDS + 1)  # a word of the same fiber comes before
        inside = Cat(piece.lead, piece.words[:-1], piece.words[-1] | piece.leaves)
        m.d.sync += [
            here.eq(Mux(loads, inside, 0)),
            follows.eq(Cat(Const(0, 1), piece.lead | ~piece.opens, inside[1:-1])),
        ]
        words = [lead, *line]
        last_block = most[LANE_BITS:]
        empty, descends, above, beyond = (
            Signal(LINE_WORDS + 1, name=name) for name in ("empty", "descends", "above", "beyond")
        )
        for n, word in enumerate(words):
            m.d.sync += [
                empty[n].eq(here[n] & (word.mask == 0)),
                above[n].eq(here[n] & (none | (word.coordinate > last_block))),
                beyond[n].eq(
                    here[n] & (word.coordinate == last_block) & (word.mask & ~lanes).any()
                ),
            ]
            if n:
                before = words[n - 1].coordinate
                m.d.sync += descends[n].eq(here[n] & follows[n] & (word.coordinate <= before))
        with m.If(empty.any() | descends.any()):
            m.d.sync += self.fault.tensor.eq(1)
        with m.If(above.any() | beyond.any()):
            m.d.sync += self.fault.coordinate.eq(1)


def _count(bits: Value) -> Value:
    """Return how many bits are set."""
    return sum((bits[n] for n in range(1, len(bits))), start=Value.cast(bits[0]))
