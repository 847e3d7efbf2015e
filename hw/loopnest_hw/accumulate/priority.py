"""The lowest or highest bit that is set, in a depth that grows with the logarithm of the width."""

from amaranth.hdl import Cat, Const, Module, Signal, Value


def lowest_bit(m: Module, value: Value) -> Signal:
    """Return ``value`` with all but its lowest set bit cleared."""
    width = len(value)
    # some[n]: a bit is set among the `distance` ones up to n
    some = Signal(width, name="some_0")
    m.d.comb += some.eq(value)
    distance = 1
    while distance < width:
        wider = Signal(width, name=f"some_{distance}")
        m.d.comb += wider.eq(some | (some << distance))
        some = wider
        distance *= 2
    lowest = Signal(width, name="lowest")
    m.d.comb += lowest.eq(some & ~(some << 1))
    return lowest


def highest_bit(m: Module, value: Value) -> Value:
    """Return ``value`` with all but its highest set bit cleared."""
    return lowest_bit(m, value[::-1])[::-1]


def counted(m: Module, value: Value) -> tuple[Value, Value]:
    """Return whether a bit is set, and whether more than one is."""
    parts: list[tuple[Value, Value]] = [(bit, Const(0, 1)) for bit in value]
    depth = 0
    while len(parts) > 1:
        some = Signal(-(-len(parts) // 2), name=f"counted_some_{depth}")
        more = Signal.like(some, name=f"counted_more_{depth}")
        for n in range(len(some)):
            low = parts[2 * n]
            if 2 * n + 1 < len(parts):
                high = parts[2 * n + 1]
                m.d.comb += [
                    some[n].eq(low[0] | high[0]),
                    more[n].eq(low[1] | high[1] | (low[0] & high[0])),
                ]
            else:
                m.d.comb += [some[n].eq(low[0]), more[n].eq(low[1])]
        parts = list(zip(some, more, strict=True))
        depth += 1
    return parts[0]


def number(one_hot: Value, width: int) -> Value:
    """Return the number of the only set bit, ``width`` bits; 0 if there is none."""
    if width == 0:
        return Const(0, 0)
    return Cat(
        Cat(one_hot[n] for n in range(len(one_hot)) if n >> bit & 1).any() for bit in range(width)
    )
