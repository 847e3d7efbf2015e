"""The AXI4-Lite register map and the error codes: the only definition.

Registers are 32 bits wide. The C header, the JSON file and the docs' table are generated from here.
"""

from dataclasses import dataclass
from enum import IntEnum

from .config import ChipConfig, NumberFormat

IDENTITY = 0x4C4E5354
"""Value of the identity register: "LNST"."""


class ErrorCode(IntEnum):
    """Cause of an error; `where` of each is in its description."""

    NONE = 0
    BAD_DESCRIPTOR = 1
    """The descriptor's magic is wrong or a field contradicts another; where: the kernel's index."""
    BUDGET = 2
    """The kernel's cycle budget ran out; where: the kernel's index."""
    READ_ERROR = 3
    """The memory answered a read with an error; where: the descriptor's byte address, or 0."""
    WRITE_ERROR = 4
    """The memory answered a write with an error; where: 0."""
    RESULT_FULL = 5
    """The room reserved for the result is too small; where: 0 blocks, 1 values, 2 the table."""
    OVERFLOW = 6
    """An int8 chip's sum left int32; where: 0."""
    SLOTS = 7
    """The accumulator's slots ran out where no further pass can be made; where: 0."""
    COORDINATE = 8
    """A coordinate is at or above its index's size; where: the row."""
    TIMEOUT = 9
    """The memory stopped answering; where: 0 reads, 1 writes. A soft reset makes the chip usable
    again."""
    TENSOR = 10
    """A compressed level contradicts itself: a position table runs backwards, a mask is empty, or
    a fiber's blocks do not ascend; where: the row."""
    OVERLAP = 11
    """The result's room is read, or lies where the next descriptor does; where: 0 blocks, 1 values,
    2 the table."""
    KEYS = 12
    """The nest does not accumulate, and a result fiber's keys do not ascend; where: 0."""


@dataclass(frozen=True)
class Register:
    """One register: its name, byte offset, access ("r" or "rw") and meaning."""

    name: str
    offset: int
    access: str
    doc: str


CONTROL = (
    ("identity", "r", "IDENTITY"),
    ("configuration", "r", "operands, rows, log2 multipliers and number format, 8 bits each"),
    ("control", "rw", "bit 0: start; bit 1: soft reset; bit 2: interrupt enable"),
    (
        "status",
        "rw",
        "bit 0: busy; 1: done (write 1 to clear); 2: error; 3: late transfers due",
    ),
    ("error", "r", "ErrorCode of the first error since the start"),
    ("error_where", "r", "place of that error"),
    ("kernels", "rw", "byte address of the first descriptor"),
    ("kernel_index", "r", "kernels completed since the start"),
)


def configuration_word(config: ChipConfig) -> int:
    """Return the value of the configuration register.

    From the low byte: operands, rows, log2 of the multipliers, and the number format's place in
    `NumberFormat` (0: int8, 1: bf16).
    """
    number_format = list(NumberFormat).index(config.dtype)
    log2_multipliers = config.multipliers.bit_length() - 1
    fields = (config.operands, config.rows, log2_multipliers, number_format)
    return int.from_bytes(bytes(fields), "little")


STAGES = ("scan", "fetch", "leaf", "accumulate", "drain", "write")
"""Stages whose cycles are counted as busy, starved or stalled (the rest is idle)."""

COUNTERS = (
    ("cycles", "cycles from the start to the end of the last write"),
    ("multiplies", "lanes with work; one counts once, however many factors it has"),
    ("leaf_steps", "leaf steps"),
    ("lines_read", "lines read, descriptors left out"),
    ("lines_written", "lines written"),
    ("passes", "further passes of result fibers"),
    ("evictions", "accumulator slots given up"),
    ("pool_full", "cycles in which a stream waited for room in its ring"),
    ("result_blocks", "block words of compressed results, whether there was room or not"),
    ("result_values", "values of compressed results, likewise"),
    *(
        (f"{stage}_{state}", f"cycles in which the {stage} stage was {state}")
        for stage in STAGES
        for state in ("busy", "starved", "stalled")
    ),
)

REGISTERS = tuple(
    Register(name, 4 * i, access, doc) for i, (name, access, doc) in enumerate(CONTROL)
) + tuple(
    Register(name, 0x100 + 4 * i, "r", doc + "; since the start")
    for i, (name, doc) in enumerate(COUNTERS)
)

OFFSETS = {register.name: register.offset for register in REGISTERS}
"""Byte offset of each register by name."""
