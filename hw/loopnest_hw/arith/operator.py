"""The ports of everything that makes one wide number of two, either of which may be absent."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..config import WIDE_BITS

OPERATOR = wiring.Signature(
    {
        "advance": In(1),
        "a": In(WIDE_BITS),
        "b": In(WIDE_BITS),
        "a_present": In(1),
        "b_present": In(1),
        "o": Out(WIDE_BITS),
        "o_present": Out(1),
        "overflow": Out(1),
    }
)
"""A pipe of ``latency`` stages, one operation a cycle.

Members
-------
advance : In(1)
    The pipe moves. While it is low, everything stands still.
a, b : In(32)
a_present, b_present : In(1)
o : Out(32)
    Anything if nothing is present.
o_present : Out(1)
    ``a`` or ``b`` was present; low after a reset until the first of them arrives.
overflow : Out(1)
    Both were present, and the result wrapped.
"""
