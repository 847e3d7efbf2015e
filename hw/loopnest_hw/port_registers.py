"""Registers at a unit's ports, in place of the unit: for area and clock of what is around it."""

from functools import reduce
from operator import xor
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In


class PortRegisters(wiring.Component):
    """A unit with these ports, whose inputs end in registers and whose outputs come from others.

    All of the former reach the latter, so that synthesis keeps them; the values mean nothing.
    """

    def __init__(self, ports: dict[str, wiring.Member]) -> None:
        super().__init__(ports)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ports = [(member.flow, Value.cast(v)) for _, member, v in self.signature.flatten(self)]
        inputs = Cat(value for flow, value in ports if flow is In)
        outputs = Cat(value for flow, value in ports if flow is not In)
        taken, given = Signal(len(inputs)), Signal(len(outputs))
        width = len(outputs)
        parts = [taken[n : n + width] for n in range(0, len(inputs), width)]
        m.d.sync += [taken.eq(inputs), given.eq(reduce(xor, parts))]
        m.d.comb += outputs.eq(given)
        return m
