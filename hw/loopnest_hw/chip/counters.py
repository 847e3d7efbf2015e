"""The performance counters of `registers.COUNTERS`."""

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import LINE_BYTES, ChipConfig
from ..registers import COUNTERS, SNAPSHOT_BYTES, SNAPSHOT_LINES, STAGES
from ..tokens import EVENTS, StageState

COUNTER_BITS = 48
"""Bits that are counted: `multiplies`, the fastest counter, wraps after 10 hours at 500 MHz with 16
multipliers; that of 32 such PEs after 18 minutes.
"""


class Counters(wiring.Component):
    """Counts events, with a delay of two cycles; wraps at 2^48. Those of all PEs are added.

    Members
    -------
    clear : In(1)
        Every counter is 0 in the next cycle.
    busy : In(1)
        Counter ``cycles`` counts this cycle.
    events : array of In(EVENTS)
        The PEs'.
    lines_read, lines_written : In
    value : array of Out(48), in the order of `registers.COUNTERS`
    mark : In(1)
        ``line`` shows the value that ``cycles`` has in this cycle, until the next mark.
    number : In(range(SNAPSHOT_LINES)), line : Out(256)
        The counters as lines of memory (`registers.SNAPSHOT_BYTES`); within the cycle.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "busy": In(1),
                "events": In(EVENTS).array(config.pes),
                "lines_read": In(range(config.memory_ports + 1)),
                "lines_written": In(range(config.memory_ports + 1)),
                "value": Out(COUNTER_BITS).array(len(COUNTERS)),
                "mark": In(1),
                "number": In(range(SNAPSHOT_LINES)),
                "line": Out(8 * LINE_BYTES),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pes = range(self._config.pes)
        events = [Signal(EVENTS, name=f"events_{n}") for n in pes]
        lines_read = Signal.like(self.lines_read)
        lines_written = Signal.like(self.lines_written)
        m.d.sync += [
            *(event.eq(port) for event, port in zip(events, self.events, strict=True)),
            lines_read.eq(self.lines_read),
            lines_written.eq(self.lines_written),
        ]

        def total(values: Iterable[Value]) -> Value:
            return reduce(add, values)

        amount: dict[str, Value] = {"lines_read": lines_read, "lines_written": lines_written}
        for name, event in (
            ("multiplies", "multiplies"),
            ("leaf_steps", "leaf_step"),
            ("passes", "again"),
            ("evictions", "eviction"),
            ("pool_full", "pool_full"),
            ("result_blocks", "result_blocks"),
            ("result_values", "result_values"),
        ):
            amount[name] = total(each[event] for each in events)
        for number, stage in enumerate(STAGES):
            for state in (StageState.BUSY, StageState.STARVED, StageState.STALLED):
                amount[f"{stage}_{state.name.lower()}"] = total(
                    each.stage[number] == state for each in events
                )
        amount["cycles"] = self.busy

        for (name, _), value in zip(COUNTERS, self.value, strict=True):
            with m.If(self.clear):
                m.d.sync += value.eq(0)
            with m.Else():
                m.d.sync += value.eq(value + amount[name])

        marked = Signal(COUNTER_BITS)
        values = dict(zip((name for name, _ in COUNTERS), self.value, strict=True))
        with m.If(self.mark):
            m.d.sync += marked.eq(values["cycles"])
        rest = Const(0, 8 * SNAPSHOT_BYTES - COUNTER_BITS)
        shown = Cat(
            Cat(marked if name == "cycles" else value, rest) for name, value in values.items()
        )
        m.d.comb += self.line.eq(shown.word_select(self.number, 8 * LINE_BYTES))
        return m
