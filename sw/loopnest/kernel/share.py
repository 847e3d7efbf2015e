"""How several PEs share a kernel: the descriptor's ``share`` fields, and the room that a result
needs whose fibers they write in any order.
"""

from math import ceil

from loopnest_hw.config import LANES, ChipConfig
from loopnest_hw.descriptor import PIECE_FIBERS, ROOM_BLOCKS, ROOM_VALUES

from ..formats.pack import COMPRESSED
from ..loops.plan import Plan

QUANTUM, CREDIT = 32, 192
"""Weights (block words) of a chunk, and above which a PE gets no further one, at most, in a nest of
two loops. With less credit a PE waits for memory, with more they end at different times (measured
on `small` and `large`, with a latency of 100).
"""

DEEP_QUANTUM, DEEP_CREDIT = 8, 96
"""The same in deeper nests, where a block word leads to whole fibers."""

QUANTUM_STEPS, CREDIT_STEPS = 64, 1024
"""Leaf steps of which a chunk, and what a PE holds, have enough: less weight will do where it leads
to so many, and PEs end closer together.
"""

WIDE_BLOCKS = QUANTUM // 4
"""Mean weight of a coordinate up to which they are weighed four at a time, which are no more than a
chunk then: with short rows, the dispatcher is the limit otherwise.
"""


def shares_rows(config: ChipConfig, plan: Plan) -> bool:
    """Return whether the PEs share out the outermost loop."""
    return config.pes > 1 and plan.result.shared(plan.nest.rows[0].index)


def share_fields(config: ChipConfig, plan: Plan) -> dict[str, int]:
    """Return the descriptor's ``share`` fields."""
    if not shares_rows(config, plan):
        return {}
    deep = len(plan.nest.rows) > 2
    mean, typical = _weights(plan)
    values, blocks = _longest(plan)
    return {
        "share.rows": 1,
        "share.wide": not deep and mean <= WIDE_BLOCKS,
        **_chunks(plan, mean, typical, *(DEEP_QUANTUM, DEEP_CREDIT) if deep else (QUANTUM, CREDIT)),
        "share.fiber_values": values,
        "share.fiber_blocks": blocks,
    }


def _chunks(plan: Plan, mean: float, typical: float, quantum: int, credit: int) -> dict[str, int]:
    """Return the fields for coordinates of this mean weight, with at most these numbers;
    ``typical`` is the mean weight of those on which the PEs spend their time.

    Coordinates that are heavy enough go alone. The credit is never less than the weight of two
    typical ones: a PE gets the next one before it ends one.
    """
    outermost = plan.nest.rows[0].index
    assert outermost is not None, "PEs share the coordinates of a loop"
    coordinates = plan.sizes[outermost]
    steps = plan.expected.stages.get("leaf", 0.0) / (coordinates * mean)

    def enough(wanted: int, least: float, most: int) -> int:
        return most if steps * most <= wanted else min(most, ceil(max(least, wanted / steps)))

    together = enough(QUANTUM_STEPS, 1, quantum)
    return {
        "share.quantum": 1 if mean >= together else together,
        "share.credit": enough(CREDIT_STEPS, 2 * typical, credit),
    }


def shared_room(config: ChipConfig, plan: Plan, values: int, blocks: int) -> tuple[int, int]:
    """Return the values and block words for which a compressed result of so many needs room.

    A piece is left when less of it remains than the longest fiber may need, which is a part in
    `PIECE_FIBERS`; the last piece of every PE may be empty.
    """
    if not shares_rows(config, plan):
        return values, blocks
    longest_values, longest_blocks = _longest(plan)
    used = (PIECE_FIBERS - 1) / PIECE_FIBERS
    pieces = config.pes * PIECE_FIBERS
    return (
        ceil(values / used) + pieces * ROOM_VALUES * longest_values,
        ceil(blocks / used) + pieces * ROOM_BLOCKS * longest_blocks,
    )


def _weights(plan: Plan) -> tuple[float, float]:
    """Return the mean weight of a coordinate, and that of the one in which a weighed block word is.

    The words are those of what the second loop scans for a coordinate.
    """
    for operand, stored in zip(plan.operands, plan.nest.columns, strict=True):
        level = stored.level(plan.nest.rows[1].index)
        if level is not None and stored.levels[level] == COMPRESSED:
            mean, typical = operand.blocks(stored, level), operand.typical_blocks(stored, level)
            return max(1.0, mean), max(1.0, typical)
    return 1.0, 1.0


def _longest(plan: Plan) -> tuple[int, int]:
    """Return the most values and block words of a result fiber, in the descriptor's units."""
    span = plan.result.span
    return -(-span // ROOM_VALUES), -(-span // (LANES * ROOM_BLOCKS))
