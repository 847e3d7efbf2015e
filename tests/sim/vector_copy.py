"""A small kernel, ``y[i] = x[i]``, and the memory of its operand: for lists of kernels."""

import numpy as np

from loopnest_hw.config import ChipConfig
from loopnest_hw.descriptor import LeafMode, ResultMode
from loopnest_sim.image import Image

from .tensors import rings

TABLE, BLOCKS, VALUES, RESULT = 0x8000, 0x8100, 0x8200, 0x9000
SIZE = 40
COORDINATES = [0, 8, 39]
WORDS = [0 << 16 | 0x0101, 2 << 16 | 0x0080]
"""Block words of the one fiber, with these coordinates."""

PRESENT = 0xAA
"""The table of operand 0."""


def copy_of_a_vector(config: ChipConfig) -> dict[str, int]:
    """Return the descriptor of ``y[i] = x[i]``, compressed to dense values."""
    leaf = f"row.{config.rows - 1}"
    d = rings(config) | {f"row.{r}.bypass": 1 for r in range(1, config.rows - 1)}
    d |= {"row.0.cell.0.ones": 1, "row.0.size": 1, "row.0.block_table": PRESENT}
    d |= {"row.0.lane_table": PRESENT, f"{leaf}.cell.0.mode": 2, f"{leaf}.size": SIZE}
    d |= {f"{leaf}.block_table": PRESENT, f"{leaf}.lane_table": PRESENT, f"{leaf}.cell.0.step": 1}
    d |= {f"{leaf}.result_mode": int(ResultMode.KEY), f"{leaf}.result_step": 1}
    d |= {"scanner.0.table": TABLE, "scanner.0.blocks": BLOCKS}
    d |= {"leaf_mode": int(LeafMode.AXPY), "op1": 2, "op2": 2, "drain_stop": 1, "last": 1}
    d |= {"operand.0.used": 1, "operand.0.values": VALUES}
    d |= {"result.size": SIZE, "result.values": RESULT, "result.values_end": RESULT + 4 * SIZE}
    return d | {"budget": 1000}


def write_vector(image: Image, words: list[int] = WORDS, end: int | None = None) -> None:
    """Write the operand: its table, which may name another end, its block words, its values."""
    image.write(TABLE, np.array([0, 0, len(words) if end is None else end], np.uint32))
    image.write(BLOCKS, np.array(words, np.uint32))
    image.write(VALUES, np.array([5, 6, 7], np.int8))


def dependent_copies(
    config: ChipConfig, background: int, *, counters: int = 0
) -> list[dict[str, int]]:
    """Return the list ``y[i] = x[i]``, ``z[i] = y[r(i)]``, r(i) being the rank of i in x.

    Both results are initialised. The second kernel reads what the first one writes, and its
    background. The counters go to ``counters`` and the lines behind, if it is not 0.
    """
    first = copy_of_a_vector(config) | {"last": 0, "result.initialise": 1}
    first |= {"result.background": background, "counters": counters}
    second = first | {"last": 1, "operand.0.values": RESULT, "operand.0.wide": 1}
    moved = RESULT + 0x1000
    second |= {"result.values": moved, "result.values_end": moved + 4 * SIZE}
    return [first, second | {"counters": counters and counters + 0x100}]
