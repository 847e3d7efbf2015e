"""Delay lines."""

from amaranth.hdl import Module, Signal, Value


def delayed(
    m: Module, value: Value, cycles: int, *, advance: Value, reset_less: bool = True
) -> Value:
    """Return ``value`` as it was ``cycles`` cycles of ``advance`` before, of the same shape.

    Registers are added to ``m.d.sync``. With ``reset_less`` their initial values are undefined;
    valid bits need it off.
    """
    for _ in range(cycles):
        stage = Signal.like(value, reset_less=reset_less, name="delayed")
        with m.If(advance):
            m.d.sync += Value.cast(stage).eq(value)
        value = stage
    return value
