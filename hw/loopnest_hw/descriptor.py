"""The kernel descriptor: every setting of one loop nest, as the chip reads it from memory.

`kernel_fields` is the only definition. Hardware, model and runtime walk the same list; the C
header, the JSON file and the docs' table are generated from it.

Fields are packed in order into 32-bit words, low bits first; a field that does not fit into the
rest of a word starts the next one. A descriptor occupies whole lines.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .config import COORDINATE_BITS, PAIR_COORDINATES, ChipConfig
from .format import LINE_WORDS, PAIR_BITS

MAGIC = 0x4E50
"""First half word of every descriptor."""


ROOM_VALUES = 32
ROOM_BLOCKS = 8
"""Units of ``share.fiber_values`` and ``share.fiber_blocks``: whole lines, whatever the type."""

PIECE_FIBERS = 4
"""A PE takes room for so many of the longest fibers at once (`result.rooms`)."""


PREFETCHES = 6
"""Ranges of memory that the cache reads ahead when a kernel starts."""

PREFETCH_BITS = 12
"""Bits of such a range's number of lines."""


class CellMode(IntEnum):
    """What an operand's cell does in its row."""

    HOLD = 0
    """The operand does not have this index: its position stays."""
    FOLLOW = 1
    """The index is dense: ``position + coordinate * step``."""
    SCAN = 2
    """The index is compressed: the cell's scanner walks the fiber."""


class ResultMode(IntEnum):
    """What the result's cell does in its row."""

    HOLD = 0
    """The result does not have this index: it is reduced."""
    FIBER = 1
    """The index selects the result's fiber: ``fiber + coordinate * step``."""
    KEY = 2
    """The index lies within the result's fiber: ``key + coordinate * step``."""


class Op(IntEnum):
    """A lane's operators."""

    MUL = 0
    ADD = 1
    FIRST = 2
    """The first argument alone."""
    MIN = 3
    MAX = 4


class Reduction(IntEnum):
    """How the terms of a key are combined: a semiring's addition."""

    SUM = 0
    MIN = 1
    MAX = 2


class LeafMode(IntEnum):
    """Shape of the leaf."""

    AXPY = 0
    """The leaf index is the result's innermost, step 1: products land in their lanes."""
    DOT = 1
    """The leaf index is reduced: products are summed and enter as one lane."""
    SCATTER = 2
    """Anything else: one lane per step."""


class Output(IntEnum):
    """Type of the result's values."""

    WIDE = 0
    NARROW = 1


@dataclass(frozen=True)
class Field:
    """One field: its dotted path (array elements by number), width in bits and meaning."""

    path: str
    bits: int
    doc: str


def kernel_fields(config: ChipConfig) -> Iterator[Field]:
    """Yield the descriptor's fields in the order they are packed."""
    yield Field("magic", 16, f"{MAGIC:#06x}, or the descriptor is refused")
    yield Field("last", 1, "the list of kernels ends with this one")
    yield Field("leaf_mode", 2, "LeafMode")
    yield Field("accumulate", 1, "1: through the accumulator; 0: keys occur once and ascend")
    yield Field("copies", 2, "0, 1, 2: the accumulator keeps 1, 2 or 4 copies of a key")
    yield Field("drain_stop", config.stop_bits, "a result fiber ends with a stop of at least this")
    yield Field("op2", 3, "Op of the second and third factors: y = op2(b, c)")
    yield Field("op1", 3, "Op of the first factor and that: x = op1(a, y)")
    yield Field("reduction", 2, "Reduction: how the terms of a key are combined")
    for s in range(config.scanners):
        yield Field(f"scanner.{s}.open", 1, "1: table stride 4; 0: stride 2")
    yield Field("budget", 32, "cycles this kernel may take")
    yield Field("counters", 32, "byte address to write all counters to at the end, or 0")
    if config.cached:  # in the first lines: they are read before the others have come
        for n in range(PREFETCHES):
            yield Field(f"prefetch.{n}.address", 32, "byte address of lines to read ahead")
        for n in range(PREFETCHES):
            yield Field(f"prefetch.{n}.lines", PREFETCH_BITS, "their number")
    for r in range(config.rows):
        yield Field(f"row.{r}.bypass", 1, "the nest does not have this loop: tokens pass")
        yield Field(f"row.{r}.block_table", config.table_bits, "bit p: keep blocks of pattern p")
        yield Field(f"row.{r}.lane_table", config.table_bits, "bit p: keep lanes of pattern p")
        yield Field(f"row.{r}.result_mode", 2, "ResultMode")
        for o in range(config.operands):
            cell = f"row.{r}.cell.{o}"
            yield Field(f"{cell}.mode", 2, "CellMode")
            yield Field(f"{cell}.ones", 1, "the cell's join input is the row's all-ones fiber")
            yield Field(
                f"{cell}.scanner", config.scanner_bits, "scanner of a SCAN cell below row 0"
            )
        yield Field(f"row.{r}.size", COORDINATE_BITS + 1, "coordinates of the index, 0 to 2^20")
        yield Field(f"row.{r}.result_step", 32, "step of the result's cell")
        for o in range(config.operands):
            yield Field(f"row.{r}.cell.{o}.step", 32, "child_step (SCAN) or stride (FOLLOW)")
    for s in range(config.scanners):
        yield Field(f"scanner.{s}.table", 32, "byte address of the position table")
        yield Field(f"scanner.{s}.blocks", 32, "byte address of the block words")
    for o in range(config.operands):
        yield Field(f"dispatch.{o}.open", 1, "row 0, operand o: 1: table stride 4; 0: stride 2")
        yield Field(f"dispatch.{o}.table", 32, "row 0, operand o: byte address of the table")
        yield Field(f"dispatch.{o}.blocks", 32, "row 0, operand o: byte address of block words")
    for o in range(config.operands):
        yield Field(f"operand.{o}.used", 1, "the operand has values")
        yield Field(f"operand.{o}.wide", 1, "its values are wide")
        yield Field(f"operand.{o}.negate", 1, "its values are negated")
        yield Field(f"operand.{o}.start", 32, "its position before the first loop")
        yield Field(f"operand.{o}.values", 32, "byte address of its values")
    for s in range(config.pool_streams):
        yield Field(f"ring.{s}.base", config.pool_bits, "first pool line of the stream's ring")
        yield Field(f"ring.{s}.last", config.pool_bits, "last pool line of the stream's ring")
    yield Field("result.compressed", 1, "1: table, blocks and values; 0: dense values alone")
    yield Field("result.output", 1, "Output")
    yield Field("result.full", 1, "untouched coordinates of a result fiber get result.fill")
    yield Field(
        "result.initialise", 1, "the table (compressed) or the values (dense) are filled first"
    )
    yield Field("result.size", COORDINATE_BITS + 1, "coordinates of a result fiber")
    yield Field("result.fill", 32, "wide value of untouched coordinates, if result.full")
    yield Field("result.background", 32, "word that a dense result's region is filled with")
    yield Field("result.start", 32, "result fiber position before the first loop")
    yield Field("result.table", 32, "byte address of the stride-4 position table")
    yield Field("result.table_end", 32, "first byte address past the table's region")
    yield Field("result.blocks", 32, "byte address of the block words")
    yield Field("result.blocks_end", 32, "first byte address past the block words' region")
    yield Field("result.values", 32, "byte address of the values")
    yield Field("result.values_end", 32, "first byte address past the values' region")
    if config.pes > 1:
        yield Field("share.rows", 1, "the PEs share out row 0's coordinates; 0: all go to PE 0")
        yield Field("share.wide", 1, "coordinates are weighed two together, where they can be")
        yield Field("share.quantum", 16, "weight from which on coordinates are a chunk; 1: each is")
        yield Field("share.credit", 16, "a PE that holds more weight gets no further chunk")
        unit = f"{PAIR_COORDINATES} coordinates of row 0"
        where = "needs share.rows, FIBER, no cell that scans, and coordinates behind them"
        yield Field("share.head", PAIR_BITS, f"{unit}: the first ones go one by one; {where}")
        yield Field("share.between", PAIR_BITS, f"{unit}: how many others go between two of those")
        yield Field(
            "share.fiber_values", 32, f"{ROOM_VALUES} values: most that a result fiber can have"
        )
        yield Field(
            "share.fiber_blocks", 32, f"{ROOM_BLOCKS} block words: most that a fiber can have"
        )
    yield Field("epilogue.enable", 1, "the epilogue is applied, and resulting zeros are dropped")
    yield Field("epilogue.relu", 1, "negative values become 0")
    yield Field("epilogue.bias_mode", 2, "0: bias_value; 1: one per fiber; 2: one per coordinate")
    yield Field("epilogue.scale_mode", 2, "0: scale_value; 1: one per fiber; 2: one per coordinate")
    yield Field("epilogue.shift", 6, "int8: right shift after the multiplication")
    yield Field("epilogue.bias_value", 32, "wide bias")
    yield Field("epilogue.scale_value", 32, "int8: 32-bit multiplier; bf16: fp32 scale")
    yield Field("epilogue.bias", 32, "byte address of wide biases")
    yield Field("epilogue.scale", 32, "byte address of scales")
    yield Field("epilogue.low", 32, "lower clamp bound, wide")
    yield Field("epilogue.high", 32, "upper clamp bound, wide")
    yield Field("epilogue.threshold", 32, "wide; values of smaller magnitude become 0")


@dataclass(frozen=True)
class Place:
    """A field's place: its word of the descriptor and its lowest bit in that word."""

    field: Field
    word: int
    shift: int


@cache
def places(config: ChipConfig) -> tuple[Place, ...]:
    """Return every field with its place, in packing order."""
    found: list[Place] = []
    word = shift = 0
    for field in kernel_fields(config):
        if shift + field.bits > 32:
            word, shift = word + 1, 0
        found.append(Place(field, word, shift))
        shift += field.bits
    return tuple(found)


def descriptor_lines(config: ChipConfig) -> int:
    """Return the number of lines of a descriptor."""
    return places(config)[-1].word // LINE_WORDS + 1


def pack(config: ChipConfig, values: Mapping[str, int]) -> NDArray[np.uint32]:
    """Pack ``{path: value}`` into a descriptor; fields not named are 0, the magic is set.

    Returns
    -------
    NDArray[np.uint32]
        Shape ``(8 * descriptor_lines(config),)``.

    Raises
    ------
    ValueError
        For an unknown path, or a value that does not fit its field.
    """
    words = np.zeros(descriptor_lines(config) * LINE_WORDS, np.uint32)
    rest = {"magic": MAGIC, **values}
    for place in places(config):
        value = int(rest.pop(place.field.path, 0))
        if not 0 <= value < 1 << place.field.bits:
            raise ValueError(
                f"descriptor field {place.field.path}={value}: expected {place.field.bits} bits"
            )
        words[place.word] |= np.uint32(value << place.shift)
    if rest:
        raise ValueError(f"descriptor field {next(iter(rest))!r}: no such field in this chip")
    return words


def unpack(config: ChipConfig, words: NDArray[np.uint32]) -> dict[str, int]:
    """Return ``{path: value}`` of a packed descriptor."""
    return {
        p.field.path: int(words[p.word]) >> p.shift & ((1 << p.field.bits) - 1)
        for p in places(config)
    }
