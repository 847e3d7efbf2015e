"""The skew of the lane banks: the bank of each lane of a block."""

from amaranth.hdl import Cat, Mux, Value

from ..config import BANK_SKEW, LANES


def is_skewed(block: Value) -> Value:
    """Return whether a block of the accumulator has its lanes in other banks than their own."""
    return block.xor()


def swapped(lanes: Value, skewed: Value) -> Value:
    """Return a block's lanes in the order of their banks, or its banks in that of their lanes."""
    assert len(lanes) == LANES
    return Mux(skewed, Cat(lanes[n ^ BANK_SKEW] for n in range(LANES)), lanes)
