"""Payloads of the streams that join the chip's units, outermost first.

Order in the data path: `token` (a loop's coordinate) -> `FIBER_BLOCKS` (a scanned fiber's block
words) -> `joined` (blocks joined over the operands) -> steps (up to M lanes of two blocks) ->
`terms` (their sums or products, with their places in the accumulator) -> `RESULT_BLOCK` (a finished
block of the result) -> `LINE_WRITE`.
"""

from amaranth.lib import data, enum

from .config import (
    ADDRESS_BITS,
    COORDINATE_BITS,
    LANES,
    LINE_BYTES,
    PAIR,
    POSITION_BITS,
    WIDE_BITS,
    ChipConfig,
)
from .format import BLOCK_COORDINATE_BITS, BLOCK_MASK_BITS
from .registers import STAGES, ErrorCode

BLOCK_WORD = data.StructLayout({"mask": BLOCK_MASK_BITS, "coordinate": BLOCK_COORDINATE_BITS})
"""A block word, as `format` defines it."""


def token(config: ChipConfig) -> data.StructLayout:
    """One iteration of a loop, passed to the next row.

    ``position[o]`` and ``present[o]`` are operand o's; ``fiber`` and ``key`` are the result's
    (`descriptor.ResultMode`). ``stop`` is the number of fibers that end with this token, counted
    from this row outwards. A ``null`` token carries only its stop. ``epoch`` counts replays, modulo
    2.
    """
    return data.StructLayout(
        {
            "position": data.ArrayLayout(POSITION_BITS, config.operands),
            "present": config.operands,
            "fiber": POSITION_BITS,
            "key": COORDINATE_BITS,
            "stop": config.stop_bits,
            "null": 1,
            "epoch": 1,
        }
    )


FIBER_REQUEST = data.StructLayout({"position": POSITION_BITS, "empty": 1})
"""A fiber to scan; with ``empty`` the answer is an empty fiber, without a read."""

FIBER_BLOCKS = data.StructLayout(
    {
        "word": data.ArrayLayout(BLOCK_WORD, PAIR),
        "rank": data.ArrayLayout(COORDINATE_BITS, PAIR),
        "count": range(PAIR + 1),
        "child": POSITION_BITS,
        "last": 1,
    }
)
"""The next ``count`` block words of a fiber.

``rank[i]`` is the number of the fiber's coordinates before word i; ``child`` is the fiber's first
child. ``count`` is 1 or 2, or 0 if only ``last`` is left to send.
"""

BOUND_BITS = BLOCK_COORDINATE_BITS + 1
"""Bits of a bound: up to 2^16, which is above all block coordinates."""

BOUND = data.StructLayout({"head": BOUND_BITS, "next": BOUND_BITS})
"""Block words of a fiber that cannot match: those below ``head`` and, once a word at or above
``head`` has been passed on, those below ``next``.
"""

AHEAD = data.StructLayout({"valid": 1, "coordinate": BLOCK_COORDINATE_BITS})
"""The coordinate of a fiber's next item, known while the one before it waits."""


def joined_block(config: ChipConfig) -> data.StructLayout:
    """A block with the lanes that the lane table keeps.

    ``lanes`` are kept; ``mask[o]`` and ``rank[o]`` are operand o's, or 0 if it does not have the
    block.
    """
    return data.StructLayout(
        {
            "coordinate": BLOCK_COORDINATE_BITS,
            "lanes": LANES,
            "mask": data.ArrayLayout(BLOCK_MASK_BITS, config.operands),
            "rank": data.ArrayLayout(COORDINATE_BITS, config.operands),
        }
    )


def joined(config: ChipConfig, pair: int) -> data.StructLayout:
    """The next ``count`` joined blocks (up to ``pair``) of a row's fiber.

    ``count`` is 0 only if ``last`` alone is left to send. ``child[o]`` is the first child of
    operand o's fiber.
    """
    return data.StructLayout(
        {
            "block": data.ArrayLayout(joined_block(config), pair),
            "count": range(pair + 1),
            "child": data.ArrayLayout(POSITION_BITS, config.operands),
            "last": 1,
        }
    )


WEIGHT_BITS = 16
"""Bits of a weight: how much work coordinates of row 0 are expected to be."""


def chunk(config: ChipConfig) -> data.StructLayout:
    """Lanes of a joined block of row 0 for one PE, and their weight.

    ``item.count`` is 0 only if ``item.last`` alone is left to send; then ``weight`` is 0.
    """
    return data.StructLayout({"item": joined(config, 1), "weight": WEIGHT_BITS})


def gather_request(lanes: int) -> data.StructLayout:
    """A step's request to a read stream: the byte addresses of its valid lanes' items, each aligned
    to its size.
    """
    return data.StructLayout({"valid": lanes, "address": data.ArrayLayout(ADDRESS_BITS, lanes)})


def gather_reply(lanes: int) -> data.ArrayLayout:
    """For each lane, the 32 bits from its address on, or 0 if it was not valid."""
    return data.ArrayLayout(WIDE_BITS, lanes)


def line_request(config: ChipConfig, *, slot_bits: int | None = None) -> data.StructLayout:
    """A line read: its number (byte address / 32) and the slot that takes the answer, of a pool
    unless ``slot_bits`` are given.
    """
    bits = config.pool_bits if slot_bits is None else slot_bits
    return data.StructLayout({"line": ADDRESS_BITS - 5, "slot": bits})


def line_reply(config: ChipConfig, *, slot_bits: int | None = None) -> data.StructLayout:
    """The answer to a `line_request`, in any order."""
    bits = config.pool_bits if slot_bits is None else slot_bits
    return data.StructLayout({"data": 8 * LINE_BYTES, "slot": bits, "error": 1})


def lookup(config: ChipConfig) -> data.StructLayout:
    """Blocks of the result that need slots: lanes ``mask[i]`` of block ``block[i]``.

    ``end``: the result fiber's last lookup. ``retire``: the row-0 token's last lookup. ``final``:
    the nest's last one.
    """
    return data.StructLayout(
        {
            "count": range(PAIR + 1),
            "block": data.ArrayLayout(BLOCK_COORDINATE_BITS, PAIR),
            "mask": data.ArrayLayout(LANES, PAIR),
            "end": 1,
            "retire": 1,
            "final": 1,
            "epoch": 1,
        }
    )


def found(config: ChipConfig) -> data.StructLayout:
    """The answer to a `lookup`, in order.

    ``keep[i]``: block i has slot ``slot[i]``; its lanes ``first[i]`` are new and store. A block
    that is not kept is dropped. ``stale``: the whole request was issued before a replay and is
    dropped, including its end.
    """
    return data.StructLayout(
        {
            "keep": PAIR,
            "slot": data.ArrayLayout(config.slot_bits, PAIR),
            "first": data.ArrayLayout(LANES, PAIR),
            "stale": 1,
        }
    )


def terms(config: ChipConfig) -> data.StructLayout:
    """Up to M wide values and their destinations.

    Lane m goes to bank ``index[m]`` of accumulator slot ``place[m]``; ``first`` stores, the others
    add. If the nest does not accumulate, ``index`` is the lane and ``place`` the block coordinate.
    ``end``: the result fiber ``fiber`` is complete once these are in; ``final``: so is the nest.
    """
    m = config.multipliers
    return data.StructLayout(
        {
            "valid": m,
            "value": data.ArrayLayout(WIDE_BITS, m),
            "index": data.ArrayLayout(range(LANES), m),
            "place": data.ArrayLayout(max(BLOCK_COORDINATE_BITS, config.slot_bits), m),
            "first": m,
            "fiber": POSITION_BITS,
            "end": 1,
            "final": 1,
        }
    )


RESULT_BLOCK = data.StructLayout(
    {
        "coordinate": BLOCK_COORDINATE_BITS,
        "mask": LANES,
        "second": data.StructLayout({"coordinate": BLOCK_COORDINATE_BITS, "mask": LANES}),
        "value": data.ArrayLayout(WIDE_BITS, LANES),
        "fiber": POSITION_BITS,
        "last": 1,
        "final": 1,
    }
)
"""A finished block of the result fiber ``fiber``, blocks ascending.

It may include the fiber's next block: ``second``, whose lanes (if ``second.mask`` is not 0) are
disjoint from the first one's. Values outside both masks are undefined. ``last`` ends the fiber;
both masks are 0 if no block is left to send with it. ``final`` ends the nest. A coordinate of 16
bits times 16 lanes spans 2^20.
"""

LINE_WRITE = data.StructLayout(
    {"line": ADDRESS_BITS - 5, "data": 8 * LINE_BYTES, "strobe": LINE_BYTES}
)
"""A write of the strobed bytes of one line."""


class StageState(enum.Enum, shape=2):
    """What a stage did in a cycle."""

    IDLE = 0
    BUSY = 1
    STARVED = 2
    STALLED = 3


EVENTS = data.StructLayout(
    {
        "multiplies": range(LANES + 1),
        "leaf_step": 1,
        "again": 1,
        "eviction": 1,
        "pool_full": 1,
        "result_blocks": range(PAIR + 1),
        "result_values": range(LANES + 1),
        "stage": data.ArrayLayout(StageState, len(STAGES)),
    }
)
"""What happened in a PE this cycle, for the performance counters (`registers.COUNTERS`).

Lines are counted at the chip's memory port.
"""

LEVEL_FAULT = data.StructLayout({"tensor": 1, "coordinate": 1})
"""What is wrong with a compressed level: ``tensor``, it is inconsistent; ``coordinate``, it has a
coordinate at or above its index's size. Stays until reset.
"""

ERROR = data.StructLayout({"code": ErrorCode, "where": 32})
"""An error, or code NONE. Stays until reset."""
