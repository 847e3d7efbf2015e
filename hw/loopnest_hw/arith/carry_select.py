"""A carry-select adder, twice as fast as a ripple-carry adder."""

from amaranth.hdl import Cat, Const, Module, Mux, Value

from .wire import wire


def carry_select(m: Module, a: Value, b: Value, carry: Value) -> Value:
    """Return a + b + carry: the upper half is computed for both carries of the lower one."""
    half = len(a) // 2

    def add(part: slice, carry: Value) -> Value:
        # the lowest column makes the carry
        return (Cat(carry, a[part]) + Cat(carry, b[part]))[1:]

    low = wire(m, "low", add(slice(0, half), carry))
    upper = slice(half, len(a))
    high = Mux(low[-1], add(upper, Const(1, 1)), add(upper, Const(0, 1)))
    return wire(m, "total", Cat(low[:-1], high))
