"""The AXI4-Lite register map and the error codes: the only definition.

Registers are 32 bits wide. The C header, the JSON file and the docs' table are generated from here.
"""

from dataclasses import dataclass
from enum import IntEnum

from .config import LINE_BYTES, MAX_PES, ChipConfig, NumberFormat

IDENTITY = 0x4C4E5354
"""Value of the identity register: "LNST"."""

PE_SHIFT = 16
"""From this bit on, a PE's error has the PE's number in its ``where``."""


class ErrorCode(IntEnum):
    """Cause of an error; each description defines its ``where``, to which an error that a PE
    finds adds the PE's number from bit 16 on (`PE_SHIFT`), except for READ_ERROR. The dispatcher,
    which finds those of row 0, has none.
    """

    NONE = 0
    BAD_DESCRIPTOR = 1
    """The magic is wrong, or fields contradict each other; where: the kernel's index.
    """
    BUDGET = 2
    """The kernel's cycle budget ran out; where: the kernel's index."""
    READ_ERROR = 3
    """The memory answered a read with an error; where: the descriptor's byte address, or 0."""
    WRITE_ERROR = 4
    """The memory answered a write with an error; where: 0."""
    RESULT_FULL = 5
    """A region reserved for the result is too small; where: 0 blocks, 1 values, 2 the table."""
    OVERFLOW = 6
    """A value of an int8 chip does not fit int32; where: 0."""
    SLOTS = 7
    """Slots ran out in a result fiber that cannot take a further pass; where: 0.
    """
    COORDINATE = 8
    """A coordinate is at or above its index's size; where: the row."""
    TIMEOUT = 9
    """Memory timeout; where: 0 reads, 1 writes. A soft reset makes the chip usable again."""
    TENSOR = 10
    """A compressed level is inconsistent: a position table runs backwards, a mask is empty, or a
    fiber's blocks do not ascend; where: the row.
    """
    OVERLAP = 11
    """A region of the result, or of the counters, is read or contains the next descriptor; where: 0
    blocks, 1 values, 2 the table, 3 the counters.
    """
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
    (
        "configuration",
        "r",
        "operands, rows, log2 multipliers, 8 bits each; number format, 3; PEs less one, 5 bits",
    ),
    ("control", "rw", "bit 0: start; bit 1: soft reset; bit 2: interrupt enable"),
    (
        "status",
        "rw",
        "bit 0: busy; 1: done (write 1 to clear); 2: error; 3: late transfers outstanding",
    ),
    ("error", "r", "ErrorCode of the first error since the start"),
    ("error_where", "r", "place of that error"),
    ("kernels", "rw", "byte address of the first descriptor"),
    ("kernel_index", "r", "kernels completed since the start"),
)


def configuration_word(config: ChipConfig) -> int:
    """Return the value of the configuration register.

    From the low byte: operands, rows, log2 of the multipliers; then 3 bits, the number format's
    place in `NumberFormat` (0: int8, 1: bf16), and 5 bits, the number of PEs less one.
    """
    number_format = list(NumberFormat).index(config.dtype)
    log2_multipliers = config.multipliers.bit_length() - 1
    last = number_format | config.pes - 1 << 3
    fields = (config.operands, config.rows, log2_multipliers, last)
    return int.from_bytes(bytes(fields), "little")


STAGES = ("scan", "fetch", "leaf", "accumulate", "drain", "write")
"""Stages whose cycles are counted as busy, starved or stalled (the rest is idle)."""

COUNTERS = (
    ("cycles", "cycles from the start to the end of the last write"),
    ("multiplies", "lanes of leaf steps; each counts once, however many factors it has"),
    ("leaf_steps", "leaf steps"),
    ("lines_read", "lines read, without descriptors"),
    ("lines_written", "lines written, without counters"),
    ("passes", "further passes of result fibers"),
    ("evictions", "accumulator slots evicted"),
    ("pool_full", "cycles in which a stream waited for a free line of its ring"),
    ("result_blocks", "block words of compressed results, including those that did not fit"),
    ("result_values", "values of compressed results, likewise"),
    *(
        (f"{stage}_{state}", f"cycles in which the {stage} stage was {state}")
        for stage in STAGES
        for state in ("busy", "starved", "stalled")
    ),
)
"""Counters of every chip; those of several PEs are added."""

CACHE_COUNTERS = (
    ("cache_requests", "lines that PEs, dispatcher and prefetchers requested of the cache"),
    (
        "cache_hits",
        "lookups answered from the cache; requests of one line that go together are one lookup",
    ),
    ("cache_misses", "lookups whose line was read from memory"),
    ("cache_joined", "lookups that waited for a line on its way"),
    ("cache_waits", "cycles in which a request waits for its bank; of PEs and dispatcher, added"),
    ("cache_conflicts", "of these, the cycles in which its bank takes a request of another line"),
)
"""Further counters of a chip of several PEs."""

PE_COUNTERS = (
    ("leaf_busy", "cycles in which the PE's leaf stage was busy"),
    ("leaf_starved", "cycles in which it was starved"),
    ("leaf_stalled", "cycles in which it was stalled"),
    ("last_step", "`cycles` at the end of its last leaf step; 0 if it had none"),
)
"""Counters of each PE by itself, of a chip of several. They have 32 bits and wrap."""


def pe_counter(pe: int | str, name: str) -> str:
    """Return the name of one of `PE_COUNTERS` of a PE."""
    return f"pe{pe}_{name}"


def counters(pes: int) -> tuple[tuple[str, str], ...]:
    """Return names and meanings of all counters of a chip with that number of PEs, in the order of
    their registers and of the snapshot. A counter has the same place on every chip that has it.
    """
    if pes == 1:
        return COUNTERS
    of_pes = (
        (pe_counter(pe, name), f"PE {pe}: {doc}") for pe in range(pes) for name, doc in PE_COUNTERS
    )
    return (*COUNTERS, *CACHE_COUNTERS, *of_pes)


SNAPSHOT_BYTES = 8
"""Bytes of a counter in memory, where the descriptor's ``counters`` has them written: little
endian, in the order of `counters`. ``cycles`` is there the number from the start until the kernel's
last line is at the memory port; the rest of its write, a latency, counts for the next kernel.
"""


def snapshot_lines(pes: int) -> int:
    """Return the lines of all counters in memory; bytes behind the last counter are 0."""
    return -(-len(counters(pes)) * SNAPSHOT_BYTES // LINE_BYTES)


def registers(pes: int) -> tuple[Register, ...]:
    """Return the registers of a chip with that number of PEs."""
    control = (Register(name, 4 * i, access, doc) for i, (name, access, doc) in enumerate(CONTROL))
    counted = (
        Register(name, 0x100 + 4 * i, "r", doc + "; since the start, modulo 2^32")
        for i, (name, doc) in enumerate(counters(pes))
    )
    return (*control, *counted)


OFFSETS = {register.name: register.offset for register in registers(MAX_PES)}
"""Byte offset of each register by name; a chip has those of `registers`."""
