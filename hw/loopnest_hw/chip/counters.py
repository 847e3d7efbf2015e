"""The performance counters of `registers.COUNTERS`."""

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..cache import cache
from ..cache.geometry import CacheConfig
from ..config import LINE_BYTES, ChipConfig
from ..registers import (
    CACHE_COUNTERS,
    COUNTERS,
    SNAPSHOT_BYTES,
    STAGES,
    counters,
    pe_counter,
    snapshot_lines,
)
from ..tokens import EVENTS, StageState

COUNTER_BITS = 48
"""Bits that are counted: `multiplies`, the fastest counter, wraps after 10 hours at 500 MHz with 16
multipliers; that of 32 such PEs after 18 minutes.
"""

PE_COUNTER_BITS = 32
"""Bits of each PE's own counters, of which there are many: one wraps after 8 seconds."""


class Counters(wiring.Component):
    """Counts events, with a delay of two cycles; wraps at 2^48. Those of all PEs are added.

    Of several PEs, each one's leaf is counted by itself as well (`registers.PE_COUNTERS`); these
    counters wrap at 2^32.

    Members
    -------
    clear : In(1)
        Every counter is 0 in the next cycle.
    busy : In(1)
        Counter ``cycles`` counts this cycle.
    events : array of In(EVENTS)
        The PEs'.
    cache : In(`cache.events`)
        Of a chip with several PEs.
    lines_read, lines_written : In
    value : array of Out(48), in the order of `registers.counters`
    mark : In(1)
        ``line`` shows the value that ``cycles`` has in this cycle, until the next mark.
    number : In(range(`registers.snapshot_lines`)), line : Out(256)
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
                "value": Out(COUNTER_BITS).array(len(counters(config.pes))),
                "mark": In(1),
                "number": In(range(snapshot_lines(config.pes))),
                "line": Out(8 * LINE_BYTES),
                **cache_port(config),
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

        counted = COUNTERS
        if self._config.pes > 1:
            counted += CACHE_COUNTERS
            amount |= self._cache_amounts(m)
        values = dict(zip((n for n, _ in counters(self._config.pes)), self.value, strict=True))
        for name, _ in counted:
            with m.If(self.clear):
                m.d.sync += values[name].eq(0)
            with m.Else():
                m.d.sync += values[name].eq(values[name] + amount[name])
        if self._config.pes > 1:
            self._each_pe(m, events, values)

        marked = Signal(COUNTER_BITS)
        with m.If(self.mark):
            m.d.sync += marked.eq(values["cycles"])
        rest = Const(0, 8 * SNAPSHOT_BYTES - COUNTER_BITS)
        shown = Cat(
            Cat(marked if name == "cycles" else value, rest) for name, value in values.items()
        )
        m.d.comb += self.line.eq(shown.word_select(self.number, 8 * LINE_BYTES))
        return m

    def _cache_amounts(self, m: Module) -> dict[str, Value]:
        """Return what to add to each of `CACHE_COUNTERS`."""
        cache_events = Signal.like(self.cache)
        m.d.sync += cache_events.eq(self.cache)
        return {name: cache_events[name.removeprefix("cache_")] for name, _ in CACHE_COUNTERS}

    def _each_pe(self, m: Module, events: list[Any], values: dict[str, Value]) -> None:
        """Count what `PE_COUNTERS` are, of each PE."""
        leaf = STAGES.index("leaf")
        for n, event in enumerate(events):
            found: dict[str, Value] = {}
            for state in (StageState.BUSY, StageState.STARVED, StageState.STALLED):
                name = pe_counter(n, f"leaf_{state.name.lower()}")
                found[name] = count = Signal(PE_COUNTER_BITS, name=name)
                m.d.sync += count.eq(count + (event.stage[leaf] == state))
            name = pe_counter(n, "last_step")
            found[name] = last = Signal(PE_COUNTER_BITS, name=name)
            # the step was one cycle before, in which `cycles` did not count itself
            with m.If(event.leaf_step):
                m.d.sync += last.eq(values["cycles"])
            with m.If(self.clear):
                m.d.sync += [count.eq(0) for count in found.values()]
            m.d.comb += [values[name].eq(count) for name, count in found.items()]


def cache_port(config: ChipConfig) -> dict[str, Any]:
    """Return the port that a chip of several PEs has."""
    return {"cache": In(cache.events(CacheConfig.of(config)))} if config.pes > 1 else {}
