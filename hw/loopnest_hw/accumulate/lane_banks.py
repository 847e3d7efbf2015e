"""The lane banks: the memories of the accumulator's sums."""

from typing import Any

from amaranth.hdl import Module, Mux
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from ..config import LANES, PAIR, WIDE_BITS, ChipConfig


class LaneBanks(wiring.Component):
    """Sixteen memories with a value for each slot; one read and one write per cycle each.

    A block's lanes are in different banks (`skew`).

    Members
    -------
    read : In, array of 16
        ``enable``, ``slot``: the fill's read of each bank.
    drain_banks, drain_following, drain_second, drain_slot : In
        The drain's reads, of banks that the fill does not read in this cycle, from slot
        ``drain_slot[following][second]``, selected by the bank's bits.
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
                "drain_banks": In(LANES),
                "drain_following": In(LANES),
                "drain_second": In(LANES),
                "drain_slot": In(data.ArrayLayout(data.ArrayLayout(slot, PAIR), 2)),
                "value": Out(data.ArrayLayout(WIDE_BITS, LANES)),
                "write": In(data.ArrayLayout(write, LANES)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for bank in range(LANES):
            storage = memory.Memory(shape=WIDE_BITS, depth=self._config.slots, init=[])
            m.submodules[f"bank_{bank}"] = storage
            write = storage.write_port()
            read = storage.read_port(transparent_for=())
            fill, put = self.read[bank], self.write[bank]
            first, second = (
                Mux(self.drain_following[bank], self.drain_slot[1][n], self.drain_slot[0][n])
                for n in range(PAIR)
            )
            m.d.comb += [
                read.en.eq(fill.enable | self.drain_banks[bank]),
                read.addr.eq(Mux(self.drain_second[bank], second, first)),
                self.value[bank].eq(read.data),
                write.en.eq(put.enable),
                write.addr.eq(put.slot),
                write.data.eq(put.value),
            ]
            with m.If(fill.enable):
                m.d.comb += read.addr.eq(fill.slot)
        return m
