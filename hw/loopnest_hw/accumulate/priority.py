"""The lowest or highest set bit, in a logic depth logarithmic in the width."""

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


def lowest_two(m: Module, value: Value) -> tuple[Signal, Signal]:
    """Return the lowest set bit alone, and the one above it alone."""
    width = len(value)
    # one[n], two[n]: so many bits are set among the `distance` ones up to n
    one = Signal(width, name="one_0")
    two: Value = Const(0, width)
    m.d.comb += one.eq(value)
    distance = 1
    while distance < width:
        wider_one = Signal(width, name=f"one_{distance}")
        wider_two = Signal(width, name=f"two_{distance}")
        m.d.comb += [
            wider_one.eq(one | (one << distance)),
            wider_two.eq(two | (two << distance) | (one & (one << distance))),
        ]
        one, two = wider_one, wider_two
        distance *= 2
    first = Signal(width, name="first")
    second = Signal(width, name="second")
    m.d.comb += [
        first.eq(one & ~(one << 1)),
        second.eq(two & ~(two << 1)),
    ]
    return first, second


def highest_bit(m: Module, value: Value) -> Value:
    """Return ``value`` with all but its highest set bit cleared."""
    return lowest_bit(m, value[::-1])[::-1]


def at_least(m: Module, value: Value, most: int) -> list[Value]:
    """Return whether one bit is set, two are, and so on up to ``most``.

    It does not depend on finding the lowest bit.
    """
    parts: list[list[Value]] = [[bit, *[Const(0, 1)] * (most - 1)] for bit in value]
    while len(parts) > 1:
        pairs, odd = zip(parts[0::2], parts[1::2], strict=False), parts[len(parts) & ~1 :]
        merged = []
        for low, high in pairs:
            counts = Signal(most, name="at_least")
            for n in range(most):
                both = (low[k] & high[n - 1 - k] for k in range(n))
                m.d.comb += counts[n].eq(Cat(low[n], high[n], *both).any())
            merged.append(list(counts))
        parts = merged + odd
    return parts[0]


def number(one_hot: Value, width: int) -> Value:
    """Return the number of the only set bit, ``width`` bits; 0 if there is none."""
    if width == 0:
        return Const(0, 0)
    return Cat(
        Cat(one_hot[n] for n in range(len(one_hot)) if n >> bit & 1).any() for bit in range(width)
    )
