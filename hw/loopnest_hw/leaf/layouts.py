"""Payloads of the streams between the units of the leaf."""

from amaranth.lib import data

from ..config import LANES, PAIR, POSITION_BITS, ChipConfig
from ..format import BLOCK_COORDINATE_BITS, BLOCK_MASK_BITS


def located_block(config: ChipConfig) -> data.StructLayout:
    """A block's place in memory and in the result.

    Operand o's value of lane l is at position ``base[o]`` plus its step times l (FOLLOW) or times
    the number of bits of ``mask[o]`` below l (SCAN). Result: ``place`` is the accumulator's slot or
    the block coordinate; lanes in ``first`` store; ``index`` is the accumulator's bank or the
    result's lane, in AXPY xor l (which is then 0 or `BANK_SKEW`).
    """
    return data.StructLayout(
        {
            "mask": data.ArrayLayout(BLOCK_MASK_BITS, config.operands),
            "base": data.ArrayLayout(POSITION_BITS, config.operands),
            "place": max(BLOCK_COORDINATE_BITS, config.slot_bits),
            "first": LANES,
            "index": range(LANES),
        }
    )


def placed_block(config: ChipConfig) -> data.StructLayout:
    """A `located_block` with its kept lanes."""
    return data.StructLayout({"lanes": LANES, **located_block(config).members})


def fiber_layout(config: ChipConfig) -> data.StructLayout:
    """Data common to all steps of a leaf fiber, and the flags of its last one."""
    return data.StructLayout(
        {"present": config.operands, "fiber": POSITION_BITS, "end": 1, "final": 1}
    )


def placed(config: ChipConfig) -> data.StructLayout:
    """The next ``count`` blocks of a leaf fiber; ``count`` may be 0."""
    return data.StructLayout(
        {
            "block": data.ArrayLayout(placed_block(config), PAIR),
            "count": range(PAIR + 1),
            "fiber": fiber_layout(config),
            "last": 1,
        }
    )


def formed(config: ChipConfig) -> data.StructLayout:
    """A step as the former cuts it: lanes ``take[n]`` of ``block[n]``, together at most M."""
    return data.StructLayout(
        {
            "block": data.ArrayLayout(located_block(config), PAIR),
            "take": data.ArrayLayout(LANES, PAIR),
            "fiber": fiber_layout(config),
            "last": 1,
        }
    )


def step(config: ChipConfig) -> data.StructLayout:
    """A step without its values: the destination of each lane, no longer its source."""
    m = config.multipliers
    return data.StructLayout(
        {
            "valid": m,
            "present": data.ArrayLayout(config.operands, m),
            "index": data.ArrayLayout(range(LANES), m),
            "place": data.ArrayLayout(max(BLOCK_COORDINATE_BITS, config.slot_bits), m),
            "first": m,
            "fiber": POSITION_BITS,
            "end": 1,
            "final": 1,
            "last": 1,
        }
    )


def sum_place(config: ChipConfig) -> data.StructLayout:
    """The destination of a dot fiber's sum: that of its first lane in `step`, and the flags of its
    end.
    """
    return data.StructLayout(
        {
            "index": range(LANES),
            "place": max(BLOCK_COORDINATE_BITS, config.slot_bits),
            "first": 1,
            "fiber": POSITION_BITS,
            "end": 1,
            "final": 1,
        }
    )
