"""Hashed tables of tags: where a key's tag can be, and how it is found.

A key has a set in each of two tables, of `WAYS` tags each, and its tag goes into the emptier one
(d-left hashing; Broder and Mitzenmacher, "Using Multiple Hash Functions to Improve IP Lookups",
2001). The sets' numbers are the remainders of the key modulo two primitive polynomials over GF(2),
so keys at any stride of a power of two are spread evenly.

Where both sets are full, the tag is displaced: it goes into the first free place of the sets
behind. A vector of `OVERFLOW` bits tells for which sets of table 0, taken modulo `OVERFLOW`, a tag
has been displaced: only there does a search go on to the next sets. It is cleared when no displaced
tag is left.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from ..arith.wire import wire
from ..unary import lowest, number, some_of
from .place import TABLES, WAYS

if TYPE_CHECKING:
    import numpy as np

OVERFLOW = 32
"""Bits that record displaced tags."""


@cache
def _powers(bits: int) -> list[int]:
    """Return the powers of a primitive element of GF(2**bits), all different, from the 0th on."""
    for polynomial in range(1 << bits, 2 << bits):
        powers = [1]
        while True:
            power = powers[-1] << 1
            power ^= polynomial if power >> bits else 0
            if power in (0, 1):
                break
            powers.append(power)
            if len(powers) >= 1 << bits:
                break
        if power == 1 and len(powers) == (1 << bits) - 1:
            return powers
    raise AssertionError(f"no primitive polynomial of degree {bits}")


@cache
def columns(inputs: int, bits: int, table: int) -> tuple[int, ...]:
    """Return what each of a key's ``inputs`` bits adds, modulo 2, to its set in the table."""
    powers = _powers(bits)
    sign = -1 if table else 1
    return tuple(powers[sign * n % len(powers)] for n in range(inputs))


Key = TypeVar("Key", int, "np.ndarray[Any, Any]")


def set_of(key: Key, inputs: int, bits: int, table: int) -> Key:
    """Return the number of the key's set, or of each key's."""
    number = key & 0
    for n, column in enumerate(columns(inputs, bits, table)):
        number = number ^ (key >> n & 1) * column
    return number


def hashed(key: Value, bits: int) -> Value:
    """Return the numbers of the key's sets, table 0's first."""
    return Cat(
        Cat(
            key[n] for n, column in enumerate(columns(len(key), bits, table)) if column >> b & 1
        ).xor()
        for table in range(TABLES)
        for b in range(bits)
    )


def chosen(m: Module, free: Value, number_: Value) -> Signal:
    """Return the way that a new tag takes, alone, of both tables' ways.

    It is in the table with more free ways. Where both have as many, bit 2 of the key's number
    decides; and of the table's ways bits 0 and 1, if that one is free: so neighbouring keys tend to
    be in different ways.
    """
    ways = [free[table * WAYS : (table + 1) * WAYS] for table in range(TABLES)]
    counts = [Cat(some_of(m, way, WAYS)) for way in ways]
    table = Signal(name="table")
    # counts are thermometers
    more = [(counts[1 - n] & ~counts[n]).any() for n in range(TABLES)]
    m.d.comb += table.eq(more[0] | (number_[2] & ~more[1]))

    def swapped(way: Value) -> Value:
        """Return the ways, in an order that begins with the preferred one; or back again."""
        for bit in range(2):
            other = Cat(way[w ^ 1 << bit] for w in range(WAYS))
            way = wire(m, "swapped", Mux(number_[bit], other, way))
        return way

    picked = Signal(TABLES * WAYS, name="picked")
    for n, way in enumerate(ways):
        one = lowest(swapped(way)[:WAYS])
        m.d.comb += picked[n * WAYS : (n + 1) * WAYS].eq(Mux(table == n, swapped(one), 0))
    return picked


def record(overflow: Signal, set_: Value) -> Value:
    """Return the bit that tells whether a tag has been displaced from the set of table 0."""
    return overflow.bit_select(set_[: (OVERFLOW - 1).bit_length()], 1)


def position(way: Value, at: Any) -> Value:
    """Return a position (`where_layout`): the only way that is set, of both tables', in the table's
    set of ``at``.
    """
    table = way[WAYS:].any()
    of_table = number(way[:WAYS] | way[WAYS:], (WAYS - 1).bit_length())
    return Cat(of_table, table, Mux(table, at[1], at[0]))
