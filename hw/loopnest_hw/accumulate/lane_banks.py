"""The lane banks: the memories of the accumulator's sums."""

from typing import Any

from amaranth.hdl import Module, Mux
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, WIDE_BITS, ChipConfig
from ..tokens import PAIR


class LaneBanks(wiring.Component):
    """A memory for each lane, with a value for each slot; one read and one write per cycle each.

    Members
    -------
    read : In, array of 16
        ``enable``, ``slot``: the fill's read of each lane.
    drain_lanes, drain_following, drain_second, drain_slot : In
        The drain's reads, of lanes that the fill does not read in this cycle, from slot
        ``drain_slot[following][second]``, selected by the lane's bits.
    value : Out, array of 16
        The data of the last cycle's reads.
    write : In, array of 16
        ``enable``, ``slot``, ``value``. A read sees it from the next cycle on.
    """

    def __init__(self, config: ChipConfig) -> None:
        self._config = config
        slot = config.slot_bits
        read = data.StructLayout({"enable": 1, "slot": slot})
        write = data.StructLayout({"enable": 1, "slot": slot, "value": WIDE_BITS})
        super().__init__(
            {
                "read": In(data.ArrayLayout(read, LANES)),
                "drain_lanes": In(LANES),
                "drain_following": In(LANES),
                "drain_second": In(LANES),
                "drain_slot": In(data.ArrayLayout(data.ArrayLayout(slot, PAIR), 2)),
                "value": Out(data.ArrayLayout(WIDE_BITS, LANES)),
                "write": In(data.ArrayLayout(write, LANES)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for lane in range(LANES):
            bank = memory.Memory(shape=WIDE_BITS, depth=self._config.slots, init=[])
            m.submodules[f"lane_{lane}"] = bank
            write = bank.write_port()
            read = bank.read_port(transparent_for=())
            fill, put = self.read[lane], self.write[lane]
            first, second = (
                Mux(self.drain_following[lane], self.drain_slot[1][n], self.drain_slot[0][n])
                for n in range(PAIR)
            )
            m.d.comb += [
                read.en.eq(fill.enable | self.drain_lanes[lane]),
                read.addr.eq(Mux(self.drain_second[lane], second, first)),
                self.value[lane].eq(read.data),
                write.en.eq(put.enable),
                write.addr.eq(put.slot),
                write.data.eq(put.value),
            ]
            with m.If(fill.enable):
                m.d.comb += read.addr.eq(fill.slot)
        return m
