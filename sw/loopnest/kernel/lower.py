"""Lowers a plan and its packed operands to a kernel descriptor and the contents of memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopnest_hw.config import (
    EPILOGUE_READS,
    LANES,
    LINE_BYTES,
    POSITION_BITS,
    ChipConfig,
    NumberFormat,
)
from loopnest_hw.descriptor import CellMode, Op, Output, ResultMode, pack
from loopnest_hw.format import ENTRY_BYTES, LINE_WORDS, OPEN_STRIDE, WORD_BYTES
from loopnest_hw.registers import snapshot_lines

from ..arguments import check_memory
from ..cost.copies import choose_copies
from ..cost.estimate import product_lanes
from ..epilogue import Epilogue, lower_epilogue
from ..formats.pack import CompressedLevel
from ..formats.tensor import Tensor
from ..loops.outline import Outline
from ..loops.plan import Plan
from ..loops.streams import share_pool
from ..nest.nest import Nest, Row
from ..nest.tables import keep_tables
from .arena import DESCRIPTOR, Arena, Placed, addresses_of
from .prefetch import Read, prefetch_fields
from .share import share_fields, shared_room

MIN_CAPACITY = 1 << 16
"""Minimum capacity of a compressed result in entries, unless it cannot have that many."""

MAX_RESERVED_LANES = 1 << 26
"""Maximum lanes of a product for which the capacity is one entry for each lane."""

CAPACITY = 8
"""Capacity of a compressed result, as a multiple of the expected entries."""

ON_HOST, ON_CHIP = object(), object()
"""Who initialises a result."""

BUDGET = 20_000_000
CYCLES_PER_STEP = 200
MAX_BUDGET = (1 << 32) - 1
"""The cycle budget: this, plus `CYCLES_PER_STEP` for each expected step, whatever the latency."""


@dataclass(frozen=True)
class Kernel:
    """A kernel in memory.

    Attributes
    ----------
    fields : mapping of str to int
        The descriptor's fields by path.
    segments : list of (address, array)
        Arrays to write before the start, including the descriptor; empty in a list of kernels.
    plan : Plan or Outline
    tensors : tuple of Tensor or Placed
        The packed operands by column.
    narrow : bool
        Whether the result's values are narrow.
    capacity : int
        Entries that fit a compressed result's regions.
    most : int
        Maximum number of entries that it can have.
    descriptor : int
        Byte address of the descriptor.
    """

    fields: Mapping[str, int]
    segments: list[tuple[int, NDArray]]
    plan: Plan | Outline
    tensors: tuple[Tensor | Placed, ...]
    narrow: bool
    capacity: int
    most: int
    descriptor: int = field(default=DESCRIPTOR)


@dataclass(frozen=True)
class Listed:
    """A kernel's place in a list: the memory of all of them, the byte address of its result's
    regions, whether it is the last one, and the descriptor's ``copies`` and ``budget``, which a
    sample of the operands tells before they are there. ``based``: the region has the tensor of
    which the result is a part.
    """

    arena: Arena
    result: int
    last: bool
    copies: int
    budget: int
    based: bool


def lower(
    config: ChipConfig,
    plan: Plan,
    tensors: tuple[Tensor | Placed, ...],
    *,
    epilogue: Epilogue | None = None,
    capacity: int | None = None,
    listed: Listed | None = None,
    base: Tensor | None = None,
) -> Kernel:
    """Lay out memory and fill in the descriptor.

    Parameters
    ----------
    tensors : tuple of Tensor or Placed
        The plan's operands, packed accordingly.
    capacity : int, optional
        Entries to reserve for a compressed result; by default the number of lanes of a product, or
        a multiple of the expected entries.
    listed : Listed, optional
        The place in a list of kernels.
    base : Tensor, optional
        The tensor of which the result is a part, without it; by default zeros.

    Raises
    ------
    ValueError
        If memory or a field is too small, or the epilogue does not fit the result.
    """
    lanes = None
    viewed = any(stored.access.places is not None for stored in plan.nest.columns)
    packed = tuple(tensor for tensor in tensors if isinstance(tensor, Tensor))
    if plan.nest.lane.op1 is Op.MUL and len(packed) == len(tensors) == 2 and not viewed:
        lanes = product_lanes(plan.nest.columns, packed)
    if listed is None:
        arena = Arena(DESCRIPTOR + pack(config, {}).nbytes)
        fields: dict[str, int] = {"last": 1}
    else:
        arena = listed.arena
        counters = arena.reserve(snapshot_lines(config.pes) * LINE_BYTES)
        fields = {"last": listed.last, "counters": counters}
    _rows(config, plan, fields)
    reads = _operands(config, plan, tensors, arena, fields)
    result = plan.result
    fields |= {
        "leaf_mode": result.leaf_mode,
        "accumulate": result.accumulate,
        "drain_stop": result.drain_stop,
        "op1": plan.semiring.op(plan.nest.lane.op1),
        "op2": plan.semiring.op(plan.nest.lane.op2),
        "reduction": plan.semiring.reduction,
        "budget": min(MAX_BUDGET, BUDGET + int(CYCLES_PER_STEP * _steps(plan, lanes))),
        "result.full": result.full,
        "result.fill": plan.semiring.zero_bits(config.dtype),
        "result.size": result.span,
        "result.compressed": result.compressed,
        "result.start": 0 if result.part is None else result.part.start,
        **share_fields(config, plan),
        **prefetch_fields(config, reads),
    }
    narrow = epilogue is not None and epilogue.narrow
    fields["result.output"] = Output.NARROW if narrow else Output.WIDE
    most = result.fibers * result.span
    if capacity is None:
        capacity = int(CAPACITY * plan.expected.entries) + MIN_CAPACITY
        if result.full:
            capacity = most
        elif lanes is not None and lanes <= MAX_RESERVED_LANES:
            capacity = lanes
    capacity = most if listed is not None else min(capacity, most)
    if epilogue is not None:
        fields |= lower_epilogue(config, epilogue, plan, arena.put)
    place = arena if listed is None else Arena(listed.result)
    if listed is not None:
        initial = None if listed.based else ON_CHIP
    else:
        initial = ON_HOST if base is None else base.values
    _result(config, plan, narrow, capacity, place, fields, initial)
    rings = share_pool(config, plan.scanners, plan.expected, _epilogue_lines(plan, fields))
    for s, (first, last) in enumerate(rings):
        fields |= {f"ring.{s}.base": first, f"ring.{s}.last": last}
    plain = {path: int(value) for path, value in fields.items()}
    held = 0.0 if result.replayable else plan.expected.held
    if listed is not None:
        plain |= {"copies": listed.copies, "budget": listed.budget}
        return Kernel(plain, [], plan, tensors, narrow, capacity, most)
    plain["copies"] = choose_copies(
        config, plain, arena.image, lanes or plan.expected.multiplies, held
    )
    segments = [(DESCRIPTOR, pack(config, plain)), *arena.segments]
    return Kernel(plain, segments, plan, tensors, narrow, capacity, most)


def value_bytes(dtype: NumberFormat, narrow: bool) -> int:
    """Return the bytes of a value of an operand or a result."""
    return dtype.narrow_bytes if narrow else WORD_BYTES


def region_sizes(
    config: ChipConfig, plan: Plan, narrow: bool, capacity: int | None = None
) -> dict[str, int]:
    """Return the bytes of the regions of a result, by name; ``capacity`` are the entries of a
    compressed one, by default as many as it can have.
    """
    result, size = plan.result, value_bytes(config.dtype, narrow)
    most = result.fibers * result.span
    if not result.compressed:
        return {"values": result.places * size}
    entries = most if capacity is None else capacity
    words = min(entries, result.fibers * -(-result.span // LANES))
    values, blocks = shared_room(config, plan, entries, words)
    return {
        # at least one entry, for the end of an outer loop if an inner one has no coordinate
        "table": max(1, result.fibers) * ENTRY_BYTES,
        "blocks": blocks * WORD_BYTES,
        "values": values * size,
    }


def _epilogue_lines(plan: Plan, fields: Mapping[str, int]) -> float:
    """Return the lines of biases and scales that are expected to be read."""
    result = plan.result
    modes = [fields.get(f"epilogue.{name}_mode", 0) for name in ("bias", "scale")]
    # Each step reads neighbours of both arrays, so it changes its line twice if both are in memory.
    together = EPILOGUE_READS if all(modes) else LINE_WORDS
    places = max(1, result.fibers * result.span)
    untouched = 1 - min(1.0, plan.expected.entries / places)
    return sum(map(bool, modes)) * places / together * (1 - untouched**together)


def _steps(plan: Plan, lanes: int | None) -> float:
    result, expected = plan.result, plan.expected
    visits = result.fibers * -(-result.span // LANES) if result.full else 0
    return expected.cycles + expected.lines + (lanes or expected.multiplies) + visits


def _rows(config: ChipConfig, plan: Plan, fields: dict[str, int]) -> None:
    rows = {row.number: row for row in plan.nest.rows}
    for r in range(config.rows):
        if r not in rows:
            fields[f"row.{r}.bypass"] = 1
            continue
        joins = sum(
            (cell.ones or cell.mode is CellMode.SCAN) << c for c, cell in enumerate(rows[r].cells)
        )
        mask = plan.nest.lane.mask
        last = mask is not None and plan.nest.columns[mask].indices[-1] == rows[r].index
        tables = keep_tables(plan.nest.lane, config.operands, joins, last=last)
        _row(plan, rows[r], tables, fields)


def _row(plan: Plan, row: Row, tables: tuple[int, int], fields: dict[str, int]) -> None:
    mode, step = ResultMode.HOLD, 0
    if row.index is not None:
        mode, step = plan.result.modes.get(row.index, (ResultMode.HOLD, 0))
    fields |= {
        f"row.{row.number}.block_table": tables[0],
        f"row.{row.number}.lane_table": tables[1],
        f"row.{row.number}.size": row.size,
        f"row.{row.number}.result_mode": mode,
        f"row.{row.number}.result_step": step,
    }
    for c, cell in enumerate(row.cells):
        path = f"row.{row.number}.cell.{c}"
        fields |= {f"{path}.mode": cell.mode, f"{path}.ones": cell.ones, f"{path}.step": cell.step}
        if (row.number, c) in plan.scanners:
            fields[f"{path}.scanner"] = plan.scanners[row.number, c]


def _operands(
    config: ChipConfig,
    plan: Plan,
    tensors: tuple[Tensor | Placed, ...],
    arena: Arena,
    fields: dict[str, int],
) -> list[Read]:
    """Return the arrays that the kernel reads, tables and blocks row by row before values."""
    nest: Nest = plan.nest
    expected = plan.expected
    tables: list[tuple[int, Read]] = []
    values_read: list[Read] = []
    for c, tensor in enumerate(tensors):
        if isinstance(tensor, Placed):
            values, levels, sizes = tensor.values, tensor.levels, tensor.sizes
        else:
            values, levels = arena.place(tensor, plan.operands[c].name)
            arrays = [array for a in tensor.arrays if a is not None for array in (a.table, a.words)]
            sizes = tuple(array.nbytes for array in (*arrays, tensor.values))
        if c == nest.lane.mask and isinstance(tensor, Tensor):
            # next to an absent term it would be added to another one
            neutral = plan.semiring.neutral_bits(config.dtype)
            array = tensor.arrays[-1]
            assert array is not None
            values = arena.put(np.array([neutral], np.uint32))
            levels = (*levels[:-1], (arena.put(without_values(array)), arena.put(array.words)))
            sizes = (*sizes[:-1], WORD_BYTES)
        wide = tensor.wide or c == nest.lane.mask
        # a part of a tensor begins somewhere in its arrays
        whole = not nest.columns[c].start
        nbytes = dict(zip(addresses_of(levels, values), sizes, strict=True))
        if whole:
            size = min(nbytes[values], _reach(plan, c) * value_bytes(config.dtype, not wide))
            values_read.append(Read(values, size, expected.value_lines.get(c, 0.0)))
        fields |= {
            f"operand.{c}.used": 1,
            f"operand.{c}.wide": wide,
            f"operand.{c}.negate": nest.lane.negate[c],
            f"operand.{c}.values": values,
            # positions are modulo 2^32
            f"operand.{c}.start": nest.columns[c].start % (1 << POSITION_BITS),
        }
        for row in nest.rows:
            cell = row.cells[c]
            if cell.mode is not CellMode.SCAN or cell.level is None:
                continue
            level = nest.columns[c].packed_level(cell.level)
            addresses = levels[level]
            assert addresses is not None
            if isinstance(tensor, Tensor):
                array = tensor.arrays[level]
                assert array is not None
                stride = array.stride
            else:
                stride = tensor.stride
            path = f"scanner.{plan.scanners[row.number, c]}" if row.number else f"dispatch.{c}"
            fields |= {
                f"{path}.open": stride == OPEN_STRIDE,
                f"{path}.table": addresses[0],
                f"{path}.blocks": addresses[1],
            }
            if not whole:
                continue
            counted = expected.position_lines, expected.block_lines
            for address, lines in zip(addresses, counted, strict=True):
                read = Read(address, nbytes[address], lines.get((row.number, c), 0.0))
                tables.append((row.number, read))
    in_order = sorted(tables, key=lambda of_row: of_row[0])
    return [*(read for _, read in in_order), *values_read]


def _reach(plan: Plan, column: int) -> int:
    """Return how many of the first values of an operand, which begins with its array, the nest may
    read: not all of them if it is a view. It is 2^32 if that depends on what a scanner finds.
    """
    last = 0
    for row in plan.nest.rows:
        cell = row.cells[column]
        if cell.mode is CellMode.SCAN or cell.step < 0:
            return 1 << POSITION_BITS
        if cell.mode is CellMode.FOLLOW:
            last += cell.step * max(0, row.size - 1)
    return last + 1


def without_values(level: CompressedLevel) -> NDArray[np.uint32]:
    """Return the position table of a mask's last level, in which all positions are 0."""
    table = level.table.copy()
    table[1 :: level.stride] = 0
    return table


def _result(
    config: ChipConfig,
    plan: Plan,
    narrow: bool,
    capacity: int,
    arena: Arena,
    fields: dict[str, int],
    initial: Any,
) -> None:
    """Place the result; tables are initialised with zeros, dense values with the semiring's zero,
    so that a fiber that is not visited is empty, `ON_HOST` or `ON_CHIP`; or the region has the
    values ``initial``, or if that is None what is there.
    """
    result, sizes = plan.result, region_sizes(config, plan, narrow, capacity)
    # if the semiring's zero is not 0, an epilogue visits the whole result, and zeros stay
    background = 0 if fields.get("epilogue.enable") else plan.semiring.zero_bits(config.dtype)

    if not result.compressed:
        target, nbytes = plan.statement.result, sizes["values"]
        shape = [plan.sizes[i] for i in target.indices]
        shape = shape if result.part is None else list(result.part.shape)
        check_memory(f"dense result {target}", shape, nbytes, "use out= with compressed levels")
    arena.check(f"result {plan.statement.result}", sum(sizes.values()))
    filled, word = ("table", 0) if result.compressed else ("values", background)
    for region, nbytes in sizes.items():
        if region != filled or initial is None:
            address = arena.reserve(nbytes)
        elif initial is ON_CHIP:
            fields |= {"result.initialise": 1, "result.background": word}
            address = arena.reserve(nbytes)
        elif initial is not ON_HOST:
            address = arena.put(initial)
        else:
            address = arena.put(np.full(-(-nbytes // WORD_BYTES), word, np.uint32))
        fields |= {f"result.{region}": address, f"result.{region}_end": address + nbytes}
