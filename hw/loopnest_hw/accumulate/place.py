"""Layouts of the accumulator's blocks, words and hashed tables."""

from amaranth.lib import data

from ..config import LANES, ChipConfig
from ..format import BLOCK_COORDINATE_BITS

BANK_BITS = 5
"""Low bits of a block's coordinate: its number within its word."""

BANKS = 1 << BANK_BITS
"""Blocks of a directory word."""

WORD_BITS = BLOCK_COORDINATE_BITS - BANK_BITS
"""Bits of a block's word number."""

BLOCK = data.StructLayout({"bank": BANK_BITS, "word": WORD_BITS})
"""A block's coordinate."""

TABLES = 2
"""Tables that a tag can be in, at different sets."""

WAYS = 4
"""Tags of a set."""


def set_bits(config: ChipConfig) -> int:
    """Return the bits of a set's number: there are at least twice as many tags as slots."""
    sets = -(-2 * config.slots // (TABLES * WAYS))
    return max(1, (sets - 1).bit_length())


def context_bits(config: ChipConfig) -> int:
    """Return the bits of a context's number."""
    return (config.fibers_in_flight - 1).bit_length()


def context_pointer(config: ChipConfig) -> int:
    """Return the bits of a context's number plus one wrap bit."""
    return config.fibers_in_flight.bit_length()


def place_layout(config: ChipConfig) -> data.StructLayout:
    """A block of a context."""
    return data.StructLayout(
        {"bank": BANK_BITS, "word": WORD_BITS, "context": context_bits(config)}
    )


def word_place_layout(config: ChipConfig) -> data.StructLayout:
    """A directory word of a context."""
    return data.StructLayout({"word": WORD_BITS, "context": context_bits(config)})


def entry_layout(config: ChipConfig) -> data.StructLayout:
    """A block's touched lanes and its slot."""
    return data.StructLayout({"touched": LANES, "slot": config.slot_bits})


def where_layout(bits: int) -> data.StructLayout:
    """A tag's position: its way and table, and the set, of so many bits."""
    return data.StructLayout({"way": range(WAYS), "table": range(TABLES), "set": bits})
