"""Named intermediate values."""

from amaranth.hdl import Module, Signal, Value


def wire(m: Module, name: str, value: Value) -> Signal:
    """Return a signal that is ``value``.

    Amaranth writes an expression out at every use: one that is used twice at every level of a loop
    grows exponentially, unless it is a signal.
    """
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal
