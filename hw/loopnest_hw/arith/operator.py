"""The ports of units that combine two wide numbers, either of which may be absent."""

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
"""A pipeline of ``latency`` stages, one operation per cycle.

Members
-------
advance : In(1)
    The pipeline advances. While it is low, all registers hold. Stages without an operand hold too,
    but for the one that tells it.
a, b : In(32)
a_present, b_present : In(1)
o : Out(32)
    Undefined if neither is present.
o_present : Out(1)
    ``a`` or ``b`` was present; low after a reset until the first result.
overflow : Out(1)
    Both were present, and the result wrapped.
"""
