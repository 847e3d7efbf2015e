"""One-hot and unary numbers: choices, counts, and the lowest or highest set bit."""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from .arith.wire import wire


def lowest(bits: Value) -> Value:
    """Return the lowest set bit alone, or 0, of few bits: the depth grows with their number."""
    return Cat(bits[0], *(bits[n] & ~bits[:n].any() for n in range(1, len(bits))))


def below(one: Value) -> Value:
    """Return all bits below the one that is set."""
    return Cat(~one[: n + 1].any() for n in range(len(one)))


def one_of(choices: Iterable[tuple[Value, Any]]) -> Value:
    """Return the bits of the choice whose flag is set, or 0. At most one flag may be set."""
    return reduce(or_, (Mux(flag, Value.cast(choice), 0) for flag, choice in choices))


def at_least(m: Module, name: str, lanes: Value, limit: int) -> list[Value]:
    """Return how many lanes are set below each lane, in two gates of depth per doubling of the
    lanes.

    There is a unary number of ``limit + 1`` bits for each lane, and one for all of them. Bit j of
    number l: at least j of the lanes below lane l are set. Bit 0 is 1.
    """

    def merged(low: Value, high: Value) -> Value:
        """Return the sum of two numbers, saturated at ``limit``."""
        bits = []
        for j in range(min(limit, len(low) + len(high) - 2) + 1):
            ways = [low[k] & high[j - k] for k in range(len(low)) if 0 <= j - k < len(high)]
            bits.append(reduce(or_, ways))
        return Cat(bits)

    def numbers(first: int, count: int) -> list[Value]:
        """Return the numbers of ``count`` lanes, counted from lane ``first`` on."""
        if count == 1:
            return [Const(1, 1), Cat(Const(1, 1), lanes[first])]
        low = numbers(first, count // 2)
        high = numbers(first + count // 2, count - count // 2)
        sums = [
            wire(m, f"{name}_{first}_{len(low) + n}", merged(low[-1], number))
            for n, number in enumerate(high[1:])
        ]
        return low + sums

    return [Cat(number, Const(0, limit + 1 - len(number))) for number in numbers(0, len(lanes))]


def lowest_bit(m: Module, value: Value) -> Signal:
    """Return ``value`` with all but its lowest set bit cleared, in a depth logarithmic in the
    width, as all that follow.
    """
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


def some_of(m: Module, value: Value, most: int) -> list[Value]:
    """Return whether one bit is set, two are, and so on up to ``most``.

    Pairs of parts are added in a tree. `at_least` has the numbers below every bit as well.
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
