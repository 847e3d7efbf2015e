"""Layout of the accumulator's table."""

from amaranth.hdl import Cat, Value
from amaranth.lib import data

from ..config import LANES, ChipConfig
from ..format import BLOCK_COORDINATE_BITS

BANK_BITS = 5
"""Low bits of a block's coordinate that select the bank."""

BANKS = 1 << BANK_BITS
"""Banks of the table. A directory word is one address in all banks: 32 neighbouring blocks."""


WORD_BITS = BLOCK_COORDINATE_BITS - BANK_BITS
"""Bits of a block's word number, regardless of the window."""

BLOCK = data.StructLayout({"bank": BANK_BITS, "word": WORD_BITS})
"""A block's coordinate; its word may count from the pass's lower word."""


def context_pointer(config: ChipConfig) -> int:
    """Return the bits of a context's number plus one wrap bit."""
    return config.fibers_in_flight.bit_length()


def place_layout(config: ChipConfig) -> data.StructLayout:
    """A block of a context: bank, word (counted from the pass's lower one) and context."""
    return data.StructLayout(
        {
            "bank": BANK_BITS,
            "word": (config.window // BANKS - 1).bit_length(),
            "context": (config.fibers_in_flight - 1).bit_length(),
        }
    )


def address(place: data.View) -> Value:
    """Return the place's address in its bank."""
    return Cat(place.word, place.context)


def entry_layout(config: ChipConfig) -> data.StructLayout:
    """A block's touched lanes (0: the block has no entry) and its slot."""
    return data.StructLayout({"touched": LANES, "slot": config.slot_bits})
