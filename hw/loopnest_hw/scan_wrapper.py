"""A wrapper with three pins, so that a chip with wide buses fits any FPGA package."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class ScanWrapper(wiring.Component):
    """Drives a component's inputs from a shift register, and folds its outputs to one bit.

    Every input is a register of its own and every output influences a pin, so synthesis keeps all
    of the component, and its longest paths start and end in registers, as they do inside a system.

    Parameters
    ----------
    component : Component
        Its ports must be plain signals, as the chip's are.

    Members
    -------
    scan_in : In(1)
        Enters the shift register in every cycle.
    scan_out : Out(1)
        The parity of all outputs of two cycles before.
    """

    def __init__(self, component: Any) -> None:
        self._component = component
        super().__init__({"scan_in": In(1), "scan_out": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.chip = component = self._component
        inputs: list[Value] = []
        outputs: list[Value] = []
        for name, member in component.signature.members.items():
            port = Value.cast(getattr(component, name))
            (inputs if member.flow is In else outputs).append(port)
        driven = Cat(inputs)
        shifted = Signal(len(driven), reset_less=True)
        seen = Signal(len(Cat(outputs)), reset_less=True)
        m.d.sync += [
            shifted.eq(Cat(self.scan_in, shifted)),
            seen.eq(Cat(outputs)),
            self.scan_out.eq(seen.xor()),
        ]
        m.d.comb += driven.eq(shifted)
        return m
