"""How several PEs share a kernel: the descriptor's ``share`` fields, and the room that a result
needs whose fibers they write in any order.
"""

from dataclasses import dataclass
from math import ceil

from loopnest_hw.config import LANES, PAIR_COORDINATES, ChipConfig
from loopnest_hw.descriptor import PIECE_FIBERS, ROOM_BLOCKS, ROOM_VALUES, CellMode, ResultMode

from ..expression.virtual import QUANTA
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
"""Leaf steps of a chunk, and of what a PE holds, from which on more weight does not pay: with less,
PEs end closer together (measured like `QUANTUM`).
"""


@dataclass(frozen=True)
class _Weights:
    """What the dispatcher weighs: the mean weight of a coordinate, that of the coordinate in which
    a block word is, and the weight of all.
    """

    mean: float
    typical: float
    total: float


def shares_rows(config: ChipConfig, plan: Plan) -> bool:
    """Return whether the PEs share out the outermost loop."""
    return config.pes > 1 and plan.result.shared(plan.nest.rows[0].index)


def share_fields(config: ChipConfig, plan: Plan) -> dict[str, int]:
    """Return the descriptor's ``share`` fields."""
    if not shares_rows(config, plan):
        return {}
    deep = len(plan.nest.rows) > 2
    weights = _weights(plan)
    quantum, credit = _chunks(
        plan, weights, *(DEEP_QUANTUM, DEEP_CREDIT) if deep else (QUANTUM, CREDIT)
    )
    values, blocks = _longest(plan)
    return {
        "share.rows": 1,
        # with short rows, the dispatcher is the limit otherwise; four are no more than a chunk then
        "share.wide": not deep and 4 * weights.mean <= quantum,
        "share.quantum": quantum,
        "share.credit": credit,
        **_turns(config, plan, deep),
        "share.fiber_values": values,
        "share.fiber_blocks": blocks,
    }


def _turns(config: ChipConfig, plan: Plan, deep: bool) -> dict[str, int]:
    """Return in which turns virtual rows and others go; where rows are stored compressed, they go
    in their order.

    In deeper nests either kind reads whole fibers, and the others write more: in turns, they need
    the memory evenly, and what the parts read is there for others nearby. In a nest of two loops
    all need little but their own entries, and a part takes longer than its weight says, so parts go
    first (measured on `large`).
    """
    row = plan.nest.rows[0]
    virtual = max(operand.virtual for operand in plan.operands)
    ascending = any(cell.mode is CellMode.SCAN for cell in row.cells)
    if not virtual or ascending or plan.result.modes[plan.loops[0]][0] is not ResultMode.FIBER:
        return {}
    head = -(-virtual // PAIR_COORDINATES)
    others = -(-row.size // PAIR_COORDINATES) - head
    # the others that are left when the last part begins take all PEs as long as a part takes one
    left = min(1.0, config.pes / max(1, QUANTA - virtual)) if deep else 1.0
    return {
        "share.head": head,
        "share.between": int((1 - left) * others / max(1, virtual - 1)),
    }


def _chunks(plan: Plan, weights: _Weights, quantum: int, credit: int) -> tuple[int, int]:
    """Return quantum and credit, at most these numbers.

    Coordinates that are heavy enough go alone. Up to that limit, the credit is no less than the
    weight of two typical ones: a PE gets the next one before it ends one.
    """
    steps = plan.expected.stages.get("leaf", 0.0) / max(1.0, weights.total)

    def enough(wanted: int, least: float, most: int) -> int:
        return most if steps * most <= wanted else min(most, ceil(max(least, wanted / steps)))

    together = enough(QUANTUM_STEPS, 1, quantum)
    alone = weights.mean >= together
    return 1 if alone else together, enough(CREDIT_STEPS, 2 * weights.typical, credit)


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


def _weights(plan: Plan) -> _Weights:
    """Return the weights by the level that the second loop scans, or 1 for each coordinate."""
    for operand, stored in zip(plan.operands, plan.nest.columns, strict=True):
        level = stored.level(plan.nest.rows[1].index)
        if level is not None and stored.levels[level] == COMPRESSED:
            found = operand.counted(stored)
            mean, typical = (
                max(1.0, n) for n in (found.blocks(level), found.typical_blocks(level))
            )
            return _Weights(mean, typical, max(found.words[level], found.fibers[level]))
    return _Weights(1.0, 1.0, plan.sizes[plan.loops[0]])


def _longest(plan: Plan) -> tuple[int, int]:
    """Return the most values and block words of a result fiber, in the descriptor's units."""
    span = plan.result.span
    return -(-span // ROOM_VALUES), -(-span // (LANES * ROOM_BLOCKS))
