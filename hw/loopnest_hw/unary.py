"""One-hot and unary numbers: choices and counts without a carry."""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Value

from .arith.wire import wire


def lowest(bits: Value) -> Value:
    """Return the lowest set bit alone, or 0."""
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
